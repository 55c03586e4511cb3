// Package lane decides for one webhook which delivery may be attempted now, which waits a moment
// in memory, and which must be parked in a record because the webhook cannot take it soon. It
// keeps one webhook's trouble from becoming another's: nothing here blocks, and nothing that has
// to wait longer than a moment stays in memory. It is one process's memory: losing it costs a
// slow start and a few attempts that fail.
package lane

import (
	"sync"
	"time"

	"github.com/postrider/postrider/services/dispatcher/internal/breaker"
	"github.com/postrider/postrider/services/dispatcher/internal/limit"
)

// Reasons for parking, as records and metrics name them.
const (
	// ReasonConcurrency says that the webhook has as many attempts as it may, and a queue.
	ReasonConcurrency = "concurrency"
	// ReasonRate says that the webhook has had as many attempts a second as it may.
	ReasonRate = "rate"
	// ReasonBreaker says that the webhook's breaker is open.
	ReasonBreaker = "breaker"
	// ReasonRetryAfter says that the receiver asked for a pause.
	ReasonRetryAfter = "retry_after"
)

// Config is what all lanes have in common.
type Config struct {
	// Initial is the concurrency that a webhook begins with.
	Initial int
	// ParkAfter is the longest estimated wait in memory, and how long what would wait longer is parked.
	ParkAfter time.Duration
	// SlowAfter is how long an attempt may be out, with none coming back, before its age counts as
	// the webhook's latency. Below it a hiccup would park the backlog of a fast receiver.
	SlowAfter time.Duration
	// Breaker is the policy of the webhooks' breakers.
	Breaker breaker.Config
	// Pressure says how much of the dispatcher's slots for first attempts, or for retries, is taken as far as
	// an account is concerned, 0 to 1. Lanes that are slow, or of which nothing is known yet, run less when it is high, and
	// nothing when the slots are nearly out. Default: none.
	Pressure func(account string, retry bool) float64
	// Crowding says how much of the shard's room for unsettled messages is taken, 0 to 1. Such
	// lanes queue less when it is high. Default: none.
	Crowding func() float64
	// Lag says by how much this process runs behind, such as by how much its timers are late. It
	// makes every receiver look slow, and parking would only add to the work. Default: none.
	Lag func() time.Duration
	// Random returns numbers in [0, 1).
	Random func() float64
}

// Settings are what one webhook's configuration says.
type Settings struct {
	// Revision of the configuration.
	Revision uint64
	// Account that the webhook belongs to.
	Account string
	// MaxInFlight is the most attempts at once.
	MaxInFlight int
	// Rate is attempts a second, 0 for no limit.
	Rate float64
	// Timeout bounds an attempt.
	Timeout time.Duration
}

// Decision says what becomes of a delivery now.
type Decision int

// The decisions.
const (
	// Run means that the delivery is to be attempted at once; Done or Release must follow.
	Run Decision = iota + 1
	// Queued means that the lane keeps it and will give it back.
	Queued
	// Park means that it is to be written to a record.
	Park
)

// Ticket is a delivery that may be attempted now.
type Ticket[J any] struct {
	Job J
	// Probe says that its outcome decides about the webhook's breaker.
	Probe bool
}

// Parking is a delivery that must be parked.
type Parking[J any] struct {
	Job    J
	Until  time.Time
	Reason string
}

// Moves is what a call to a lane set free. The caller runs the one and parks the other, outside
// of any lock.
type Moves[J any] struct {
	Run  []Ticket[J]
	Park []Parking[J]
}

// Reset empties the moves and keeps their memory.
func (m *Moves[J]) Reset() {
	clear(m.Run)
	clear(m.Park)
	m.Run, m.Park = m.Run[:0], m.Park[:0]
}

// Result is what came of an attempt.
type Result struct {
	// Start is when it began.
	Start time.Time
	// Probe is the ticket's.
	Probe bool
	// Succeeded says that the receiver took the delivery.
	Succeeded bool
	// Overloaded says that the receiver cannot take as much.
	Overloaded bool
	// PauseUntil, if not zero, is the earliest time of any further attempt.
	PauseUntil time.Time
}

// Lane is one webhook's. It is safe for concurrent use.
type Lane[J any] struct {
	cfg *Config

	mu          sync.Mutex
	settings    Settings
	concurrency limit.Concurrency
	bucket      limit.Bucket
	breaker     breaker.Breaker
	pausedUntil time.Time
	first       queue[J]
	retries     queue[J]
	afterFirst  bool // the last one taken was a first attempt
	inFlight    int  // have a place in the lane
	sending     int  // of these, requests that are out
	latency     limit.Latency
	horizon     limit.Horizon // where the next parked delivery is put
	used        time.Time
}

// New returns the lane of a webhook.
func New[J any](cfg *Config, s Settings, now time.Time) *Lane[J] {
	return &Lane[J]{
		cfg: cfg, settings: s, used: now,
		concurrency: limit.NewConcurrency(cfg.Initial, s.MaxInFlight),
		bucket:      limit.NewBucket(s.Rate, now),
		breaker:     breaker.New(cfg.Breaker),
	}
}

// Configure takes over a changed configuration, if it is one. Its owner may have mended what was
// wrong, so the breaker closes and the receiver's pause ends.
func (l *Lane[J]) Configure(s Settings, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.Revision <= l.settings.Revision {
		return
	}
	l.settings = s
	l.concurrency.SetHighest(s.MaxInFlight)
	l.concurrency.Restart(l.cfg.Initial)
	l.bucket.SetRate(s.Rate, now)
	l.breaker = breaker.New(l.cfg.Breaker)
	l.pausedUntil, l.horizon = time.Time{}, limit.Horizon{}
	l.latency.Forget()
}

// Offer decides about a delivery that has just come. Of a Run it says whether it is the probe, of
// a Park until when and why.
func (l *Lane[J]) Offer(now time.Time, job J, retry bool) (d Decision, probe bool, p Parking[J]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used = now
	if now.Before(l.pausedUntil) {
		return Park, false, l.park(job, l.pausedUntil, ReasonRetryAfter)
	}
	if l.breaker.State() != breaker.Closed {
		return l.offerBroken(now, job)
	}
	if l.waiting() == 0 && l.inFlight < l.allowed(now, retry) && l.bucket.Take(now) {
		l.inFlight++
		return Run, false, p
	}
	if wait, reason := l.estimate(now, l.waiting(), retry); wait > l.patience(now) {
		return Park, false, l.park(job, now.Add(l.away(now)), reason)
	}
	if retry {
		l.retries.push(job)
	} else {
		l.first.push(job)
	}
	return Queued, false, p
}

func (l *Lane[J]) offerBroken(now time.Time, job J) (d Decision, probe bool, p Parking[J]) {
	ok, retryAt := l.breaker.Allow(now, l.settings.Timeout+l.cfg.ParkAfter)
	if !ok {
		return Park, false, l.park(job, l.afterProbe(now, retryAt), ReasonBreaker)
	}
	if !l.bucket.Take(now) {
		l.breaker.Cancel(now)
		return Park, false, l.park(job, now.Add(l.bucket.Wait(now, 0)), ReasonRate)
	}
	l.inFlight++
	return Run, true, p
}

// Sending says that the request of a Run goes out now. What the dispatcher itself waits for before
// that is no fault of the receiver.
func (l *Lane[J]) Sending(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sending == 0 {
		l.latency.Alive(now)
	}
	l.sending++
}

// Done counts the outcome of an attempt that was sent and adds to the moves what it sets free. It reports whether
// the breaker changed, and to what.
func (l *Lane[J]) Done(now time.Time, r Result, m *Moves[J]) (state breaker.State, changed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used = now
	l.inFlight--
	l.sending--
	l.latency.Alive(now)
	l.latency.Observe(now.Sub(r.Start))
	if r.Succeeded {
		l.concurrency.Success()
		if changed = l.breaker.Success(); changed {
			l.concurrency.Restart(l.cfg.Initial)
			l.horizon = limit.Horizon{}
		}
	} else {
		if r.Overloaded {
			l.concurrency.Overloaded(r.Start, now)
		}
		changed = l.breaker.Failure(now, r.Probe)
	}
	if r.PauseUntil.After(l.pausedUntil) {
		l.pausedUntil = r.PauseUntil
	}
	l.advance(now, m)
	return l.breaker.State(), changed
}

// Release takes back a Run whose request was not sent.
func (l *Lane[J]) Release(now time.Time, probe bool, m *Moves[J]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inFlight--
	l.bucket.Return()
	if probe {
		l.breaker.Cancel(now)
	}
	l.advance(now, m)
}

// Tick adds to the moves what the passing of time sets free. It reports whether anything is still
// queued, so that the lane must be ticked again.
func (l *Lane[J]) Tick(now time.Time, m *Moves[J]) (again bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advance(now, m)
	return l.waiting() > 0
}

// Drain takes out of the queues what the function names.
func (l *Lane[J]) Drain(take func(J) bool) []J {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append(l.first.drain(take), l.retries.drain(take)...)
}

// Waiting is how many deliveries are queued.
func (l *Lane[J]) Waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waiting()
}

// State is where the webhook's breaker stands.
func (l *Lane[J]) State() breaker.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.breaker.State()
}

// Idle reports whether the lane has had nothing to do and nothing to remember since the time.
func (l *Lane[J]) Idle(since, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inFlight == 0 && l.waiting() == 0 && l.used.Before(since) &&
		l.breaker.State() == breaker.Closed && now.After(l.pausedUntil)
}

// advance runs what may run, parks what would wait too long, and everything if the webhook is
// paused or broken.
func (l *Lane[J]) advance(now time.Time, m *Moves[J]) {
	if l.waiting() == 0 {
		return
	}
	if now.Before(l.pausedUntil) {
		l.parkBeyond(0, l.pausedUntil, ReasonRetryAfter, m)
		return
	}
	if l.breaker.State() != breaker.Closed {
		l.advanceBroken(now, m)
		return
	}
	for {
		q := l.runnable(now)
		if q == nil || !l.bucket.Take(now) {
			break
		}
		l.inFlight++
		m.Run = append(m.Run, Ticket[J]{Job: l.take(q)})
	}
	if n := l.waiting(); n > 0 {
		retry := l.first.len() == 0
		if wait, reason := l.estimate(now, n-1, retry); wait > l.patience(now) {
			l.parkBeyond(l.fitting(now, retry), now.Add(l.away(now)), reason, m)
		}
	}
}

func (l *Lane[J]) advanceBroken(now time.Time, m *Moves[J]) {
	ok, retryAt := l.breaker.Allow(now, l.settings.Timeout+l.cfg.ParkAfter)
	if ok {
		l.inFlight++
		m.Run = append(m.Run, Ticket[J]{Job: l.take(l.next()), Probe: true})
	}
	l.parkBeyond(0, l.afterProbe(now, retryAt), ReasonBreaker, m)
}

// afterProbe is when it is worth asking the breaker again: soon, while a probe is out.
func (l *Lane[J]) afterProbe(now, retryAt time.Time) time.Time {
	if soon := now.Add(l.cfg.ParkAfter); l.breaker.State() == breaker.HalfOpen {
		return soon
	}
	return retryAt
}

func (l *Lane[J]) waiting() int { return l.first.len() + l.retries.len() }

// next is the queue whose turn it is: first attempts and retries alternate, so that neither waits
// for the other.
func (l *Lane[J]) next() *queue[J] {
	if l.retries.len() > 0 && (l.afterFirst || l.first.len() == 0) {
		return &l.retries
	}
	return &l.first
}

func (l *Lane[J]) take(q *queue[J]) J {
	l.afterFirst = q == &l.first
	return q.pop()
}

// runnable is the queue that the next attempt comes from, nil if none may be made now.
func (l *Lane[J]) runnable(now time.Time) *queue[J] {
	if l.waiting() == 0 {
		return nil
	}
	q, other := l.next(), &l.first
	if q == other {
		other = &l.retries
	}
	switch {
	case l.inFlight < l.allowed(now, q == &l.retries):
		return q
	case other.len() > 0 && l.inFlight < l.allowed(now, other == &l.retries):
		return other
	}
	return nil
}
