package admission

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// queue hands work to a goroutine that takes as much as has gathered while it was busy, so that
// the busier it is the larger its batches are. Adding never blocks: what is in the queues is
// bounded by the bytes in flight.
type queue[T any] struct {
	refuse func(T) // takes what is added after shut
	wake   chan struct{}

	mu     sync.Mutex
	items  []T
	closed bool
}

func newQueue[T any](refuse func(T)) *queue[T] {
	return &queue[T]{refuse: refuse, wake: make(chan struct{}, 1)}
}

// add appends and wakes one taker.
func (q *queue[T]) add(items ...T) {
	if len(items) == 0 {
		return
	}
	q.mu.Lock()
	closed := q.closed
	if !closed {
		q.items = append(q.items, items...)
	}
	q.mu.Unlock()
	if closed {
		for _, item := range items {
			q.refuse(item)
		}
		return
	}
	q.signal()
}

// shut refuses what is left, and what is added from now on. Nothing takes from the queue any more.
func (q *queue[T]) shut() {
	q.mu.Lock()
	q.closed = true
	left := q.items
	q.items = nil
	q.mu.Unlock()
	for _, item := range left {
		q.refuse(item)
	}
}

func (q *queue[T]) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take returns what is there, at most limit if that is positive.
func (q *queue[T]) take(limit int) []T {
	q.mu.Lock()
	defer q.mu.Unlock()
	if limit <= 0 || len(q.items) <= limit {
		batch := q.items
		q.items = nil
		return batch
	}
	batch := q.items[:limit:limit]
	q.items = q.items[limit:]
	return batch
}

// run gives batches to handle until ctx ends. Several may run on one queue.
func (q *queue[T]) run(ctx context.Context, limit int, handle func(context.Context, []T)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		}
		for ctx.Err() == nil {
			batch := q.take(limit)
			if len(batch) == 0 {
				break
			}
			if len(batch) == limit {
				q.signal() // there may be more, for another taker
			}
			handle(ctx, batch)
		}
	}
}

// waits holds entries until they are to look at their key again.
type waits struct {
	refuse func(*entry) // takes what is added after shut
	wake   chan struct{}

	mu     sync.Mutex
	heap   waitHeap
	closed bool
}

func newWaits(refuse func(*entry)) *waits {
	return &waits{refuse: refuse, wake: make(chan struct{}, 1)}
}

// add keeps an entry until its time.
func (w *waits) add(e *entry, due time.Time) {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		w.refuse(e)
		return
	}
	heap.Push(&w.heap, waiting{e, due})
	first := w.heap[0].entry == e
	w.mu.Unlock()
	if first {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// shut refuses what is left, and what is added from now on.
func (w *waits) shut() {
	w.mu.Lock()
	w.closed = true
	left := w.heap
	w.heap = nil
	w.mu.Unlock()
	for _, item := range left {
		w.refuse(item.entry)
	}
}

// run gives entries on when their time has come, until ctx ends.
func (w *waits) run(ctx context.Context, next func(...*entry)) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		due, pause := w.due(time.Now())
		next(due...)
		timer.Reset(pause)
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		case <-timer.C:
		}
	}
}

// due takes the entries whose time has come and says how long the next one has.
func (w *waits) due(now time.Time) (entries []*entry, pause time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.heap) > 0 {
		if pause := w.heap[0].due.Sub(now); pause > 0 {
			return entries, pause
		}
		entries = append(entries, heap.Pop(&w.heap).(waiting).entry)
	}
	return entries, time.Hour
}

// waiting is an entry and when it is to go on.
type waiting struct {
	entry *entry
	due   time.Time
}

type waitHeap []waiting

func (h waitHeap) Len() int           { return len(h) }
func (h waitHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h waitHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push is for package heap.
func (h *waitHeap) Push(x any) {
	*h = append(*h, x.(waiting))
}

// Pop is for package heap.
func (h *waitHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = waiting{}
	*h = old[:len(old)-1]
	return last
}
