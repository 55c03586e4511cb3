package ratelimit_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/services/api/internal/ratelimit"
)

func TestWhatRemainsIsWhatIsLetThrough(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	l := ratelimit.New(3, time.Minute, 10, func() time.Time { return now })
	for remaining := 2; remaining >= 0; remaining-- {
		require.Equal(t, ratelimit.Verdict{OK: true, Limit: 3, Remaining: remaining, Reset: now.Add(time.Minute)}, l.Take("a"))
	}
	reset := now.Add(time.Minute)
	now = now.Add(59 * time.Second)
	require.Equal(t, ratelimit.Verdict{Limit: 3, Reset: reset}, l.Take("a"))
	require.True(t, l.Take("b").OK, "another has its own")
	now = reset
	require.True(t, l.Take("a").OK, "the window is over when it was said to be")
}

func TestTooManyKeysShareOneWindow(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	l := ratelimit.New(1, time.Minute, 2, func() time.Time { return now })
	require.True(t, l.Take("a").OK)
	require.True(t, l.Take("b").OK)
	require.True(t, l.Take("c").OK)
	require.False(t, l.Take("d").OK, "c used what they share")
	now = now.Add(time.Minute)
	require.True(t, l.Take("d").OK, "those whose windows are over make room")
}

func TestNoWindowLetsMoreThroughThanItsLimit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1_700_000_000, 0)
		limit := rapid.IntRange(1, 5).Draw(t, "limit")
		l := ratelimit.New(limit, 10*time.Second, 3, func() time.Time { return now })
		passed := make(map[time.Time]int)
		key := rapid.SampledFrom([]string{"a", "b"})
		for range rapid.IntRange(1, 60).Draw(t, "requests") {
			now = now.Add(time.Duration(rapid.IntRange(0, 4).Draw(t, "pause")) * time.Second)
			k := key.Draw(t, "key")
			v := l.Take(k)
			if !v.Reset.After(now) || v.Reset.After(now.Add(10*time.Second)) {
				t.Fatalf("the window ends at %v", v.Reset)
			}
			if k == "a" && v.OK {
				if passed[v.Reset]++; passed[v.Reset] != limit-v.Remaining {
					t.Fatalf("%d passed, %d remain", passed[v.Reset], v.Remaining)
				}
			}
		}
	})
}
