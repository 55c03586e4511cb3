package fair

import (
	"time"
)

const (
	// sustained is how many reports in a row must be too late before the gate closes: a pause of one process is
	// no flood.
	sustained = 2
	// deaf is after how long without a report nothing is known of how late anybody is.
	deaf = 500 * time.Millisecond
	// gain is by how much of itself the factor changes in a second for each bound that lateness is below its
	// bound or above it, up to steepest bounds: whatever a moment's pause makes late says little.
	gain, steepest = 1.0, 1.0
	// lateLeast and latePull bound what lateness does to the factor, and beyond it: as late as anybody is, it may
	// be because of something else, and then refusing more would mend nothing. Only a backlog goes further.
	lateLeast, latePull = 0.25, 0.5
	// queue is how many must wait at a time: where less does, nobody floods, and it is late for another reason.
	queue = 32
	// untouched is how many events a second an account may always publish as long as it is only late: whoever
	// publishes so little is not what makes it so, nor can refusing that mend it.
	untouched = 100
)

// settling is for how many turns what passes is learnt anew after a gate has closed that let in more than was
// ever seen to pass.
const settling = 4

// lateness is what is known of how late routers and dispatchers are.
type lateness struct {
	at    time.Time // of the last report
	times float64   // as late as may be
	row   int       // reports that were too late, one after the other
	pull  float64   // below 1 while they are
	learn int       // turns that are left of settling
}

// known says whether there was a report of late.
func (l *lateness) known(now time.Time) bool { return !l.at.IsZero() && now.Sub(l.at) < deaf }

// ratio is how many times as late as may be they are, 0 if nothing is known.
func (l *lateness) ratio(now time.Time) float64 {
	if !l.known(now) {
		return 0
	}
	return l.times
}

// Late takes a report of how late what waits is dealt with. It comes much oftener than a turn and says at
// once what a backlog says only when it has grown: too late cuts the capacity by how much it is too late, and
// moves the factor until just as much is let in as is dealt with in time.
func (g *Gate) Late(now time.Time, late time.Duration, waiting float64) {
	if g.cfg.Late == 0 || g.cfg.Backlog == 0 {
		return
	}
	if waiting < queue {
		late = min(late, g.cfg.Late)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.late.known(now) {
		since := now.Sub(g.late.at).Seconds()
		change := gain * max(1-float64(late)/float64(g.cfg.Late), -steepest) * since
		g.factor = min(max(g.factor*(1+change), min(g.factor, lateLeast)), most)
	}
	g.late.at, g.late.times = now, float64(late)/float64(g.cfg.Late)
	g.late.pull = pull(g.late.times, latePull)
	if g.late.times <= 1 {
		g.late.row = 0
	} else if g.late.row++; g.late.row >= sustained {
		g.close(now)
	}
	g.share()
}

// close closes the gate because of lateness, if it is open and it is known how much was let in.
func (g *Gate) close(now time.Time) {
	elapsed := now.Sub(g.began).Seconds()
	if g.limiting || elapsed <= 0 {
		return
	}
	g.limiting = true
	if in := float64(g.admitted) / elapsed; in > g.passing {
		g.passing, g.late.learn = in, settling
	}
	g.share()
	g.closed(now, elapsed)
}

// pass takes what passed in a turn while the gate is closed because of lateness. That is what can pass only if
// more was let in; later it is what the gate let in, and less than that would be let in ever after.
func (g *Gate) pass(events float64) {
	if g.late.learn > 0 && events > 0 {
		g.late.learn--
		g.passing += (events - g.passing) * fresh
		return
	}
	g.passing = max(g.passing, events)
}
