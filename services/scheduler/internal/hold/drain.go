package hold

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/postrider/postrider/pkg/stream/retrystream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/services/scheduler/internal/retryset"
	"github.com/postrider/postrider/services/scheduler/internal/webhooks"
)

const (
	// drainLock is how long a replica that stopped in the middle of a drain keeps others off it.
	drainLock = 10 * time.Second
	// drainChunk is how many held records are released together, at most.
	drainChunk = 64
)

// place is where a held record stands, and its event.
type place struct {
	event uint64 // sequence in EVENTS
	retrystream.Place
}

func byEvent(a, b place) int {
	return cmp.Or(cmp.Compare(a.event, b.event), cmp.Compare(a.Shard, b.Shard), cmp.Compare(a.Sequence, b.Sequence))
}

// drain releases what is held for an active webhook, in the order of its events and at its
// rate. Again says that it could not be finished, because another replica is at it.
//
// The lock keeps replicas from releasing at twice the rate and out of order. Nothing else rests
// on it, so without Redis it is done without.
func (m *Manager) drain(ctx context.Context, w webhooks.Webhook) (again bool, err error) {
	found, err := m.anyHeld(ctx, w)
	if err != nil || !found {
		return false, err
	}
	lock, ok, err := m.deps.Index.TryLock(ctx, "drain:"+string(w.ID), drainLock)
	switch {
	case err != nil:
		m.deps.Logger.DebugContext(ctx, "draining without a lock", "webhook", w.ID, "error", err)
		lock = nil
	case !ok:
		return true, nil
	default:
		defer func() {
			// The context may have ended; the lock is given up all the same, or others wait for nothing.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_ = lock.Release(ctx) // it ends by itself
		}()
	}
	for {
		places, more, err := m.collect(ctx, w)
		if err != nil {
			return false, err
		}
		if err := m.releaseInOrder(ctx, w, places, lock); err != nil || !more {
			return false, err
		}
	}
}

// errFound ends a scan.
var errFound = errors.New("found")

// anyHeld reports whether anything is held for the webhook, which is mostly not so.
func (m *Manager) anyHeld(ctx context.Context, w webhooks.Webhook) (bool, error) {
	err := m.scanHeld(ctx, w, func(retrystream.Record) error { return errFound })
	if errors.Is(err, errFound) {
		return true, nil
	}
	return false, err
}

func (m *Manager) scanHeld(ctx context.Context, w webhooks.Webhook, fn func(retrystream.Record) error) error {
	err := m.deps.Records.ScanWebhook(ctx, w.Account, w.ID, retrystream.Place{}, func(rec retrystream.Record) error {
		if rec.Retry.GetKind() != recordv1.RetryKind_RETRY_KIND_HELD {
			return nil
		}
		return fn(rec)
	})
	if err != nil {
		return fmt.Errorf("read what is held for %s: %w", w.ID, err)
	}
	return nil
}

// CountHeld returns how many records are held for a webhook.
func (m *Manager) CountHeld(ctx context.Context, w webhooks.Webhook) (int64, error) {
	var n int64
	err := m.scanHeld(ctx, w, func(retrystream.Record) error {
		n++
		return nil
	})
	return n, err
}

// collect returns the held records of the earliest events, in order, and whether there are
// more than fit into the window. A held record is written anew each hour, so the order of the
// stream says nothing.
func (m *Manager) collect(ctx context.Context, w webhooks.Webhook) (places []place, more bool, err error) {
	var window latest
	err = m.scanHeld(ctx, w, func(rec retrystream.Record) error {
		heap.Push(&window, place{rec.Retry.GetDelivery().GetEventSequence(), retrystream.Place{Shard: rec.Shard, Sequence: rec.Sequence}})
		if len(window) > m.cfg.Window {
			heap.Pop(&window)
			more = true
		}
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	slices.SortFunc(window, byEvent)
	return window, more, nil
}

// releaseInOrder releases the places at the webhook's rate while the webhook stays as it is.
func (m *Manager) releaseInOrder(ctx context.Context, w webhooks.Webhook, places []place, lock retryset.Lock) error {
	perSecond := w.Rate
	if perSecond <= 0 {
		perSecond = m.cfg.Rate
	}
	size := min(max(int(perSecond/10), 1), drainChunk)
	pace := rate.NewLimiter(rate.Limit(perSecond), size)
	for chunk := range slices.Chunk(places, size) {
		if err := pace.WaitN(ctx, len(chunk)); err != nil {
			return fmt.Errorf("wait to release what is held for %s: %w", w.ID, err)
		}
		if !m.deps.Registry.Current(w) {
			return errChanged
		}
		if lock != nil {
			_, _ = lock.Extend(ctx) // a lost lock costs the pace, nothing else
		}
		if err := m.releaseChunk(ctx, w, chunk); err != nil {
			return err
		}
	}
	return nil
}

// releaseChunk journals that the deliveries are pending again and releases their records. A
// crash in between leaves held records of an active webhook, which the next look releases.
func (m *Manager) releaseChunk(ctx context.Context, w webhooks.Webhook, chunk []place) error {
	list, err := m.standing(ctx, chunk)
	if err != nil {
		return fmt.Errorf("read what is held for %s: %w", w.ID, err)
	}
	if len(list) == 0 {
		return nil
	}
	if err := m.deps.Journal.Released(ctx, list, "resumed"); err != nil {
		return err
	}
	errs := make([]error, len(list))
	var pending sync.WaitGroup
	for i, rec := range list {
		pending.Add(1)
		err := m.deps.Records.Release(ctx, rec, func(err error) {
			errs[i] = err
			pending.Done()
		})
		if err != nil {
			errs[i] = err
			pending.Done()
		}
	}
	pending.Wait()
	released := 0
	var failed []error
	for i, err := range errs {
		switch {
		case err == nil:
			released++
		case !errors.Is(err, retrystream.ErrGone):
			failed = append(failed, fmt.Errorf("release %s: %w", list[i].Retry.GetDelivery().GetId(), err))
		}
	}
	m.deps.Metrics.resumed(ctx, released)
	return errors.Join(failed...)
}

// standing reads the records of the places that are still there, in their order.
func (m *Manager) standing(ctx context.Context, chunk []place) ([]retrystream.Record, error) {
	sequences := make(map[int][]uint64) // of each shard
	for _, p := range chunk {
		sequences[p.Shard] = append(sequences[p.Shard], p.Sequence)
	}
	found := make(map[retrystream.Place]*retrystream.Record, len(chunk))
	for shard, list := range sequences {
		records, err := m.deps.Records.GetAll(ctx, shard, list)
		if err != nil {
			return nil, err
		}
		for i, rec := range records {
			found[retrystream.Place{Shard: shard, Sequence: list[i]}] = rec
		}
	}
	list := make([]retrystream.Record, 0, len(chunk))
	for _, p := range chunk {
		if rec := found[p.Place]; rec != nil {
			list = append(list, *rec)
		}
	}
	return list, nil
}

// latest is a heap with the place of the latest event on top.
type latest []place

func (h *latest) Len() int           { return len(*h) }
func (h *latest) Less(i, j int) bool { return byEvent((*h)[i], (*h)[j]) > 0 }
func (h *latest) Swap(i, j int)      { (*h)[i], (*h)[j] = (*h)[j], (*h)[i] }

func (h *latest) Push(v any) {
	if p, ok := v.(place); ok {
		*h = append(*h, p)
	}
}

func (h *latest) Pop() any {
	last := len(*h) - 1
	p := (*h)[last]
	*h = (*h)[:last]
	return p
}
