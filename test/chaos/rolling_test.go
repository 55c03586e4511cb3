//go:build chaos

package chaos

import (
	"fmt"
	"testing"
	"time"
)

// TestRollingRestartOfEverythingUnderLoad stops and starts every replica of every service, and every
// NATS node, one after the other, while events are published. Whoever is asked to stop finishes or
// gives back what it has, so nothing may come twice.
func TestRollingRestartOfEverythingUnderLoad(t *testing.T) {
	t.Parallel()
	d := roll(t)
	c := startNodes(t)
	w := newWorld(t, c, 4, killHooks(time.Now()), inTurn(killEvents()))
	s := watchStreams(t, c)
	p := &producer{w: w, batch: 50}
	r := &row{Fault: "rolling restart of every service and NATS node"}

	stop := flow(t, p)
	all := append(services(c), c.Of("nats")...)
	for _, i := range d.Perm(len(all)) {
		const inFlight = 10
		next := w.ledger.acceptedCount() + 20 + d.IntN(100)
		await(t, 2*time.Minute, time.Millisecond, func() string {
			return fmt.Sprintf("%d events accepted, %d deliveries in flight", w.ledger.acceptedCount(), w.ledger.inFlight())
		}, func() bool { return w.ledger.acceptedCount() >= next && w.ledger.inFlight() >= inFlight })
		r.strike(t, w, "restart of "+all[i].Name)
		began := time.Now()
		restart(t.Context(), t, all[i])
		t.Logf("%s is back after %s", all[i].Name, time.Since(began).Round(time.Millisecond))
	}
	stop()
	conclude(t, w, s, r, p)
}
