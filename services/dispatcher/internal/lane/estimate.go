package lane

import (
	"math"
	"time"

	"github.com/postrider/postrider/services/dispatcher/internal/breaker"
)

// Bounds on how parked deliveries are spread over time.
const (
	// unknownLatency stands in while no attempt has come back.
	unknownLatency = 100 * time.Millisecond
	// minSpacing and maxSpacing bound the distance between two parked deliveries.
	minSpacing = time.Millisecond
	maxSpacing = time.Second
	// mostAway bounds for how long a delivery is parked because its webhook answers nothing.
	mostAway = 10 * time.Second
	// looksPerCooldown is how many parked deliveries look at an open breaker in one cool-down.
	looksPerCooldown = 64
)

// current is the latency to reckon with, 0 while nothing is known.
func (l *Lane[J]) current(now time.Time) time.Duration {
	return l.latency.Current(now, l.sending > 0, l.cfg.SlowAfter, l.lag())
}

// scarce is the pressure from which slots are kept for lanes that are known to be fast.
const scarce = 0.9

// allowed is how many attempts the lane may have in flight now. When the dispatcher's slots run
// short, a lane that is slow, or of which nothing is known, gives way, so that receivers that hang
// can never hold all slots.
func (l *Lane[J]) allowed(now time.Time, retry bool) int {
	n := l.concurrency.Limit()
	if l.cfg.Pressure == nil {
		return n
	}
	p := l.cfg.Pressure(l.settings.Account, retry)
	share := l.yield(now, p)
	if share < 1 && p >= scarce {
		return 0
	}
	return max(1, int(float64(n)*share))
}

// crowding is how much of the room for unsettled messages is taken.
func (l *Lane[J]) crowding() float64 {
	if l.cfg.Crowding == nil {
		return 0
	}
	return l.cfg.Crowding()
}

// patience is the longest estimated wait in memory.
func (l *Lane[J]) patience(now time.Time) time.Duration {
	return time.Duration(float64(l.cfg.ParkAfter) * l.yield(now, l.crowding()))
}

func (l *Lane[J]) lag() time.Duration {
	if l.cfg.Lag == nil {
		return 0
	}
	return l.cfg.Lag()
}

// yield is the share, 0 to 1, that the lane takes of what it could have, given how much is taken
// of it. It is below 1 only when the dispatcher runs short, for a lane that is slow or of which
// nothing is known.
func (l *Lane[J]) yield(now time.Time, taken float64) float64 {
	if taken <= 0.5 {
		return 1
	}
	if latency := l.current(now); latency > 0 && latency <= l.cfg.SlowAfter {
		return 1
	}
	return max(0, 2*(1-taken))
}

// reach is the concurrency that estimates reckon with. A lane that is still growing, because
// attempts do come back, is taken for grown, or the backlog of a fast receiver would be parked for
// its slow start.
func (l *Lane[J]) reach(now time.Time, retry bool) int {
	n := l.allowed(now, retry)
	if l.latency.Average() > 0 && n == l.concurrency.Limit() {
		return l.concurrency.Reach()
	}
	return n
}

// estimate is how long a delivery with ahead others before it would wait, and what for.
func (l *Lane[J]) estimate(now time.Time, ahead int, retry bool) (wait time.Duration, reason string) {
	reach := l.reach(now, retry)
	if reach == 0 {
		return math.MaxInt64, ReasonConcurrency
	}
	wait, reason = l.bucket.Wait(now, ahead), ReasonRate
	if latency := l.current(now); latency > 0 {
		turns := float64(ahead+1) / float64(reach)
		if w := turns * float64(latency); w > float64(wait) {
			wait, reason = saturate(w), ReasonConcurrency
		}
	}
	return wait, reason
}

// fitting is how many queued deliveries the lane can serve before they have waited too long.
func (l *Lane[J]) fitting(now time.Time, retry bool) int {
	n := l.waiting()
	reach := l.reach(now, retry)
	if reach == 0 {
		return 0
	}
	if latency := l.current(now); latency > 0 {
		n = min(n, int(float64(reach)*float64(l.patience(now))/float64(latency)))
	}
	if rate := l.bucket.Rate(); rate > 0 {
		n = min(n, int(rate*l.patience(now).Seconds()))
	}
	return n
}

// away is for how long a delivery is parked that the webhook cannot take soon. One that answers nothing is
// looked at again after as long as it has answered nothing: sooner, its whole backlog would be parked anew every
// second, which everybody on the machine pays for.
func (l *Lane[J]) away(now time.Time) time.Duration {
	stuck := l.latency.Stuck(now, l.sending > 0, l.cfg.SlowAfter, l.lag())
	return max(l.cfg.ParkAfter, min(stuck, mostAway))
}

// park gives a delivery its place in time: not before the given time, and behind those that were
// parked before it, at the pace at which the webhook takes them.
func (l *Lane[J]) park(job J, from time.Time, reason string) Parking[J] {
	return Parking[J]{Job: job, Until: l.horizon.Place(from, l.spacing(), l.cfg.Random()), Reason: reason}
}

func (l *Lane[J]) spacing() time.Duration {
	latency := l.latency.Average()
	if latency == 0 {
		latency = unknownLatency
	}
	spacing := max(latency/time.Duration(l.concurrency.Reach()), minSpacing)
	if rate := l.bucket.Rate(); rate > 0 {
		return max(spacing, saturate(float64(time.Second)/rate))
	}
	if l.breaker.State() != breaker.Closed {
		spacing = max(spacing, l.breaker.Cooldown()/looksPerCooldown)
	}
	return min(spacing, maxSpacing)
}

// parkBeyond parks all but the first keep queued deliveries.
func (l *Lane[J]) parkBeyond(keep int, from time.Time, reason string, m *Moves[J]) {
	firsts := 0
	if keep > 0 {
		firsts = keep * l.first.len() / l.waiting()
	}
	for _, job := range l.first.cut(firsts) {
		m.Park = append(m.Park, l.park(job, from, reason))
	}
	for _, job := range l.retries.cut(keep - firsts) {
		m.Park = append(m.Park, l.park(job, from, reason))
	}
}

func saturate(ns float64) time.Duration {
	if ns >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(ns)
}
