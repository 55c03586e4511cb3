package dedup

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/test/fixture/logtest"
)

func newMemory(t *testing.T, takeover time.Duration, events Events, maxKeys int) *Memory {
	t.Helper()
	m, err := NewMemory(MemoryConfig{Config: Config{Takeover: takeover, Longest: hour}, MaxKeys: maxKeys}, events, logtest.New(t))
	require.NoError(t, err)
	return m
}

func TestMemory(t *testing.T) {
	t.Parallel()
	exercise(t, func(t *testing.T, takeover time.Duration, events Events) Index {
		t.Helper()
		return newMemory(t, takeover, events, 1000)
	})
}

func TestMemoryThatIsFullForgetsWhatEndsFirstAndSaysSo(t *testing.T) {
	t.Parallel()
	m := newMemory(t, time.Second, &recordOf{}, 100)
	start(t, m)
	for i := range 100 {
		c := claimOf("old "+strconv.Itoa(i), one)
		c.Window = time.Duration(i+1) * 10 * time.Second
		require.False(t, claimOne(t, m, c).Degraded)
	}
	_, degraded := m.Degraded()
	require.False(t, degraded)
	claimOne(t, m, claimOf("one too many", one))
	reason, degraded := m.Degraded()
	require.True(t, degraded)
	require.Equal(t, "full", reason)
	require.LessOrEqual(t, len(m.keys), 100)
	require.NotContains(t, m.keys, KeyOf(acc, "old 0"), "ends first")
	require.Contains(t, m.keys, KeyOf(acc, "old 99"), "ends last")

	short := claimOf("ends before what was forgotten", one)
	short.Window = 1500 * time.Millisecond
	claimOne(t, m, short)
	require.LessOrEqual(t, len(m.keys), 100)
	require.Eventually(t, func() bool {
		claimOne(t, m, claimOf("again and again", one))
		m.mu.Lock()
		defer m.mu.Unlock()
		_, ok := m.keys[short.Key]
		return !ok
	}, soon, tick, "keys are still forgotten in their time")
}

func TestMemoryForgetsKeysWhoseWindowIsOver(t *testing.T) {
	t.Parallel()
	m := newMemory(t, time.Millisecond, &recordOf{}, 1000)
	start(t, m)
	for i := range 500 {
		c := claimOf(strconv.Itoa(i), one)
		c.Window = 5 * time.Millisecond
		claimOne(t, m, c)
	}
	require.Eventually(t, func() bool {
		c := claimOf("last", one)
		c.Window = 5 * time.Millisecond
		claimOne(t, m, c)
		m.mu.Lock()
		defer m.mu.Unlock()
		return len(m.keys) == 1 && len(m.ends) <= 2
	}, soon, tick)
}

func BenchmarkMemoryClaimAndFinish(b *testing.B) {
	m, err := NewMemory(DefaultMemory(), &recordOf{}, logtest.New(b))
	require.NoError(b, err)
	benchmark(b, m)
}
