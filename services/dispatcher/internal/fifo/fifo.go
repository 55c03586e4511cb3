// Package fifo is the queue between the dispatcher's goroutines. It has no bound of its own: what
// is pushed is an unsettled message, and their number is bounded by the consumers.
package fifo

import "sync"

// Queue is a first-in, first-out queue. It is safe for concurrent use.
type Queue[T any] struct {
	mu     sync.Mutex
	some   sync.Cond
	ring   []T
	head   int
	length int
	closed bool
}

// New returns an empty queue.
func New[T any]() *Queue[T] {
	q := &Queue[T]{ring: make([]T, 64)}
	q.some.L = &q.mu
	return q
}

// Push appends an item. It reports false, and drops the item, if the queue is closed.
func (q *Queue[T]) Push(v T) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	if q.length == len(q.ring) {
		q.grow()
	}
	q.ring[(q.head+q.length)%len(q.ring)] = v
	q.length++
	q.some.Signal()
	return true
}

func (q *Queue[T]) grow() {
	ring := make([]T, 2*len(q.ring))
	n := copy(ring, q.ring[q.head:])
	copy(ring[n:], q.ring[:q.head])
	q.ring, q.head = ring, 0
}

// Pop waits for an item. Ok is false once the queue is closed and empty.
func (q *Queue[T]) Pop() (v T, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.length == 0 {
		if q.closed {
			return v, false
		}
		q.some.Wait()
	}
	return q.take(), true
}

// Take appends what is there now to the items, up to most of them in all, as long as fits says so.
// It does not wait.
func (q *Queue[T]) Take(items []T, most int, fits func(T) bool) []T {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.length > 0 && len(items) < most && fits(q.ring[q.head]) {
		items = append(items, q.take())
	}
	return items
}

func (q *Queue[T]) take() T {
	var zero T
	v := q.ring[q.head]
	q.ring[q.head] = zero
	q.head = (q.head + 1) % len(q.ring)
	q.length--
	return v
}

// Len is how many items wait.
func (q *Queue[T]) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.length
}

// Close lets Pop return what is left and then no more. Closing twice is a no-op.
func (q *Queue[T]) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.some.Broadcast()
}
