package dedup

import (
	"context"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"
)

// A slot's epoch is a hash, postrider:dedup:{dNN}:epoch:
//
//	g  generation: random, given when the slot is sealed, which says that the slot holds every
//	   key of its window. Absent: the slot was flushed, or is new.
//	c  counter, moved on by each beat of each replica: one lower than a replica remembers shows a
//	   slot that was restored from an earlier state.
//	r  id of the server process that the slot was sealed in: another one may have lost the end of
//	   its log, and every slot is then looked at again from t on.
//	t  unix ms of the last sound beat, by Redis' clock: all before it is covered. Replicas compare
//	   lengths of time alone, so that a step of a clock of theirs hides nothing.
//	h  token of the rebuild that is under way; a flush takes it away, and then nothing is sealed.

// slotView is what this replica knows of a slot.
type slotView struct {
	generation string
	counter    int64
	// broken means that keys may be missing until a generation other than brokenAt is sealed.
	broken   bool
	brokenAt string
}

// gap is when this replica published without a slot of the index: those keys are in EVENTS alone. It is
// this replica's own to mend, because nobody else knows of it. If it dies first, repeats of those
// events are seen only within EVENTS' own window, until the next rebuild of their slots.
type gap struct {
	since, last time.Time
}

// noteBlind widens the gaps of slots.
func (r *Redis) noteBlind(now time.Time, blind *[slots]bool) {
	if *blind == ([slots]bool{}) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range blind {
		if !blind[s] {
			continue
		}
		if r.gaps[s].since.IsZero() {
			r.gaps[s].since = now
		}
		r.gaps[s].last = now
	}
}

// viewsNow is what is known at this moment. A reading that is asked for afterwards is compared
// with it, and not with what the beat, or another pipeline, learns in between.
func (r *Redis) viewsNow() [slots]slotView {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.views
}

// observeAll compares the epochs that came with a pipeline with what was known before it. It
// returns for each slot whether an answer from it is degraded.
func (r *Redis) observeAll(before *[slots]slotView, touched *[slots]*redis.SliceCmd) *[slots]bool {
	var degraded [slots]bool
	broke := false
	r.mu.Lock()
	for s, cmd := range touched {
		if cmd == nil {
			continue
		}
		generation, counter, err := epochReply(cmd)
		if err != nil {
			degraded[s] = true
			continue
		}
		was := r.views[s].broken
		degraded[s] = r.views[s].observe(&before[s], generation, counter) || !r.gaps[s].since.IsZero()
		broke = broke || (r.views[s].broken && !was)
	}
	r.mu.Unlock()
	if broke {
		r.log.Warn("deduplication keys are missing: Redis was flushed or went back in time")
		r.beatSoon()
	}
	return &degraded
}

// observe takes in an epoch that was read after before was the view, and reports whether what was
// answered together with it may have missed keys.
func (v *slotView) observe(before *slotView, generation string, counter int64) (degraded bool) {
	switch {
	case v.generation != before.generation || v.broken != before.broken || v.brokenAt != before.brokenAt:
		return true // the view is newer than the reading
	case generation == "":
		v.breakAt("")
	case v.broken && generation != v.brokenAt:
		// Sealed since; the answers that came with this reading may still be older than the seal.
		*v = slotView{generation: generation, counter: counter}
		return true
	case v.broken:
	case generation != v.generation:
		// A first look, or somebody saw a loss and mended it between two looks of ours.
		first := v.generation == ""
		v.generation, v.counter = generation, counter
		return !first
	case counter < before.counter:
		v.breakAt(generation)
	default:
		v.counter = max(v.counter, counter)
	}
	return v.broken
}

func (v *slotView) breakAt(generation string) {
	if v.broken && v.brokenAt == generation {
		return
	}
	*v = slotView{broken: true, brokenAt: generation}
}

// beatSoon asks for a beat before its time.
func (r *Redis) beatSoon() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run beats until ctx ends. It is the only one who tries Redis while it is away.
func (r *Redis) run(ctx context.Context) {
	tick := time.NewTicker(r.cfg.Beat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-r.wake:
		}
		r.beat(ctx)
	}
}

// beat reads and moves on every slot's epoch and begins a rebuild if one is due.
func (r *Redis) beat(ctx context.Context) {
	if !r.readBeats(ctx) {
		return
	}
	if r.mendDue(time.Now()) && r.healing.CompareAndSwap(false, true) {
		r.work.Go(func() {
			defer r.healing.Store(false)
			r.heal(ctx)
		})
	}
}

// readBeats runs the beat script on every slot; ok is false if none answered.
func (r *Redis) readBeats(ctx context.Context) (ok bool) {
	before, calls := r.beatCalls()
	bounded, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	err := runScripts(bounded, r.client, calls)
	if err != nil && ctx.Err() != nil {
		return false
	}
	if err == nil {
		r.refused.Store(false)
	}
	causes := failures(calls)
	r.failed(ctx, "beat", causes, 0)
	if !r.takeBeats(&before, calls) {
		return false
	}
	back := 0
	for s, err := range causes {
		if err != nil {
			continue
		}
		ok = true
		if r.away[s].Swap(false) {
			back++
		}
	}
	if back > 0 {
		r.log.InfoContext(ctx, "deduplication index is back", slog.Int("slots", back))
	}
	return ok
}

// takeBeats takes in what the beats of the slots that answered read, after before was the view. An unsound
// generation breaks a slot only while it is the one in view: a rebuild of our own may have sealed
// the slot between the reading and now.
func (r *Redis) takeBeats(before *[slots]slotView, calls []call) (ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range calls {
		reply, err := calls[s].cmd.Slice()
		if err != nil {
			continue
		}
		if len(reply) != 3 {
			return false
		}
		generation, _ := reply[0].(string)
		counter, _ := reply[1].(int64)
		sound, _ := reply[2].(int64)
		v := &r.views[s]
		v.observe(&before[s], generation, counter)
		if generation != "" && generation == v.generation && sound == 0 {
			v.breakAt(generation)
		}
	}
	return true
}

// beatCalls is a beat of every slot. While keys of our own are missing, no beat may say that all
// is covered, so it names no generation.
func (r *Redis) beatCalls() (before [slots]slotView, calls []call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	calls = make([]call, slots)
	for s := range calls {
		generation := r.views[s].generation
		if r.views[s].broken || !r.gaps[s].since.IsZero() {
			generation = ""
		}
		calls[s] = call{script: beatScript, slot: s, keys: []string{epochKey(s)}, args: []any{generation, r.views[s].counter}}
	}
	return r.views, calls
}

// mendDue reports whether keys are missing that a scan of EVENTS would find now. A gap is left
// alone until its last event has arrived in EVENTS or never will.
func (r *Redis) mendDue(now time.Time) bool {
	broken, gaps := r.missing(now)
	return len(broken) > 0 || !earliest(gaps).IsZero()
}

// Degraded says why the window is not whole.
func (r *Redis) Degraded() (reason string, ok bool) {
	if r.awayNow() != ([slots]bool{}) {
		return "away", true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range r.views {
		if r.views[s].broken || r.views[s].generation == "" {
			return "rebuilding", true
		}
	}
	if !earliest(r.gaps).IsZero() {
		return "catching_up", true
	}
	return "", false
}

// sealed takes in a generation that this replica sealed itself.
func (r *Redis) sealed(slot int, generation string, counter int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.views[slot] = slotView{generation: generation, counter: counter}
}

// closeGaps ends those gaps into which no blind publish has come since they were looked at.
func (r *Redis) closeGaps(seen [slots]gap) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range seen {
		if r.gaps[s] == seen[s] {
			r.gaps[s] = gap{}
		}
	}
}

// missing is what a rebuild has to mend now, of the slots that can be reached.
func (r *Redis) missing(now time.Time) (broken []int, gaps [slots]gap) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range r.views {
		if r.away[s].Load() {
			continue
		}
		if r.views[s].broken {
			broken = append(broken, s)
		}
		if g := r.gaps[s]; !g.since.IsZero() && now.Sub(g.last) >= r.cfg.Settle {
			gaps[s] = g
		}
	}
	return broken, gaps
}

// earliest is when the first of the gaps began, or zero if there are none.
func earliest(gaps [slots]gap) (since time.Time) {
	for _, g := range gaps {
		if !g.since.IsZero() && (since.IsZero() || g.since.Before(since)) {
			since = g.since
		}
	}
	return since
}

func (r *Redis) logHealed(ctx context.Context, began time.Time, slotsMended, keys int) {
	r.log.InfoContext(ctx, "deduplication window rebuilt", slog.Int("slots", slotsMended), slog.Int("keys", keys),
		slog.Duration("took", time.Since(began)))
}
