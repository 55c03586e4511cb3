package scheduler_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	"github.com/postrider/postrider/services/scheduler"
)

func TestTheBacklogOfAWebhookIsCountedByItsRecords(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	client := w.start(quick(), scheduler.NewMemoryIndex())
	one, other := w.webhook(), w.webhook()
	soon := time.Now().Add(30 * time.Minute)
	w.schedule(client, one.retries(20, waiting, time.Now().Add(time.Hour))...)
	w.schedule(client, one.retries(1, waiting, soon)...)
	w.schedule(client, one.retries(5, parked, time.Now().Add(time.Hour))...)
	w.schedule(client, other.retries(3, waiting, time.Now().Add(time.Hour))...)
	count := func(h *hook) map[recordv1.RetryKind]*schedulerv1.BacklogCount {
		resp, err := client.GetBacklog(t.Context(), &schedulerv1.GetBacklogRequest{AccountId: string(h.account()), WebhookId: string(h.id())})
		require.NoError(t, err)
		require.True(t, resp.GetComplete())
		out := map[recordv1.RetryKind]*schedulerv1.BacklogCount{}
		for _, c := range resp.GetCounts() {
			out[c.GetKind()] = c
		}
		return out
	}
	got := count(one)
	require.EqualValues(t, 21, got[waiting].GetCount())
	require.EqualValues(t, 5, got[parked].GetCount())
	require.NotContains(t, got, held)
	require.WithinDuration(t, soon, got[waiting].GetNextDueTime().AsTime(), time.Second)

	w.known(client, one)
	one.pause()
	w.eventually(func() bool { return one.kinds()[held] == 26 }, "everything is held")
	got = count(one)
	require.EqualValues(t, 26, got[held].GetCount())
	require.Len(t, got, 1)
	require.EqualValues(t, 3, count(other)[waiting].GetCount())

	_, err := client.GetBacklog(t.Context(), &schedulerv1.GetBacklogRequest{WebhookId: string(one.id())})
	require.Error(t, err)
}
