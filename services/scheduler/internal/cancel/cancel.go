// Package cancel ends deliveries that wait. What it removes, it has read and journalled before;
// it removes by sequence and never by subject alone.
package cancel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/services/scheduler/internal/retryset"
)

// Requested is the reason of deliveries that carry a mark: somebody asked for their end.
const Requested = "request"

// chunk is how many records are journalled and removed together.
const chunk = 256

// readAgain is how often a record that was replaced while it was cancelled is read again.
const readAgain = 5

// records is all that is needed of RETRIES.
type records interface {
	Last(ctx context.Context, account postrider.AccountID, webhook postrider.WebhookID, delivery postrider.DeliveryID) (*retrystream.Record, error)
	ScanWebhook(ctx context.Context, account postrider.AccountID, webhook postrider.WebhookID, from retrystream.Place, fn func(retrystream.Record) error) error
	Remove(ctx context.Context, r retrystream.Record) error
	RemoveWebhook(ctx context.Context, account postrider.AccountID, webhook postrider.WebhookID, upTo retrystream.Place) (int64, error)
}

// journal is all that is needed of the journal.
type journal interface {
	Cancelled(ctx context.Context, records []retrystream.Record, reason string) error
}

// index is all that is needed of the index.
type index interface {
	Drop(ctx context.Context, members ...retryset.Member) error
}

// marks is all that is needed of the configuration.
type marks interface {
	MarkCancelled(ctx context.Context, account, delivery string) (uint64, error)
}

// barrier is all that is needed of the configuration barrier.
type barrier interface {
	Confirm(ctx context.Context, bucket string, revision uint64) error
}

// Deps is what a Canceller works with.
type Deps struct {
	Records records
	Journal journal
	Index   index
	Marks   marks
	Barrier barrier
	Logger  *slog.Logger
}

// Canceller cancels deliveries.
type Canceller struct{ deps Deps }

// New returns a canceller.
func New(deps Deps) *Canceller { return &Canceller{deps: deps} }

// Delivery ends one delivery, wherever it is. It returns how many waiting records it removed:
// one, or none if the delivery does not wait.
//
// The order is the argument. The mark comes first, and the barrier proves that every
// dispatcher has it: from then on whoever meets the delivery ends it, so nothing can begin
// behind our back. Then the record is read and journalled, and only then removed, by its
// sequence: a crash in between repeats an entry, which the journal's readers absorb. A record
// that was released or fired meanwhile has become a due delivery, which a dispatcher meets. One
// that is stored after it was read here is met by who stores it: ScheduleRetry looks at the marks
// after the store, and the sweep at what was stored without a scheduler.
func (c *Canceller) Delivery(ctx context.Context, account postrider.AccountID, webhook postrider.WebhookID, delivery postrider.DeliveryID, reason string) (int64, error) {
	revision, err := c.deps.Marks.MarkCancelled(ctx, string(account), string(delivery))
	if err != nil {
		return 0, fmt.Errorf("mark %s as cancelled: %w", delivery, err)
	}
	if err := c.deps.Barrier.Confirm(ctx, config.BucketCancellations, revision); err != nil {
		return 0, fmt.Errorf("confirm the mark of %s: %w", delivery, err)
	}
	return c.Marked(ctx, account, webhook, delivery, reason)
}

// Target is a delivery of an event that is cancelled.
type Target struct {
	Webhook  postrider.WebhookID
	Delivery postrider.DeliveryID
	// Apart says that the event's mark does not cover it.
	Apart bool
}

// Event ends what routing made of an event, also what nobody has told of yet, and the targets. It
// returns how many waiting records it removed.
//
// The order is that of Delivery, with the marks of all before the one barrier: the event's, and one
// for each target that it does not cover. What is not a target ends where it is met.
func (c *Canceller) Event(ctx context.Context, account postrider.AccountID, event postrider.EventID, targets []Target, reason string) (int64, error) {
	last, err := c.deps.Marks.MarkCancelled(ctx, string(account), string(event))
	if err != nil {
		return 0, fmt.Errorf("mark %s as cancelled: %w", event, err)
	}
	for _, t := range targets {
		if !t.Apart {
			continue
		}
		revision, err := c.deps.Marks.MarkCancelled(ctx, string(account), string(t.Delivery))
		if err != nil {
			return 0, fmt.Errorf("mark %s as cancelled: %w", t.Delivery, err)
		}
		last = max(last, revision)
	}
	if err := c.deps.Barrier.Confirm(ctx, config.BucketCancellations, last); err != nil {
		return 0, fmt.Errorf("confirm the marks of %s: %w", event, err)
	}
	var removed int64
	for _, t := range targets {
		n, err := c.Marked(ctx, account, t.Webhook, t.Delivery, reason)
		removed += n
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// Marked removes the record of a delivery that is marked as cancelled, if it waits. It returns how
// many records it removed.
func (c *Canceller) Marked(ctx context.Context, account postrider.AccountID, webhook postrider.WebhookID, delivery postrider.DeliveryID, reason string) (int64, error) {
	for range readAgain {
		rec, err := c.deps.Records.Last(ctx, account, webhook, delivery)
		if errors.Is(err, retrystream.ErrGone) {
			return 0, nil
		}
		if err != nil {
			return 0, fmt.Errorf("read the record of %s: %w", delivery, err)
		}
		n, err := c.Records(ctx, []retrystream.Record{*rec}, reason)
		if n > 0 || err != nil {
			return n, err
		}
		// Replaced or released since it was read: look again.
	}
	return 0, nil
}

// Records journals the records' deliveries as cancelled and removes the records. It returns
// how many were there to be removed.
func (c *Canceller) Records(ctx context.Context, list []retrystream.Record, reason string) (int64, error) {
	if err := c.deps.Journal.Cancelled(ctx, list, reason); err != nil {
		return 0, fmt.Errorf("cancel %d deliveries: %w", len(list), err)
	}
	var removed int64
	for _, rec := range list {
		switch err := c.deps.Records.Remove(ctx, rec); {
		case err == nil:
			removed++
		case !errors.Is(err, retrystream.ErrGone):
			return removed, fmt.Errorf("remove the record of %s: %w", rec.Retry.GetDelivery().GetId(), err)
		}
	}
	c.drop(ctx, list)
	return removed, nil
}

// waitingChunk is how many records of a webhook that lives on are ended by one call: each costs a
// mark, all together one barrier.
const waitingChunk = 1000

// errEnough ends a scan.
var errEnough = errors.New("read enough")

// Waiting ends at most 1000 of the records that wait for a webhook that lives on, those that were
// stored first. It returns how many it removed, how many had been released or replaced meanwhile and
// end where they are met, and whether there are more.
//
// The order is that of Delivery, with one mark for each record before the one barrier: nothing about
// the webhook itself keeps a record from firing between the read and the removal, so without a mark
// a delivery that is said to be cancelled would be attempted and wait again.
func (c *Canceller) Waiting(ctx context.Context, account postrider.AccountID, webhook postrider.WebhookID, reason string) (removed, marked int64, more bool, err error) {
	var list []retrystream.Record
	err = c.deps.Records.ScanWebhook(ctx, account, webhook, retrystream.Place{}, func(rec retrystream.Record) error {
		if len(list) == waitingChunk {
			return errEnough
		}
		list = append(list, rec)
		return nil
	})
	if more = errors.Is(err, errEnough); err != nil && !more {
		return 0, 0, false, fmt.Errorf("read what waits for %s: %w", webhook, err)
	}
	if len(list) == 0 {
		return 0, 0, false, nil
	}
	var last uint64
	for _, rec := range list {
		id := rec.Retry.GetDelivery().GetId()
		if last, err = c.deps.Marks.MarkCancelled(ctx, string(account), id); err != nil {
			return 0, 0, false, fmt.Errorf("mark %s as cancelled: %w", id, err)
		}
	}
	if err := c.deps.Barrier.Confirm(ctx, config.BucketCancellations, last); err != nil {
		return 0, 0, false, fmt.Errorf("confirm the marks of what waits for %s: %w", webhook, err)
	}
	for part := range slices.Chunk(list, chunk) {
		n, err := c.Records(ctx, part, reason)
		removed += n
		if err != nil {
			return removed, 0, false, err
		}
	}
	return removed, int64(len(list)) - removed, more, nil
}

// Webhook ends everything that waits, when the call begins, for a webhook that was deleted. It
// returns how many records it removed. The webhook's own state, which the caller set and confirmed,
// keeps more from coming, and ends what comes due meanwhile.
func (c *Canceller) Webhook(ctx context.Context, account postrider.AccountID, webhook postrider.WebhookID, reason string) (int64, error) {
	var removed int64
	list := make([]retrystream.Record, 0, chunk)
	flush := func() error {
		if len(list) == 0 {
			return nil
		}
		if err := c.deps.Journal.Cancelled(ctx, list, reason); err != nil {
			return err
		}
		// Every record of the webhook on this shard up to this one was read and journalled, in this or in an
		// earlier turn, so the purge up to it removes nothing unread.
		last := list[len(list)-1]
		n, err := c.deps.Records.RemoveWebhook(ctx, account, webhook, retrystream.Place{Shard: last.Shard, Sequence: last.Sequence})
		removed += n
		if err != nil {
			return err
		}
		c.drop(ctx, list)
		list = list[:0]
		return nil
	}
	err := c.deps.Records.ScanWebhook(ctx, account, webhook, retrystream.Place{}, func(rec retrystream.Record) error {
		if len(list) > 0 && list[0].Shard != rec.Shard {
			if err := flush(); err != nil {
				return err
			}
		}
		list = append(list, rec)
		if len(list) == chunk {
			return flush()
		}
		return nil
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return removed, fmt.Errorf("cancel what waits for %s: %w", webhook, err)
	}
	return removed, nil
}

// drop takes members of removed records out of the index. Those that stay are dropped when
// they are due, because their records are gone.
func (c *Canceller) drop(ctx context.Context, list []retrystream.Record) {
	members := make([]retryset.Member, 0, len(list))
	for _, rec := range list {
		members = append(members, retryset.Member{Shard: rec.Shard, Sequence: rec.Sequence})
	}
	if err := c.deps.Index.Drop(ctx, members...); err != nil {
		c.deps.Logger.DebugContext(ctx, "cancelled retries stay in the index until they are due", "retries", len(members), "error", err)
	}
}
