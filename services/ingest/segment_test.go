package ingest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/services/ingest"
	"github.com/postrider/postrider/services/ingest/internal/admission"
)

// inTwo keeps events in two segments.
func inTwo(s *stream.Config, _ *eventstream.Config) { s.Segments = 2 }

// apart is the bench as an account of each segment sees it.
func apart(t *testing.T, b *bench) []*bench {
	t.Helper()
	seen := []*bench{nil, nil}
	for seen[0] == nil || seen[1] == nil {
		of := *b
		of.account, of.key = b.newAccount(t, postrider.ScopePublish, postrider.ScopeRead)
		seen[postrider.SegmentOf(of.account, 2)] = &of
	}
	return seen
}

func TestEachSegmentKeepsTheEventsOfItsAccounts(t *testing.T) {
	t.Parallel()
	b := setup(t, inTwo)
	accounts := apart(t, b)
	first := make([]*postriderv1.Receipt, len(accounts))
	t.Run("before", func(t *testing.T) {
		in := b.start(t, ingest.NewMemoryDedup())
		for n, of := range accounts {
			first[n] = of.publish(t, in, "k", "1")
			require.EqualValues(t, 1, first[n].GetSequence())
			require.Equal(t, 1, of.stored(t))
			res, err := in.events.GetEvent(as(t.Context(), of.key), &postriderv1.GetEventRequest{
				EventId: first[n].GetEventId(), Sequence: 1,
			})
			require.NoError(t, err)
			require.Equal(t, string(of.account), res.GetEvent().GetAccountId())
		}
	})
	// A fresh window: what it does not hold yet, the segment's own message ids tell, and the event that
	// stands is read back from that segment.
	in := b.start(t, ingest.NewMemoryDedup())
	for n, of := range accounts {
		again := of.publish(t, in, "k", "1")
		require.True(t, again.GetDuplicate())
		require.Equal(t, first[n].GetEventId(), again.GetEventId())
		require.Equal(t, first[n].GetSequence(), again.GetSequence())
		of.refused(t, in, "k", "2", fault.AlreadyExists, admission.ReasonConflict)
	}
	require.Eventually(t, func() bool {
		return accounts[0].publish(t, in, "k", "1").GetDedupWindow() == postriderv1.DedupWindow_DEDUP_WINDOW_FULL
	}, soon, tick)
	for _, of := range accounts {
		require.True(t, of.publish(t, in, "k", "1").GetDuplicate(), "the window was read from every segment")
		require.Equal(t, 1, of.stored(t))
	}
}
