package scheduler_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/services/scheduler"
)

// BenchmarkRelease lets many retries come due at one instant and measures until a dispatcher has
// them all.
func BenchmarkRelease(b *testing.B) {
	const burst = 20_000
	w := newWorld(b, time.Hour)
	hook := w.webhook()
	client := w.start(quick(), scheduler.NewMemoryIndex())
	var took time.Duration
	for b.Loop() {
		at := time.Now().Add(5 * time.Second)
		n := len(w.got())
		w.schedule(client, hook.retries(burst, waiting, at)...)
		if late := time.Since(at); late > 0 {
			b.Fatalf("storing took %s too long", late)
		}
		dues := w.await(n + burst)
		took += dues[len(dues)-1].at.Sub(at)
	}
	b.ReportMetric(float64(b.N)*burst/took.Seconds(), "retries/s")
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
	for b.Loop() {
		index := scheduler.NewMemoryIndex()
		_, stop := w.startStoppable(quick(), index)
		require.Eventually(b, func() bool {
			_, err := index.Claim(b.Context(), time.Unix(0, 0), time.Second, 1)
			n, _ := index.Count(b.Context())
			return err == nil && n == total
		}, time.Minute, time.Millisecond)
		b.StopTimer()
		stop()
		b.StartTimer()
	}
	b.ReportMetric(float64(b.N)*total/b.Elapsed().Seconds(), "retries/s")
}
