package scheduler_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/fault"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	"github.com/postrider/postrider/services/scheduler"
)

func TestWhatTheIndexDoesNotHaveIsNamedAndPutBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	compareAndRepair(t, w, scheduler.NewMemoryIndex())
}

// compareAndRepair stores records behind a scheduler's back, and has it find them.
func compareAndRepair(t *testing.T, w *world, index scheduler.Index) {
	t.Helper()
	h := w.webhook()
	// Only the rebuild at the start indexes this one; what is stored after it is not the rebuild's.
	known := w.put(h.retry(waiting, time.Now().Add(time.Hour)))[0]
	client := w.start(quick(), index)
	w.eventually(func() bool { return len(compare(t, client, h, false, known).GetMissing()) == 0 }, "the index is rebuilt")

	lost := h.retry(waiting, time.Now().Add(500*time.Millisecond))
	asleep := h.retry(held, time.Now().Add(time.Hour))
	sequences := append(w.put(lost, asleep), 999_999) // the last has no record
	resp := compare(t, client, h, false, append(sequences, known)...)
	require.ElementsMatch(t, sequences, placed(resp.GetMissing()))
	require.Empty(t, resp.GetRepaired())

	resp = compare(t, client, h, true, append(sequences, known)...)
	require.Equal(t, sequences[:1], placed(resp.GetRepaired()), "a held record and one that is gone have no place in the index")
	got := w.await(1)
	require.Equal(t, lost.GetDelivery().GetId(), got[0].delivery())
	require.False(t, got[0].fired, "released on time, not by the grace")
}

func compare(t *testing.T, client schedulerv1.SchedulerServiceClient, h *hook, repair bool, sequences ...uint64) *schedulerv1.CompareIndexResponse {
	t.Helper()
	req := &schedulerv1.CompareIndexRequest{Repair: repair}
	for _, s := range sequences {
		req.Records = append(req.Records, &schedulerv1.RecordPlace{Shard: int32(h.shard()), Sequence: s})
	}
	resp, err := client.CompareIndex(t.Context(), req)
	require.NoError(t, err)
	return resp
}

func placed(places []*schedulerv1.RecordPlace) []uint64 {
	var out []uint64
	for _, p := range places {
		out = append(out, p.GetSequence())
	}
	return out
}

func TestACompareOfWhatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	client := w.start(quick(), scheduler.NewMemoryIndex())
	for name, req := range map[string]*schedulerv1.CompareIndexRequest{
		"another shard": {Records: []*schedulerv1.RecordPlace{{Shard: shards, Sequence: 1}}},
		"too many":      {Records: make([]*schedulerv1.RecordPlace, 4097)},
	} {
		_, err := client.CompareIndex(t.Context(), req)
		f, ok := fault.As(err)
		require.True(t, ok, name)
		require.Equal(t, fault.Invalid, f.Kind, name)
	}
}
