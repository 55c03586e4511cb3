package verify

import (
	"container/heap"
	"sync"
	"time"
)

// Window remembers which requests were taken while their time is within the tolerance. Its memory
// is bounded: when it is full it forgets the oldest, and from then on refuses what is not younger,
// so that nothing is ever taken twice. It is safe for concurrent use; Verifiers may share one.
type Window struct {
	size int

	mu     sync.Mutex
	seen   map[attempt]struct{}
	oldest attempts
	floor  time.Time // what is not after it is refused
}

// attempt is one attempt of one message.
type attempt struct {
	unique string
	unix   int64
}

// NewWindow makes a window for at most size requests, at least 1. It takes about 200 bytes for
// each, and should hold what comes in twice the tolerance.
func NewWindow(size int) *Window {
	size = max(size, 1)
	return &Window{size: size, seen: make(map[attempt]struct{})}
}

// Len is the number of requests that it remembers.
func (w *Window) Len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.seen)
}

// take remembers an attempt of a message. The error is ErrReplay for one that it remembers, and
// ErrTimestamp for one that it may have forgotten.
func (w *Window) take(unique string, at, now time.Time, tolerance time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	// What is older than the tolerance is refused by its time, as long as the clock does not go
	// back; the floor holds even then.
	w.forget(now.Add(-tolerance))
	a := attempt{unique, at.Unix()}
	if _, ok := w.seen[a]; ok {
		return ErrReplay
	}
	if !at.After(w.floor) {
		return ErrTimestamp
	}
	if len(w.seen) >= w.size {
		w.drop()
		if !at.After(w.floor) {
			return ErrTimestamp
		}
	}
	w.seen[a] = struct{}{}
	heap.Push(&w.oldest, a)
	return nil
}

// forget drops what is before a time.
func (w *Window) forget(before time.Time) {
	for len(w.oldest) > 0 && time.Unix(w.oldest[0].unix, 0).Before(before) {
		w.drop()
	}
}

// drop forgets the oldest, and refuses it from now on.
func (w *Window) drop() {
	a, _ := heap.Pop(&w.oldest).(attempt)
	delete(w.seen, a)
	if at := time.Unix(a.unix, 0); at.After(w.floor) {
		w.floor = at
	}
}

// attempts is a heap, the oldest first.
type attempts []attempt

func (h attempts) Len() int           { return len(h) }
func (h attempts) Less(i, j int) bool { return h[i].unix < h[j].unix }
func (h attempts) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push is for package heap.
func (h *attempts) Push(x any) {
	a, _ := x.(attempt)
	*h = append(*h, a)
}

// Pop is for package heap.
func (h *attempts) Pop() any {
	last := len(*h) - 1
	a := (*h)[last]
	(*h)[last] = attempt{}
	*h = (*h)[:last]
	return a
}
