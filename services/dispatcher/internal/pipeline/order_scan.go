package pipeline

import (
	"log/slog"
	"time"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"

	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/services/dispatcher/internal/order"
)

// settledBefore says whether everything is stored that a predecessor had in its hands, or has come here.
func (c *chores) settledBefore() bool {
	if c.taken == nil {
		return true
	}
	if !c.come(c.taken.deliveries) {
		return false
	}
	due, err := c.due.Info(c.o.s.ctx)
	if err != nil || floorOf(due) < c.taken.due {
		return false
	}
	c.taken = nil
	return true
}

// floorOf is up to where everything is acknowledged. A consumer with a filter passes what it does not want, and its
// floor stays behind until something else is acknowledged.
func floorOf(info stream.ConsumerInfo) uint64 {
	if info.AckPending == 0 {
		return max(info.AckFloor, info.Delivered)
	}
	return info.AckFloor
}

// scan reads the streams for a webhook that asks for it, one at a time.
func (c *chores) scan(now time.Time) (soon bool) {
	o := c.o
	o.mu.Lock()
	var next *book
	for _, b := range o.books {
		if !b.scan || b.moving {
			continue
		}
		soon = true
		if !o.scanning && b.poll <= o.done && !now.Before(b.from) {
			next = b
		}
	}
	o.mu.Unlock()
	if next == nil || !c.settledBefore() {
		return soon
	}
	o.beginScan(next, now)
	go func() { // ended by wait
		o.scanStreams(next)
		c.scans <- struct{}{}
	}()
	return soon
}

// beginScan notes what is in hand: it may have been taken when the webhook was not ordered, or when the book
// did not keep it, and its record may come after the scan has passed.
func (o *orders) beginScan(b *book, now time.Time) {
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.scanning = true
	b.scan, b.from = false, now.Add(suspectPause)
	b.BeginScan()
	w := o.s.p.deps.Registry.Webhook(string(b.webhook))
	for _, j := range o.s.jobs {
		if w == nil || j.delivery.GetWebhookId() != string(b.webhook) {
			continue
		}
		if _, ordered := w.Line(j.delivery, j.series); !ordered {
			continue
		}
		if b.Get(j.delivery.GetId()) != nil && j.ordered.Load() {
			b.Touch(j.delivery.GetId())
			continue
		}
		j.ordered.Store(true)
		// Not its progress, which whoever works on it may be writing.
		b.Note(order.Entry[*job]{
			ID: j.delivery.GetId(), EventID: j.delivery.GetEventId(), Event: j.delivery.GetEventSequence(),
			Key: j.delivery.GetOrderingKey(), State: order.InHand, At: now, Job: j,
		})
	}
}

func (o *orders) scanStreams(b *book) {
	now := time.Now()
	err := o.s.p.deps.Retries.ScanAll(o.s.ctx, o.s.id, b.account, b.webhook, func(st retrystream.Standing) error {
		j := &job{delivery: st.Retry.GetDelivery()}
		w := o.s.p.deps.Registry.Webhook(string(b.webhook))
		if w == nil {
			return nil
		}
		if _, ordered := w.Line(j.delivery, j.delivery.GetProgress().GetSeries()); !ordered {
			return nil
		}
		if st.Retry.GetKind() == recordv1.RetryKind_RETRY_KIND_DELAYED && !st.Due && st.Retry.GetDueTime().AsTime().After(now) {
			return nil // it takes its place in the line when its time has come
		}
		e := entryOf(j, order.Coming)
		if !st.Due {
			rested(&e, st.Retry, st.Sequence)
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		b.Found(e)
		return nil
	})
	o.mu.Lock()
	b.EndScan(err == nil)
	if err != nil {
		b.scan, b.from = true, time.Now().Add(suspectPause)
	}
	m := o.advance(b)
	o.mu.Unlock()
	if err != nil && o.s.ctx.Err() == nil {
		o.s.p.deps.Logger.WarnContext(o.s.ctx, "what waits for an ordered webhook not read",
			slog.String("webhook", string(b.webhook)), slog.Any("error", err))
	}
	o.move(m)
}
