package scheduler_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	"github.com/postrider/postrider/services/scheduler"
)

func TestACancelledEventTakesWithItWhatRoutingMadeAndWhatIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	client := w.start(quick(), scheduler.NewMemoryIndex())
	hook := w.webhook()
	retries := hook.retries(5, waiting, time.Now().Add(time.Hour))
	event := string(postrider.NewEventID())
	for _, r := range retries[:4] {
		r.Delivery.EventId = event
	}
	replayed, redriven := retries[2], retries[3]
	replayed.Delivery.ReplayId = string(postrider.NewReplayID())
	redriven.Delivery.Progress = &recordv1.Progress{Series: 1}
	w.schedule(client, retries[0], replayed, retries[4])
	target := func(r *recordv1.Retry, apart bool) *schedulerv1.CancelTarget {
		return &schedulerv1.CancelTarget{WebhookId: string(hook.id()), DeliveryId: r.GetDelivery().GetId(), Apart: apart}
	}
	resp, err := client.CancelEvent(t.Context(), &schedulerv1.CancelEventRequest{
		AccountId: string(hook.account()), EventId: event, Reason: "request",
		Deliveries: []*schedulerv1.CancelTarget{target(retries[0], false), target(replayed, true)},
	})
	require.NoError(t, err)
	require.EqualValues(t, 2, resp.GetCancelled())
	left := func() (ids []string) {
		for _, r := range hook.records() {
			ids = append(ids, r.Retry.GetDelivery().GetId())
		}
		return ids
	}
	require.Equal(t, []string{retries[4].GetDelivery().GetId()}, left(), "another event's")

	w.schedule(client, retries[1], redriven)
	w.eventually(func() bool {
		ids := left()
		return len(ids) == 2
	}, "what routing made ends as soon as it is stored")
	require.Contains(t, left(), redriven.GetDelivery().GetId(), "a redrive comes after the cancel")
	require.Equal(t, 3, hook.count(func(e *recordv1.JournalEntry) bool { return e.GetCancelled().GetReason() == "request" }))

	_, err = client.CancelEvent(t.Context(), &schedulerv1.CancelEventRequest{AccountId: "x", EventId: "y"})
	kind, _ := fault.KindOf(err)
	require.Equal(t, fault.Invalid, kind)
}
