//go:build chaos

package chaos

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// flushSize is how big the drill of the flush is.
type flushSize struct {
	waiting int
	batch   int
	delay   time.Duration // of the first retry of each; 0.3 of it more at random
	late    time.Duration // how late one may arrive; far below the grace
}

func TestFlushWithTenThousandRetriesWaiting(t *testing.T) {
	flushDrill(t, flushSize{waiting: 10_000, batch: 100, delay: 40 * time.Second, late: 2 * time.Second})
}

func TestShortFlushWithAThousandRetriesWaiting(t *testing.T) {
	t.Parallel()
	// It runs beside others, on machines of all kinds: late is what no index can be the cause of.
	flushDrill(t, flushSize{waiting: 1000, batch: 50, delay: 25 * time.Second, late: time.Minute})
}

// flushDrill empties Redis twice: when every retry waits, and when half of them are due, while
// other events flow. The grace is ten minutes, so whatever arrives before was released from an index
// that had been rebuilt.
func flushDrill(t *testing.T, size flushSize) {
	t.Helper()
	d := roll(t)
	c := startCluster(t, map[string]string{
		"POSTRIDER_RETRIES_GRACE": "10m", "POSTRIDER_DISPATCHER_BREAKER_FAILURES": patientBreaker,
	})
	w := newWorld(t, c, waitAccounts, waitWorldHooks(schedule(size.delay, 0.3)), waitPlan)
	s := watchStreams(t, c)
	client := connectRedis(t, c)
	p := &producer{w: w, batch: size.batch}
	r := &row{Fault: "Redis flushed, twice, retries waiting"}

	require.NoError(t, p.publish(t.Context(), 0, size.waiting))
	due := dues(t, w, size.delay, w.pairs(0, size.waiting))
	require.Len(t, due, size.waiting)
	first, last := bounds(due)
	t.Logf("%d retries wait; they are due over %s, the first in %s", len(due), last.Sub(first).Round(time.Millisecond), time.Until(first).Round(time.Millisecond))

	stop := flow(t, p)
	flush := func(at time.Time) int {
		require.Positive(t, time.Until(at), "the machine is too slow: the time for the flush has passed")
		require.True(t, pause(t.Context(), time.Until(at)))
		size, err := client.DBSize(t.Context()).Result()
		require.NoError(t, err)
		left := r.strike(t, w, fmt.Sprintf("FLUSHALL of %d keys %s after the first was due", size, time.Since(first).Round(time.Millisecond)))
		require.NoError(t, client.FlushAll(t.Context()).Err())
		return left
	}
	require.GreaterOrEqual(t, flush(first.Add(-d.between(200*time.Millisecond, 2*time.Second))), size.waiting)
	flush(first.Add(d.between(last.Sub(first)/4, last.Sub(first)*3/4)))

	late := lateness(t, w, due, last.Add(time.Minute))
	t.Logf("lateness of %d retries over two flushes: %s", len(late), spread(late))
	stop()
	judgeAll(t, w, s, p)
	r.Recovery = late[len(late)-1]
	report(t, w, r)
	require.GreaterOrEqual(t, late[0], -time.Millisecond, "early")
	require.LessOrEqual(t, late[len(late)-1], size.late, "late")
	require.Positive(t, calls(t, client)["zincrby"], "retries were claimed in Redis")
}

// flow publishes other events until it is stopped: a hundred a second, one in six of whose
// deliveries becomes a retry.
func flow(t *testing.T, p *producer) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ticker := time.NewTicker(200 * time.Millisecond)
		defer ticker.Stop()
		var err error
		for n := flowFrom; err == nil; n += 20 {
			select {
			case <-ticker.C:
				err = p.publish(context.WithoutCancel(ctx), n, n+20)
			case <-ctx.Done():
				ended <- err
				return
			}
		}
		<-ctx.Done()
		ended <- err
	}()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("publish: %v", err)
			}
		}
	}
	t.Cleanup(stop)
	return stop
}
