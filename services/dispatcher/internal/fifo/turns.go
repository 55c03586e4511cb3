package fifo

import "sync"

// Turns is a queue in which keys take turns: of each key one item, in the order in which they were pushed,
// then one of the next key that has any. Whoever pushes little waits for one item of each other key, however
// much those have pushed. It is safe for concurrent use.
type Turns[K comparable, T any] struct {
	mu     sync.Mutex
	some   sync.Cond
	lines  map[K]*line[K, T]
	next   *line[K, T] // whose turn it is, in a ring of those that have items; nil if none has
	spare  *line[K, T] // lines that are not used, by next
	spares int
	length int
	closed bool
}

// line is what one key has pushed.
type line[K comparable, T any] struct {
	key        K
	items      []T
	head       int
	prev, next *line[K, T]
}

const (
	// mostSpares and mostSpared bound what is kept to be used again: lines, and items in each.
	mostSpares, mostSpared = 64, 256
)

// NewTurns returns an empty queue.
func NewTurns[K comparable, T any]() *Turns[K, T] {
	q := &Turns[K, T]{lines: map[K]*line[K, T]{}}
	q.some.L = &q.mu
	return q
}

// Push appends an item to those of its key. It reports false, and drops the item, if the queue is closed.
func (q *Turns[K, T]) Push(key K, v T) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	l := q.lines[key]
	if l == nil {
		l = q.open(key)
	}
	l.items = append(l.items, v)
	q.length++
	q.some.Signal()
	return true
}

// open puts a line for the key where it comes last.
func (q *Turns[K, T]) open(key K) *line[K, T] {
	l := q.spare
	if l == nil {
		l = &line[K, T]{}
	} else {
		q.spare = l.next
		q.spares--
	}
	l.key = key
	q.lines[key] = l
	if q.next == nil {
		l.prev, l.next = l, l
		q.next = l
		return l
	}
	l.prev, l.next = q.next.prev, q.next
	l.prev.next, l.next.prev = l, l
	return l
}

// Pop waits for an item. Ok is false once the queue is closed and empty.
func (q *Turns[K, T]) Pop() (v T, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.length == 0 {
		if q.closed {
			return v, false
		}
		q.some.Wait()
	}
	l := q.next
	var zero T
	v, l.items[l.head] = l.items[l.head], zero
	l.head++
	q.length--
	q.next = l.next
	if l.head == len(l.items) {
		q.drop(l)
	} else if l.head >= mostSpared && 2*l.head >= len(l.items) {
		n := copy(l.items, l.items[l.head:])
		clear(l.items[n:])
		l.items, l.head = l.items[:n], 0
	}
	return v, true
}

// drop takes an empty line out.
func (q *Turns[K, T]) drop(l *line[K, T]) {
	delete(q.lines, l.key)
	if l.next == l {
		q.next = nil
	} else {
		l.prev.next, l.next.prev = l.next, l.prev
	}
	var none K
	l.key, l.prev, l.next, l.head, l.items = none, nil, nil, 0, l.items[:0]
	if q.spares < mostSpares && cap(l.items) <= mostSpared {
		l.next, q.spare = q.spare, l
		q.spares++
	}
}

// Len is how many items wait.
func (q *Turns[K, T]) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.length
}

// Close lets Pop return what is left and then no more. Closing twice is a no-op.
func (q *Turns[K, T]) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.some.Broadcast()
}
