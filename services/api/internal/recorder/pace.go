package recorder

import (
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/pkg/lag"
)

// How a busy recorder paces itself. It gathers before a transaction, and on a machine that is short of
// processor time it rests after one, because whoever delivers needs that time more: the log may be
// minutes behind (ADR 0028). One that is not busy gathers for a moment and never rests.
const (
	// busyFor is how long a busy recorder gathers before it writes: it bounds what the log is behind
	// for the sake of larger transactions. Most deliveries are routed and attempted within it, so that
	// their rows are written once.
	busyFor = 500 * time.Millisecond
	// idleFor is the least time between two transactions of one that is not busy: each waits for the disk and
	// writes a page of every index, however little it records. What comes after a pause is written at once.
	idleFor = 100 * time.Millisecond
	// busyAt is how many entries within busyFor make a recorder busy.
	busyAt = 500

	// restFor is how many times the processor time of a transaction it rests after it, so that it has an
	// eighth of one processor.
	restFor = 7
	// maxRest bounds one rest. What was pulled waits meanwhile, for at most three rests and transactions,
	// and the journal gives it again after a minute.
	maxRest = 5 * time.Second
	// restBatch is how many messages it takes at a time while it rests in between: about as many as come
	// while it gathers at full load, so that one transaction is felt no more than before.
	restBatch = 384
	// The machine is short of processor time if, while a transaction ran, threads of this process waited
	// for a processor for half of the time, or timers are late by strainedLag. Without load it is less
	// than a quarter, and 1 to 2 ms; at full load it was all of the time, and 3 to 14 ms.
	strainedShare = 0.5
	strainedLag   = 5 * time.Millisecond

	// A log that is behind by hurryAt is recorded at full speed whatever else waits, until it is behind by
	// less than hurryUntil.
	hurryAt    = 10 * time.Minute
	hurryUntil = 5 * time.Minute
)

// Load is how a process stands against its machine.
type Load struct {
	lag.Use

	// Behind is by how much its timers are late.
	Behind time.Duration
}

// pace says how long to gather and how long to rest.
type pace struct {
	busyAt int         // see the constant
	load   func() Load // nil: never rests
	follow func(bool)  // measures what load says as long as it is asked for
	hurry  atomic.Bool

	began   time.Time // of the time that is counted; rests do not count
	entries int
	busy    bool
	wrote   time.Time     // when the last transaction ended
	before  Load          // at the beginning of a transaction of a busy recorder
	rest    time.Duration // that is to follow the last transaction
	rests   bool          // whether one did
}

// newPace is the pace of a recorder that has done nothing yet. It never rests.
func newPace() *pace { return &pace{busyAt: busyAt} }

// newYielding is a pace that rests, by the load that is given or, without one, by that of this process.
func newYielding(load func() Load) *pace {
	if load != nil {
		return &pace{busyAt: busyAt, load: load, follow: func(bool) {}}
	}
	meter := &lag.Meter{}
	return &pace{
		busyAt: busyAt,
		load:   func() Load { return Load{Use: lag.Used(), Behind: meter.Behind()} },
		follow: func(on bool) {
			if on {
				meter.Start()
			} else {
				meter.Stop()
			}
		},
	}
}

// begin is called before a transaction.
func (p *pace) begin() {
	if p.load != nil && p.busy {
		p.before = p.load()
	}
}

// recorded counts what a transaction has written just now.
func (p *pace) recorded(entries int, now time.Time) {
	p.rest = 0
	if p.load != nil && p.busy && !p.hurry.Load() {
		p.rest = restAfter(p.before, p.load())
	}
	p.rests, p.wrote = p.rest > 0, now
	p.entries += entries
	took := now.Sub(p.began)
	if took < busyFor {
		return
	}
	p.setBusy(float64(p.entries)*busyFor.Seconds() >= float64(p.busyAt)*took.Seconds())
	p.began, p.entries = now, 0
}

func (p *pace) setBusy(busy bool) {
	if p.load != nil && busy != p.busy {
		p.follow(busy)
	}
	p.busy = busy
}

// restAfter is how long to rest after a transaction.
func restAfter(before, after Load) time.Duration {
	took := after.At.Sub(before.At)
	waited := after.Waited - before.Waited
	if after.Behind < strainedLag && waited.Seconds() < strainedShare*took.Seconds() {
		return 0
	}
	used := took
	if cpu := after.CPU - before.CPU; cpu > 0 {
		used = min(cpu, took) // where others share the process, it is not all of the recorder's
	}
	return min(restFor*used, maxRest)
}

// rested says that the rest was taken, in whole or in part.
func (p *pace) rested(took time.Duration) { p.began, p.rest = p.began.Add(took), 0 }

// most is how many messages to take at a time.
func (p *pace) most() int {
	if p.rests {
		return restBatch
	}
	return maxBatch
}

// wait is how much longer to gather.
func (p *pace) wait(now time.Time) time.Duration {
	if !p.busy {
		return idleFor - now.Sub(p.wrote)
	}
	return busyFor - now.Sub(p.began)
}

// age tells how old the oldest is that waits. It may be called while the others are. It reports whether
// that changed if the recorder may rest.
func (p *pace) age(d time.Duration) (changed bool) {
	switch {
	case p.load == nil:
		return false
	case d >= hurryAt:
		return p.hurry.CompareAndSwap(false, true)
	case d < hurryUntil:
		return p.hurry.CompareAndSwap(true, false)
	}
	return false
}

// close ends what is measured.
func (p *pace) close() { p.setBusy(false) }
