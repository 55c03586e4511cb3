package logstore_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/services/api/internal/logstore"
)

func testTheLedgerCountsRowsHoweverTheEntriesCome(t *testing.T, open opener) {
	t.Helper()
	t.Parallel()
	s := open(t)
	base, before := 0, map[postrider.DeliveryState]int64{}
	var routed int64
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 5).Draw(rt, "deliveries")
		var entries []*recordv1.JournalEntry
		for range n {
			base++
			h := history(base)
			entries = append(entries, h[:rapid.IntRange(1, len(h)).Draw(rt, "so far")]...)
		}
		entries = append(entries, rapid.SliceOfN(rapid.SampledFrom(entries), 0, 8).Draw(rt, "repeats")...)
		entries = rapid.Permutation(entries).Draw(rt, "order")
		cut := rapid.IntRange(0, len(entries)).Draw(rt, "cut")
		require.NoError(rt, s.Apply(t.Context(), entries[:cut]))
		require.NoError(rt, s.Apply(t.Context(), entries[cut:]))
		missing, events, err := s.Unrecorded(t.Context(), entries)
		require.NoError(rt, err)
		require.Empty(rt, missing)
		require.Empty(rt, events)

		ledger, err := s.Ledger(t.Context())
		require.NoError(rt, err)
		got := ledger[account]
		require.Equal(rt, routed+int64(n), got.Routed)
		var sum, was int64
		for state, count := range got.In {
			require.GreaterOrEqual(rt, count, before[state], "rows of before stay")
			sum, was = sum+count, was+before[state]
		}
		require.Equal(rt, int64(n), sum-was)
		routed, before = got.Routed, got.In
	})
	unfinished := int64(0)
	require.NoError(t, s.Unfinished(t.Context(), time.Time{}, func(*logstore.Standing) error { unfinished++; return nil }))
	ended := before[postrider.Delivered] + before[postrider.Cancelled]
	require.Equal(t, routed-ended, unfinished)
}

func testADeliveryThatRoutingDidNotNameIsNotRouted(t *testing.T, open opener) {
	t.Helper()
	t.Parallel()
	s := open(t)
	h := history(1)
	require.NoError(t, s.Apply(t.Context(), h[1:2]))
	ledger, err := s.Ledger(t.Context())
	require.NoError(t, err)
	require.Zero(t, ledger[account].Routed)
	require.EqualValues(t, 1, ledger[account].In[postrider.Waiting])

	missing, events, err := s.Unrecorded(t.Context(), h)
	require.NoError(t, err)
	require.Len(t, missing, 1, "routed, and delivered in the end")
	require.Len(t, events, 1)
	require.NoError(t, s.Apply(t.Context(), h))
	missing, events, err = s.Unrecorded(t.Context(), h)
	require.NoError(t, err)
	require.Empty(t, missing)
	require.Empty(t, events)
	ledger, err = s.Ledger(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, ledger[account].Routed)
	require.EqualValues(t, 1, ledger[account].In[postrider.Delivered])
	require.Zero(t, ledger[account].In[postrider.Waiting])
}
