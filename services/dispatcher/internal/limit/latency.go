package limit

import "time"

// lagSteps is about how often an attempt waits for the process to run.
const lagSteps = 10

// Latency is how long attempts take: a moving average, and when something came back last. Its owner
// guards it against concurrent use.
type Latency struct {
	average time.Duration // 0 while unknown
	alive   time.Time
}

// Average is the moving average, 0 while nothing has come back.
func (l *Latency) Average() time.Duration { return l.average }

// Observe takes an attempt's duration into the average.
func (l *Latency) Observe(d time.Duration) {
	if l.average == 0 {
		l.average = max(d, 1)
		return
	}
	l.average = max(l.average+(d-l.average)/8, 1)
}

// Forget begins anew: nothing is known of the receiver now.
func (l *Latency) Forget() { l.average = 0 }

// Alive says that an attempt has come back now, or the first of those that are out has begun.
func (l *Latency) Alive(now time.Time) { l.alive = now }

// Current is the latency to reckon with: the average, or the time since which nothing has come
// back, if that is more than slow and out says that something could have. What the process's own
// lag explains of it is not the receiver's. It is 0 while nothing is known.
func (l *Latency) Current(now time.Time, out bool, slow, lag time.Duration) time.Duration {
	if stuck := l.Stuck(now, out, slow, lag); stuck > 0 {
		return stuck
	}
	if l.average == 0 {
		return 0
	}
	return max(l.average-lag*lagSteps, 1)
}

// Stuck is for how long nothing has come back of what is out, if that is more than slow and than attempts take on
// average; else 0. The lag is left out as in Current.
func (l *Latency) Stuck(now time.Time, out bool, slow, lag time.Duration) time.Duration {
	if !out {
		return 0
	}
	lag *= lagSteps
	if stuck := now.Sub(l.alive) - lag; stuck > slow && stuck > l.average-lag {
		return stuck
	}
	return 0
}
