package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	"github.com/postrider/postrider/services/scheduler/internal/cancel"
	"github.com/postrider/postrider/services/scheduler/internal/hold"
	"github.com/postrider/postrider/services/scheduler/internal/retryset"
)

const (
	// maxBatch is how many records one call may bring.
	maxBatch = 256
	// indexTimeout bounds how long an answer waits for the index.
	indexTimeout = time.Second
	// gateTime is how long the index is left alone after it did not answer.
	gateTime = 250 * time.Millisecond
)

// ScheduleRetry stores records and indexes them.
//
// Record, then index, then reply: a crash in between repeats a step, and the expected sequence
// makes the repeat a no-op. The other order can lose the retry. A record whose index entry
// could not be written is stored all the same: the rebuild that Distrust asks for, the sweep,
// or the record's own firing sees to it.
func (s *Server) ScheduleRetry(ctx context.Context, req *schedulerv1.ScheduleRetryRequest) (*schedulerv1.ScheduleRetryResponse, error) {
	retries := req.GetRetries()
	if err := checkRetries(retries); err != nil {
		return nil, err
	}
	for _, r := range retries {
		if r.GetKind() == recordv1.RetryKind_RETRY_KIND_HELD {
			// A held record that is due soon would only be met and held again.
			r.DueTime = timestamppb.New(hold.Until(s.deps.Now()))
		}
	}
	results, standing := s.store(ctx, retries)
	// What is stored is seen to even if the caller has gone.
	ctx = context.WithoutCancel(ctx)
	s.endMarked(ctx, standing)

	entries := make([]retryset.Entry, 0, len(standing))
	for _, rec := range standing {
		id := postrider.WebhookID(rec.Retry.GetDelivery().GetWebhookId())
		isHeld := rec.Retry.GetKind() == recordv1.RetryKind_RETRY_KIND_HELD
		if w, ok := s.deps.Registry.Lookup(id); ok && w.Active() == isHeld {
			// A pause, a resume or a delete ran past the caller: held for an active webhook, or
			// waiting for one that is not.
			s.deps.Hold.Check(id)
		}
		if isHeld {
			continue // waits for its webhook, not for a time
		}
		entries = append(entries, retryset.Entry{
			Member: retryset.Member{Shard: rec.Shard, Sequence: rec.Sequence}, Due: rec.Retry.GetDueTime().AsTime(),
		})
	}
	s.index(ctx, entries)
	return &schedulerv1.ScheduleRetryResponse{Results: results}, nil
}

// endMarked ends those of the stored whose deliveries are cancelled.
//
// A cancel marks, waits until every mirror has the mark, and then reads the record. So either the
// record was stored before that read, which finds it, or its store was acknowledged after it, and
// then the mark is here. What cannot be ended now ends when it is due, because the dispatcher has
// the mark too.
func (s *Server) endMarked(ctx context.Context, standing []retrystream.Record) {
	var marked []retrystream.Record
	for _, rec := range standing {
		if s.deps.Marks.Covers(rec.Retry.GetDelivery()) {
			marked = append(marked, rec)
		}
	}
	if len(marked) == 0 {
		return
	}
	if _, err := s.deps.Cancel.Records(ctx, marked, cancel.Requested); err != nil {
		s.deps.Logger.WarnContext(ctx, "cancelled deliveries wait until they are due", "deliveries", len(marked), "error", err)
	}
}

// store puts all records at once and waits for every answer; each is bounded by the publisher's
// budget. Standing are the records that stand then, those of this call and those that were there
// before it: a call that repeats one whose scheduler died before it indexed indexes for it.
func (s *Server) store(ctx context.Context, retries []*recordv1.Retry) (results []*schedulerv1.ScheduleResult, standing []retrystream.Record) {
	results = make([]*schedulerv1.ScheduleResult, len(retries))
	records := make([]retrystream.Record, len(retries))
	var pending sync.WaitGroup
	for i, r := range retries {
		pending.Add(1)
		err := s.deps.Records.Put(ctx, r, func(at retrystream.Place, err error) {
			results[i], records[i] = s.result(r, at, err)
			pending.Done()
		})
		if err != nil {
			results[i], _ = s.result(r, retrystream.Place{}, err)
			pending.Done()
		}
	}
	pending.Wait()
	for i, r := range results {
		s.deps.Metrics.scheduled(ctx, r.GetStatus())
		if records[i].Retry != nil {
			standing = append(standing, records[i])
		}
	}
	return results, standing
}

// result is the verdict on one record, and the record that stands. Only a proof that the record
// stands is STORED.
func (s *Server) result(r *recordv1.Retry, at retrystream.Place, err error) (*schedulerv1.ScheduleResult, retrystream.Record) {
	var superseded *retrystream.SupersededError
	switch {
	case err == nil:
		return &schedulerv1.ScheduleResult{Status: schedulerv1.ScheduleStatus_SCHEDULE_STATUS_STORED, Sequence: at.Sequence},
			retrystream.Record{Shard: at.Shard, Sequence: at.Sequence, Retry: r}
	case errors.As(err, &superseded):
		return &schedulerv1.ScheduleResult{Status: schedulerv1.ScheduleStatus_SCHEDULE_STATUS_SUPERSEDED, Sequence: superseded.Standing.Sequence},
			superseded.Standing
	default:
		return &schedulerv1.ScheduleResult{Status: schedulerv1.ScheduleStatus_SCHEDULE_STATUS_FAILED, Error: reason(err)}, retrystream.Record{}
	}
}

// reason is why a record could not be stored, for people.
func reason(err error) string {
	switch {
	case errors.Is(err, stream.ErrFull):
		return "as many retries wait as may"
	case errors.Is(err, stream.ErrTooLarge):
		return "the record is too large"
	case errors.Is(err, stream.ErrUnknown):
		return "the store did not answer, the record may be stored"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "the call ended first"
	default:
		return "the record could not be stored now"
	}
}

// index adds entries to the index, and notes for a rebuild what it cannot add.
func (s *Server) index(ctx context.Context, entries []retryset.Entry) {
	if len(entries) == 0 {
		return
	}
	entries, left, err := s.add(ctx, entries)
	if len(left) > 0 {
		s.deps.Index.Distrust(left...)
		s.deps.Metrics.notIndexed(ctx, len(left))
		if s.gate.first() {
			s.deps.Logger.WarnContext(ctx, "retries stored but not indexed: their slots will be rebuilt", "retries", len(left), "error", err)
		}
	}
	if len(entries) == 0 {
		return
	}
	first := entries[0].Due
	for _, e := range entries {
		if e.Due.Before(first) {
			first = e.Due
		}
	}
	s.deps.Wake(first)
}

// add adds entries to the slots of the index that are not away. It returns the entries that are in
// and the members that are not, and why.
func (s *Server) add(ctx context.Context, entries []retryset.Entry) (in []retryset.Entry, left []retryset.Member, err error) {
	shut := s.gate.shutNow(s.deps.Now())
	for _, e := range entries {
		if shut.Has(e.Slot()) {
			left, err = append(left, e.Member), errAway
		} else {
			in = append(in, e)
		}
	}
	if len(in) == 0 {
		return nil, left, err
	}
	call, end := context.WithTimeout(ctx, indexTimeout)
	defer end()
	failed := s.deps.Index.Add(call, in...)
	if failed != nil && call.Err() == nil {
		// A connection that broke while nobody used it fails once.
		failed = s.deps.Index.Add(call, in...)
	}
	if failed == nil {
		if len(left) == 0 {
			s.gate.passed()
		}
		return in, left, err
	}
	part := &retryset.NotAddedError{Away: retryset.AllSlots}
	if !errors.As(failed, &part) {
		for _, e := range in {
			part.Members = append(part.Members, e.Member)
		}
	}
	s.gate.shut(s.deps.Now(), part.Away)
	in = slices.DeleteFunc(in, func(e retryset.Entry) bool { return slices.Contains(part.Members, e.Member) })
	return in, append(left, part.Members...), failed
}

// errAway says that a part of the index did not answer a moment ago.
var errAway = errors.New("the index did not answer a moment ago")

// gate leaves the slots of the index alone that did not answer, for a moment.
type gate struct {
	mu     sync.Mutex
	slots  retryset.Slots
	until  time.Time
	logged atomic.Bool
}

// shutNow is which slots are left alone at this moment.
func (g *gate) shutNow(now time.Time) retryset.Slots {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !now.Before(g.until) {
		g.slots = 0
	}
	return g.slots
}

// shut leaves slots alone until the moment is over that the first of them began.
func (g *gate) shut(now time.Time, slots retryset.Slots) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !now.Before(g.until) {
		g.slots, g.until = 0, now.Add(gateTime)
	}
	g.slots |= slots
}

// first is true for the first of a row of failures, which is logged.
func (g *gate) first() bool { return !g.logged.Swap(true) }

func (g *gate) passed() { g.logged.Store(false) }

// checkRetries holds a batch to the rules, each fault with its field.
func checkRetries(retries []*recordv1.Retry) error {
	if len(retries) == 0 || len(retries) > maxBatch {
		return fault.InvalidFields(fault.Violation{Field: "retries", Rule: fmt.Sprintf("must be 1 to %d records", maxBatch)})
	}
	var v []fault.Violation
	for i, r := range retries {
		fail := func(field, rule string) {
			v = append(v, fault.Violation{Field: fmt.Sprintf("retries[%d].%s", i, field), Rule: rule})
		}
		d := r.GetDelivery()
		if !postrider.AccountID(d.GetAccountId()).Valid() {
			fail("delivery.account_id", "must be the id of an account")
		}
		if !postrider.WebhookID(d.GetWebhookId()).Valid() {
			fail("delivery.webhook_id", "must be the id of a webhook")
		}
		if !postrider.DeliveryID(d.GetId()).Valid() {
			fail("delivery.id", "must be the id of a delivery")
		}
		switch r.GetKind() {
		case recordv1.RetryKind_RETRY_KIND_WAITING, recordv1.RetryKind_RETRY_KIND_PARKED, recordv1.RetryKind_RETRY_KIND_DELAYED:
			if r.GetDueTime().CheckValid() != nil {
				fail("due_time", "must be set")
			}
		case recordv1.RetryKind_RETRY_KIND_HELD: // due when its webhook is active
		case recordv1.RetryKind_RETRY_KIND_UNSPECIFIED:
			fail("kind", "must be set")
		default:
			fail("kind", "must be a kind that this version knows")
		}
		if len(v) >= maxViolations {
			break
		}
	}
	return check(v...)
}

// maxViolations bounds how many faults of a batch are told at once.
const maxViolations = 20
