package scheduler_test

import (
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/services/scheduler"
	"github.com/postrider/postrider/services/scheduler/internal/retryset"
)

// cpu is the time that this process has spent on a processor: what wall time on a shared machine
// does not tell.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkRelease lets many retries come due at one instant and measures until a dispatcher has
// them all.
func BenchmarkRelease(b *testing.B) {
	const burst = 20_000
	w := newWorld(b, time.Hour)
	hook := w.webhook()
	index := scheduler.NewMemoryIndex()
	w.start(quick(), index)
	var took, worked time.Duration
	for b.Loop() {
		n := len(w.got())
		entries := make([]retryset.Entry, 0, burst)
		for _, sequence := range w.put(hook.retries(burst, waiting, time.Now())...) {
			entries = append(entries, retryset.Entry{Member: retryset.Member{Shard: hook.shard(), Sequence: sequence}, Due: time.Now()})
		}
		begun, before := time.Now(), cpu(b)
		require.NoError(b, index.Add(b.Context(), entries...))
		w.await(n + burst)
		took += time.Since(begun)
		worked += cpu(b) - before
	}
	b.ReportMetric(float64(b.N)*burst/took.Seconds(), "retries/s")
	b.ReportMetric(float64(worked.Microseconds())/float64(b.N)/burst, "cpu-us/retry")
}

// BenchmarkSchedule hands batches over, as a dispatcher does while a big receiver is away.
func BenchmarkSchedule(b *testing.B) {
	for _, size := range []int{1, 64, 256} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			w := newWorld(b, time.Hour)
			client := w.start(quick(), scheduler.NewMemoryIndex())
			hook := w.webhook()
			at := time.Now().Add(time.Hour)
			for b.Loop() {
				w.schedule(client, hook.retries(size, waiting, at)...)
			}
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "retries/s")
		})
	}
}

// BenchmarkRebuild fills an index from many records.
func BenchmarkRebuild(b *testing.B) {
	const total = 100_000
	w := newWorld(b, time.Hour)
	hook := w.webhook()
	at := time.Now().Add(10 * time.Hour)
	for range total / 10_000 {
		w.put(hook.retries(10_000, waiting, at)...)
	}
	var worked time.Duration
	for b.Loop() {
		before := cpu(b)
		index := scheduler.NewMemoryIndex()
		_, stop := w.startStoppable(quick(), index)
		require.Eventually(b, func() bool {
			_, err := index.Claim(b.Context(), time.Unix(0, 0), time.Second, 1)
			n, _ := index.Count(b.Context())
			return err == nil && n == total
		}, time.Minute, 10*time.Millisecond)
		worked += cpu(b) - before
		b.StopTimer()
		stop()
		b.StartTimer()
	}
	b.ReportMetric(float64(worked.Microseconds())/float64(b.N)/total, "cpu-us/retry")
	b.ReportMetric(float64(b.N)*total/b.Elapsed().Seconds(), "retries/s")
}
