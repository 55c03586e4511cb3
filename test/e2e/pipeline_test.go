//go:build e2e

// Package e2e drives the whole system from outside, over gRPC and REST, in both of its forms: one
// process with nothing beside it, and separate processes on a real nats-server and a real
// redis-server, two replicas of each service. The scenarios are the same.
package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/signature"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/fixture/receivertest"
	"github.com/postrider/postrider/test/system"
)

const (
	waiting   = postriderv1.DeliveryState_DELIVERY_STATE_WAITING
	held      = postriderv1.DeliveryState_DELIVERY_STATE_HELD
	delivered = postriderv1.DeliveryState_DELIVERY_STATE_DELIVERED
	dead      = postriderv1.DeliveryState_DELIVERY_STATE_DEAD
	cancelled = postriderv1.DeliveryState_DELIVERY_STATE_CANCELLED
)

// album is the data of most events here; it must arrive byte for byte.
var album = `{"title":"My Album"}`

func TestPipeline(t *testing.T) { system.Forms(t, pipeline()) }

func pipeline() map[string]func(*testing.T, *system.System) {
	return map[string]func(*testing.T, *system.System){
		"an event reaches every webhook that wants it and no other, signed": reachesWhoWantsIt,
		"data arrive byte for byte":                                         bytesAreKept,
		"a receiver that fails four times gets five attempts":               failsFourTimes,
		"a receiver that always fails leads to a dead letter":               alwaysFails,
		"one key is one event over all replicas":                            oneKeyIsOneEvent,
		"the same key with another body is a conflict":                      otherBodyIsAConflict,
		"a paused webhook holds its deliveries and a resume releases them":  pauseHolds,
		"410 disables the webhook and holds its deliveries":                 goneDisables,
		"deleting a webhook cancels what waits":                             deleteCancels,
		"an event with deliver_at waits for its time":                       deliverAtWaits,
		"a rotated secret signs beside the new one":                         rotationOverlaps,
		"one account never sees another's":                                  accountsAreApart,
		"REST publishes, reads and answers errors as problems":              overREST,
		"a cancelled delivery is never attempted again":                     cancelStops,
		"a 2xx that arrives after the cancel wins, a failure does not":      cancelInFlight,
		"a webhook test tells how it went":                                  testTells,
		"explain match says why":                                            explainSaysWhy,
	}
}

func reachesWhoWantsIt(t *testing.T, s *system.System) {
	t.Helper()
	a := s.NewAccount(t)
	wants, all, other := receivertest.New(t), receivertest.New(t), receivertest.New(t)
	hook := a.Webhook(t, &postriderv1.Webhook{Url: wants.URL + "/hook", EventTypes: []string{"release.*"}})
	a.Webhook(t, &postriderv1.Webhook{Url: all.URL, EventTypes: []string{"*"}})
	a.Webhook(t, &postriderv1.Webhook{Url: other.URL, EventTypes: []string{"track.uploaded"}})

	receipt := a.Publish(t, "release.live", album)
	secret, err := signature.ParseSecret(hook.GetSecret(), "hmac")
	require.NoError(t, err)
	got := wants.Next(t)
	require.Equal(t, album, string(got.Body))
	require.Equal(t, "/hook", got.Path)
	require.Equal(t, receipt.GetEventId(), got.Header.Get("Webhook-Id"))
	require.NoError(t, signature.VerifyStandardWebhooks(got.Header, got.Body, []signature.Secret{secret}, time.Now(), 5*time.Minute))
	require.Equal(t, receipt.GetEventId(), all.Next(t).Header.Get("Webhook-Id"))

	d := a.AwaitDelivery(t, receipt.GetEventId(), hook.GetWebhook().GetId(), delivered)
	require.EqualValues(t, 1, d.GetAttemptCount())
	require.EqualValues(t, 200, d.GetLastStatusCode())
	require.Zero(t, other.Count())
}

func bytesAreKept(t *testing.T, s *system.System) {
	t.Helper()
	a := s.NewAccount(t)
	r := receivertest.New(t)
	a.Webhook(t, &postriderv1.Webhook{Url: r.URL, EventTypes: []string{"*"}})
	big := `{"big":"` + strings.Repeat("x", 1<<20-64) + `"}`
	for name, data := range map[string]string{
		"key order and a number beyond 2^53":   `{"b":9007199254740993,"a":0.10}`,
		"markup and line separators":           "{\"s\":\"<&> \u2028\"}",
		"UTF-8 and escapes":                    `{"s":"é\u00e9 😀"}`,
		"white space and a trailing newline":   "{ \"a\" : 1 }\n",
		"an empty object":                      `{}`,
		"almost 1 MiB, delivered by reference": big,
	} {
		receipt := a.Publish(t, "bytes.kept", data)
		got := r.Wait(t, name, func(q *receivertest.Request) bool { return q.Header.Get("Webhook-Id") == receipt.GetEventId() })
		require.Equal(t, data, string(got.Body), name)
		read, err := a.Events.GetEvent(a.Ctx(t), &postriderv1.GetEventRequest{EventId: receipt.GetEventId()})
		require.NoError(t, err)
		require.Equal(t, data, string(read.GetEvent().GetData()), name)
	}
}

func failsFourTimes(t *testing.T, s *system.System) {
	t.Helper()
	a := s.NewAccount(t)
	r := receivertest.New(t).Respond(500, 500, 500, 500, 200)
	hook := a.Webhook(t, &postriderv1.Webhook{Url: r.URL, EventTypes: []string{"release.*"}, Profile: "jewelmusic"})
	receipt := a.Publish(t, "release.live", album)

	// The page's gaps, scaled: 1, 5, 30 and 120 minutes after the end of the previous attempt,
	// never early.
	gaps := []time.Duration{time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour}
	first := r.Next(t)
	last := first
	for i, gap := range gaps {
		next := r.Next(t)
		least := time.Duration(float64(gap) * system.RetryScale)
		require.GreaterOrEqual(t, next.Arrived.Sub(last.Read), least, "gap %d", i+1)
		require.Equal(t, string(first.Body), string(next.Body), "the same bytes over all attempts")
		require.Equal(t, first.Header.Get("X-Jewelmusic-Signature"), next.Header.Get("X-Jewelmusic-Signature"), "the body is signed alone")
		last = next
	}
	require.NotEqual(t, first.Header.Get("X-Jewelmusic-Timestamp"), last.Header.Get("X-Jewelmusic-Timestamp"), "a new timestamp")
	d := a.AwaitDelivery(t, receipt.GetEventId(), hook.GetWebhook().GetId(), delivered)
	require.EqualValues(t, 5, d.GetAttemptCount())
	attempts, err := a.Deliveries.ListAttempts(a.Ctx(t), &postriderv1.ListAttemptsRequest{DeliveryId: d.GetId()})
	require.NoError(t, err)
	require.Len(t, attempts.GetAttempts(), 5)
	for i, at := range attempts.GetAttempts() {
		require.EqualValues(t, i+1, at.GetNumber())
	}
}

func alwaysFails(t *testing.T, s *system.System) {
	t.Helper()
	a := s.NewAccount(t)
	r := receivertest.New(t).Respond(500)
	hook := a.Webhook(t, &postriderv1.Webhook{Url: r.URL, EventTypes: []string{"release.*"}, Profile: "jewelmusic"})
	receipt := a.Publish(t, "release.live", album)
	d := a.AwaitDelivery(t, receipt.GetEventId(), hook.GetWebhook().GetId(), dead)
	require.EqualValues(t, 5, d.GetAttemptCount())
	require.Equal(t, "exhausted", d.GetReason())
	require.Equal(t, 5, r.Count())

	letter, err := a.Deliveries.GetDeadLetter(a.Ctx(t), &postriderv1.GetDeadLetterRequest{DeliveryId: d.GetId()})
	require.NoError(t, err)
	require.Equal(t, album, string(letter.GetDeadLetter().GetData()))
	require.Equal(t, "exhausted", letter.GetDeadLetter().GetCause())
	require.EqualValues(t, 500, letter.GetDeadLetter().GetLastStatusCode())
	list, err := a.Deliveries.ListDeadLetters(a.Ctx(t), &postriderv1.ListDeadLettersRequest{})
	require.NoError(t, err)
	require.Len(t, list.GetDeadLetters(), 1)
}

func oneKeyIsOneEvent(t *testing.T, s *system.System) {
	t.Helper()
	a := s.NewAccount(t)
	r := receivertest.New(t)
	hook := a.Webhook(t, &postriderv1.Webhook{Url: r.URL, EventTypes: []string{"*"}})
	var wg sync.WaitGroup
	receipts := make([]*postriderv1.Receipt, 50)
	for i := range receipts {
		wg.Go(func() {
			resp, err := a.Events.PublishEvent(a.Ctx(t), &postriderv1.PublishEventRequest{
				IdempotencyKey: "the-key", Event: &postriderv1.EventInput{Type: "order.paid", Data: []byte(`{"n":1}`)},
			})
			if err != nil {
				t.Error(err)
				return
			}
			receipts[i] = resp.GetReceipt()
		})
	}
	wg.Wait()
	first := 0
	for _, receipt := range receipts {
		require.Equal(t, receipts[0].GetEventId(), receipt.GetEventId())
		require.Equal(t, receipts[0].GetSequence(), receipt.GetSequence())
		if !receipt.GetDuplicate() {
			first++
		}
	}
	require.Equal(t, 1, first, "one receipt is not marked duplicate")
	a.AwaitDelivery(t, receipts[0].GetEventId(), hook.GetWebhook().GetId(), delivered)
	require.Equal(t, 1, r.Count())
}

func otherBodyIsAConflict(t *testing.T, s *system.System) {
	t.Helper()
	a := s.NewAccount(t)
	publish := func(data string) error {
		_, err := a.Events.PublishEvent(a.Ctx(t), &postriderv1.PublishEventRequest{
			IdempotencyKey: "k", Event: &postriderv1.EventInput{Type: "order.paid", Data: []byte(data)},
		})
		return err
	}
	require.NoError(t, publish(`{"n":1}`))
	f, ok := fault.As(publish(`{"n":2}`))
	require.True(t, ok)
	require.Equal(t, fault.AlreadyExists, f.Kind)
	require.Equal(t, "IDEMPOTENCY_CONFLICT", f.Reason)
}

func pauseHolds(t *testing.T, s *system.System) {
	t.Helper()
	a := s.NewAccount(t)
	r := receivertest.New(t)
	hook := a.Webhook(t, &postriderv1.Webhook{Url: r.URL, EventTypes: []string{"*"}}).GetWebhook()
	_, err := a.Webhooks.PauseWebhook(a.Ctx(t), &postriderv1.PauseWebhookRequest{WebhookId: hook.GetId()})
	require.NoError(t, err)
	var events []string
	for range 10 {
		events = append(events, a.Publish(t, "order.paid", `{}`).GetEventId())
	}
	for _, event := range events {
		a.AwaitDelivery(t, event, hook.GetId(), held)
	}
	require.Zero(t, r.Count(), "nothing is attempted after the pause was answered")
	_, err = a.Webhooks.ResumeWebhook(a.Ctx(t), &postriderv1.ResumeWebhookRequest{WebhookId: hook.GetId()})
	require.NoError(t, err)
	for _, event := range events {
		a.AwaitDelivery(t, event, hook.GetId(), delivered)
	}
	require.Equal(t, len(events), r.Count())
}

func goneDisables(t *testing.T, s *system.System) {
	t.Helper()
	a := s.NewAccount(t)
	r := receivertest.New(t).Respond(410, 200)
	hook := a.Webhook(t, &postriderv1.Webhook{Url: r.URL, EventTypes: []string{"*"}}).GetWebhook()
	first := a.Publish(t, "order.paid", `{}`)
	require.Eventually(t, func() bool {
		w, err := a.Webhooks.GetWebhook(a.Ctx(t), &postriderv1.GetWebhookRequest{WebhookId: hook.GetId()})
		return err == nil && w.GetWebhook().GetState() == postriderv1.WebhookState_WEBHOOK_STATE_DISABLED &&
			w.GetWebhook().GetStateReason() == "gone"
	}, system.Patience, 20*time.Millisecond)
	second := a.Publish(t, "order.paid", `{}`)
	a.AwaitDelivery(t, first.GetEventId(), hook.GetId(), held)
	a.AwaitDelivery(t, second.GetEventId(), hook.GetId(), held)
	_, err := a.Webhooks.ResumeWebhook(a.Ctx(t), &postriderv1.ResumeWebhookRequest{WebhookId: hook.GetId()})
	require.NoError(t, err)
	a.AwaitDelivery(t, first.GetEventId(), hook.GetId(), delivered)
	a.AwaitDelivery(t, second.GetEventId(), hook.GetId(), delivered)
}

func deleteCancels(t *testing.T, s *system.System) {
	t.Helper()
	a := s.NewAccount(t)
	r := receivertest.New(t).Respond(500)
	hook := a.Webhook(t, &postriderv1.Webhook{
		Url: r.URL, EventTypes: []string{"*"}, RetrySchedule: &postriderv1.RetrySchedule{Delays: hours(24)},
	}).GetWebhook()
	receipt := a.Publish(t, "order.paid", `{}`)
	r.Next(t)
	a.AwaitDelivery(t, receipt.GetEventId(), hook.GetId(), waiting)
	resp, err := a.Webhooks.DeleteWebhook(a.Ctx(t), &postriderv1.DeleteWebhookRequest{WebhookId: hook.GetId()})
	require.NoError(t, err)
	require.EqualValues(t, 1, resp.GetCancelledDeliveries())
	d := a.AwaitDelivery(t, receipt.GetEventId(), hook.GetId(), cancelled)
	require.Equal(t, "webhook_deleted", d.GetReason())
	_, err = a.Webhooks.GetWebhook(a.Ctx(t), &postriderv1.GetWebhookRequest{WebhookId: hook.GetId()})
	system.RequireKind(t, fault.NotFound, err)
}

func deliverAtWaits(t *testing.T, s *system.System) {
	t.Helper()
	a := s.NewAccount(t)
	r := receivertest.New(t)
	a.Webhook(t, &postriderv1.Webhook{Url: r.URL, EventTypes: []string{"*"}})
	due := time.Now().Add(1500 * time.Millisecond)
	_, err := a.Events.PublishEvent(a.Ctx(t), &postriderv1.PublishEventRequest{
		Event: &postriderv1.EventInput{Type: "order.due", Data: []byte(`{}`), DeliverAt: timestamppb.New(due)},
	})
	require.NoError(t, err)
	got := r.Next(t)
	require.False(t, got.Arrived.Before(due.Add(-time.Millisecond)), "arrived %s early", due.Sub(got.Arrived))
}

func rotationOverlaps(t *testing.T, s *system.System) {
	t.Helper()
	a := s.NewAccount(t)
	r := receivertest.New(t)
	hook := a.Webhook(t, &postriderv1.Webhook{Url: r.URL, EventTypes: []string{"*"}})
	rotated, err := a.Webhooks.RotateWebhookSecret(a.Ctx(t), &postriderv1.RotateWebhookSecretRequest{WebhookId: hook.GetWebhook().GetId()})
	require.NoError(t, err)
	a.Publish(t, "order.paid", `{}`)
	got := r.Next(t)
	for _, text := range []string{hook.GetSecret(), rotated.GetSecret()} {
		secret, err := signature.ParseSecret(text, "hmac")
		require.NoError(t, err)
		require.NoError(t, signature.VerifyStandardWebhooks(got.Header, got.Body, []signature.Secret{secret}, time.Now(), 5*time.Minute))
	}
	require.Len(t, strings.Fields(got.Header.Get("Webhook-Signature")), 2)
}

func accountsAreApart(t *testing.T, s *system.System) {
	t.Helper()
	mine, theirs := s.NewAccount(t), s.NewAccount(t)
	r := receivertest.New(t)
	hook := mine.Webhook(t, &postriderv1.Webhook{Url: r.URL, EventTypes: []string{"*"}}).GetWebhook()
	receipt := mine.Publish(t, "order.paid", `{}`)
	d := mine.AwaitDelivery(t, receipt.GetEventId(), hook.GetId(), delivered)

	ctx := theirs.Ctx(t)
	calls := map[string]func() error{
		"GetEvent": func() error {
			_, err := s.Events.GetEvent(ctx, &postriderv1.GetEventRequest{EventId: receipt.GetEventId(), Sequence: receipt.GetSequence()})
			return err
		},
		"GetWebhook": func() error {
			_, err := s.Webhooks.GetWebhook(ctx, &postriderv1.GetWebhookRequest{WebhookId: hook.GetId()})
			return err
		},
		"DeleteWebhook": func() error {
			_, err := s.Webhooks.DeleteWebhook(ctx, &postriderv1.DeleteWebhookRequest{WebhookId: hook.GetId()})
			return err
		},
		"PauseWebhook": func() error {
			_, err := s.Webhooks.PauseWebhook(ctx, &postriderv1.PauseWebhookRequest{WebhookId: hook.GetId()})
			return err
		},
		"GetDelivery": func() error {
			_, err := s.Deliveries.GetDelivery(ctx, &postriderv1.GetDeliveryRequest{DeliveryId: d.GetId()})
			return err
		},
		"CancelDelivery": func() error {
			_, err := s.Deliveries.CancelDelivery(ctx, &postriderv1.CancelDeliveryRequest{DeliveryId: d.GetId()})
			return err
		},
		"GetAccount of another": func() error {
			_, err := s.Accounts.GetAccount(ctx, &postriderv1.GetAccountRequest{AccountId: mine.ID})
			return err
		},
		"PublishEvent into another": func() error {
			_, err := s.Events.PublishEvent(ctx, &postriderv1.PublishEventRequest{AccountId: mine.ID, Event: &postriderv1.EventInput{Type: "a.b", Data: []byte(`{}`)}})
			return err
		},
	}
	for name, call := range calls {
		system.RequireKind(t, fault.NotFound, call(), name)
	}
	_, err := s.Accounts.ListAccounts(ctx, &postriderv1.ListAccountsRequest{})
	system.RequireKind(t, fault.Denied, err)
	_, err = s.Webhooks.ListWebhooks(system.As(t.Context(), "prk_nobody"), &postriderv1.ListWebhooksRequest{})
	system.RequireKind(t, fault.Unauthenticated, err)
	theirs.Publish(t, "order.paid", `{}`)
	require.Equal(t, 1, r.Count(), "another account's event reaches no webhook of mine")
}

func overREST(t *testing.T, s *system.System) {
	t.Helper()
	a := s.NewAccount(t)
	r := receivertest.New(t)
	a.Webhook(t, &postriderv1.Webhook{Url: r.URL, EventTypes: []string{"*"}})
	post := func(contentType, body string, headers ...string) (int, string) {
		headers = append(headers, "Content-Type", contentType)
		return system.Call(t, http.MethodPost, s.IngestURL+"/v1/events", a.Key, body, headers...)
	}
	accepted := func(contentType, body, data string, headers ...string) {
		status, answer := post(contentType, body, headers...)
		require.Equal(t, http.StatusAccepted, status, answer)
		require.Equal(t, []byte(data), r.Next(t).Body)
	}
	accepted("application/json", `{"type":"order.paid","data":{"b":1,"a":9007199254740993}}`, `{"b":1,"a":9007199254740993}`)
	accepted("application/json", `{"n": 1}`, `{"n": 1}`,
		"Ce-Specversion", "1.0", "Ce-Type", "order.paid", "Ce-Source", "/shop", "Ce-Id", "1")
	accepted("application/cloudevents+json",
		`{"specversion":"1.0","type":"order.paid","source":"/shop","id":"2","datacontenttype":"application/json","data":{"n":2}}`, `{"n":2}`)

	status, problem := post("application/json", `{"type":"not a type","data":{}}`)
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, problem, `"pointer":"#/type"`)

	status, list := system.Call(t, http.MethodGet, s.APIURL+"/v1/webhooks", a.Key, "")
	require.Equal(t, http.StatusOK, status)
	var page struct {
		Webhooks []struct {
			State string `json:"state"`
		} `json:"webhooks"`
	}
	require.NoError(t, json.Unmarshal([]byte(list), &page))
	require.Len(t, page.Webhooks, 1)
	require.Equal(t, "WEBHOOK_STATE_ACTIVE", page.Webhooks[0].State)
	status, _ = system.Call(t, http.MethodGet, s.APIURL+"/v1/webhooks", "wrong", "")
	require.Equal(t, http.StatusUnauthorized, status)
}

func cancelStops(t *testing.T, s *system.System) {
	t.Helper()
	a := s.NewAccount(t)
	r := receivertest.New(t).Respond(500)
	hook := a.Webhook(t, &postriderv1.Webhook{
		Url: r.URL, EventTypes: []string{"*"}, RetrySchedule: &postriderv1.RetrySchedule{Delays: hours(24)},
	}).GetWebhook()
	receipt := a.Publish(t, "order.paid", `{}`)
	d := a.AwaitDelivery(t, receipt.GetEventId(), hook.GetId(), waiting)
	resp, err := a.Deliveries.CancelDelivery(a.Ctx(t), &postriderv1.CancelDeliveryRequest{DeliveryId: d.GetId()})
	require.NoError(t, err)
	require.True(t, resp.GetRemoved())
	a.AwaitDelivery(t, receipt.GetEventId(), hook.GetId(), cancelled)
	_, err = a.Deliveries.RetryDelivery(a.Ctx(t), &postriderv1.RetryDeliveryRequest{DeliveryId: d.GetId()})
	system.RequireKind(t, fault.Precondition, err, "it has ended")
	require.Equal(t, 1, r.Count())
}

// cancelInFlight cancels deliveries while the receiver thinks, and lets it answer afterwards.
func cancelInFlight(t *testing.T, s *system.System) {
	t.Helper()
	a := s.NewAccount(t)
	for status, want := range map[int]postriderv1.DeliveryState{200: delivered, 500: cancelled} {
		release := make(chan struct{})
		r := receivertest.New(t).Answer(func(e *receivertest.Exchange) {
			if e.Wait(release) {
				e.Writer.WriteHeader(status)
			}
		})
		hook := a.Webhook(t, &postriderv1.Webhook{Url: r.URL, EventTypes: []string{"*"}}).GetWebhook()
		receipt := a.Publish(t, "order.paid", `{}`)
		r.Next(t)
		var id string
		require.Eventually(t, func() bool {
			page, err := a.Deliveries.ListDeliveries(a.Ctx(t), &postriderv1.ListDeliveriesRequest{EventId: receipt.GetEventId(), WebhookId: hook.GetId()})
			if err != nil || len(page.GetDeliveries()) == 0 {
				return false
			}
			id = page.GetDeliveries()[0].GetId()
			return true
		}, system.Patience, 10*time.Millisecond)
		resp, err := a.Deliveries.CancelDelivery(a.Ctx(t), &postriderv1.CancelDeliveryRequest{DeliveryId: id})
		require.NoError(t, err)
		require.False(t, resp.GetRemoved(), "it was being attempted")
		close(release)
		a.AwaitDelivery(t, receipt.GetEventId(), hook.GetId(), want)
		require.Equal(t, 1, r.Count())
		_, err = a.Webhooks.DeleteWebhook(a.Ctx(t), &postriderv1.DeleteWebhookRequest{WebhookId: hook.GetId()})
		require.NoError(t, err)
	}
}

func testTells(t *testing.T, s *system.System) {
	t.Helper()
	a := s.NewAccount(t)
	r := receivertest.New(t).Respond(500, 200)
	hook := a.Webhook(t, &postriderv1.Webhook{Url: r.URL, EventTypes: []string{"order.paid"}}).GetWebhook()
	for _, want := range []bool{false, true} {
		resp, err := a.Webhooks.TestWebhook(a.Ctx(t), &postriderv1.TestWebhookRequest{WebhookId: hook.GetId()})
		require.NoError(t, err)
		require.Equal(t, want, resp.GetSuccess(), resp.GetMessage())
	}
	require.Equal(t, 2, r.Count(), "a test is not retried")
}

func explainSaysWhy(t *testing.T, s *system.System) {
	t.Helper()
	a := s.NewAccount(t)
	r := receivertest.New(t)
	yes := a.Webhook(t, &postriderv1.Webhook{Url: r.URL, EventTypes: []string{"order.*"}, Filter: `data.total > 10`}).GetWebhook()
	no := a.Webhook(t, &postriderv1.Webhook{Url: r.URL, EventTypes: []string{"track.*"}}).GetWebhook()
	resp, err := a.Webhooks.ExplainMatch(a.Ctx(t), &postriderv1.ExplainMatchRequest{
		Event: &postriderv1.EventInput{Type: "order.paid", Data: []byte(`{"total":11}`)},
	})
	require.NoError(t, err)
	require.Len(t, resp.GetExplanations(), 2)
	require.Equal(t, yes.GetId(), resp.GetExplanations()[0].GetWebhookId())
	require.True(t, resp.GetExplanations()[0].GetMatched())
	require.Equal(t, no.GetId(), resp.GetExplanations()[1].GetWebhookId())
	require.Equal(t, "event_type", resp.GetExplanations()[1].GetReason())
}
