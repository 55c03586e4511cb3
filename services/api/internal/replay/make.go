package replay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/deadletterstream"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/stream/journal"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	"github.com/postrider/postrider/services/api/internal/logstore"
)

const (
	// embedLimit is the largest payload that a delivery of DELIVERIES carries itself.
	embedLimit = 4 << 10
	// maxRouted bounds the deliveries that one routed entry names.
	maxRouted = 1000
	// maxRecords and maxRecordBytes bound one call of the scheduler.
	maxRecords     = 256
	maxRecordBytes = 3 << 20
	// reasonRedriven and reasonReplay are why records wait, for people.
	reasonRedriven = "redriven"
	reasonReplay   = "replay"
)

// make makes the batch that is written down. Again says that some of it may have been made before.
func (r *Runner) make(ctx context.Context, j *recordv1.Job, again bool) (made, error) {
	if j.GetReplay().GetDeadLetters() != nil {
		return r.redrive(ctx, j, again)
	}
	return r.replay(ctx, j, again)
}

// replay stores the deliveries of the batch and then its journal entries: a crash in between repeats
// both. The other order can show a delivery that nobody made.
func (r *Runner) replay(ctx context.Context, j *recordv1.Job, again bool) (made, error) {
	var m made
	var entries []*recordv1.JournalEntry
	out := newPending()
	account := postrider.AccountID(j.GetReplay().GetAccountId())
	for _, item := range j.GetBatch() {
		ev, err := r.deps.Events.Get(ctx, account, item.GetSequence())
		if errors.Is(err, eventstream.ErrNotFound) || err == nil && ev.GetAccountId() != string(account) {
			m.skipped += int64(len(item.GetWebhookIds())) // it has expired since it was selected
			continue
		}
		if err != nil {
			return m, errors.Join(err, out.wait(ctx))
		}
		routed, err := r.publish(ctx, j, ev, item, again, out)
		if err != nil {
			return m, errors.Join(err, out.wait(ctx))
		}
		entries = append(entries, routed...)
		m.deliveries += int64(len(item.GetWebhookIds()))
	}
	if err := out.wait(ctx); err != nil {
		return m, fmt.Errorf("store deliveries: %w", err)
	}
	return m, r.write(ctx, entries)
}

// publish stores the deliveries of one event and returns what the journal has to say of them.
func (r *Runner) publish(ctx context.Context, j *recordv1.Job, ev *recordv1.Event, item *recordv1.JobItem, again bool, out *pending) ([]*recordv1.JournalEntry, error) {
	now := r.deps.Now()
	ids := make([]*recordv1.RoutedDelivery, len(item.GetWebhookIds()))
	var records []*recordv1.Retry
	for i, webhook := range item.GetWebhookIds() {
		d := deliverystream.Of(ev, item.GetSequence(), postrider.WebhookID(webhook), j.GetReplay().GetId())
		d.RouteTime = timestamppb.New(now)
		ids[i] = &recordv1.RoutedDelivery{DeliveryId: d.GetId(), WebhookId: webhook}
		if again {
			known, err := r.known(ctx, d)
			if err != nil {
				return nil, err
			}
			if known != nil {
				continue // made before: its id may be forgotten by DELIVERIES, and the log remembers
			}
		}
		d.Data = ev.GetData()
		// An event of long ago may go at any time, by its age or to make room: nothing refers to it
		// from now on. Large payloads are at home in RETRIES.
		if len(d.Data) > embedLimit {
			records = append(records, &recordv1.Retry{
				Delivery: d, Kind: recordv1.RetryKind_RETRY_KIND_WAITING, DueTime: timestamppb.New(now), Reason: reasonReplay,
			})
			continue
		}
		out.add()
		if err := r.deps.Deliveries.Publish(ctx, d, out.done); err != nil {
			out.done(err)
		}
	}
	if err := r.schedule(ctx, records); err != nil {
		return nil, err
	}
	return routedEntries(j, ev, item, ids, now), nil
}

func routedEntries(j *recordv1.Job, ev *recordv1.Event, item *recordv1.JobItem, ids []*recordv1.RoutedDelivery, now time.Time) []*recordv1.JournalEntry {
	total := len(ids)
	var out []*recordv1.JournalEntry
	for len(ids) > 0 {
		n := min(len(ids), maxRouted)
		out = append(out, &recordv1.JournalEntry{
			Time: timestamppb.New(now), AccountId: ev.GetAccountId(), EventId: ev.GetId(), EventType: ev.GetType(),
			What: &recordv1.JournalEntry_Routed{Routed: &recordv1.Routed{
				Deliveries: ids[:n], EventSequence: item.GetSequence(), MatchedTotal: int32(total), //nolint:gosec // webhooks of one account
				AcceptTime: ev.GetAcceptTime(), ReplayId: j.GetReplay().GetId(),
			}},
		})
		ids = ids[n:]
	}
	return out
}

// known is what the log knows of a delivery, nil if nothing.
func (r *Runner) known(ctx context.Context, d *recordv1.Delivery) (*logstore.Delivery, error) {
	known, err := r.deps.Log.Delivery(ctx, postrider.AccountID(d.GetAccountId()), d.GetId())
	if errors.Is(err, logstore.ErrNotFound) {
		return nil, nil //nolint:nilnil // nothing known is no error
	}
	if err != nil {
		return nil, fmt.Errorf("read the delivery log: %w", err)
	}
	return known, nil
}

// letter is a dead letter of a batch.
type letter struct {
	sequence uint64
	retry    *recordv1.Retry // of the next series
	stale    bool            // lives already, or was delivered: only the letter is left
	ours     bool            // and it was this job that made it live
}

// redrive makes the dead letters of the batch live again: record stored, then journalled, then the
// letter removed by its sequence. A crash in between leaves the letter, and the repeat finds a record
// as late as its own, or the log in a later series. The other order can lose the delivery.
func (r *Runner) redrive(ctx context.Context, j *recordv1.Job, again bool) (made, error) {
	var m made
	var list []*letter
	var records []*recordv1.Retry
	for _, item := range j.GetBatch() {
		l, err := r.letter(ctx, j, item.GetSequence(), again)
		switch {
		case err != nil:
			return m, err
		case l == nil && again:
			m.deliveries++ // this job had removed it already
		case l == nil:
			m.skipped++
		default:
			list = append(list, l)
			if !l.stale {
				records = append(records, l.retry)
			}
		}
	}
	if err := r.schedule(ctx, records); err != nil {
		return m, err
	}
	if err := r.write(ctx, released(records, r.deps.Now())); err != nil {
		return m, err
	}
	for _, l := range list {
		err := r.deps.Letters.Remove(ctx, l.sequence)
		if err != nil && !errors.Is(err, deadletterstream.ErrNotFound) {
			return m, fmt.Errorf("remove a redriven dead letter: %w", err)
		}
		if l.stale && !l.ours {
			m.skipped++
		} else {
			m.deliveries++
		}
	}
	return m, nil
}

// letter reads a dead letter of the batch and says what is to be done about it; nil if it is gone.
func (r *Runner) letter(ctx context.Context, j *recordv1.Job, sequence uint64, again bool) (*letter, error) {
	rec, err := r.deps.Letters.At(ctx, sequence)
	if errors.Is(err, deadletterstream.ErrNotFound) || err == nil && rec.GetDelivery().GetAccountId() != j.GetReplay().GetAccountId() {
		return nil, nil //nolint:nilnil // gone is no error
	}
	if err != nil {
		return nil, err
	}
	d := proto.CloneOf(rec.GetDelivery())
	series := d.GetProgress().GetSeries()
	l := &letter{sequence: sequence}
	known, err := r.known(ctx, d)
	if err != nil {
		return nil, err
	}
	if known != nil {
		lives := known.Series > int(series)
		l.stale = lives || known.State == postrider.Delivered
		l.ours = lives && again
	}
	now := timestamppb.New(r.deps.Now())
	d.Progress, d.RouteTime = &recordv1.Progress{Series: series + 1}, now
	l.retry = &recordv1.Retry{Delivery: d, Kind: recordv1.RetryKind_RETRY_KIND_WAITING, DueTime: now, Reason: reasonRedriven}
	return l, nil
}

func released(records []*recordv1.Retry, now time.Time) []*recordv1.JournalEntry {
	out := make([]*recordv1.JournalEntry, len(records))
	for i, rec := range records {
		d := rec.GetDelivery()
		out[i] = &recordv1.JournalEntry{
			Time: timestamppb.New(now), AccountId: d.GetAccountId(), EventId: d.GetEventId(), EventType: d.GetEventType(),
			DeliveryId: d.GetId(), WebhookId: d.GetWebhookId(), Series: d.GetProgress().GetSeries(), CreateTime: d.GetRouteTime(),
			What: &recordv1.JournalEntry_Released{Released: &recordv1.Released{Reason: reasonRedriven}},
		}
	}
	return out
}

// schedule has the records stored and indexed. One that a later record stands in the place of was
// stored before.
func (r *Runner) schedule(ctx context.Context, records []*recordv1.Retry) error {
	for len(records) > 0 {
		n, bytes := 0, 0
		for n < min(len(records), maxRecords) && (n == 0 || bytes+proto.Size(records[n]) <= maxRecordBytes) {
			bytes += proto.Size(records[n])
			n++
		}
		resp, err := r.deps.Scheduler.ScheduleRetry(ctx, &schedulerv1.ScheduleRetryRequest{Retries: records[:n]})
		if err != nil {
			return err
		}
		if len(resp.GetResults()) != n {
			return errors.New("the scheduler did not answer for every record")
		}
		for _, result := range resp.GetResults() {
			if result.GetStatus() != schedulerv1.ScheduleStatus_SCHEDULE_STATUS_STORED && result.GetStatus() != schedulerv1.ScheduleStatus_SCHEDULE_STATUS_SUPERSEDED {
				return fmt.Errorf("store a record: %s", result.GetError())
			}
		}
		records = records[n:]
	}
	return nil
}

// write journals entries and waits until all are stored.
func (r *Runner) write(ctx context.Context, entries []*recordv1.JournalEntry) error {
	out := newPending()
	for _, e := range entries {
		shard := journal.Routed
		if e.GetRouted() == nil {
			shard = r.deps.Deliveries.Layout().Home(postrider.WebhookID(e.GetWebhookId()))
		}
		out.add()
		if err := r.deps.Journal.Write(ctx, shard, e, out.done); err != nil {
			out.done(err)
		}
	}
	if err := out.wait(ctx); err != nil {
		return fmt.Errorf("journal %d entries: %w", len(entries), err)
	}
	return nil
}
