package retryset_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/services/scheduler/internal/retryset"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	Exercise(t, func(*testing.T) retryset.Index { return retryset.NewMemory() })
}

// model is the contract in its simplest form.
type model map[retryset.Member]int64

func TestMemoryBehavesAsAMapThatIsSortedOnEveryClaim(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		x := retryset.NewMemory()
		want := model{}
		now := base
		seq := rapid.Uint64Range(0, 40)
		after := rapid.Int64Range(-50, 50)
		draw := func(t *rapid.T) retryset.Entry {
			due := now.Add(time.Duration(after.Draw(t, "after")) * time.Millisecond)
			return retryset.Entry{Member: member(seq.Draw(t, "seq")), Due: due}
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				e := draw(t)
				require.NoError(t, x.Add(t.Context(), e))
				due, ok := want[e.Member]
				if !ok || due < e.Due.UnixMilli() {
					want[e.Member] = e.Due.UnixMilli()
				}
			},
			"move": func(t *rapid.T) {
				e := draw(t)
				require.NoError(t, x.Move(t.Context(), e))
				if _, ok := want[e.Member]; ok {
					want[e.Member] = e.Due.UnixMilli()
				}
			},
			"drop": func(t *rapid.T) {
				m := member(seq.Draw(t, "seq"))
				require.NoError(t, x.Drop(t.Context(), m))
				delete(want, m)
			},
			"claim": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.Int64Range(0, 20).Draw(t, "passes")) * time.Millisecond)
				got, _ := x.Claim(t.Context(), now, 30*time.Millisecond, 1000)
				claimed := make(map[retryset.Member]bool)
				for _, m := range got.Members {
					require.Contains(t, want, m)
					require.LessOrEqual(t, want[m], now.UnixMilli())
					claimed[m] = true
					want[m] = now.UnixMilli() + 30
				}
				for m, due := range want {
					require.True(t, claimed[m] || due > now.UnixMilli(), "%s was due", m)
				}
			},
			"": func(t *rapid.T) {
				n, err := x.Count(t.Context())
				require.NoError(t, err)
				require.EqualValues(t, len(want), n)
			},
		})
	})
}

func BenchmarkMemory(b *testing.B) {
	b.Run("add and drop at a million", func(b *testing.B) {
		x := retryset.NewMemory()
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for seq := range uint64(1_000_000) {
			_ = x.Add(b.Context(), entry(seq, time.Duration(seq)*time.Millisecond))
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "B/retry")
		seq := uint64(1_000_000)
		for b.Loop() {
			_ = x.Add(b.Context(), entry(seq, time.Duration(seq)*time.Millisecond))
			_ = x.Drop(b.Context(), member(seq-1_000_000))
			seq++
		}
	})
	b.Run("claim 256 of a million", func(b *testing.B) {
		x := retryset.NewMemory()
		for seq := range uint64(1_000_000) {
			_ = x.Add(b.Context(), entry(seq, 0))
		}
		now := base
		for b.Loop() {
			_, _ = x.Claim(b.Context(), now, time.Second, 256)
			now = now.Add(time.Millisecond)
		}
	})
}
