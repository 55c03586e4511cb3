//go:build chaos

package chaos

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// outageSize is how big the drill of the outage is.
type outageSize struct {
	waiting, during int // retries that wait when it begins, and events published in its midst
	batch           int
	delay           time.Duration
	grace           time.Duration
}

func TestRedisAndAllSchedulersStopped(t *testing.T) {
	outageDrill(t, outageSize{waiting: 5000, during: 500, batch: 100, delay: 30 * time.Second, grace: 30 * time.Second})
}

func TestShortRedisAndAllSchedulersStopped(t *testing.T) {
	t.Parallel()
	outageDrill(t, outageSize{waiting: 500, during: 100, batch: 25, delay: 12 * time.Second, grace: 12 * time.Second})
}

// How much before its due time and the grace a record may fire, and how much later it may arrive.
const (
	fireEarly = time.Second
	fireLate  = 5 * time.Second
)

// outageDrill takes away everything that makes retries punctual. What is left is the record, which
// fires by itself when its due time and the grace have passed.
func outageDrill(t *testing.T, size outageSize) {
	d := roll(t)
	c := startCluster(t, map[string]string{
		"POSTRIDER_RETRIES_GRACE": size.grace.String(), "POSTRIDER_DISPATCHER_BREAKER_FAILURES": patientBreaker,
	})
	w := newWorld(t, c, waitAccounts, waitWorldHooks(schedule(24, size.delay, 0.3)), waitPlan)
	s := watchStreams(t, c)
	p := &producer{w: w, batch: size.batch}

	require.NoError(t, p.publish(t.Context(), 0, size.waiting))
	due := dues(t, w, size.delay, w.pairs(0, size.waiting))
	first, _ := bounds(due)
	at := first.Add(-d.between(500*time.Millisecond, 3*time.Second))
	require.Positive(t, time.Until(at), "the machine is too slow: the time for the outage has passed")
	require.True(t, pause(t.Context(), time.Until(at)))
	c.Of("redis")[0].Kill()
	for _, scheduler := range c.Of("scheduler") {
		scheduler.Kill()
	}
	require.Equal(t, size.waiting, w.ledger.inFlight(), "all of them wait")
	t.Logf("%d retries wait; redis and every scheduler are gone, %s before the first is due", len(due), time.Until(first).Round(time.Millisecond))

	// Publishing stays available, under the record's own window, and the dispatcher stores the
	// records itself.
	require.Zero(t, p.degraded.Load())
	require.NoError(t, p.publish(t.Context(), size.waiting, size.waiting+size.during))
	require.EqualValues(t, size.during, p.degraded.Load(), "receipts say that the window is not whole")
	for more, at := range dues(t, w, size.delay, w.pairs(size.waiting, size.waiting+size.during)) {
		due[more] = at
	}

	_, last := bounds(due)
	for p, at := range due {
		due[p] = at.Add(size.grace)
	}
	late := lateness(t, w, due, last.Add(size.grace+time.Minute))
	t.Logf("later than due time and grace: %s", spread(late))
	require.GreaterOrEqual(t, late[0], -fireEarly, "early")
	require.LessOrEqual(t, late[len(late)-1], fireLate, "late")

	back(t, w, p, size)
	judgeAll(t, w, s, p)
}

// back starts again what was gone: retries are punctual again.
func back(t *testing.T, w *world, p *producer, size outageSize) {
	t.Helper()
	for _, service := range []string{"redis", "scheduler"} {
		for _, process := range w.cluster.Of(service) {
			require.NoError(t, process.Start())
			require.NoError(t, process.WaitReady(t.Context()))
		}
	}
	began := time.Now()
	require.NoError(t, p.publish(t.Context(), againFrom, againFrom+20))
	await(t, size.grace-time.Second, 50*time.Millisecond, func() string { return "a retry waits for the grace although everything is back" },
		func() bool { return w.ledger.inFlight() == 0 })
	t.Logf("everything is back: a refused delivery arrived again within %s", time.Since(began).Round(time.Millisecond))
}
