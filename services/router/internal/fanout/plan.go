package fanout

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/stream/deliverystream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/services/router/internal/index"
)

// maxRoutedDeliveries bounds the deliveries that one routed entry names.
const maxRoutedDeliveries = 1000

// maxDelayBatch bounds the records that are handed to the scheduler in one call.
const maxDelayBatch = 256

// maxDelayCalls bounds the calls to the scheduler under way at once.
const maxDelayCalls = 64

type deliveryPart struct{ delivery *recordv1.Delivery }

func (p deliveryPart) send(ctx context.Context, f *Fanout, done func(error)) error {
	return f.deps.Deliveries.Publish(ctx, p.delivery, done)
}

// routedShard is the journal's place for entries that belong to an event, not to a shard.
const routedShard = -1

type entryPart struct{ entry *recordv1.JournalEntry }

func (p entryPart) send(ctx context.Context, f *Fanout, done func(error)) error {
	return f.deps.Journal.Write(ctx, routedShard, p.entry, done)
}

type delayPart struct{ retries []*recordv1.Retry }

// send asks the scheduler from a goroutine of its own, of which there are at most maxDelayCalls.
func (p delayPart) send(ctx context.Context, f *Fanout, done func(error)) error {
	select {
	case f.delaySlots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	f.wg.Go(func() {
		err := f.deps.Delays.Delay(ctx, p.retries)
		<-f.delaySlots
		done(err)
	})
	return nil
}

// plan lists what must be stored for the event, from what matching gave.
func (f *Fanout) plan(ev *recordv1.Event, result *index.Result, sequence uint64, now time.Time) []part {
	matched := result.Matched
	parts := make([]part, 0, len(matched)+1+len(matched)/maxRoutedDeliveries)
	delayed := ev.GetDeliverAt() != nil && ev.GetDeliverAt().AsTime().After(now)
	ids := make([]*recordv1.RoutedDelivery, len(matched))
	var retries []*recordv1.Retry
	for i, hook := range matched {
		d := f.delivery(ev, sequence, hook, now, delayed)
		ids[i] = &recordv1.RoutedDelivery{DeliveryId: d.GetId(), WebhookId: d.GetWebhookId()}
		if !delayed {
			parts = append(parts, deliveryPart{d})
			continue
		}
		retries = append(retries, &recordv1.Retry{
			Delivery: d, Kind: recordv1.RetryKind_RETRY_KIND_DELAYED, DueTime: ev.GetDeliverAt(), Reason: "delayed",
		})
	}
	for len(retries) > 0 {
		n := min(len(retries), maxDelayBatch)
		parts = append(parts, delayPart{retries[:n]})
		retries = retries[n:]
	}
	return f.entries(parts, ev, result, sequence, ids, now)
}

// delivery is the event for one webhook. What waits for its time may outlive EVENTS and carries
// its payload whatever its size.
func (f *Fanout) delivery(ev *recordv1.Event, sequence uint64, hook *index.Hook, now time.Time, embed bool) *recordv1.Delivery {
	d := deliverystream.Of(ev, sequence, hook.ID, "")
	d.RouteTime = timestamppb.New(now)
	if embed || len(ev.GetData()) <= f.cfg.EmbedLimit {
		d.Data = ev.GetData()
	} else {
		d.DataByReference = true
	}
	return d
}

// entries appends the routed journal entries: one for an event of up to a thousand matches,
// also of none, and more of them above.
func (f *Fanout) entries(parts []part, ev *recordv1.Event, result *index.Result, sequence uint64, ids []*recordv1.RoutedDelivery, now time.Time) []part {
	unmatched := make([]*recordv1.Unmatched, len(result.Unmatched))
	for i, u := range result.Unmatched {
		unmatched[i] = &recordv1.Unmatched{WebhookId: string(u.Hook.ID), Reason: u.Reason, Detail: u.Detail}
	}
	total, others := len(ids), result.OtherTypes
	for first := true; first || len(ids) > 0; first = false {
		n := min(len(ids), maxRoutedDeliveries)
		parts = append(parts, entryPart{&recordv1.JournalEntry{
			Time: timestamppb.New(now), AccountId: ev.GetAccountId(), EventId: ev.GetId(), EventType: ev.GetType(),
			What: &recordv1.JournalEntry_Routed{Routed: &recordv1.Routed{
				Deliveries: ids[:n], Unmatched: unmatched, UnmatchedTotal: int32(result.Total - total), //nolint:gosec // webhooks of one account
				EventSequence: sequence, MatchedTotal: int32(total), AcceptTime: ev.GetAcceptTime(), //nolint:gosec // webhooks of one account
				OtherTypes: others, DedupKey: ev.GetDedupKey(), Traceparent: ev.GetTraceparent(), DedupWindow: ev.GetDedupWindow(),
			}},
		}})
		ids, unmatched, others = ids[n:], nil, nil
	}
	return parts
}
