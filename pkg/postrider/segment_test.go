package postrider_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/postrider"
)

// Where events are stored depends on these values.
func TestTheSegmentOfAnAccountNeverChanges(t *testing.T) {
	t.Parallel()
	for account, want := range map[postrider.AccountID][4]int{
		"acc_01JDABCDEFGHJKMNPQRSTVWXYZ": {0, 0, 3, 4},
		"acc_01JDABCDEFGHJKMNPQRSTVWXY0": {0, 1, 2, 63},
		"acc_1":                          {0, 0, 1, 20},
		"acc_2":                          {0, 0, 1, 38},
		"acc_3":                          {0, 0, 4, 20},
		"acc_4":                          {0, 1, 6, 37},
		"":                               {0, 1, 6, 25},
	} {
		for i, segments := range []int{1, 2, 7, postrider.MaxSegments} {
			require.Equal(t, want[i], postrider.SegmentOf(account, segments), "%q in %d", account, segments)
		}
	}
}

func TestAccountsAreSpreadOverSegments(t *testing.T) {
	t.Parallel()
	counts := make([]int, 8)
	for range 8000 {
		counts[postrider.SegmentOf(postrider.NewAccountID(), len(counts))]++
	}
	for segment, n := range counts {
		require.InDelta(t, 1000, n, 200, "segment %d", segment)
	}
	require.Zero(t, postrider.SegmentOf("acc_1", 0), "no segments are one")
}
