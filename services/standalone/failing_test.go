package standalone_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/fixture/receivertest"
)

// TestAReceiverThatFailsForTooLongIsDisabledAndItsAccountToldByWebhook goes the whole way: attempts
// fail, the dispatcher reports, the api service warns and disables, and what it tells arrives,
// signed, at another webhook of the account and at one of the operator's. What waits is held, shown,
// and delivered after a resume.
func TestAReceiverThatFailsForTooLongIsDisabledAndItsAccountToldByWebhook(t *testing.T) {
	t.Parallel()
	cfg := config(t.TempDir())
	cfg.Dispatcher.Pipeline.Breaker.Failures = 1 << 20
	first, stop := start(t, cfg)
	operator := admin(t, first).newAccount(t)
	stop()
	cfg.API.DisableFailingAfter, cfg.API.OperatorAccount = 3*time.Second, operator.account
	cfg.Dispatcher.Pipeline.ReportEvery = 50 * time.Millisecond
	cfg.Dispatcher.RetryTimeScale = 0.0001
	svc, _ := start(t, cfg)
	u := admin(t, svc).newAccount(t)
	operator = admin(t, svc).with(operator.key)

	bad := receivertest.New(t).Respond(503)
	only := func(w *postriderv1.Webhook) { w.EventTypes = []string{"postrider.*"} }
	told, toldOperator := receivertest.New(t), receivertest.New(t)
	hook := u.webhook(t, bad.URL).GetWebhook()
	u.webhook(t, told.URL, only)
	operator.webhook(t, toldOperator.URL, only)
	all := receivertest.New(t)
	u.webhook(t, all.URL) // wants "*", and gets nothing of Postrider's own

	var last *postriderv1.Webhook
	published := 0
	require.Eventually(t, func() bool {
		u.publish(t, "", `{"a":1}`)
		published++
		resp, err := u.webhooks.GetWebhook(u.ctx(t), &postriderv1.GetWebhookRequest{WebhookId: hook.GetId()})
		last = resp.GetWebhook()
		return err == nil && last.GetState() == postriderv1.WebhookState_WEBHOOK_STATE_DISABLED
	}, patience, 100*time.Millisecond)
	require.Equal(t, "failing", last.GetStateReason())

	var warned []int32
	for disabled := false; !disabled; {
		r := told.Next(t)
		var body struct {
			Type    string `json:"type"`
			Percent int32  `json:"percent"`
			Webhook struct {
				ID string `json:"id"`
			} `json:"webhook"`
		}
		require.NoError(t, json.Unmarshal(r.Body, &body), "%s", r.Body)
		require.Equal(t, hook.GetId(), body.Webhook.ID, "%s", r.Body)
		require.NotEmpty(t, r.Header.Get("Webhook-Signature"))
		if disabled = body.Type == "postrider.webhook.disabled"; !disabled {
			warned = append(warned, body.Percent)
		}
		toldOperator.Next(t)
	}
	require.NotEmpty(t, warned, "warned before")
	require.IsIncreasing(t, append([]int32{0}, warned...))

	var backlog *postriderv1.GetWebhookBacklogResponse
	require.Eventually(t, func() bool {
		var err error
		backlog, err = u.webhooks.GetWebhookBacklog(u.ctx(t), &postriderv1.GetWebhookBacklogRequest{WebhookId: hook.GetId()})
		return err == nil && backlog.GetHeld().GetCount() > 0 && backlog.GetWaiting().GetCount() == 0
	}, patience, 20*time.Millisecond)
	require.NotNil(t, backlog.GetHeld().GetOldestAcceptTime())
	require.NotNil(t, backlog.GetFailing().GetStartTime())
	health, err := u.webhooks.GetWebhookHealth(u.ctx(t), &postriderv1.GetWebhookHealthRequest{WebhookId: hook.GetId()})
	require.NoError(t, err)
	require.NotNil(t, health.GetHealth(), "the dispatcher that holds the shard tells")
	require.Equal(t, hook.GetMaxInFlight(), health.GetHealth().GetMaxInFlight())
	require.True(t, backlog.GetComplete())

	bad.Respond(200)
	_, err = u.webhooks.ResumeWebhook(u.ctx(t), &postriderv1.ResumeWebhookRequest{WebhookId: hook.GetId()})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		backlog, err = u.webhooks.GetWebhookBacklog(u.ctx(t), &postriderv1.GetWebhookBacklogRequest{WebhookId: hook.GetId()})
		return err == nil && backlog.GetHeld().GetCount() == 0 && backlog.GetFailing() == nil
	}, patience, 20*time.Millisecond)
	require.Eventually(t, func() bool { return all.Count() >= published }, patience, 20*time.Millisecond)
	require.Equal(t, published, all.Count(), "the star matches no operational event")
}
