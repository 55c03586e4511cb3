// Package breaker decides whether a webhook that keeps failing is attempted at all. Its state is
// one process's memory: losing it costs a few attempts that fail.
package breaker

import (
	"errors"
	"time"

	"github.com/postrider/postrider/pkg/conf"
)

// State is where a breaker stands.
type State int

// The states of a breaker.
const (
	// Closed lets every attempt pass.
	Closed State = iota
	// Open lets none pass until its cool-down is over.
	Open
	// HalfOpen has let one attempt pass, whose outcome decides.
	HalfOpen
)

// String is the state's name in metrics.
func (s State) String() string {
	switch s {
	case Open:
		return "open"
	case HalfOpen:
		return "half_open"
	case Closed:
	}
	return "closed"
}

// Config is the policy of a breaker.
type Config struct {
	// Failures in a row that open it. Default 10.
	Failures int `conf:"failures" help:"consecutive failures that open a webhook's breaker"`
	// Cooldown is the first wait before a probe. Default 5 s.
	Cooldown time.Duration `conf:"cooldown" help:"wait before the first probe of an open breaker; doubles with each failed probe"`
	// MaxCooldown is the longest wait. Default 5 min.
	MaxCooldown time.Duration `conf:"max-cooldown" help:"longest wait between probes of an open breaker"`
}

// Default returns the defaults.
func Default() Config {
	return Config{Failures: 10, Cooldown: 5 * time.Second, MaxCooldown: 5 * time.Minute}
}

// Validate says everything that is wrong.
func (c Config) Validate() error {
	return errors.Join(
		conf.AtLeast("failures", c.Failures, 1),
		conf.Positive("cooldown", c.Cooldown),
		conf.AtLeast("max-cooldown", c.MaxCooldown, c.Cooldown),
	)
}

// Breaker counts consecutive failures of one webhook. Its owner guards it against concurrent use.
type Breaker struct {
	cfg      Config
	state    State
	failures int
	cooldown time.Duration
	until    time.Time // when open: the next probe; when half open: when the probe is given up
	opened   time.Time // zero while it is closed
}

// New returns a closed breaker.
func New(cfg Config) Breaker { return Breaker{cfg: cfg} }

// State is where the breaker stands.
func (b *Breaker) State() State { return b.state }

// Cooldown is the wait before the next probe of a breaker that is not closed.
func (b *Breaker) Cooldown() time.Duration { return b.cooldown }

// Failures is how many attempts in a row have failed, while it is closed.
func (b *Breaker) Failures() int {
	if b.state != Closed {
		return 0
	}
	return b.failures
}

// Opened is when a breaker opened that is not closed, before any probe that failed since; else zero.
func (b *Breaker) Opened() time.Time { return b.opened }

// NextProbe is when an open breaker lets an attempt pass; zero in any other state.
func (b *Breaker) NextProbe() time.Time {
	if b.state != Open {
		return time.Time{}
	}
	return b.until
}

// Allow says whether an attempt may begin now. If not, retryAt is when to ask again. An attempt
// that is allowed to pass an open breaker is the probe, of which there is one at a time; probeTime
// is how long it may take, after which another is let through.
func (b *Breaker) Allow(now time.Time, probeTime time.Duration) (ok bool, retryAt time.Time) {
	if b.state == Closed {
		return true, time.Time{}
	}
	if now.Before(b.until) {
		return false, b.until
	}
	b.state = HalfOpen
	b.until = now.Add(probeTime)
	return true, time.Time{}
}

// Cancel says that an attempt that was allowed did not take place, so that another may be the probe.
func (b *Breaker) Cancel(now time.Time) {
	if b.state == HalfOpen {
		b.state, b.until = Open, now
	}
}

// Success closes the breaker. It reports whether that changed the state.
func (b *Breaker) Success() (changed bool) {
	changed = b.state != Closed
	b.state, b.failures, b.cooldown, b.opened = Closed, 0, 0, time.Time{}
	return changed
}

// Failure counts one. It reports whether that opened the breaker. The outcome of an attempt that
// began before the breaker opened neither prolongs the cool-down nor counts as the probe's:
// probe says which one it was.
func (b *Breaker) Failure(now time.Time, probe bool) (opened bool) {
	switch b.state {
	case Closed:
		b.failures++
		if b.failures < b.cfg.Failures {
			return false
		}
		b.cooldown, b.opened = b.cfg.Cooldown, now
	case HalfOpen:
		if !probe {
			return false
		}
		b.cooldown = min(2*b.cooldown, b.cfg.MaxCooldown)
	case Open:
		return false
	}
	b.state, b.until = Open, now.Add(b.cooldown)
	return true
}
