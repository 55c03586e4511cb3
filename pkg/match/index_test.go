package match_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/pkg/match"
)

func patterns(t require.TestingT, texts ...string) []match.Pattern {
	out := make([]match.Pattern, len(texts))
	for i, s := range texts {
		out[i] = pattern(t, s)
	}
	return out
}

func candidates[K comparable](x *match.Index[K], eventType string) []K {
	var out []K
	x.Candidates(eventType, func(k K) { out = append(out, k) })
	return out
}

func TestIndexVisitsEachKeyOnce(t *testing.T) {
	t.Parallel()
	var x match.Index[string]
	require.Empty(t, candidates(&x, "release.live"))
	x.Remove("nobody")

	x.Add("a", patterns(t, "release.live", "release.*", "*", "release.live", "*"))
	x.Add("b", patterns(t, "release.*", "release.live", "track.uploaded"))
	x.Add("c", patterns(t, "royalty.payment.*", "royalty.*", "royalty.payment.pending"))
	x.Add("d", patterns(t, "release.live", "release.live"))
	x.Add("e", nil)
	x.Add("f", []match.Pattern{{}})
	require.Equal(t, 4, x.Len())

	require.ElementsMatch(t, []string{"a", "b", "d"}, candidates(&x, "release.live"))
	require.ElementsMatch(t, []string{"a", "b"}, candidates(&x, "release.created"))
	require.ElementsMatch(t, []string{"a", "b"}, candidates(&x, "track.uploaded"))
	require.ElementsMatch(t, []string{"a", "c"}, candidates(&x, "royalty.payment.pending"))
	require.ElementsMatch(t, []string{"a"}, candidates(&x, "release"))

	x.Add("a", patterns(t, "track.*"))
	require.ElementsMatch(t, []string{"b", "d"}, candidates(&x, "release.live"), "Add replaces")
	x.Add("b", nil)
	x.Remove("d")
	x.Remove("d")
	require.Empty(t, candidates(&x, "release.live"))
	require.Equal(t, 2, x.Len())
}

func TestIndexWithTheDeepestType(t *testing.T) {
	t.Parallel()
	deepest := strings.Repeat("a.", match.MaxEventTypeBytes/2-1) + "aa"
	require.NoError(t, match.CheckEventType(deepest))
	var x match.Index[int]
	prefix := ""
	for i := range match.MaxEventTypeBytes/2 - 1 {
		prefix += "a."
		x.Add(i, patterns(t, prefix+"*"))
	}
	x.Add(1000, patterns(t, deepest))
	x.Add(1001, patterns(t, "*"))
	require.Len(t, candidates(&x, deepest), match.MaxEventTypeBytes/2+1)

	// A type that no check let through must not do harm.
	require.NotPanics(t, func() { candidates(&x, strings.Repeat("a.", 1000)) })
	require.NotPanics(t, func() { candidates(&x, strings.Repeat(".", 1000)) })
}

// TestIndexFindsWhatTheNaiveMatcherFinds lets a random history of changes run over an index and a
// plain map.
func TestIndexFindsWhatTheNaiveMatcherFinds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var x match.Index[int]
		model := map[int][]match.Pattern{}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				k := rapid.IntRange(0, 9).Draw(t, "key")
				ps := patterns(t, rapid.SliceOfN(genPattern(), 0, 6).Draw(t, "patterns")...)
				x.Add(k, ps)
				model[k] = ps
			},
			"remove": func(t *rapid.T) {
				k := rapid.IntRange(0, 9).Draw(t, "key")
				x.Remove(k)
				delete(model, k)
			},
			"": func(t *rapid.T) {
				eventType := genType().Draw(t, "type")
				var want []int
				for k, ps := range model {
					if slices.ContainsFunc(ps, func(p match.Pattern) bool { return p.Match(eventType) }) {
						want = append(want, k)
					}
				}
				got := candidates(&x, eventType)
				slices.Sort(got)
				slices.Sort(want)
				require.Equal(t, want, got, "each once")
			},
		})
	})
}

// TestIndexNeverLosesAKeyThatChanges: a key whose patterns change between two that both match is
// seen by every reader, exactly once.
func TestIndexNeverLosesAKeyThatChanges(t *testing.T) {
	t.Parallel()
	var x match.Index[int]
	before, after := patterns(t, "release.*", "track.*"), patterns(t, "release.live", "*")
	const keys = 20
	for k := range keys {
		x.Add(k, before)
	}
	stop := make(chan struct{})
	var writer, readers sync.WaitGroup
	writer.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				x.Add(i%keys, [][]match.Pattern{after, before}[i/keys%2])
				x.Add(keys+i%3, after)
				x.Remove(keys + (i+1)%3)
			}
		}
	})
	faults := make(chan string, 4)
	for range 4 {
		readers.Go(func() {
			for range 2000 {
				var seen [keys + 3]int
				x.Candidates("release.live", func(k int) { seen[k]++ })
				for k, n := range seen {
					if n > 1 || n == 0 && k < keys {
						faults <- fmt.Sprintf("key %d was visited %d times", k, n)
						return
					}
				}
			}
		})
	}
	readers.Wait()
	close(stop)
	writer.Wait()
	close(faults)
	for fault := range faults {
		t.Error(fault)
	}
}

func TestVisitMayChangeTheIndex(t *testing.T) {
	t.Parallel()
	var x match.Index[int]
	for k := range 10 {
		x.Add(k, patterns(t, "a.*"))
	}
	n := 0
	x.Candidates("a.b", func(k int) {
		n++
		x.Remove(k)
		x.Add(k+100, patterns(t, "a.*"))
	})
	require.Equal(t, 10, n)
	require.Len(t, candidates(&x, "a.b"), 10)
}

// bigIndex is an account with many webhooks, of which few want the type.
func bigIndex(t require.TestingT, webhooks, hits int) *match.Index[string] {
	var x match.Index[string]
	for k := range webhooks {
		if k < hits {
			x.Add(fmt.Sprintf("wh_hit_%d", k), patterns(t, "royalty.payment.*"))
			continue
		}
		x.Add(fmt.Sprintf("wh_%d", k), patterns(t, fmt.Sprintf("release.t%d", k%500), fmt.Sprintf("track.t%d.*", k%100)))
	}
	return &x
}

func TestCandidatesAllocatesNothing(t *testing.T) {
	x := bigIndex(t, 1000, 10)
	n := 0
	visit := func(string) { n++ }
	require.Zero(t, testing.AllocsPerRun(100, func() { x.Candidates("royalty.payment.pending", visit) }))
	require.Zero(t, testing.AllocsPerRun(100, func() {
		x.Candidates("royalty.payment.pending", func(string) { n++ })
	}), "nor for a visit that captures")
	require.NotZero(t, n)
}

func BenchmarkCandidates(b *testing.B) {
	for _, hits := range []int{0, 1, 10, 1000} {
		b.Run(fmt.Sprintf("10000webhooks/%dhits", hits), func(b *testing.B) {
			x := bigIndex(b, 10_000, hits)
			n := 0
			b.ReportAllocs()
			for b.Loop() {
				x.Candidates("royalty.payment.pending", func(string) { n++ })
			}
		})
	}
}

func BenchmarkIndexAdd(b *testing.B) {
	ps := patterns(b, "*")
	for b.Loop() {
		var x match.Index[int]
		for k := range 10_000 {
			x.Add(k, ps)
		}
	}
}
