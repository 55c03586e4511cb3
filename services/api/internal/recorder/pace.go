package recorder

import "time"

const (
	// busyFor is how long a busy recorder gathers before it writes: it bounds what the log is behind
	// for the sake of larger transactions. Most deliveries are routed and attempted within it, so that
	// their rows are written once.
	busyFor = 500 * time.Millisecond
	// busyAt is how many entries within that time make a recorder busy. One that is not writes at once.
	busyAt = 500
)

// pace says how long to gather. Its zero value is that of a recorder that has done nothing yet.
type pace struct {
	began   time.Time // of the time that is counted
	entries int
	busy    bool
}

// recorded counts what was written just now.
func (p *pace) recorded(entries int, now time.Time) {
	p.entries += entries
	took := now.Sub(p.began)
	if took < busyFor {
		return
	}
	p.busy = float64(p.entries)*busyFor.Seconds() >= busyAt*took.Seconds()
	p.began, p.entries = now, 0
}

// wait is how much longer to gather.
func (p *pace) wait(now time.Time) time.Duration {
	if !p.busy {
		return 0
	}
	return busyFor - now.Sub(p.began)
}
