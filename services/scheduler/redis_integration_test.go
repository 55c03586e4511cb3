//go:build integration

package scheduler_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/redisconn"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	"github.com/postrider/postrider/services/scheduler"
	"github.com/postrider/postrider/test/fixture/redistest"
)

// redisIndex is an index with a client of its own, as each replica has.
func redisIndex(t testing.TB, w *world, url string) scheduler.Index {
	t.Helper()
	cfg := redisconn.Default()
	cfg.URL = url
	client, err := redisconn.Open(cfg, w.log)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return scheduler.NewRedisIndex(client)
}

// traffic schedules retries of one webhook that are due a moment later until it is stopped, and
// returns those that were stored.
func traffic(t *testing.T, client schedulerv1.SchedulerServiceClient, h *hook) (stop func() []*recordv1.Retry) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var stored []*recordv1.Retry
	var group sync.WaitGroup
	group.Go(func() {
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			batch := h.retries(10, waiting, time.Now().Add(500*time.Millisecond))
			resp, err := client.ScheduleRetry(context.WithoutCancel(ctx), &schedulerv1.ScheduleRetryRequest{Retries: batch})
			if err != nil {
				t.Errorf("schedule: %v", err)
				return
			}
			for i, r := range resp.GetResults() {
				if r.GetStatus() == schedulerv1.ScheduleStatus_SCHEDULE_STATUS_STORED {
					stored = append(stored, batch[i])
				}
			}
		}
	})
	return func() []*recordv1.Retry {
		cancel()
		group.Wait()
		return stored
	}
}

// lateness is how late the dues were, sorted; it fails if one was fired by the server.
func lateness(t *testing.T, dues []due) []time.Duration {
	t.Helper()
	late := make([]time.Duration, 0, len(dues))
	for _, d := range dues {
		require.False(t, d.fired, "%s was late by the grace", d.delivery())
		late = append(late, d.at.Sub(d.retry.GetDueTime().AsTime()))
	}
	slices.Sort(late)
	t.Logf("late: least %s, median %s, p99 %s, most %s", late[0], late[len(late)/2], late[len(late)*99/100], late[len(late)-1])
	return late
}

func TestFlushedWithTenThousandWaitingWhileTrafficFlows(t *testing.T) {
	server := redistest.Start(t)
	server.Client(t) // is closed with this test, not with the first of those below
	for name, lose := range map[string]func(t *testing.T, snapshot []byte){
		"flushed": func(t *testing.T, _ []byte) {
			t.Helper()
			server.Flush(t)
		},
		"killed and started empty": func(t *testing.T, _ []byte) {
			t.Helper()
			server.Down(t)
			server.Up(t)
		},
		"restored from an older state": func(t *testing.T, snapshot []byte) {
			t.Helper()
			server.Restore(t, snapshot)
		},
	} {
		t.Run(name, func(t *testing.T) {
			server.Flush(t)
			w := newWorld(t, time.Hour)
			first := w.start(quick(), redisIndex(t, w, server.URL))
			second := w.start(quick(), redisIndex(t, w, server.URL))
			snapshot := server.Snapshot(t)
			waits, flows := w.webhook(), w.webhook()
			at := time.Now().Add(8 * time.Second)
			retries := make([]*recordv1.Retry, 10_000)
			for i := range retries {
				retries[i] = waits.retry(waiting, at.Add(time.Duration(i)*200*time.Microsecond))
			}
			w.schedule(first, retries...)
			stop := traffic(t, second, flows)
			w.await(50)
			lose(t, snapshot)
			w.await(200)
			w.await(len(retries))
			retries = append(retries, stop()...)
			w.await(len(retries))
			dues := w.got()
			require.ElementsMatch(t, deliveries(retries), dueIDs(dues), "each exactly once")
			late := lateness(t, dues)
			require.GreaterOrEqual(t, late[0], time.Duration(0))
			require.Empty(t, waits.records())
		})
	}
}

func TestRedisAwayForAWhile(t *testing.T) {
	server := redistest.Start(t)
	w := newWorld(t, time.Hour)
	client := w.start(quick(), redisIndex(t, w, server.URL))
	hook := w.webhook()
	before := hook.retries(100, waiting, time.Now().Add(3*time.Second))
	w.schedule(client, before...)
	server.Down(t)
	begun := time.Now()
	during := hook.retries(100, waiting, time.Now().Add(3*time.Second))
	for _, r := range during {
		w.schedule(client, r)
	}
	t.Logf("100 calls without Redis took %s", time.Since(begun))
	server.Up(t)
	retries := slices.Concat(before, during)
	w.await(len(retries))
	require.ElementsMatch(t, deliveries(retries), dueIDs(w.got()))
	lateness(t, w.got())
}

func TestRedisNeverComesBack(t *testing.T) {
	server := redistest.Start(t)
	w := newWorld(t, 3*time.Second)
	client := w.start(quick(), redisIndex(t, w, server.URL))
	hook := w.webhook()
	server.Down(t)
	retries := hook.retries(50, waiting, time.Now())
	w.schedule(client, retries...)
	dues := w.await(len(retries))
	require.ElementsMatch(t, deliveries(retries), dueIDs(dues))
	for _, d := range dues {
		require.True(t, d.fired, "the record fires by itself")
	}
	// Holding and cancelling need no Redis either.
	w.schedule(client, hook.retries(5, waiting, time.Now().Add(time.Hour))...)
	w.known(client, hook)
	hook.pause()
	w.eventually(func() bool { return hook.kinds()[held] == 5 }, "all are held")
	hook.resume()
	w.await(len(retries) + 5)
}
