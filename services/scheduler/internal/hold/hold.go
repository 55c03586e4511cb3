package hold

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/services/scheduler/internal/retryset"
	"github.com/postrider/postrider/services/scheduler/internal/webhooks"
)

const (
	// holdFor is how far ahead a held record is due. When it fires by itself, whoever meets it
	// looks at the webhook again, so that nothing is held for ever by a mistake.
	holdFor = time.Hour
	// holdSpread is added at random, so that what is held at once does not fire at once.
	holdSpread = 6 * time.Minute
	// holdChunk is how many records are journalled and replaced together.
	holdChunk = 128
)

// Until is when a record that is held now fires by itself.
func Until(now time.Time) time.Time {
	return now.Add(holdFor + rand.N(holdSpread)) //nolint:gosec // spread needs no secrecy
}

// Holdable reports whether a record of an inactive webhook is to be held now. One that waits
// for the time its event asked for is not, before that time: a hold forgets when the record was
// due, and a resume must not deliver it early.
func Holdable(kind recordv1.RetryKind, due, now time.Time) bool {
	switch kind {
	case recordv1.RetryKind_RETRY_KIND_WAITING, recordv1.RetryKind_RETRY_KIND_PARKED:
		return true
	case recordv1.RetryKind_RETRY_KIND_DELAYED:
		return !due.After(now)
	case recordv1.RetryKind_RETRY_KIND_HELD, recordv1.RetryKind_RETRY_KIND_UNSPECIFIED:
		return false
	}
	return false
}

// Hold turns what waits for an inactive webhook into held records. It returns how many.
func (m *Manager) Hold(ctx context.Context, w webhooks.Webhook) (int64, error) {
	var held int64
	chunk := make([]retrystream.Record, 0, holdChunk)
	flush := func() error {
		if len(chunk) == 0 {
			return nil
		}
		if !m.deps.Registry.Current(w) {
			return errChanged
		}
		n, err := m.HoldRecords(ctx, w, chunk)
		held += int64(n)
		chunk = chunk[:0]
		return err
	}
	err := m.deps.Records.ScanWebhook(ctx, w.Account, w.ID, retrystream.Place{}, func(rec retrystream.Record) error {
		if !Holdable(rec.Retry.GetKind(), rec.Retry.GetDueTime().AsTime(), m.deps.Now()) {
			return nil
		}
		chunk = append(chunk, rec)
		if len(chunk) == holdChunk {
			return flush()
		}
		return nil
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return held, fmt.Errorf("hold what waits for %s: %w", w.ID, err)
	}
	return held, nil
}

// HoldRecords turns records into held ones, and returns how many still stood.
//
// Journal, then replace, then forget the index member. A crash after the first leaves a record
// that the next look holds, and journals, again; the other order could leave a held record that
// no entry tells of. A record that was released or fired meanwhile is met by the dispatcher,
// which holds it. A member that stays is dropped when it is due, because its record is gone.
func (m *Manager) HoldRecords(ctx context.Context, w webhooks.Webhook, list []retrystream.Record) (int, error) {
	replacements := make([]*recordv1.Retry, len(list))
	for i, rec := range list {
		r, err := m.held(ctx, w, rec.Retry)
		if err != nil {
			return 0, err
		}
		replacements[i] = r
	}
	if err := m.deps.Journal.Held(ctx, list, string(w.State)); err != nil {
		return 0, err
	}
	errs := make([]error, len(list))
	var pending sync.WaitGroup
	for i, rec := range list {
		pending.Add(1)
		err := m.deps.Records.ReplaceAsync(ctx, rec, replacements[i], func(_ uint64, err error) {
			errs[i] = err
			pending.Done()
		})
		if err != nil {
			errs[i] = err
			pending.Done()
		}
	}
	pending.Wait()

	held := 0
	var failed []error
	members := make([]retryset.Member, 0, len(list))
	for i, rec := range list {
		switch {
		case errs[i] == nil:
			held++
			members = append(members, retryset.Member{Shard: rec.Shard, Sequence: rec.Sequence})
		case !errors.Is(errs[i], retrystream.ErrGone):
			failed = append(failed, fmt.Errorf("hold %s: %w", rec.Retry.GetDelivery().GetId(), errs[i]))
		}
	}
	m.deps.Metrics.held(ctx, held)
	if err := m.deps.Index.Drop(ctx, members...); err != nil {
		m.deps.Logger.DebugContext(ctx, "held retries stay in the index until they are due", "retries", len(members), "error", err)
	}
	return held, errors.Join(failed...)
}

// held is the record that takes a record's place. It may outlive its event, so it carries the
// payload from now on.
func (m *Manager) held(ctx context.Context, w webhooks.Webhook, r *recordv1.Retry) (*recordv1.Retry, error) {
	delivery := r.GetDelivery()
	if delivery.GetDataByReference() {
		event, err := m.deps.Events.Get(ctx, postrider.AccountID(delivery.GetAccountId()), delivery.GetEventSequence())
		switch {
		case err == nil && event.GetId() == delivery.GetEventId():
			delivery = proto.CloneOf(delivery)
			delivery.DataByReference = false
			delivery.Data = event.GetData()
		case err != nil && !errors.Is(err, eventstream.ErrNotFound):
			return nil, fmt.Errorf("read the payload of %s: %w", delivery.GetId(), err)
		default:
			// Gone already. The dispatcher says so when it meets the delivery.
		}
	}
	record := &recordv1.Retry{
		Delivery:        delivery,
		Kind:            recordv1.RetryKind_RETRY_KIND_HELD,
		DueTime:         timestamppb.New(Until(m.deps.Now())),
		WebhookRevision: w.Revision,
		Reason:          string(w.State),
	}
	// What a later version wrote beside it is kept.
	record.ProtoReflect().SetUnknown(r.ProtoReflect().GetUnknown())
	return record, nil
}
