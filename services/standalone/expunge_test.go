package standalone_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/fault"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/fixture/receivertest"
)

// TestAPayloadIsExpungedOnceNothingOfItWaits goes the way of an owner: what waits keeps a payload from
// being removed, is cancelled, and says so; and nothing of it arrives after that.
func TestAPayloadIsExpungedOnceNothingOfItWaits(t *testing.T) {
	t.Parallel()
	cfg := config(t.TempDir())
	cfg.Dispatcher.RetryTimeScale = 1 // a retry that waits does so for the whole test
	svc, _ := start(t, cfg)
	u := admin(t, svc).newAccount(t)
	log := postriderv1.NewLogServiceClient(u.conn)
	tried, held := receivertest.New(t).Answer(receivertest.Body(500, "not with this secret")), receivertest.New(t)
	u.webhook(t, tried.URL)
	paused := u.webhook(t, held.URL, func(w *postriderv1.Webhook) { w.EventTypes = []string{"*"} }).GetWebhook().GetId()
	_, err := u.webhooks.PauseWebhook(u.ctx(t), &postriderv1.PauseWebhookRequest{WebhookId: paused})
	require.NoError(t, err)
	event := u.publish(t, "", `{"secret":true}`).GetEventId()
	u.awaitStates(t, 1, postriderv1.DeliveryState_DELIVERY_STATE_WAITING)
	u.awaitStates(t, 1, postriderv1.DeliveryState_DELIVERY_STATE_HELD)

	expunge := func() *fault.Error {
		_, err := log.ExpungeEvent(u.ctx(t), &postriderv1.ExpungeEventRequest{EventId: event})
		e, _ := fault.As(fault.FromStatus(err))
		require.NotNil(t, e, "%v", err)
		return e
	}
	refused := expunge()
	require.Equal(t, "EVENT_IN_FLIGHT", refused.Reason)
	require.Contains(t, []string{"waiting", "held"}, refused.Metadata["state"])
	require.NotEmpty(t, refused.Metadata["delivery_id"])
	_, err = u.deliveries.CancelEvent(u.ctx(t), &postriderv1.CancelEventRequest{EventId: event})
	require.NoError(t, err)
	u.awaitStates(t, 2, postriderv1.DeliveryState_DELIVERY_STATE_CANCELLED)
	list, err := u.deliveries.ListDeliveries(u.ctx(t), &postriderv1.ListDeliveriesRequest{})
	require.NoError(t, err)
	for _, d := range list.GetDeliveries() {
		require.Equal(t, "request", d.GetReason(), "%v", d)
	}
	// What was tried a moment ago a successor of the dispatcher may still need.
	fresh := expunge()
	require.Equal(t, "JOURNAL_TOO_FRESH", fresh.Reason)
	require.Equal(t, 2*time.Minute, fresh.RetryAfter)

	// What was never tried is removed at once.
	_, err = u.webhooks.PauseWebhook(u.ctx(t), &postriderv1.PauseWebhookRequest{WebhookId: list.GetDeliveries()[0].GetWebhookId()})
	require.NoError(t, err)
	_, err = u.webhooks.PauseWebhook(u.ctx(t), &postriderv1.PauseWebhookRequest{WebhookId: list.GetDeliveries()[1].GetWebhookId()})
	require.NoError(t, err)
	event = u.publish(t, "", `{"secret":"never"}`).GetEventId()
	u.awaitStates(t, 2, postriderv1.DeliveryState_DELIVERY_STATE_HELD)
	_, err = u.deliveries.CancelEvent(u.ctx(t), &postriderv1.CancelEventRequest{EventId: event})
	require.NoError(t, err)
	u.awaitStates(t, 4, postriderv1.DeliveryState_DELIVERY_STATE_CANCELLED)
	done, err := log.ExpungeEvent(u.ctx(t), &postriderv1.ExpungeEventRequest{EventId: event})
	require.NoError(t, err)
	require.True(t, done.GetEventRemoved())
	record, err := log.GetFlightRecord(u.ctx(t), &postriderv1.GetFlightRecordRequest{Id: event, Reveal: true})
	require.NoError(t, err)
	require.Nil(t, record.GetRecord().GetPublished())
	require.Len(t, record.GetRecord().GetDeliveries(), 2, "that it happened stays known")
	_, err = u.webhooks.ResumeWebhook(u.ctx(t), &postriderv1.ResumeWebhookRequest{WebhookId: paused})
	require.NoError(t, err)
	u.publish(t, "", `{"last":true}`)
	require.JSONEq(t, `{"last":true}`, string(held.Next(t).Body), "nothing of what was cancelled comes before")
	require.Equal(t, 1, tried.Count())
}
