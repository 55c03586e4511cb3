//go:build integration

package scheduler_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/services/scheduler"
	"github.com/postrider/postrider/test/fixture/redistest"
)

// BenchmarkPrecision has ten thousand retries come due over a minute, with two schedulers on one
// Redis and the shipped settings, and measures how late each is in a dispatcher's hands.
func BenchmarkPrecision(b *testing.B) {
	const count, over = 10_000, time.Minute
	server := redistest.Start(b)
	w := newWorld(b, time.Hour)
	first := w.start(scheduler.Default(), redisIndex(b, w, server.URL))
	w.start(scheduler.Default(), redisIndex(b, w, server.URL))
	hook := w.webhook()
	var late []time.Duration
	for b.Loop() {
		from := time.Now().Add(10 * time.Second)
		retries := make([]*recordv1.Retry, count)
		for i := range retries {
			retries[i] = hook.retry(waiting, from.Add(time.Duration(i)*over/count))
		}
		seen := len(w.got())
		w.schedule(first, retries...)
		require.True(b, time.Now().Before(from), "the first was due before all were stored")
		// What has a minute to come is not awaited like what is there at once.
		require.Eventually(b, func() bool { return len(w.got()) >= seen+count }, 3*time.Minute, 100*time.Millisecond)
		for _, d := range w.got()[seen:] {
			require.False(b, d.fired, "%s was late by the grace", d.delivery())
			late = append(late, d.at.Sub(d.retry.GetDueTime().AsTime()))
		}
	}
	slices.Sort(late)
	for name, permille := range map[string]int{"p50": 500, "p99": 990, "p99.9": 999} {
		b.ReportMetric(float64(late[len(late)*permille/1000].Microseconds())/1000, "late-ms-"+name)
	}
	b.ReportMetric(float64(late[len(late)-1].Microseconds())/1000, "late-ms-max")
}
