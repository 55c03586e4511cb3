package retryset

import (
	"context"
	"crypto/rand"
	"time"
)

// BeginRebuild implements Index. There is one process, so there is one rebuild at a time.
func (x *Memory) BeginRebuild(context.Context) (*Rebuild, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	r := &Rebuild{token: rand.Text()}
	if x.build != "" || (!x.lost && x.doubts == 0) {
		return r, nil
	}
	x.build = r.token
	r.Slots = AllSlots
	r.slots[0].doubts = x.doubts
	return r, nil
}

// Refill implements Index.
func (x *Memory) Refill(_ context.Context, r *Rebuild, entries []Entry) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range entries {
		if r.Covers(e.Member) {
			x.add(e)
		}
	}
	return nil
}

// EndRebuild implements Index.
func (x *Memory) EndRebuild(_ context.Context, r *Rebuild) (Slots, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.build != r.token {
		return r.Slots, nil
	}
	x.build = ""
	x.lost = false
	// What was distrusted while the records were read may have been stored behind the reader.
	x.doubts -= r.slots[0].doubts
	if x.doubts > 0 {
		return r.Slots, nil
	}
	return 0, nil
}

// AbandonRebuild implements Index.
func (x *Memory) AbandonRebuild(_ context.Context, r *Rebuild) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.build == r.token {
		x.build = ""
	}
	return nil
}

// memoryLock is an advisory lock within the process.
type memoryLock struct {
	index *Memory
	name  string
	ttl   time.Duration
	until time.Time
}

// TryLock implements Index.
func (x *Memory) TryLock(_ context.Context, name string, ttl time.Duration) (Lock, bool, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if held, ok := x.locks[name]; ok && x.now().Before(held.until) {
		return nil, false, nil
	}
	l := &memoryLock{index: x, name: name, ttl: ttl, until: x.now().Add(ttl)}
	x.locks[name] = l
	return l, true, nil
}

// Extend implements Lock.
func (l *memoryLock) Extend(context.Context) (bool, error) {
	l.index.mu.Lock()
	defer l.index.mu.Unlock()
	if l.index.locks[l.name] != l || !l.index.now().Before(l.until) {
		return false, nil
	}
	l.until = l.index.now().Add(l.ttl)
	return true, nil
}

// Release implements Lock.
func (l *memoryLock) Release(context.Context) error {
	l.index.mu.Lock()
	defer l.index.mu.Unlock()
	if l.index.locks[l.name] == l {
		delete(l.index.locks, l.name)
	}
	return nil
}
