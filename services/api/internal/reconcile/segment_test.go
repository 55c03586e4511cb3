package reconcile_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/postrider"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// How far routing of one segment is says nothing of the other's events.
func TestSegmentsAreReconciledEachByItself(t *testing.T) {
	t.Parallel()
	const one, other postrider.AccountID = "acc_01JDABCDEFGHJKMNPQRSTVWXYZ", "acc_01JDABCDEFGHJKMNPQRSTVWXY0"
	w := newWorldIn(t, 2)
	require.NotEqual(t, w.events.Of(one), w.events.Of(other))
	for range 5 {
		d := w.eventOf(one)
		w.routed(d)
		w.deliver(d)
	}
	w.ack(w.events.Of(one))
	w.deliver(w.eventOf(other)) // the first of its segment, in a router's hands: not journalled yet

	named, summary := w.run(false)
	require.Empty(t, named)
	require.EqualValues(t, 5, summary.GetEvents(), "the other is not routed")

	passed := w.eventOf(other) // passed over, as the one before is now
	w.ack(w.events.Of(other))
	named, summary = w.run(false)
	require.Len(t, named, 3, "%v", named)
	require.EqualValues(t, 7, summary.GetEvents())
	kinds := map[postriderv1.ImbalanceKind]int{}
	for _, i := range named {
		require.Equal(t, string(other), i.GetAccountId())
		kinds[i.GetKind()]++
	}
	require.Equal(t, map[postriderv1.ImbalanceKind]int{
		postriderv1.ImbalanceKind_IMBALANCE_KIND_EVENT_NOT_ROUTED: 2, postriderv1.ImbalanceKind_IMBALANCE_KIND_NOT_JOURNALLED: 1,
	}, kinds)
	require.EqualValues(t, 2, passed.GetEventSequence())
	furthest := int64(0)
	for _, p := range w.progress {
		if p.GetStep() == postriderv1.ReconcileStep_RECONCILE_STEP_EVENTS {
			require.LessOrEqual(t, p.GetDone(), p.GetTotal())
			furthest = max(furthest, p.GetTotal())
		}
	}
	require.LessOrEqual(t, furthest, int64(7), "places of both, one after the other")
}
