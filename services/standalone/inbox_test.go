package standalone_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/fixture/receivertest"
)

const (
	waiting   = postriderv1.DeliveryState_DELIVERY_STATE_WAITING
	held      = postriderv1.DeliveryState_DELIVERY_STATE_HELD
	cancelled = postriderv1.DeliveryState_DELIVERY_STATE_CANCELLED
)

// A retention of seconds stands for one of days: each letter is told of before it goes, also one that
// dies right after an announcement, and that it went is no imbalance.
func TestDeadLettersExpireAndTheirAccountIsToldBefore(t *testing.T) {
	t.Parallel()
	cfg := config(t.TempDir())
	cfg.Streams.PublishBudget, cfg.Streams.DuplicateWindow, cfg.Ingest.Takeover = 4*time.Second, 8*time.Second, 6*time.Second
	cfg.DeadLetters.MaxAge, cfg.API.DeadLetterWarning = 16*time.Second, 12*time.Second
	svc, _ := start(t, cfg)
	root := admin(t, svc)
	u := root.newAccount(t)
	hook := u.webhook(t, receivertest.New(t).Respond(500).URL, once).GetWebhook()
	told := receivertest.New(t)
	u.webhook(t, told.URL, func(w *postriderv1.Webhook) { w.EventTypes = []string{"postrider.dead_letters.expiring"} })

	// next publishes an event that dies, and waits until its account is told of it.
	next := func() {
		u.publish(t, "", `{}`)
		r := told.Next(t)
		var body struct {
			Count       int            `json:"count"`
			ByWebhook   map[string]int `json:"by_webhook"`
			FirstExpire time.Time      `json:"first_expire_time"`
		}
		require.NoError(t, json.Unmarshal(r.Body, &body), "%s", r.Body)
		require.Equal(t, 1, body.Count, "%s", r.Body)
		require.Equal(t, map[string]int{hook.GetId(): 1}, body.ByWebhook)
		at, ok := postrider.EventID(r.Header.Get("Webhook-Id")).Time()
		require.True(t, ok)
		require.True(t, at.Before(body.FirstExpire), "told at %s of what expires at %s", at, body.FirstExpire)
	}
	next()
	next()
	require.Eventually(t, func() bool { return len(u.deadLetters(t)) == 0 }, patience, 50*time.Millisecond)
	u.awaitStates(t, 2, dead)
	require.EqualValues(t, 2, u.ledger(t).GetLedger().GetDead(), "the ledger remembers what the inbox does not")
	named, _ := root.reconcile(t, false)
	require.Empty(t, named)
}

// What waits and what is held for a webhook can be ended without an end to the webhook.
func TestWhatWaitsForAWebhookIsCancelledAndTheWebhookLivesOn(t *testing.T) {
	t.Parallel()
	cfg := config(t.TempDir())
	cfg.Dispatcher.RetryTimeScale = 1
	svc, _ := start(t, cfg)
	u := admin(t, svc).newAccount(t)
	r := receivertest.New(t).Respond(500)
	hook := u.webhook(t, r.URL).GetWebhook().GetId()
	other := u.webhook(t, receivertest.New(t).Respond(500).URL).GetWebhook().GetId()
	const n = 3
	for range n {
		u.publish(t, "", `{}`)
	}
	u.awaitStates(t, 2*n, waiting)
	req := &postriderv1.CancelWebhookDeliveriesRequest{WebhookId: hook}
	stranger := admin(t, svc).newAccount(t)
	_, err := stranger.deliveries.CancelWebhookDeliveries(stranger.ctx(t), req)
	kind, _ := fault.KindOf(fault.FromStatus(err))
	require.Equal(t, fault.NotFound, kind)

	_, err = u.webhooks.PauseWebhook(u.ctx(t), &postriderv1.PauseWebhookRequest{WebhookId: hook})
	require.NoError(t, err)
	u.publish(t, "", `{}`)
	u.awaitStates(t, n+1, held)
	// The journal, and so the log, has a delivery as held a moment before its record is stored.
	require.Eventually(t, func() bool { return u.backlog(t, hook).GetHeld().GetCount() == n+1 }, patience, 20*time.Millisecond)
	done, err := u.deliveries.CancelWebhookDeliveries(u.ctx(t), req)
	require.NoError(t, err)
	require.True(t, done.GetComplete())
	require.EqualValues(t, n+1, done.GetRemoved()+done.GetMarked())
	u.awaitStates(t, n+1, cancelled)

	r.Respond(200)
	before := r.Count()
	_, err = u.webhooks.ResumeWebhook(u.ctx(t), &postriderv1.ResumeWebhookRequest{WebhookId: hook})
	require.NoError(t, err)
	u.publish(t, "", `{"later":true}`)
	u.awaitStates(t, 1, delivered)
	require.Equal(t, before+1, r.Count(), "what was cancelled is not attempted")
	u.awaitStates(t, n+2, waiting) // the other webhook's
	resp, err := u.deliveries.ListDeliveries(u.ctx(t), &postriderv1.ListDeliveriesRequest{State: waiting})
	require.NoError(t, err)
	for _, d := range resp.GetDeliveries() {
		require.Equal(t, other, d.GetWebhookId())
	}
}

// An open breaker holds nothing: what it keeps back waits, with the probe as its due time, and
// everybody can see how much and for how long.
func TestWhatAnOpenBreakerKeepsBackWaitsForItsProbe(t *testing.T) {
	t.Parallel()
	cfg := config(t.TempDir())
	cfg.Dispatcher.RetryTimeScale = 1
	cfg.Dispatcher.Pipeline.Breaker.Failures, cfg.Dispatcher.Pipeline.Breaker.Cooldown = 3, time.Minute
	svc, _ := start(t, cfg)
	u := admin(t, svc).newAccount(t)
	hook := u.webhook(t, receivertest.New(t).Respond(http.StatusBadGateway).URL, func(w *postriderv1.Webhook) { w.MaxInFlight = 1 }).GetWebhook().GetId()
	const n = 8
	for range n {
		u.publish(t, "", `{}`)
	}
	u.awaitStates(t, n, waiting)
	var backlog *postriderv1.GetWebhookBacklogResponse
	require.Eventually(t, func() bool {
		backlog = u.backlog(t, hook)
		return backlog.GetParked().GetCount()+backlog.GetWaiting().GetCount() == n
	}, patience, 20*time.Millisecond, "%v", &backlog)
	require.Positive(t, backlog.GetParked().GetCount())
	require.Zero(t, backlog.GetHeld().GetCount())
	require.True(t, backlog.GetParked().GetOldestAcceptTime().AsTime().Before(time.Now()))
	probe := backlog.GetParked().GetNextAttemptTime().AsTime()
	require.True(t, probe.After(time.Now()) && probe.Before(time.Now().Add(3*time.Minute)), "the probe is due at %s", probe)
	last := u.ledger(t).GetLedger()
	require.EqualValues(t, n, last.GetWaiting(), "%v", last)
	require.Zero(t, last.GetHeld())
}

// backlog asks how much waits for a webhook and is held for it; it is nil if there is no answer.
func (u *user) backlog(t *testing.T, webhook string) *postriderv1.GetWebhookBacklogResponse {
	t.Helper()
	resp, err := u.webhooks.GetWebhookBacklog(u.ctx(t), &postriderv1.GetWebhookBacklogRequest{WebhookId: webhook})
	if err != nil {
		t.Log("backlog:", err)
	}
	return resp
}

func TestDeadLettersAreListedByWebhookCauseAndType(t *testing.T) {
	t.Parallel()
	svc, _ := start(t, config(t.TempDir()))
	u := admin(t, svc).newAccount(t)
	hook := u.webhook(t, receivertest.New(t).Respond(500).URL, once).GetWebhook().GetId()
	u.webhook(t, receivertest.New(t).Respond(500).URL, once)
	const n = 4
	for i := range n {
		_, err := u.events.PublishEvent(u.ctx(t), &postriderv1.PublishEventRequest{
			Event: &postriderv1.EventInput{Type: []string{"order.paid", "release.live"}[i%2], Data: []byte(`{}`)},
		})
		require.NoError(t, err)
	}
	u.awaitDeadLetters(t, 2*n)
	for name, c := range map[string]struct {
		req  *postriderv1.ListDeadLettersRequest
		want int
	}{
		"all":               {&postriderv1.ListDeadLettersRequest{}, 2 * n},
		"of a webhook":      {&postriderv1.ListDeadLettersRequest{WebhookId: hook}, n},
		"of a type":         {&postriderv1.ListDeadLettersRequest{EventType: "release.live"}, n},
		"of a cause":        {&postriderv1.ListDeadLettersRequest{Cause: "exhausted"}, 2 * n},
		"of another cause":  {&postriderv1.ListDeadLettersRequest{Cause: "permanent"}, 0},
		"of webhook, type":  {&postriderv1.ListDeadLettersRequest{WebhookId: hook, EventType: "release.live"}, n / 2},
		"of everything":     {&postriderv1.ListDeadLettersRequest{WebhookId: hook, EventType: "release.live", Cause: "exhausted"}, n / 2},
		"of a type unknown": {&postriderv1.ListDeadLettersRequest{EventType: "release.gone"}, 0},
	} {
		for _, size := range []int32{1, 3, 50} {
			req := &postriderv1.ListDeadLettersRequest{WebhookId: c.req.GetWebhookId(), EventType: c.req.GetEventType(), Cause: c.req.GetCause(), PageSize: size}
			seen := map[string]bool{}
			for {
				page, err := u.deliveries.ListDeadLetters(u.ctx(t), req)
				require.NoError(t, err, name)
				for _, l := range page.GetDeadLetters() {
					require.False(t, seen[l.GetDeliveryId()], name)
					seen[l.GetDeliveryId()] = true
					require.EqualValues(t, 500, l.GetLastStatusCode(), "the last outcome is there")
				}
				if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
					break
				}
			}
			require.Len(t, seen, c.want, "%s, pages of %d", name, size)
		}
	}
	_, err := u.deliveries.ListDeadLetters(u.ctx(t), &postriderv1.ListDeadLettersRequest{Cause: "bad luck"})
	kind, _ := fault.KindOf(fault.FromStatus(err))
	require.Equal(t, fault.Invalid, kind)
}
