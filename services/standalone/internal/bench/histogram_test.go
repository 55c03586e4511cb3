package bench

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestABucketIsAtMostASixtyFourthTooLong(t *testing.T) {
	t.Parallel()
	for d := time.Duration(1); d < 30*time.Hour; d += d/7 + 1 {
		longest := longestOf(bucketOf(d))
		require.GreaterOrEqual(t, longest, d)
		require.LessOrEqual(t, longest, d+max(time.Microsecond, d/64))
	}
	require.Equal(t, buckets-1, bucketOf(1<<62), "what is too long for all is in the last one")
	for b := 1; b < buckets; b++ {
		require.Greater(t, longestOf(b), longestOf(b-1), b)
		require.Equal(t, b, bucketOf(longestOf(b)), b)
		require.Equal(t, b, bucketOf(longestOf(b-1)+1), b)
	}
}

func TestQuantilesAreOfWhatWasCounted(t *testing.T) {
	t.Parallel()
	var h histogram
	require.Zero(t, h.latencies())
	for i := range 1000 {
		h.add(time.Duration(i+1) * time.Millisecond)
	}
	h.add(-time.Second)
	l := h.latencies()
	require.EqualValues(t, 1001, l.Count)
	require.InEpsilon(t, 500, l.P50, 0.016)
	require.InEpsilon(t, 900, l.P90, 0.016)
	require.InEpsilon(t, 990, l.P99, 0.016)
	require.InDelta(t, 1000, l.Max, 0)
}
