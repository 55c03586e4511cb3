package quota_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/services/dispatcher/internal/quota"
)

var start = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func newQuota(l quota.Limits) *quota.Quota[int] {
	return quota.New[int](&quota.Config{
		ParkAfter: time.Second, SlowAfter: 250 * time.Millisecond, Random: func() float64 { return 0.5 },
	}, l, start)
}

func admit(t *testing.T, q *quota.Quota[int], now time.Time) {
	t.Helper()
	ok, _, reason := q.Admit(now)
	require.True(t, ok, reason)
}

func TestWithoutLimitsEverythingPasses(t *testing.T) {
	t.Parallel()
	q := newQuota(quota.Limits{})
	for i := range 10_000 {
		admit(t, q, start)
		require.True(t, q.Begin(start, i))
	}
}

func TestPlacesGoToThoseThatWaitInTheirOrder(t *testing.T) {
	t.Parallel()
	q := newQuota(quota.Limits{MaxInFlight: 2})
	for i := range 5 {
		admit(t, q, start)
		require.Equal(t, i < 2, q.Begin(start, i))
	}
	require.Equal(t, []int{2}, q.Leave(start, quota.Sent, time.Millisecond))
	require.Equal(t, []int{3}, q.Leave(start, quota.Begun, 0))
	require.Empty(t, q.Leave(start, quota.Admitted, 0), "one that had no place leaves none")
}

func TestWhatTheAccountCannotTakeSoonIsParkedOneBehindTheOther(t *testing.T) {
	t.Parallel()
	q := newQuota(quota.Limits{MaxInFlight: 2})
	for range 2 {
		admit(t, q, start)
		require.True(t, q.Begin(start, 0))
	}
	admit(t, q, start)
	now := start.Add(1900 * time.Millisecond)
	q.Leave(now, quota.Sent, 1900*time.Millisecond) // Two a time, each in two seconds.
	require.True(t, q.Begin(now, 0))
	admit(t, q, now) // It would begin within a second.
	ok, first, reason := q.Admit(now)
	require.False(t, ok)
	require.Equal(t, quota.ReasonConcurrency, reason)
	_, second, _ := q.Admit(now)
	require.Equal(t, 950*time.Millisecond, second.Sub(first), "at the account's pace")
	require.False(t, first.Before(now.Add(time.Second)))
}

func TestARateLetsInWhatItTakesWithinASecond(t *testing.T) {
	t.Parallel()
	q := newQuota(quota.Limits{Rate: 10})
	admitted := 0
	for {
		ok, _, reason := q.Admit(start)
		if !ok {
			require.Equal(t, quota.ReasonRate, reason)
			break
		}
		admitted++
	}
	require.Equal(t, 11, admitted, "a burst of one and a second's worth")
	require.True(t, q.Begin(start, 0))
	require.False(t, q.Begin(start, 1))
	run, park, wait := q.Tick(start)
	require.Empty(t, run)
	require.Empty(t, park)
	require.Equal(t, 100*time.Millisecond, wait)
	run, _, wait = q.Tick(start.Add(wait))
	require.Equal(t, []int{1}, run)
	require.Zero(t, wait)
}

func TestAQueueThatIsStuckIsParked(t *testing.T) {
	t.Parallel()
	q := newQuota(quota.Limits{MaxInFlight: 1})
	for i := range 5 {
		admit(t, q, start)
		require.Equal(t, i == 0, q.Begin(start, i))
	}
	run, park, wait := q.Tick(start.Add(time.Second)) // Nothing has come back for a second.
	require.Empty(t, run)
	require.Len(t, park, 2, "two of the four could begin within two seconds")
	require.Equal(t, 4, park[0].Job, "the last comes first")
	require.Positive(t, wait)
	_, park, wait = q.Tick(start.Add(5 * time.Second))
	require.Len(t, park, 2)
	require.Zero(t, wait)
}

func TestChangedLimitsHoldForWhatWaits(t *testing.T) {
	t.Parallel()
	q := newQuota(quota.Limits{MaxInFlight: 1})
	for i := range 4 {
		admit(t, q, start)
		q.Begin(start, i)
	}
	q.Configure(quota.Limits{MaxInFlight: 3}, start)
	run, _, _ := q.Tick(start)
	require.Equal(t, []int{1, 2}, run)
	q.Configure(quota.Limits{}, start)
	run, _, _ = q.Tick(start)
	require.Equal(t, []int{3}, run)
}

func TestADrainedQueueLosesNobodyElse(t *testing.T) {
	t.Parallel()
	q := newQuota(quota.Limits{MaxInFlight: 1})
	for i := range 6 {
		admit(t, q, start)
		q.Begin(start, i)
	}
	require.Equal(t, []int{2, 4}, q.Drain(func(i int) bool { return i%2 == 0 }))
	require.Equal(t, []int{1}, q.Leave(start, quota.Sent, time.Millisecond))
	require.Equal(t, []int{3}, q.Leave(start, quota.Sent, time.Millisecond))
}

// Whatever happens, no more is begun than may be, nothing that was let in is forgotten, and no
// more begins in any stretch of time than the rate allows.
func TestNoMoreIsBegunThanMayBe(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := quota.Limits{MaxInFlight: rapid.IntRange(0, 5).Draw(t, "most"), Rate: float64(rapid.IntRange(0, 50).Draw(t, "rate"))}
		q := newQuota(l)
		now := start
		begun, waiting, total := 0, map[int]bool{}, 0
		begin := func(jobs ...int) {
			for _, j := range jobs {
				if !waiting[j] {
					t.Fatalf("%d was not waiting", j)
				}
				delete(waiting, j)
				begun++
				total++
			}
		}
		for i := range rapid.IntRange(1, 200).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 50).Draw(t, "pause")) * time.Millisecond)
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0, 1:
				if ok, _, _ := q.Admit(now); ok {
					waiting[i] = true
					if q.Begin(now, i) {
						begin(i)
					}
				}
			case 2:
				if begun > 0 {
					begun--
					begin(q.Leave(now, quota.Sent, time.Duration(rapid.IntRange(0, 2000).Draw(t, "took"))*time.Millisecond)...)
				}
			case 3:
				run, park, _ := q.Tick(now)
				begin(run...)
				for _, p := range park {
					if !waiting[p.Job] {
						t.Fatalf("%d was not waiting", p.Job)
					}
					delete(waiting, p.Job)
					q.Leave(now, quota.Admitted, 0)
				}
			}
			if l.MaxInFlight > 0 && begun > l.MaxInFlight {
				t.Fatalf("%d of %d", begun, l.MaxInFlight)
			}
		}
		if l.Rate > 0 && float64(total) > now.Sub(start).Seconds()*l.Rate+max(1, l.Rate/10)+1e-6 {
			t.Fatalf("%d begun in %s at %g a second", total, now.Sub(start), l.Rate)
		}
		if left := q.Drain(func(int) bool { return true }); len(left) != len(waiting) {
			t.Fatalf("%d wait, %d are kept", len(waiting), len(left))
		}
	})
}
