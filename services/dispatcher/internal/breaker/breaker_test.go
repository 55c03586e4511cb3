package breaker_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/services/dispatcher/internal/breaker"
)

var start = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

const probeTime = 20 * time.Second

func open(t *testing.T, cfg breaker.Config) breaker.Breaker {
	t.Helper()
	b := breaker.New(cfg)
	for range cfg.Failures - 1 {
		require.False(t, b.Failure(start, false))
	}
	require.True(t, b.Failure(start, false))
	require.Equal(t, breaker.Open, b.State())
	return b
}

func TestItOpensAfterConsecutiveFailuresOnly(t *testing.T) {
	t.Parallel()
	b := breaker.New(breaker.Default())
	for range 9 {
		require.False(t, b.Failure(start, false))
	}
	require.False(t, b.Success())
	for range 9 {
		require.False(t, b.Failure(start, false))
	}
	ok, _ := b.Allow(start, probeTime)
	require.True(t, ok)
	require.True(t, b.Failure(start, false))
	ok, at := b.Allow(start, probeTime)
	require.False(t, ok)
	require.Equal(t, start.Add(5*time.Second), at)
}

func TestOneProbeAtATime(t *testing.T) {
	t.Parallel()
	b := open(t, breaker.Default())
	later := start.Add(5 * time.Second)
	ok, _ := b.Allow(later, probeTime)
	require.True(t, ok)
	require.Equal(t, breaker.HalfOpen, b.State())
	ok, at := b.Allow(later, probeTime)
	require.False(t, ok)
	require.Equal(t, later.Add(probeTime), at)
	ok, _ = b.Allow(later.Add(probeTime), probeTime)
	require.True(t, ok, "a probe whose outcome never came must not close the way for ever")
}

func TestAProbeThatSucceedsClosesIt(t *testing.T) {
	t.Parallel()
	b := open(t, breaker.Default())
	ok, _ := b.Allow(start.Add(time.Hour), probeTime)
	require.True(t, ok)
	require.True(t, b.Success())
	require.Equal(t, breaker.Closed, b.State())
	require.False(t, b.Failure(start, false), "the count begins anew")
}

func TestItTellsSinceWhenItIsOpenAndWhenTheNextProbeIs(t *testing.T) {
	t.Parallel()
	b := breaker.New(breaker.Default())
	require.False(t, b.Failure(start, false))
	require.Equal(t, 1, b.Failures())
	require.Zero(t, b.Opened())
	require.Zero(t, b.NextProbe())
	b = open(t, breaker.Default())
	require.Zero(t, b.Failures())
	require.Equal(t, start, b.Opened())
	require.Equal(t, start.Add(5*time.Second), b.NextProbe())
	later := start.Add(time.Minute)
	ok, _ := b.Allow(later, probeTime)
	require.True(t, ok)
	require.Zero(t, b.NextProbe(), "the probe is out")
	require.True(t, b.Failure(later, true))
	require.Equal(t, start, b.Opened(), "a probe that fails does not open it anew")
	require.Equal(t, later.Add(10*time.Second), b.NextProbe())
	b.Success()
	require.Zero(t, b.Opened())
}

func TestAProbeThatFailsDoublesTheCooldownUpToItsCap(t *testing.T) {
	t.Parallel()
	b := open(t, breaker.Config{Failures: 3, Cooldown: time.Second, MaxCooldown: 5 * time.Second})
	now := start
	for _, want := range []time.Duration{1, 2, 4, 5, 5} {
		_, at := b.Allow(now, probeTime)
		require.Equal(t, now.Add(want*time.Second), at)
		now = at
		ok, _ := b.Allow(now, probeTime)
		require.True(t, ok)
		require.True(t, b.Failure(now, true))
	}
}

func TestFailuresOfEarlierAttemptsChangeNothing(t *testing.T) {
	t.Parallel()
	b := open(t, breaker.Default())
	require.False(t, b.Failure(start.Add(time.Second), false))
	_, at := b.Allow(start.Add(time.Second), probeTime)
	require.Equal(t, start.Add(5*time.Second), at)
	ok, _ := b.Allow(at, probeTime)
	require.True(t, ok)
	require.False(t, b.Failure(at, false))
	require.Equal(t, breaker.HalfOpen, b.State())
}

func TestACancelledProbeLeavesItsPlaceToAnother(t *testing.T) {
	t.Parallel()
	b := open(t, breaker.Default())
	now := start.Add(time.Minute)
	ok, _ := b.Allow(now, probeTime)
	require.True(t, ok)
	b.Cancel(now)
	ok, _ = b.Allow(now, probeTime)
	require.True(t, ok)
}

func TestItNeverStaysShutLongerThanItsCap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		cfg := breaker.Config{Failures: rapid.IntRange(1, 4).Draw(t, "failures"), Cooldown: time.Second, MaxCooldown: 8 * time.Second}
		b := breaker.New(cfg)
		now := start
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "pause")) * time.Millisecond)
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				b.Failure(now, rapid.Bool().Draw(t, "probe"))
			case 1:
				b.Success()
			case 2:
				b.Cancel(now)
			}
			if ok, at := b.Allow(now, probeTime); !ok && at.After(now.Add(max(cfg.MaxCooldown, probeTime))) {
				t.Fatalf("shut until %s at %s", at, now)
			}
		}
	})
}

func TestTheConfigurationIsChecked(t *testing.T) {
	t.Parallel()
	require.NoError(t, breaker.Default().Validate())
	err := breaker.Config{MaxCooldown: -1}.Validate()
	require.ErrorContains(t, err, "failures")
	require.ErrorContains(t, err, "cooldown: must be above")
	require.ErrorContains(t, err, "max-cooldown")
}
