// Package ratelimit counts requests by who makes them, in windows of fixed length. It keeps its
// counts in memory: each process has its own, and they are lost with it.
package ratelimit

import (
	"sync"
	"time"
)

// Limiter lets a number of requests through for each key and window. A key's window begins with its
// first request.
type Limiter struct {
	limit  int
	window time.Duration
	keys   int
	now    func() time.Time

	mu      sync.Mutex
	windows map[string]*window
	others  window // of those for whom there is no room
}

type window struct {
	end  time.Time
	used int
}

// Verdict is what a request is told.
type Verdict struct {
	OK        bool
	Limit     int
	Remaining int       // in this window, after this request
	Reset     time.Time // when the window ends
}

// New returns a limiter of limit requests a window. It remembers at most so many keys; if there are
// more at once, the others share one window, so that nobody gets past it by being many.
func New(limit int, length time.Duration, keys int, now func() time.Time) *Limiter {
	return &Limiter{limit: limit, window: length, keys: keys, now: now, windows: make(map[string]*window)}
}

// Take counts a request.
func (l *Limiter) Take(key string) Verdict {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.find(key, now)
	if !now.Before(w.end) {
		w.end, w.used = now.Add(l.window), 0
	}
	v := Verdict{OK: w.used < l.limit, Limit: l.limit, Reset: w.end}
	if v.OK {
		w.used++
	}
	v.Remaining = l.limit - w.used
	return v
}

func (l *Limiter) find(key string, now time.Time) *window {
	if w, ok := l.windows[key]; ok {
		return w
	}
	if len(l.windows) >= l.keys {
		for k, w := range l.windows {
			if !now.Before(w.end) {
				delete(l.windows, k)
			}
		}
	}
	if len(l.windows) >= l.keys {
		return &l.others
	}
	w := &window{}
	l.windows[key] = w
	return w
}
