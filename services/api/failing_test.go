package api_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/rpc"
	apiv1 "github.com/postrider/postrider/proto/gen/go/postrider/api/v1"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/fixture/logtest"
)

const day = 24 * time.Hour

// internal is a client of what only other services reach.
func (r *rig) internal(t *testing.T) apiv1.WebhookStateServiceClient {
	t.Helper()
	listener, option := rpc.InMemory()
	server, err := rpc.NewServer(rpc.ServerConfig{}, logtest.New(t), rpc.WithListener(listener))
	require.NoError(t, err)
	r.service.RegisterInternal(server.Registrar())
	require.NoError(t, server.Start(t.Context()))
	conn, err := rpc.Dial(rpc.ClientConfig{Target: rpc.InMemoryTarget}, option)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = conn.Close()
		require.NoError(t, server.Stop(context.WithoutCancel(t.Context())))
	})
	return apiv1.NewWebhookStateServiceClient(conn)
}

// operational are the operational events published so far, oldest first.
func (r *rig) operational(t *testing.T) []*recordv1.Event {
	t.Helper()
	var list []*recordv1.Event
	require.NoError(t, r.events.Scan(t.Context(), time.Now().Add(-time.Hour), func(_ uint64, ev *recordv1.Event) error {
		list = append(list, ev)
		return nil
	}))
	return list
}

// failures reports, to a webhook that is active since start, one failure for each time given.
func failures(t *testing.T, states apiv1.WebhookStateServiceClient, w *postriderv1.Webhook, start time.Time, times ...time.Duration) {
	t.Helper()
	for _, d := range times {
		when := timestamppb.New(start.Add(d))
		resp, err := states.ReportOutcomes(t.Context(), &apiv1.ReportOutcomesRequest{Webhooks: []*apiv1.WebhookOutcomes{{
			AccountId: w.GetAccountId(), WebhookId: w.GetId(), FailingSince: when, LastFailureTime: when,
			LastStatusCode: 503, LastErrorClass: "http_status",
		}}})
		require.NoError(t, err)
		require.Empty(t, resp.GetFailedWebhookIds())
	}
}

func success(t *testing.T, states apiv1.WebhookStateServiceClient, w *postriderv1.Webhook, when time.Time) {
	t.Helper()
	_, err := states.ReportOutcomes(t.Context(), &apiv1.ReportOutcomesRequest{Webhooks: []*apiv1.WebhookOutcomes{{
		AccountId: w.GetAccountId(), WebhookId: w.GetId(), SuccessTime: timestamppb.New(when),
	}}})
	require.NoError(t, err)
}

func (r *rig) state(t *testing.T, w *postriderv1.Webhook) *postriderv1.Webhook {
	t.Helper()
	rec, _, err := r.store.GetWebhook(t.Context(), w.GetAccountId(), w.GetId())
	require.NoError(t, err)
	return rec.GetWebhook()
}

// daily is a failure every 20 hours for so many days, as a webhook has whose deliveries are retried.
func daily(days int) []time.Duration {
	var out []time.Duration
	for d := time.Duration(0); d < time.Duration(days)*day; d += 20 * time.Hour {
		out = append(out, d)
	}
	return append(out, time.Duration(days)*day)
}

func TestAWebhookThatFailsForFiveDaysIsDisabledAndItsOwnerWarnedBefore(t *testing.T) {
	t.Parallel()
	r := setup(t)
	states := r.internal(t)
	w := r.newWebhook(t).GetWebhook()
	start := time.Now().Add(time.Second)
	failures(t, states, w, start, daily(4)...)
	require.Equal(t, postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE, r.state(t, w).GetState())
	failures(t, states, w, start, 5*day-time.Hour, 5*day-time.Minute, 5*day)
	got := r.state(t, w)
	require.Equal(t, postriderv1.WebhookState_WEBHOOK_STATE_DISABLED, got.GetState())
	require.Equal(t, "failing", got.GetStateReason())
	failures(t, states, w, start, 6*day, 12*day) // what was in flight changes nothing

	type told struct {
		Percent   int32     `json:"percent"`
		Reason    string    `json:"reason"`
		Disable   time.Time `json:"disable_time"`
		AccountID string    `json:"account_id"`
		Webhook   struct {
			ID string `json:"id"`
		} `json:"webhook"`
	}
	var percents []int32
	events := r.operational(t)
	for i, ev := range events {
		var d told
		require.NoError(t, json.Unmarshal(ev.GetData(), &d))
		require.Equal(t, w.GetId(), d.Webhook.ID)
		require.Equal(t, r.account, ev.GetAccountId())
		require.Equal(t, map[string]string{"webhook_id": w.GetId(), "account_id": r.account}, ev.GetLabels())
		require.NotContains(t, string(ev.GetData()), "hook#", "no URL")
		if i == len(events)-1 {
			require.Equal(t, "postrider.webhook.disabled", ev.GetType())
			require.Equal(t, "failing", d.Reason)
			continue
		}
		require.Equal(t, "postrider.webhook.failing", ev.GetType())
		require.WithinDuration(t, start.Add(5*day), d.Disable, time.Millisecond)
		percents = append(percents, d.Percent)
	}
	require.Equal(t, []int32{50, 80, 95}, percents, "once each")
	notices, err := r.store.ListNotices(t.Context(), 10)
	require.NoError(t, err)
	require.Empty(t, notices)

	_, err = r.webhooks.ResumeWebhook(r.ctx(t), &postriderv1.ResumeWebhookRequest{WebhookId: w.GetId()})
	require.NoError(t, err)
	events = r.operational(t)
	require.Equal(t, "postrider.webhook.resumed", events[len(events)-1].GetType())
	_, err = r.webhooks.ResumeWebhook(r.ctx(t), &postriderv1.ResumeWebhookRequest{WebhookId: w.GetId()})
	require.NoError(t, err)
	require.Len(t, r.operational(t), len(events), "it was active already")
	// Resumed, it begins anew: one more failure is no reason to disable it.
	failures(t, states, w, time.Now(), time.Second)
	require.Equal(t, postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE, r.state(t, w).GetState())
}

func TestDisablingAWebhookKeepsWhatALaterVersionWrote(t *testing.T) {
	t.Parallel()
	r := setup(t)
	states := r.internal(t)
	w := r.newWebhook(t).GetWebhook()
	rec, revision, err := r.store.GetWebhook(t.Context(), r.account, w.GetId())
	require.NoError(t, err)
	later := protowire.AppendString(protowire.AppendTag(nil, 1900, protowire.BytesType), "of a later version")
	rec.ProtoReflect().SetUnknown(later)
	rec.GetWebhook().ProtoReflect().SetUnknown(later)
	rec.GetSecrets()[0].ProtoReflect().SetUnknown(later)
	revision, err = r.store.UpdateWebhook(t.Context(), rec, revision)
	require.NoError(t, err)
	resp, err := states.DisableWebhook(t.Context(), &apiv1.DisableWebhookRequest{
		AccountId: r.account, WebhookId: w.GetId(), Reason: "gone", WebhookRevision: revision,
	})
	require.NoError(t, err)
	require.True(t, resp.GetDisabled())
	_, err = r.webhooks.ResumeWebhook(r.ctx(t), &postriderv1.ResumeWebhookRequest{WebhookId: w.GetId()})
	require.NoError(t, err)
	_, err = r.webhooks.UpdateWebhook(r.ctx(t), &postriderv1.UpdateWebhookRequest{Webhook: &postriderv1.Webhook{Id: w.GetId(), DisplayName: "New"}})
	require.NoError(t, err)
	rec, _, err = r.store.GetWebhook(t.Context(), r.account, w.GetId())
	require.NoError(t, err)
	for _, m := range []proto.Message{rec, rec.GetWebhook(), rec.GetSecrets()[0]} {
		require.Equal(t, protoreflect.RawFields(later), m.ProtoReflect().GetUnknown())
	}
}

func TestASuccessResetsTheClockOfFailing(t *testing.T) {
	t.Parallel()
	r := setup(t)
	states := r.internal(t)
	w := r.newWebhook(t).GetWebhook()
	start := time.Now().Add(time.Second)
	failures(t, states, w, start, daily(4)...)
	success(t, states, w, start.Add(4*day+time.Hour))
	_, _, err := r.store.GetFailing(t.Context(), r.account, w.GetId())
	require.Error(t, err)
	failures(t, states, w, start.Add(4*day+2*time.Hour), daily(4)...)
	require.Equal(t, postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE, r.state(t, w).GetState())
}

func TestASuccessThatWasNeverReportedIsFoundInTheDeliveryLog(t *testing.T) {
	t.Parallel()
	r := setup(t)
	states := r.internal(t)
	w := r.newWebhook(t).GetWebhook()
	start := time.Now().Add(time.Second)
	failures(t, states, w, start, daily(4)...)
	failures(t, states, w, start, 5*day-time.Hour)

	writer := r.journal.NewWriter("test")
	event := postrider.NewEventID()
	id := postrider.DeliveryIDFor(event, postrider.WebhookID(w.GetId()), "")
	entry := &recordv1.JournalEntry{
		Time: timestamppb.New(start.Add(2 * day)), AccountId: r.account, EventId: string(event), DeliveryId: string(id), WebhookId: w.GetId(),
		What: &recordv1.JournalEntry_Attempted{Attempted: &recordv1.Attempted{
			AttemptId: string(postrider.NewAttemptID()), Number: 1, Outcome: "succeeded", State: "delivered",
			StartTime: timestamppb.New(start.Add(2 * day)), StatusCode: 200,
		}},
	}
	done := make(chan error, 1)
	require.NoError(t, writer.Write(t.Context(), 0, entry, func(err error) { done <- err }))
	require.NoError(t, <-done)
	require.NoError(t, writer.Close(t.Context()))
	require.Eventually(t, func() bool {
		d, err := r.deliveries.GetDelivery(r.ctx(t), &postriderv1.GetDeliveryRequest{DeliveryId: string(id)})
		return err == nil && d.GetDelivery().GetState() == postriderv1.DeliveryState_DELIVERY_STATE_DELIVERED
	}, 20*time.Second, 20*time.Millisecond)

	failures(t, states, w, start, 5*day)
	require.Equal(t, postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE, r.state(t, w).GetState())
	_, _, err := r.store.GetFailing(t.Context(), r.account, w.GetId())
	require.Error(t, err, "the spell was none")
}

func TestAWebhookThatCarriesOperationalEventsIsNeverTheirSubject(t *testing.T) {
	t.Parallel()
	r := setup(t)
	states := r.internal(t)
	resp, err := r.webhooks.CreateWebhook(r.ctx(t), &postriderv1.CreateWebhookRequest{
		Webhook: &postriderv1.Webhook{Url: "https://example.com", EventTypes: []string{"release.live", "postrider.*"}},
	})
	require.NoError(t, err)
	w := resp.GetWebhook()
	failures(t, states, w, time.Now().Add(time.Second), append(daily(5), 5*day+time.Hour)...)
	require.Equal(t, postriderv1.WebhookState_WEBHOOK_STATE_DISABLED, r.state(t, w).GetState())
	_, err = r.webhooks.ResumeWebhook(r.ctx(t), &postriderv1.ResumeWebhookRequest{WebhookId: w.GetId()})
	require.NoError(t, err)
	require.Empty(t, r.operational(t))
}

func TestTheTimeThatAWebhookMayFailIsBounded(t *testing.T) {
	t.Parallel()
	r := setup(t)
	states := r.internal(t)
	create := func(d time.Duration) (*postriderv1.Webhook, error) {
		resp, err := r.webhooks.CreateWebhook(r.ctx(t), &postriderv1.CreateWebhookRequest{
			Webhook: &postriderv1.Webhook{Url: "https://example.com", EventTypes: []string{"*"}, DisableFailingAfter: durationpb.New(d)},
		})
		return resp.GetWebhook(), err
	}
	for _, d := range []time.Duration{0, time.Minute, 31 * day} {
		_, err := create(d)
		requireFault(t, err, fault.Invalid, "webhook.disable_failing_after")
	}
	short, err := create(time.Hour)
	require.NoError(t, err)
	long, err := create(30 * day)
	require.NoError(t, err)
	_, err = r.accounts.UpdateAccount(as(t.Context(), adminKey), &postriderv1.UpdateAccountRequest{
		Account: &postriderv1.Account{Id: r.account, DisableFailingAfter: durationpb.New(day)},
	})
	require.NoError(t, err)
	start := time.Now().Add(time.Second)
	failures(t, states, short, start, 0, 40*time.Minute, time.Hour)
	failures(t, states, long, start, 0, 13*time.Hour, day)
	for _, w := range []*postriderv1.Webhook{short, long} {
		require.Equal(t, postriderv1.WebhookState_WEBHOOK_STATE_DISABLED, r.state(t, w).GetState())
	}
	// Reports of what is not there are taken: nobody could do anything with a refusal.
	failures(t, states, &postriderv1.Webhook{AccountId: r.account, Id: "wh_none"}, start, 0)
}

func TestTheBacklogOfAnotherAccountsWebhookIsNotFound(t *testing.T) {
	t.Parallel()
	r := setup(t)
	w := r.newWebhook(t).GetWebhook()
	_, otherKey := r.newAccount(t, "read")
	_, err := r.webhooks.GetWebhookBacklog(as(t.Context(), otherKey), &postriderv1.GetWebhookBacklogRequest{WebhookId: w.GetId()})
	requireFault(t, err, fault.NotFound, "")
	_, err = r.webhooks.GetWebhookBacklog(r.ctx(t), &postriderv1.GetWebhookBacklogRequest{WebhookId: w.GetId()})
	requireFault(t, err, fault.Unavailable, "") // no scheduler runs here
}

// Where no dispatcher answers, the answer is that it is not known; whose webhook it is is known.
func TestTheHealthOfAWebhookIsNotKnownWithoutADispatcher(t *testing.T) {
	t.Parallel()
	r := setup(t)
	w := r.newWebhook(t).GetWebhook()
	resp, err := r.webhooks.GetWebhookHealth(r.ctx(t), &postriderv1.GetWebhookHealthRequest{WebhookId: w.GetId()})
	require.NoError(t, err)
	require.Nil(t, resp.GetHealth())
	_, otherKey := r.newAccount(t, "read")
	_, err = r.webhooks.GetWebhookHealth(as(t.Context(), otherKey), &postriderv1.GetWebhookHealthRequest{WebhookId: w.GetId()})
	requireFault(t, err, fault.NotFound, "")
}
