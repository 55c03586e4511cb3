package pipeline

import (
	"sync"
	"time"

	"github.com/postrider/postrider/services/dispatcher/internal/breaker"
	"github.com/postrider/postrider/services/dispatcher/internal/lane"
	"github.com/postrider/postrider/services/dispatcher/internal/registry"
)

// laneSet is the lanes of a shard's webhooks.
type laneSet struct {
	s   *shard
	cfg lane.Config

	mu     sync.Mutex
	lanes  map[string]*laneSlot
	queued map[*lane.Lane[*job]]struct{} // lanes that hold a queue and must be ticked
	wake   chan struct{}
}

type laneSlot struct {
	lane     *lane.Lane[*job]
	revision uint64
}

func (l *laneSet) init(s *shard) {
	l.s = s
	l.cfg = lane.Config{
		Initial: s.p.cfg.InitialConcurrency, ParkAfter: s.p.cfg.ParkAfter, SlowAfter: s.p.cfg.SlowAfter,
		Breaker: s.p.cfg.Breaker, Pressure: s.p.pressure, Crowding: s.crowding, Random: random,
		Lag: s.p.lag.Behind,
	}
	l.lanes = map[string]*laneSlot{}
	l.queued = map[*lane.Lane[*job]]struct{}{}
	l.wake = make(chan struct{}, 1)
}

func (l *laneSet) get(w *registry.Webhook, now time.Time) *lane.Lane[*job] {
	l.mu.Lock()
	slot := l.lanes[w.Config.GetId()]
	if slot == nil {
		slot = &laneSlot{lane: lane.New[*job](&l.cfg, settings(w), now), revision: w.Revision}
		l.lanes[w.Config.GetId()] = slot
	}
	changed := slot.revision < w.Revision
	if changed {
		slot.revision = w.Revision
	}
	l.mu.Unlock()
	if changed {
		slot.lane.Configure(settings(w), now)
	}
	return slot.lane
}

func settings(w *registry.Webhook) lane.Settings {
	return lane.Settings{
		Revision: w.Revision, Account: w.Config.GetAccountId(), MaxInFlight: w.MaxInFlight(), Rate: w.RateLimit(), Timeout: w.Timeout(),
	}
}

// view shows the webhook's lane, told of its present configuration. One that is not there would be as
// a new one is, and is not made.
func (l *laneSet) view(w *registry.Webhook, now time.Time) lane.View {
	l.mu.Lock()
	slot := l.lanes[w.Config.GetId()]
	l.mu.Unlock()
	if slot == nil {
		return lane.New[*job](&l.cfg, settings(w), now).View(now)
	}
	return l.get(w, now).View(now)
}

// watch has a lane that holds a queue ticked.
func (l *laneSet) watch(one *lane.Lane[*job]) {
	l.mu.Lock()
	l.queued[one] = struct{}{}
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run ticks the lanes that hold a queue, and drops those that are not used any more.
func (l *laneSet) run(ended <-chan struct{}) {
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	ticking := true
	var moves lane.Moves[*job]
	for {
		select {
		case now := <-tick.C:
			if !l.tick(now, &moves) && ticking {
				tick.Stop()
				ticking = false
			}
		case <-l.wake:
			if !ticking {
				tick.Reset(tickEvery)
				ticking = true
			}
		case now := <-sweep.C:
			l.sweep(now)
			l.s.p.quotas.sweep(now)
		case <-ended:
			return
		}
	}
}

func (l *laneSet) tick(now time.Time, moves *lane.Moves[*job]) (more bool) {
	l.mu.Lock()
	due := make([]*lane.Lane[*job], 0, len(l.queued))
	for one := range l.queued {
		due = append(due, one)
	}
	l.mu.Unlock()
	for _, one := range due {
		again := one.Tick(now, moves)
		l.s.move(moves)
		if again {
			more = true
			continue
		}
		l.mu.Lock()
		// A job that was queued since the tick has called watch since then, and finds its lane here
		// or puts it back: whichever comes first, the lane's next tick happens.
		delete(l.queued, one)
		l.mu.Unlock()
		if one.Waiting() > 0 {
			l.watch(one)
			more = true
		}
	}
	return more
}

func (l *laneSet) sweep(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, slot := range l.lanes {
		if slot.lane.Idle(now.Add(-laneIdle), now) {
			delete(l.lanes, id)
		}
	}
}

// drain takes every queued job out of the lanes.
func (l *laneSet) drain() []*job {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []*job
	for _, slot := range l.lanes {
		out = append(out, slot.lane.Drain(func(*job) bool { return true })...)
	}
	return out
}

// count adds the lanes to those of their state.
func (l *laneSet) count(into map[breaker.State]int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, slot := range l.lanes {
		into[slot.lane.State()]++
	}
}
