package limit_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/services/dispatcher/internal/limit"
)

func all(int) bool { return true }

func TestOneHolderHasTheWholeLimit(t *testing.T) {
	t.Parallel()
	for _, weights := range [][]int32{nil, {0, 0}, {1}, {3, 0, 7}, {1, 1, 1}} {
		require.Equal(t, 10, limit.Share(10, weights, all), "%v", weights)
		require.InDelta(t, 2.5, limit.ShareRate(2.5, weights, all), 1e-9, "%v", weights)
	}
}

func TestPartsFollowTheWebhooks(t *testing.T) {
	t.Parallel()
	first := func(i int) bool { return i == 0 }
	require.Equal(t, 75, limit.Share(100, []int32{3, 1}, first))
	require.InDelta(t, 75.0, limit.ShareRate(100, []int32{3, 1}, first), 1e-9)
	require.Equal(t, 1, limit.Share(1, []int32{1, 1}, first), "whoever has a webhook can go on")
}

// However the shards are dealt out among dispatchers, together they do not exceed the limit, but
// for the one that each may have at least.
func TestPartsAddUpToTheLimit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.Int32Range(0, 1000), 1, 16).Draw(t, "weights")
		holders := rapid.IntRange(1, 8).Draw(t, "holders")
		whose := rapid.SliceOfN(rapid.IntRange(0, holders-1), len(weights), len(weights)).Draw(t, "whose")
		total := rapid.IntRange(1, 1<<16).Draw(t, "limit")
		rate := rapid.Float64Range(0.1, 1e6).Draw(t, "rate")
		var heaviest int32
		var sum int64
		for _, w := range weights {
			sum += int64(w)
			heaviest = max(heaviest, w)
		}
		if heaviest == 0 {
			return
		}
		inFlight, rates, raised := 0, 0.0, 0
		for h := range holders {
			mine := func(i int) bool { return whose[i] == h }
			own := int64(0)
			for i, w := range weights {
				if mine(i) {
					own += int64(w)
				}
			}
			if own == 0 {
				continue // It has none of the account's webhooks.
			}
			n := limit.Share(total, weights, mine)
			if n < 1 {
				t.Fatalf("holder %d of %d cannot go on", h, own)
			}
			if n == 1 {
				raised++
			}
			inFlight += n
			rates += limit.ShareRate(rate, weights, mine)
		}
		if inFlight < total || inFlight > total+raised {
			t.Fatalf("%d of %d, %d with one", inFlight, total, raised)
		}
		if int64(total) >= sum && inFlight != total {
			t.Fatalf("%d of %d although there is one for each webhook", inFlight, total)
		}
		if math.Abs(rates-rate) > rate*1e-9 {
			t.Fatalf("%g of %g", rates, rate)
		}
	})
}
