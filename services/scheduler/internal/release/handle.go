package release

import (
	"context"
	"errors"
	"log/slog"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/services/scheduler/internal/retryset"
	"github.com/postrider/postrider/services/scheduler/internal/webhooks"
)

// handle brings claimed members of one shard to an outcome. Each member gets exactly one.
//
// The record decides, never the member: a member without a record is dropped; a record that is
// not due, because a restore of the streams gave its sequence to another delivery, is not
// released; and the release itself is a compare-and-set on the sequence, so that of all
// replicas, and the server that may fire the record, exactly one makes the delivery due.
func (l *Loop) handle(ctx context.Context, members []retryset.Member) {
	shard := members[0].Shard
	if shard >= l.deps.Records.Layout().Streams {
		l.giveBack(members, l.deps.Now().Add(again)) // of a shard that is so new that we do not know of it yet
		return
	}
	sequences := make([]uint64, 0, len(members))
	for _, m := range members {
		sequences = append(sequences, m.Sequence)
	}
	found, err := l.deps.Records.GetAll(ctx, shard, sequences)
	if ctx.Err() != nil {
		l.giveBack(members, l.deps.Now())
		return
	}
	if err != nil || len(found) != len(members) {
		l.failed(ctx, err, len(members))
		l.giveBack(members, l.deps.Now().Add(again))
		return
	}
	// What is stopped halfway is finished: the publishes are bounded by their own budget.
	ctx = context.WithoutCancel(ctx)
	stopped := make(map[postrider.WebhookID][]retrystream.Record)
	now := l.deps.Now()
	for i, rec := range found {
		if rec == nil {
			l.deps.Metrics.gone(ctx)
			l.outcomes <- outcome{member: members[i]}
			continue
		}
		if due := rec.Retry.GetDueTime().AsTime(); due.After(now) {
			l.deps.Metrics.postponed(ctx)
			l.outcomes <- outcome{member: members[i], due: due}
			continue
		}
		id := postrider.WebhookID(rec.Retry.GetDelivery().GetWebhookId())
		if w, ok := l.deps.Registry.Lookup(id); ok && !w.Active() {
			stopped[id] = append(stopped[id], *rec)
			continue
		}
		// A webhook that is not known was created or deleted a moment ago. The dispatcher, which
		// works on nothing but the latest configuration, knows which.
		l.release(ctx, *rec)
	}
	for id, list := range stopped {
		l.stop(ctx, id, list)
	}
}

// release makes one record's delivery due.
func (l *Loop) release(ctx context.Context, rec retrystream.Record) {
	err := l.deps.Records.Release(ctx, rec, func(err error) { l.released(ctx, rec, err) })
	if err != nil {
		l.released(ctx, rec, err)
	}
}

// released takes the result of a release. It is called by the publisher and must not block.
func (l *Loop) released(ctx context.Context, rec retrystream.Record, err error) {
	o := outcome{member: memberOf(rec)}
	switch {
	case err == nil:
		l.failing.Store(false)
		l.deps.Metrics.released(ctx, l.deps.Now().Sub(rec.Retry.GetDueTime().AsTime()))
	case errors.Is(err, retrystream.ErrGone):
		// Released by another replica, replaced, fired by the server or cancelled.
		l.deps.Metrics.gone(ctx)
	default:
		// It may have happened. If it did, the record is gone when the member comes back.
		l.failed(ctx, err, 1)
		o.due = l.deps.Now().Add(again)
	}
	l.outcomes <- o
}

// stop holds or cancels due records of a webhook that takes none.
func (l *Loop) stop(ctx context.Context, id postrider.WebhookID, list []retrystream.Record) {
	w, ok := l.deps.Registry.Lookup(id)
	if !ok || w.Active() {
		for _, rec := range list {
			l.release(ctx, rec)
		}
		return
	}
	err := l.bring(ctx, w, list)
	if err != nil {
		l.failed(ctx, err, len(list))
	}
	for _, rec := range list {
		o := outcome{member: memberOf(rec)}
		if err != nil {
			o.due = l.deps.Now().Add(again)
		}
		l.outcomes <- o
	}
}

func (l *Loop) bring(ctx context.Context, w webhooks.Webhook, list []retrystream.Record) error {
	if w.State == postrider.WebhookDeleted {
		_, err := l.deps.Cancel.Records(ctx, list, "webhook_deleted")
		return err
	}
	_, err := l.deps.Hold.HoldRecords(ctx, w, list)
	return err
}

// failed counts failures, and logs the first of a row.
func (l *Loop) failed(ctx context.Context, err error, n int) {
	l.deps.Metrics.failedToRelease(ctx, n)
	if !l.failing.Swap(true) {
		l.deps.Logger.WarnContext(ctx, "retries not released yet", slog.Int("retries", n), slog.Any("error", err))
	}
}

func memberOf(rec retrystream.Record) retryset.Member {
	return retryset.Member{Shard: rec.Shard, Sequence: rec.Sequence}
}
