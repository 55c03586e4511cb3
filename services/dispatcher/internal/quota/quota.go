// Package quota holds an account to its own limits, over all of its webhooks whose shards are held
// here, and beside the limits of each webhook. It decides twice: before a delivery enters its
// webhook's lane, whether the account can take it soon or it must be parked; and when the lane lets
// it go, whether it may be attempted now or waits a moment, in the order in which the lanes let go.
// Nothing here blocks. It is one process's memory: losing it costs a burst of one bucket.
package quota

import (
	"math"
	"sync"
	"time"

	"github.com/postrider/postrider/services/dispatcher/internal/limit"
)

// Reasons for parking, as records and metrics name them.
const (
	// ReasonConcurrency says that the account has as many attempts as it may, and a queue.
	ReasonConcurrency = "account_concurrency"
	// ReasonRate says that the account has had as many attempts a second as it may.
	ReasonRate = "account_rate"
)

// Bounds on estimates.
const (
	// unknownLatency stands in while no attempt has come back.
	unknownLatency = 100 * time.Millisecond
	// minSpacing and maxSpacing bound the distance between two parked deliveries, but for a rate.
	minSpacing = time.Millisecond
	maxSpacing = time.Second
)

// Config is what all quotas have in common.
type Config struct {
	// ParkAfter is the longest estimated wait in memory.
	ParkAfter time.Duration
	// SlowAfter is how long nothing may come back before that counts as the account's latency.
	SlowAfter time.Duration
	// Lag says by how much this process runs behind. Default: none.
	Lag func() time.Duration
	// Random returns numbers in [0, 1).
	Random func() float64
}

// Limits are what the account may do here. Zero means no limit.
type Limits struct {
	// MaxInFlight is the most attempts at once.
	MaxInFlight int
	// Rate is attempts a second.
	Rate float64
}

// Quota is one account's. It is safe for concurrent use.
//
// A delivery is admitted, then begun, then done. Between the first two it waits, in its lane or in
// the queue here; Leave ends each of them.
type Quota[J any] struct {
	cfg *Config

	mu       sync.Mutex
	limits   Limits
	bucket   limit.Bucket
	admitted int // that have not left
	begun    int // of these, that may be attempted
	queue    []J // let go by their lanes, and waiting here
	latency  limit.Latency
	horizon  limit.Horizon
	used     time.Time
}

// New returns the quota of an account.
func New[J any](cfg *Config, l Limits, now time.Time) *Quota[J] {
	return &Quota[J]{cfg: cfg, limits: l, bucket: limit.NewBucket(l.Rate, now), used: now}
}

// Configure takes over changed limits. What is begun beyond them is not stopped.
func (q *Quota[J]) Configure(l Limits, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if l == q.limits {
		return
	}
	q.limits = l
	q.bucket.SetRate(l.Rate, now)
	q.horizon = limit.Horizon{}
}

// Admit lets a delivery in, for which Leave must follow; or says until when and why it is to be
// parked.
func (q *Quota[J]) Admit(now time.Time) (ok bool, until time.Time, reason string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.used = now
	if wait, reason := q.estimate(now, q.admitted-q.begun); wait > q.cfg.ParkAfter {
		return false, q.place(now), reason
	}
	q.admitted++
	return true, time.Time{}, ""
}

// Begin says whether an admitted delivery may be attempted now. If not, it is kept, and given back
// by Tick, Leave or Drain.
func (q *Quota[J]) Begin(now time.Time, job J) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.queue) == 0 && q.take(now) {
		return true
	}
	q.queue = append(q.queue, job)
	return false
}

// Stage is how far a delivery came that leaves.
type Stage int

// The stages.
const (
	// Admitted was not begun.
	Admitted Stage = iota + 1
	// Begun was begun, and no request was sent.
	Begun
	// Sent was attempted.
	Sent
)

// Leave ends what Admit began, and returns what may be attempted now. Took is how long the attempt
// of one that was sent took.
func (q *Quota[J]) Leave(now time.Time, stage Stage, took time.Duration) []J {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.used = now
	q.admitted--
	switch stage {
	case Admitted:
		return nil
	case Begun:
		q.bucket.Return()
	case Sent:
		q.latency.Observe(took)
	}
	q.begun--
	q.latency.Alive(now)
	return q.next(now)
}

// Tick returns what the passing of time sets free, and what has to be parked because the account
// cannot take it soon any more. Wait is when to ask again, 0 if nothing is queued.
func (q *Quota[J]) Tick(now time.Time) (run []J, park []Parking[J], wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	run = q.next(now)
	// Twice the time that admits: else what was let in with a little less would be parked with a
	// little more.
	for n := len(q.queue); n > 0; n-- {
		wait, reason := q.estimate(now, n-1)
		if wait <= 2*q.cfg.ParkAfter {
			break
		}
		park = append(park, Parking[J]{Job: q.queue[n-1], Until: q.place(now), Reason: reason})
		q.cut(n - 1)
	}
	if len(q.queue) == 0 {
		return run, park, 0
	}
	wait = q.cfg.ParkAfter / 10
	if q.free() { // It waits for a token, and not for a place, which Leave makes.
		wait = min(wait, max(q.bucket.Wait(now, 0), time.Millisecond))
	}
	return run, park, max(wait, time.Millisecond)
}

// Parking is a queued delivery that must be parked. It has not left yet.
type Parking[J any] struct {
	Job    J
	Until  time.Time
	Reason string
}

// Drain takes out of the queue what the function names. It has not left yet.
func (q *Quota[J]) Drain(take func(J) bool) []J {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []J
	kept := 0
	for _, job := range q.queue {
		if take(job) {
			out = append(out, job)
		} else {
			q.queue[kept] = job
			kept++
		}
	}
	q.cut(kept)
	return out
}

// View is what a quota shows of itself.
type View struct {
	Limits

	// InFlight is how many deliveries are being attempted, and Queued how many wait for their turn.
	InFlight, Queued int
}

// View shows the quota.
func (q *Quota[J]) View() View {
	q.mu.Lock()
	defer q.mu.Unlock()
	return View{Limits: q.limits, InFlight: q.begun, Queued: len(q.queue)}
}

// Idle reports whether the quota has had nothing to do since the time.
func (q *Quota[J]) Idle(since time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.admitted == 0 && q.used.Before(since)
}

// take takes a place and a token if there are both.
func (q *Quota[J]) take(now time.Time) bool {
	if !q.free() || !q.bucket.Take(now) {
		return false
	}
	if q.begun == 0 {
		q.latency.Alive(now)
	}
	q.begun++
	return true
}

// free says whether there is a place.
func (q *Quota[J]) free() bool { return q.limits.MaxInFlight == 0 || q.begun < q.limits.MaxInFlight }

func (q *Quota[J]) next(now time.Time) []J {
	n := 0
	for n < len(q.queue) && q.take(now) {
		n++
	}
	if n == 0 {
		return nil
	}
	run := append([]J(nil), q.queue[:n]...)
	q.cut(copy(q.queue, q.queue[n:]))
	return run
}

// cut keeps the first n of the queue, and lets go of the rest.
func (q *Quota[J]) cut(n int) {
	clear(q.queue[n:])
	if q.queue = q.queue[:n]; n == 0 && cap(q.queue) > 256 {
		q.queue = nil // one that was busy once should not keep it
	}
}

// current is the latency to reckon with.
func (q *Quota[J]) current(now time.Time) time.Duration {
	var lag time.Duration
	if q.cfg.Lag != nil {
		lag = q.cfg.Lag()
	}
	if latency := q.latency.Current(now, q.begun > 0, q.cfg.SlowAfter, lag); latency > 0 {
		return latency
	}
	return unknownLatency
}

// estimate is how long a delivery with ahead others before it would wait to begin, and what for.
func (q *Quota[J]) estimate(now time.Time, ahead int) (wait time.Duration, reason string) {
	wait, reason = q.bucket.Wait(now, ahead), ReasonRate
	most := q.limits.MaxInFlight
	if most == 0 || q.begun+ahead < most {
		return wait, reason
	}
	w := float64(ahead+1) / float64(most) * float64(q.current(now))
	if w > float64(wait) {
		wait, reason = saturate(w), ReasonConcurrency
	}
	return wait, reason
}

// place is where a delivery is parked that cannot be attempted soon.
func (q *Quota[J]) place(now time.Time) time.Time {
	spacing := minSpacing
	if most := q.limits.MaxInFlight; most > 0 {
		latency := q.latency.Average()
		if latency == 0 {
			latency = unknownLatency
		}
		spacing = min(max(spacing, latency/time.Duration(most)), maxSpacing)
	}
	if q.limits.Rate > 0 {
		spacing = max(spacing, saturate(float64(time.Second)/q.limits.Rate))
	}
	return q.horizon.Place(now.Add(q.cfg.ParkAfter), spacing, q.cfg.Random())
}

func saturate(ns float64) time.Duration {
	if ns >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(ns)
}
