package limit_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/services/dispatcher/internal/limit"
)

var start = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func TestConcurrencyBeginsLowAndGrowsWithSuccess(t *testing.T) {
	t.Parallel()
	c := limit.NewConcurrency(8, 64)
	require.Equal(t, 8, c.Limit())
	for range 8 {
		c.Success()
	}
	require.Equal(t, 16, c.Limit(), "one round of successes doubles it")
	for range 1000 {
		c.Success()
	}
	require.Equal(t, 64, c.Limit())
}

func TestConcurrencyIsHalvedOnceForEachBurst(t *testing.T) {
	t.Parallel()
	c := limit.NewConcurrency(64, 64)
	for range 64 {
		c.Overloaded(start, start.Add(time.Second))
	}
	require.Equal(t, 32, c.Limit())
	c.Overloaded(start.Add(2*time.Second), start.Add(3*time.Second))
	require.Equal(t, 16, c.Limit())
	now := start.Add(4 * time.Second)
	for range 10 {
		c.Overloaded(now, now)
		now = now.Add(time.Second)
	}
	require.Equal(t, 1, c.Limit(), "never below one")
}

func TestConcurrencyIsRestoredStepByStep(t *testing.T) {
	t.Parallel()
	c := limit.NewConcurrency(16, 16)
	c.Overloaded(start, start)
	require.Equal(t, 8, c.Limit())
	for range 7 {
		c.Success()
	}
	require.Equal(t, 8, c.Limit())
	c.Success()
	require.Equal(t, 9, c.Limit(), "one more after a round of successes")
	for range 500 {
		c.Success()
	}
	require.Equal(t, 16, c.Limit())
}

func TestConcurrencyFollowsItsHighest(t *testing.T) {
	t.Parallel()
	c := limit.NewConcurrency(8, 64)
	c.SetHighest(4)
	require.Equal(t, 4, c.Limit())
	c.SetHighest(32)
	for range 28 {
		c.Success()
	}
	require.Equal(t, 32, c.Limit())
	c.Restart(8)
	require.Equal(t, 8, c.Limit())
}

func TestConcurrencyStaysInItsBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		highest := rapid.IntRange(-1, 100).Draw(t, "highest")
		c := limit.NewConcurrency(rapid.IntRange(-1, 100).Draw(t, "initial"), highest)
		now := start
		for range rapid.IntRange(0, 300).Draw(t, "steps") {
			now = now.Add(time.Millisecond)
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				c.Overloaded(now, now)
			case 1:
				highest = rapid.IntRange(-1, 100).Draw(t, "highest")
				c.SetHighest(highest)
			case 2:
				c.Restart(rapid.IntRange(-1, 10).Draw(t, "restart"))
			default:
				c.Success()
			}
			if c.Limit() < 1 || c.Limit() > max(1, highest) {
				t.Fatalf("limit %d with highest %d", c.Limit(), highest)
			}
		}
	})
}

func TestABucketWithoutRateNeverWaits(t *testing.T) {
	t.Parallel()
	b := limit.NewBucket(0, start)
	for range 1000 {
		require.True(t, b.Take(start))
	}
	require.Zero(t, b.Wait(start, 1000))
}

func TestASlowRateGivesOneAtATime(t *testing.T) {
	t.Parallel()
	b := limit.NewBucket(0.1, start)
	require.True(t, b.Take(start))
	require.False(t, b.Take(start.Add(9*time.Second)))
	require.Equal(t, time.Second, b.Wait(start.Add(9*time.Second), 0))
	require.Equal(t, 11*time.Second, b.Wait(start.Add(9*time.Second), 1))
	require.True(t, b.Take(start.Add(10*time.Second)))
}

func TestAReturnedTokenCanBeTakenAgain(t *testing.T) {
	t.Parallel()
	b := limit.NewBucket(1, start)
	require.True(t, b.Take(start))
	require.False(t, b.Take(start))
	b.Return()
	require.True(t, b.Take(start))
}

// In any stretch of time, no more than the rate allows and one burst.
func TestTheRateHolds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Float64Range(0.1, 10_000).Draw(t, "rate")
		b := limit.NewBucket(rate, start)
		now, taken := start, 0
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 200_000).Draw(t, "pause")) * time.Microsecond)
			for b.Take(now) {
				taken++
			}
		}
		if allowed := now.Sub(start).Seconds()*rate + max(1, rate/10) + 1e-6; float64(taken) > allowed {
			t.Fatalf("%d taken in %s at %g a second, allowed %g", taken, now.Sub(start), rate, allowed)
		}
	})
}

func TestWhoWaitsGetsAToken(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := limit.NewBucket(rapid.Float64Range(0.1, 10_000).Draw(t, "rate"), start)
		now := start
		for range 50 {
			for b.Take(now) {
				continue
			}
			now = now.Add(b.Wait(now, 0))
			if !b.Take(now) {
				t.Fatalf("no token at %s", now)
			}
		}
	})
}
