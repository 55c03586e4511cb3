package shardlease

import (
	"context"
	"sync"
	"time"
)

// proven reports whether the leases of the member with this id are proven now.
func (l *Leases) proven(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.provenLocked(id)
}

func (l *Leases) provenLocked(id string) bool { return l.proof == id && time.Now().Before(l.until) }

// ending reports whether a shard is being drained.
func (l *Leases) ending(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.running[n]
	return h != nil && h.ending
}

// end cancels a shard's context; false if it is not running.
func (l *Leases) end(n int, cause error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.running[n]
	if h != nil && !h.ending {
		h.ending = true
		h.cancel(cause)
	}
	return h != nil
}

// endAll cancels the contexts of all shards, and lets none be started before the next renewal.
func (l *Leases) endAll(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until = time.Time{}
	l.endLocked(cause)
}

func (l *Leases) endLocked(cause error) {
	for _, h := range l.running {
		if !h.ending {
			h.ending = true
			h.cancel(cause)
		}
	}
}

// start runs onAcquire for a shard that is the member's own, unless it runs. It looks at the proof
// under the lock under which the proof ends, so nothing starts without one.
func (m *member) start(ctx context.Context, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running[n] != nil || !m.provenLocked(m.id) || ctx.Err() != nil {
		return
	}
	held, cancel := context.WithCancelCause(ctx)
	m.running[n] = &holding{cancel: cancel}
	m.work.Go(func() {
		defer cancel(nil)
		m.onAcquire(held, n)
		m.returned <- n // has room for every shard
	})
}

// guard ends all work when the proof has lapsed, whatever else is stuck.
type guard struct {
	leases *Leases
	mu     sync.Mutex
	timer  *time.Timer
}

func (l *Leases) guard() *guard {
	g := &guard{leases: l}
	g.timer = time.AfterFunc(time.Hour, g.check)
	g.timer.Stop()
	return g
}

// renew says that the leases of the member with this id are proven until then.
func (g *guard) renew(id string, until time.Time) {
	g.leases.mu.Lock()
	g.leases.proof, g.leases.until = id, until
	g.leases.mu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.timer.Reset(time.Until(until))
}

// check runs when the timer fires; a renewal may just have come.
func (g *guard) check() {
	l := g.leases
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Now().Before(l.until) {
		return
	}
	l.endLocked(ErrLapsed)
}

// stop ends the timer, when there is nothing left to end.
func (g *guard) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.timer.Stop()
}
