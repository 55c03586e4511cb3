// Package retry owns the arithmetic of retry schedules: when the next attempt is due, and whether
// there is one. It is pure: times and randomness are passed in, and there is nothing to lose.
package retry

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// Limits of a schedule.
const (
	// MaxDelays is the most delays that a schedule has: 25 attempts in all.
	MaxDelays = 24
	// MaxDelay is the longest single delay.
	MaxDelay = 24 * time.Hour
	// MaxTotal is the longest sum of delays.
	MaxTotal = 7 * 24 * time.Hour
	// MaxRetryAfter is how far a receiver's Retry-After can postpone an attempt.
	MaxRetryAfter = 24 * time.Hour
)

// Schedule is the ordered delays between attempts.
type Schedule struct {
	// Delays are the waits before the second attempt, the third, and so on.
	Delays []time.Duration
	// Jitter is the largest random share of a delay that is added to it, 0 to 1.
	Jitter float64
	// Early lets jitter shorten a delay as well, by the same share. Without it no attempt is due
	// before its delay has passed.
	Early bool
	// Sooner lets jitter only shorten a delay: it is then in [d*(1-Jitter), d].
	Sooner bool
	// JitterFrom is the first attempt whose delay has jitter, so that fast retries stay fast.
	// Attempts before it are due exactly. Zero: all have.
	JitterFrom int
	// Horizon is how long after the start of the first attempt the last one must be due. What
	// would be due later is not attempted, whatever delays are left. Zero: the delays alone count.
	Horizon time.Duration
	// FromFirst counts the delays from the start of the first attempt, not from the end of the
	// previous one.
	FromFirst bool
}

// MaxAttempts is the number of attempts in all: the first one and one for each delay.
func (s Schedule) MaxAttempts() int { return len(s.Delays) + 1 }

// Next is the due time of the attempt that follows after attempts failed ones. First is the start
// of the first attempt and lastEnd the end of the last. A retryAfter that is not zero is a floor,
// capped at MaxRetryAfter after lastEnd. Jitter returns numbers in [0, 1); nil means no jitter.
// An attempt is never due before lastEnd. Ok is false once the schedule is spent.
func (s Schedule) Next(attempts int, first, lastEnd, retryAfter time.Time, jitter func() float64) (due time.Time, ok bool) {
	if attempts < 1 || attempts > len(s.Delays) {
		return time.Time{}, false
	}
	basis := lastEnd
	if s.FromFirst && !first.IsZero() {
		basis = first
	}
	if attempts+1 < s.JitterFrom {
		jitter = nil
	}
	due = basis.Add(s.spread(s.Delays[attempts-1], jitter))
	if due.Before(lastEnd) {
		due = lastEnd
	}
	if !retryAfter.IsZero() {
		if limit := lastEnd.Add(MaxRetryAfter); retryAfter.After(limit) {
			retryAfter = limit
		}
		if retryAfter.After(due) {
			due = retryAfter
		}
	}
	if s.Expired(first, due) {
		return time.Time{}, false
	}
	return due, true
}

// Expired says whether at is beyond the horizon of a delivery whose first attempt began at first.
func (s Schedule) Expired(first, at time.Time) bool {
	return s.Horizon > 0 && !first.IsZero() && at.Sub(first) >= s.Horizon
}

// spread is the delay with its jitter: in [d, d*(1+Jitter)], with Early in [d*(1-Jitter), d*(1+Jitter)],
// with Sooner in [d*(1-Jitter), d].
func (s Schedule) spread(d time.Duration, jitter func() float64) time.Duration {
	if jitter == nil || s.Jitter <= 0 {
		return d
	}
	share := jitter()
	switch {
	case s.Sooner:
		share = -share
	case s.Early:
		share = 2*share - 1
	}
	return addSaturated(d, float64(d)*s.Jitter*share)
}

// addSaturated is d plus a float of nanoseconds, without overflow.
func addSaturated(d time.Duration, more float64) time.Duration {
	if sum := float64(d) + more; sum >= math.MaxInt64 {
		return math.MaxInt64
	}
	return d + time.Duration(more)
}

// Scale is the schedule with every delay multiplied by factor, for tests and development. It
// shares nothing with s.
func (s Schedule) Scale(factor float64) Schedule {
	s.Delays = slices.Clone(s.Delays)
	for i, d := range s.Delays {
		s.Delays[i] = addSaturated(0, float64(d)*factor)
	}
	s.Horizon = addSaturated(0, float64(s.Horizon)*factor)
	return s
}

// Validate says everything that is wrong with the schedule.
func (s Schedule) Validate() error {
	var errs []error
	if len(s.Delays) > MaxDelays {
		errs = append(errs, fmt.Errorf("delays: at most %d", MaxDelays))
	}
	var total time.Duration
	for i, d := range s.Delays {
		if d < 0 || d > MaxDelay {
			errs = append(errs, fmt.Errorf("delays[%d]: must be 0 s to 24 h", i))
			continue
		}
		if total <= MaxTotal { // stop adding before it could overflow
			total += d
		}
	}
	if total > MaxTotal {
		errs = append(errs, errors.New("delays: at most 7 days in all"))
	}
	if math.IsNaN(s.Jitter) || s.Jitter < 0 || s.Jitter > 1 {
		errs = append(errs, errors.New("jitter: must be 0 to 1"))
	}
	if s.Early && s.Sooner || s.JitterFrom < 0 || s.Horizon < 0 {
		errs = append(errs, errors.New("jitter_from, horizon: must not be negative, and jitter goes one way"))
	}
	return errors.Join(errs...)
}

// FromProto is the schedule of a webhook that overrides its profile's: base for nil, else p's
// delays with base's jitter and basis where p does not state them, and without base's horizon and
// attempts without jitter, which belong to base's delays. A p without delays means one attempt
// only. The result is valid, or there is an error.
func FromProto(p *postriderv1.RetrySchedule, base Schedule) (Schedule, error) {
	if p == nil {
		return base, nil
	}
	s := base
	s.JitterFrom, s.Horizon = 0, 0
	s.Delays = make([]time.Duration, len(p.GetDelays()))
	for i, d := range p.GetDelays() {
		if err := d.CheckValid(); err != nil {
			return Schedule{}, fmt.Errorf("delays[%d]: must be 0 s to 24 h", i)
		}
		s.Delays[i] = d.AsDuration()
	}
	if p.Jitter != nil {
		s.Jitter = p.GetJitter()
	}
	switch p.GetDelayBasis() {
	case postriderv1.DelayBasis_DELAY_BASIS_UNSPECIFIED:
	case postriderv1.DelayBasis_DELAY_BASIS_PREVIOUS_ATTEMPT:
		s.FromFirst = false
	case postriderv1.DelayBasis_DELAY_BASIS_FIRST_ATTEMPT:
		s.FromFirst = true
	default:
		return Schedule{}, fmt.Errorf("delay_basis: %d is not known", p.GetDelayBasis())
	}
	if err := s.Validate(); err != nil {
		return Schedule{}, err
	}
	return s, nil
}
