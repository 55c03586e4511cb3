package deliverystream

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestAnAccountMaySendABurstAndThenOneMessageForEachGap(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	r := newRates()
	for range burst {
		require.False(t, r.due("one").After(now))
		r.sent("one", now)
	}
	for range 10 {
		require.Equal(t, now.Add(gap), r.due("one"))
		require.False(t, r.due("another").After(now), "one account does not wait for another")
		now = now.Add(gap)
		r.sent("one", now)
	}
	now = now.Add(burst * gap)
	for range burst {
		require.False(t, r.due("one").After(now), "it paid for all")
		r.sent("one", now)
	}
}

// However much goes because it is full, what comes after that waits for a gap at most; and only those are remembered that
// have sent lately.
func TestNobodyWaitsForMoreThanAGap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1000, 0)
		r := newRates()
		for range rapid.IntRange(1, 200).Draw(t, "messages") {
			account := strconv.Itoa(rapid.IntRange(0, 3).Draw(t, "account"))
			r.sent(account, now)
			require.False(t, r.due(account).After(now.Add(gap)))
			now = now.Add(time.Duration(rapid.IntRange(0, 5).Draw(t, "milliseconds")) * time.Millisecond)
		}
	})
	now := time.Unix(1000, 0)
	r := newRates()
	for i := range 100 * leastSweep {
		r.sent(strconv.Itoa(i), now)
		now = now.Add(gap / 4)
		require.LessOrEqual(t, len(r.paid), leastSweep+1)
	}
}
