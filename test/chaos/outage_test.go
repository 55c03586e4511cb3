//go:build chaos

package chaos

import (
	"maps"
	"slices"
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
	late            time.Duration // how much later than the grace one may arrive
}

func TestRedisAndAllSchedulersStopped(t *testing.T) {
	t.Parallel()
	outageDrill(t, outageSize{waiting: 10_000, during: 500, batch: 100, delay: 60 * time.Second, grace: 30 * time.Second, late: 5 * time.Second})
}

func TestShortRedisAndAllSchedulersStopped(t *testing.T) {
	t.Parallel()
	outageDrill(t, outageSize{
		waiting: 500, during: 100, batch: 25, delay: 25 * time.Second, grace: 12 * time.Second, late: besideOthers,
	})
}

// early is how much before its due time and the grace a record may fire.
const early = time.Second

// outageDrill takes away everything that makes retries punctual. What is left is the record, which
// fires by itself when its due time and the grace have passed.
func outageDrill(t *testing.T, size outageSize) {
	t.Helper()
	d := roll(t)
	c := startCluster(t, map[string]string{
		"POSTRIDER_RETRIES_GRACE": size.grace.String(), "POSTRIDER_DISPATCHER_BREAKER_FAILURES": patientBreaker,
	})
	w := newWorld(t, c, waitAccounts, waitWorldHooks(schedule(size.delay, 0.3)), waitPlan)
	s := watchStreams(t, c)
	p := &producer{w: w, batch: size.batch}
	r := &row{Fault: "Redis and every scheduler gone"}

	require.NoError(t, p.publish(t.Context(), 0, size.waiting))
	due := dues(t, w, size.delay, w.pairs(0, size.waiting))
	first, _ := bounds(due)
	at := first.Add(-d.between(2*time.Second, 5*time.Second))
	require.Positive(t, time.Until(at), "the machine is too slow: the time for the outage has passed")
	require.True(t, pause(t.Context(), time.Until(at)))
	require.Equal(t, size.waiting, r.strike(t, w, "kill of redis and every scheduler"), "all of them wait")
	c.Of("redis")[0].Kill()
	for _, scheduler := range c.Of("scheduler") {
		scheduler.Kill()
	}
	require.Positive(t, time.Until(first), "the machine is too slow: some were due before everything was gone")
	t.Logf("%d retries wait; redis and every scheduler are gone, %s before the first is due", len(due), time.Until(first).Round(time.Millisecond))

	// Publishing stays available, under the record's own window, and the dispatcher stores the
	// records itself.
	before := p.degraded.Load() // some at the start, when the window is built
	require.NoError(t, p.publish(t.Context(), size.waiting, size.waiting+size.during))
	require.EqualValues(t, size.during, p.degraded.Load()-before, "receipts say that the window is not whole")
	maps.Copy(due, dues(t, w, size.delay, w.pairs(size.waiting, size.waiting+size.during)))

	_, last := bounds(due)
	for waiting, at := range due {
		due[waiting] = at.Add(size.grace)
	}
	late := lateness(t, w, due, last.Add(size.grace+2*time.Minute))
	t.Logf("later than due time and grace: %s", spread(late))
	require.GreaterOrEqual(t, late[0], -early, "early")
	require.LessOrEqual(t, late[len(late)-1], size.late, "late")

	back(t, w, p, size.grace)
	judgeAll(t, w, s, p)
	report(t, w, r)
}

// Of the return: in what time a refused delivery arrives again whose retry is punctual, and how long
// it may take after the return until all are.
const (
	prompt   = 8 * time.Second
	backSoon = time.Minute
)

// back starts again what was gone, and publishes events that are refused once, until all of a batch
// arrive again as their schedule says, not as the grace does.
func back(t *testing.T, w *world, p *producer, grace time.Duration) {
	t.Helper()
	require.Less(t, prompt, grace)
	for _, service := range []string{"redis", "scheduler"} {
		for _, process := range w.cluster.Of(service) {
			require.NoError(t, process.Start())
			require.NoError(t, process.WaitReady(t.Context()))
		}
	}
	began := time.Now()
	const batch = 20
	for n := againFrom; ; n += batch {
		published := time.Now()
		require.NoError(t, p.publish(t.Context(), n, n+batch))
		arrived := func() bool {
			return !slices.ContainsFunc(w.pairs(n, n+batch), func(p pair) bool { at, _ := w.ledger.arrival(p); return at.IsZero() })
		}
		if awaited(t.Context(), time.Until(published.Add(prompt)), 20*time.Millisecond, arrived) {
			t.Logf("%s after everything is back, refused deliveries arrive again within %s",
				published.Sub(began).Round(time.Millisecond), time.Since(published).Round(time.Millisecond))
			return
		}
		require.Less(t, time.Since(began), backSoon, "retries wait for the grace although everything is back")
	}
}
