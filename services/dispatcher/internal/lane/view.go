package lane

import (
	"time"

	"github.com/postrider/postrider/services/dispatcher/internal/breaker"
)

// View is what a lane shows of itself.
type View struct {
	// Breaker is where the webhook's breaker stands.
	Breaker breaker.State
	// Opened is when the breaker opened; zero while it is closed.
	Opened time.Time
	// NextProbe is when an open breaker lets an attempt pass; zero in any other state.
	NextProbe time.Time
	// Failures is how many attempts in a row have failed, while the breaker is closed.
	Failures int
	// InFlight is how many deliveries have a place in the lane.
	InFlight int
	// Queued is how many wait in memory for one.
	Queued int
	// Allowed is the most attempts at once that success and overload have led to.
	Allowed int
	// MaxInFlight is how far that may grow.
	MaxInFlight int
	// Rate is attempts a second, 0 for no limit.
	Rate float64
	// PausedUntil is the end of a pause that the receiver asked for; zero if none is left.
	PausedUntil time.Time
}

// View shows the lane as it is now. It changes nothing.
func (l *Lane[J]) View(now time.Time) View {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := View{
		Breaker: l.breaker.State(), Opened: l.breaker.Opened(), NextProbe: l.breaker.NextProbe(), Failures: l.breaker.Failures(),
		InFlight: l.inFlight, Queued: l.waiting(),
		Allowed: l.concurrency.Limit(), MaxInFlight: l.settings.MaxInFlight, Rate: l.settings.Rate,
	}
	if now.Before(l.pausedUntil) {
		v.PausedUntil = l.pausedUntil
	}
	return v
}
