//go:build e2e

package compat

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/signature"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/fixture/receivertest"
	"github.com/postrider/postrider/test/system"
)

const (
	pending   = postriderv1.DeliveryState_DELIVERY_STATE_PENDING
	waiting   = postriderv1.DeliveryState_DELIVERY_STATE_WAITING
	held      = postriderv1.DeliveryState_DELIVERY_STATE_HELD
	delivered = postriderv1.DeliveryState_DELIVERY_STATE_DELIVERED
	dead      = postriderv1.DeliveryState_DELIVERY_STATE_DEAD
	cancelled = postriderv1.DeliveryState_DELIVERY_STATE_CANCELLED
)

// all is every event type.
var all = []string{"*"}

func TestShared(t *testing.T) {
	s := open(t)
	for name, check := range map[string]func(*testing.T, *system.Account){
		"1.0.1 publishing":                  published,
		"1.0.2 fan-out":                     fannedOut,
		"1.0.3 delivered or dead":           deliveredOrDead,
		"1.0.4 the same bytes":              sameBytes,
		"1.0.5 what an attempt's record is": recorded,
		"1.0.6 the log":                     logged,
		"1.0.7 secrets":                     secrets,
		"1.0.8 URLs":                        urls,
		"1.0.9 all five systems at once":    allFive,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, s.NewAccount(t))
		})
	}
}

// published publishes one event of each form twice under a key, and then another body.
func published(t *testing.T, a *system.Account) {
	const data, other = `{"n":1}`, `{"n":2}`
	rest := func(t *testing.T, contentType, body string, headers ...string) (int, string) {
		return system.Call(t, http.MethodPost, a.IngestURL+"/v1/events", a.Key, body, append(headers, "Content-Type", contentType)...)
	}
	envelope := func(data string) string {
		return `{"specversion":"1.0","id":"s-1","source":"/catalogue","type":"release.live","datacontenttype":"application/json","data":` + data + `}`
	}
	for name, publish := range map[string]func(t *testing.T, data string) (int, string){
		"gRPC": func(t *testing.T, data string) (int, string) {
			resp, err := a.Events.PublishEvent(a.Ctx(t), &postriderv1.PublishEventRequest{
				Event: &postriderv1.EventInput{Type: "release.live", Data: []byte(data)}, IdempotencyKey: "g-1",
			})
			if f, ok := fault.As(err); ok && f.Kind == fault.AlreadyExists {
				return http.StatusConflict, f.Error()
			}
			require.NoError(t, err)
			got, err := a.Events.GetEvent(a.Ctx(t), &postriderv1.GetEventRequest{EventId: resp.GetReceipt().GetEventId()})
			require.NoError(t, err, "a receipt names an event that can be read at once")
			require.Equal(t, data, string(got.GetEvent().GetData()))
			return http.StatusAccepted, receipt(resp.GetReceipt().GetEventId(), resp.GetReceipt().GetDuplicate())
		},
		"REST": func(t *testing.T, data string) (int, string) {
			return rest(t, "application/json", `{"type":"release.live","data":`+data+`}`, "Idempotency-Key", "r-1")
		},
		"CloudEvents binary": func(t *testing.T, data string) (int, string) {
			return rest(t, "application/json", data, "Ce-Specversion", "1.0", "Ce-Id", "b-1", "Ce-Source", "/catalogue", "Ce-Type", "release.live")
		},
		"CloudEvents structured": func(t *testing.T, data string) (int, string) {
			return rest(t, "application/cloudevents+json", envelope(data))
		},
		"CloudEvents batch": func(t *testing.T, data string) (int, string) {
			return rest(t, "application/cloudevents-batch+json", `[`+strings.ReplaceAll(envelope(data), "s-1", "l-1")+`]`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			code, first := publish(t, data)
			require.Equal(t, http.StatusAccepted, code, first)
			id := eventID(t, first)
			code, second := publish(t, data)
			require.Equal(t, http.StatusAccepted, code, second)
			require.Equal(t, id, eventID(t, second))
			require.Contains(t, compact(t, second), `"duplicate":true`)
			code, answer := publish(t, other)
			if name == "CloudEvents batch" {
				require.Equal(t, http.StatusMultiStatus, code, "a verdict for each")
				require.Contains(t, answer, "IDEMPOTENCY_CONFLICT")
			} else {
				require.Equal(t, http.StatusConflict, code, answer)
			}
			code, answer = system.Call(t, http.MethodGet, a.IngestURL+"/v1/events/"+id, a.Key, "")
			require.Equal(t, http.StatusOK, code, answer)
		})
	}
}

// receipt is a receipt as REST prints it.
func receipt(event string, duplicate bool) string {
	raw, _ := json.Marshal(map[string]any{"receipt": map[string]any{"event_id": event, "duplicate": duplicate}}) //nolint:errchkjson // plain values
	return string(raw)
}

func compact(t *testing.T, text string) string {
	t.Helper()
	return strings.ReplaceAll(text, `": `, `":`)
}

// eventID finds the id in an answer of any form.
func eventID(t *testing.T, answer string) string {
	t.Helper()
	_, rest, found := strings.Cut(compact(t, answer), `"event_id":"`)
	require.True(t, found, answer)
	id, _, _ := strings.Cut(rest, `"`)
	return id
}

func fannedOut(t *testing.T, a *system.Account) {
	r, late, gone := receivertest.New(t), receivertest.New(t), receivertest.New(t).Respond(500)
	exact := a.Webhook(t, &postriderv1.Webhook{Url: r.URL + "/exact", EventTypes: []string{"release.live"}}).GetWebhook()
	both := a.Webhook(t, &postriderv1.Webhook{Url: r.URL + "/both", EventTypes: []string{"release.live", "release.*", "*"}}).GetWebhook()
	paused := a.Webhook(t, &postriderv1.Webhook{Url: r.URL + "/paused", EventTypes: all}).GetWebhook()
	deleted := a.Webhook(t, &postriderv1.Webhook{
		Url: gone.URL, EventTypes: all,
		RetrySchedule: &postriderv1.RetrySchedule{Delays: []*durationpb.Duration{durationpb.New(24 * time.Hour)}},
	}).GetWebhook()
	a.Webhook(t, &postriderv1.Webhook{Url: r.URL + "/other", EventTypes: []string{"track.*"}})
	_, err := a.Webhooks.PauseWebhook(a.Ctx(t), &postriderv1.PauseWebhookRequest{WebhookId: paused.GetId()})
	require.NoError(t, err)

	event := a.Publish(t, "release.live", `{}`).GetEventId()
	for _, w := range []*postriderv1.Webhook{exact, both} {
		a.AwaitDelivery(t, event, w.GetId(), delivered)
	}
	a.AwaitDelivery(t, event, paused.GetId(), held)
	a.AwaitDelivery(t, event, deleted.GetId(), waiting)
	_, err = a.Webhooks.DeleteWebhook(a.Ctx(t), &postriderv1.DeleteWebhookRequest{WebhookId: deleted.GetId()})
	require.NoError(t, err)
	a.AwaitDelivery(t, event, deleted.GetId(), cancelled)

	after := a.Webhook(t, &postriderv1.Webhook{Url: late.URL, EventTypes: all}).GetWebhook()
	_, err = a.Webhooks.ResumeWebhook(a.Ctx(t), &postriderv1.ResumeWebhookRequest{WebhookId: paused.GetId()})
	require.NoError(t, err)
	a.AwaitDelivery(t, event, paused.GetId(), delivered)
	// What is published after it all comes after what would have come before.
	next := a.Publish(t, "release.live", `{}`).GetEventId()
	a.AwaitDelivery(t, next, after.GetId(), delivered)
	require.Equal(t, 1, late.Count(), "nothing old")
	require.Equal(t, 1, gone.Count(), "nothing after the delete")
	paths := map[string]int{}
	for _, q := range r.All() {
		if q.Header.Get("Webhook-Id") == event {
			paths[q.Path]++
		}
	}
	require.Equal(t, map[string]int{"/exact": 1, "/both": 1, "/paused": 1}, paths, "one delivery each")
}

func deliveredOrDead(t *testing.T, a *system.Account) {
	good, bad := receivertest.New(t).Respond(500, 404, 204), receivertest.New(t).Respond(503)
	two := &postriderv1.RetrySchedule{Delays: []*durationpb.Duration{durationpb.New(time.Minute), durationpb.New(time.Minute)}}
	ends := a.Webhook(t, &postriderv1.Webhook{Url: good.URL, EventTypes: all, RetrySchedule: two}).GetWebhook()
	dies := a.Webhook(t, &postriderv1.Webhook{Url: bad.URL, EventTypes: all, RetrySchedule: two}).GetWebhook()
	event := a.Publish(t, "release.live", `{}`).GetEventId()
	require.EqualValues(t, 3, a.AwaitDelivery(t, event, ends.GetId(), delivered).GetAttemptCount())
	require.EqualValues(t, 3, a.AwaitDelivery(t, event, dies.GetId(), dead).GetAttemptCount())
	require.Equal(t, 3, good.Count())
	require.Equal(t, 3, bad.Count())
	for _, q := range append(good.All(), bad.All()...) {
		require.Equal(t, event, q.Header.Get("Webhook-Id"))
	}
}

func sameBytes(t *testing.T, a *system.Account) {
	const data = "{ \"b\":9007199254740993,\"a\":\"<&>\u2028\"}\n"
	for _, profile := range []string{"standard", "jewelmusic"} {
		r := receivertest.New(t).Respond(500, 503, 200)
		hook := a.Webhook(t, &postriderv1.Webhook{Url: r.URL, EventTypes: all, Profile: profile}).GetWebhook()
		event := a.Publish(t, "release.live", data).GetEventId()
		a.AwaitDelivery(t, event, hook.GetId(), delivered)
		requests := r.All()
		require.Len(t, requests, 3)
		for _, q := range requests[1:] {
			require.Equal(t, string(requests[0].Body), string(q.Body))
			require.Equal(t, requests[0].Header.Get("Webhook-Id"), q.Header.Get("Webhook-Id"))
		}
		_, err := a.Webhooks.DeleteWebhook(a.Ctx(t), &postriderv1.DeleteWebhookRequest{WebhookId: hook.GetId()})
		require.NoError(t, err)
	}
}

func recorded(t *testing.T, a *system.Account) {
	answer := strings.Repeat("x", 20<<10)
	r := receivertest.New(t).Answer(receivertest.Body(500, answer, "X-Receiver", "r-1"), receivertest.Status(200))
	hook := a.Webhook(t, &postriderv1.Webhook{
		Url: r.URL + "/hook?token=hidden&plain", EventTypes: all, Headers: map[string]string{"X-Api-Key": "hidden-too"},
	}).GetWebhook()
	event := a.Publish(t, "release.live", `{}`).GetEventId()
	d := a.AwaitDelivery(t, event, hook.GetId(), delivered)
	list, err := a.Deliveries.ListAttempts(a.Ctx(t), &postriderv1.ListAttemptsRequest{DeliveryId: d.GetId()})
	require.NoError(t, err)
	require.Len(t, list.GetAttempts(), 2)
	first, second := list.GetAttempts()[0], list.GetAttempts()[1]
	require.EqualValues(t, 1, first.GetNumber())
	require.EqualValues(t, 2, second.GetNumber())
	require.Equal(t, "retryable", first.GetOutcome())
	require.Equal(t, "http_status", first.GetErrorClass())
	require.EqualValues(t, 500, first.GetStatusCode())
	require.Len(t, first.GetResponseBody(), 16<<10)
	require.True(t, first.GetResponseBodyTruncated())
	require.Equal(t, "r-1", first.GetResponseHeaders()["X-Receiver"])
	require.False(t, first.GetNextAttemptTime().AsTime().After(second.GetStartTime().AsTime()))
	require.Positive(t, first.GetDuration().AsDuration())
	require.Equal(t, r.URL+"/hook?token=***&plain", first.GetRequestUrl())
	require.NotContains(t, first.String(), "hidden", "no secret of the webhook's own headers or URL")
	require.Contains(t, first.GetRequestHeaders(), "X-Api-Key")
	require.Equal(t, "succeeded", second.GetOutcome())
	require.Nil(t, second.GetNextAttemptTime())
}

func logged(t *testing.T, a *system.Account) {
	r, failing := receivertest.New(t), receivertest.New(t).Respond(500)
	day := &postriderv1.RetrySchedule{Delays: []*durationpb.Duration{durationpb.New(24 * time.Hour), durationpb.New(24 * time.Hour)}}
	good := a.Webhook(t, &postriderv1.Webhook{Url: r.URL, EventTypes: all}).GetWebhook()
	bad := a.Webhook(t, &postriderv1.Webhook{Url: failing.URL, EventTypes: all, RetrySchedule: day}).GetWebhook()
	before := timestamppb.Now()
	event := a.Publish(t, "release.live", `{}`).GetEventId()
	other := a.Publish(t, "track.uploaded", `{}`).GetEventId()
	for _, e := range []string{event, other} {
		a.AwaitDelivery(t, e, good.GetId(), delivered)
		a.AwaitDelivery(t, e, bad.GetId(), waiting)
	}
	one := a.AwaitDelivery(t, event, good.GetId(), delivered)
	for name, c := range map[string]struct {
		query *postriderv1.ListDeliveriesRequest
		want  int
	}{
		"all":                   {&postriderv1.ListDeliveriesRequest{}, 4},
		"by webhook":            {&postriderv1.ListDeliveriesRequest{WebhookId: good.GetId()}, 2},
		"by event":              {&postriderv1.ListDeliveriesRequest{EventId: event}, 2},
		"by call id":            {&postriderv1.ListDeliveriesRequest{CallId: one.GetCallId()}, 1},
		"by state":              {&postriderv1.ListDeliveriesRequest{State: waiting}, 2},
		"by type":               {&postriderv1.ListDeliveriesRequest{EventType: "track.uploaded"}, 2},
		"since the publish":     {&postriderv1.ListDeliveriesRequest{StartTime: before}, 4},
		"before the publish":    {&postriderv1.ListDeliveriesRequest{EndTime: before}, 0},
		"by several at once":    {&postriderv1.ListDeliveriesRequest{WebhookId: bad.GetId(), EventType: "release.live", State: waiting}, 1},
		"by what does not hold": {&postriderv1.ListDeliveriesRequest{WebhookId: good.GetId(), State: waiting}, 0},
	} {
		list, err := a.Deliveries.ListDeliveries(a.Ctx(t), c.query)
		require.NoError(t, err, name)
		require.Len(t, list.GetDeliveries(), c.want, name)
	}
	read, err := a.Deliveries.GetDelivery(a.Ctx(t), &postriderv1.GetDeliveryRequest{DeliveryId: one.GetId()})
	require.NoError(t, err)
	require.Equal(t, one.GetCallId(), read.GetDelivery().GetCallId())

	again := a.AwaitDelivery(t, event, bad.GetId(), waiting)
	failing.Respond(200)
	_, err = a.Deliveries.RetryDelivery(a.Ctx(t), &postriderv1.RetryDeliveryRequest{DeliveryId: again.GetId()})
	require.NoError(t, err)
	a.AwaitDelivery(t, event, bad.GetId(), delivered)
	ends := a.AwaitDelivery(t, other, bad.GetId(), waiting)
	_, err = a.Deliveries.CancelDelivery(a.Ctx(t), &postriderv1.CancelDeliveryRequest{DeliveryId: ends.GetId()})
	require.NoError(t, err)
	a.AwaitDelivery(t, other, bad.GetId(), cancelled)
	_, err = a.Deliveries.CancelDelivery(a.Ctx(t), &postriderv1.CancelDeliveryRequest{DeliveryId: one.GetId()})
	system.RequireKind(t, fault.Precondition, err)
}

func secrets(t *testing.T, a *system.Account) {
	r := receivertest.New(t)
	made := a.Webhook(t, &postriderv1.Webhook{Url: r.URL, EventTypes: all})
	const given = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	own := a.WebhookWith(t, &postriderv1.CreateWebhookRequest{Webhook: &postriderv1.Webhook{Url: r.URL, EventTypes: all}, Secret: given})
	require.Equal(t, given, own.GetSecret())
	require.True(t, strings.HasPrefix(made.GetSecret(), "whsec_"))
	require.NotEqual(t, made.GetSecret(), own.GetSecret())

	read, err := a.Webhooks.GetWebhook(a.Ctx(t), &postriderv1.GetWebhookRequest{WebhookId: own.GetWebhook().GetId()})
	require.NoError(t, err)
	require.NotContains(t, read.String(), given, "it is shown once")
	_, err = a.Webhooks.DeleteWebhook(a.Ctx(t), &postriderv1.DeleteWebhookRequest{WebhookId: made.GetWebhook().GetId()})
	require.NoError(t, err)

	rotated, err := a.Webhooks.RotateWebhookSecret(a.Ctx(t), &postriderv1.RotateWebhookSecretRequest{WebhookId: own.GetWebhook().GetId()})
	require.NoError(t, err)
	a.Publish(t, "release.live", `{}`)
	q := r.Next(t)
	verify := func(text string) error {
		secret, err := signature.ParseSecret(text, signature.KindHMAC)
		require.NoError(t, err)
		return signature.VerifyStandardWebhooks(q.Header, q.Body, []signature.Secret{secret}, time.Now(), 5*time.Minute)
	}
	require.NoError(t, verify(given), "the old one signs for a while")
	require.NoError(t, verify(rotated.GetSecret()))
	require.Error(t, verify(made.GetSecret()))
	signatures := strings.Fields(q.Header.Get("Webhook-Signature"))
	require.Len(t, signatures, 2)
	newest := q.Header.Clone()
	newest.Set("Webhook-Signature", signatures[0])
	secret, err := signature.ParseSecret(rotated.GetSecret(), signature.KindHMAC)
	require.NoError(t, err)
	require.NoError(t, signature.VerifyStandardWebhooks(newest, q.Body, []signature.Secret{secret}, time.Now(), 5*time.Minute), "the newest signature is first")
}

func urls(t *testing.T, a *system.Account) {
	create := func(url string) (*postriderv1.CreateWebhookResponse, error) {
		return a.Webhooks.CreateWebhook(a.Ctx(t), &postriderv1.CreateWebhookRequest{Webhook: &postriderv1.Webhook{Url: url, EventTypes: all}})
	}
	for given, want := range map[string]string{
		"HTTPS://Receiver.Example:443":      "https://receiver.example/",
		"https://receiver.example/a?b=c#d":  "https://receiver.example/a?b=c",
		"https://münchen.example/hook":      "https://xn--mnchen-3ya.example/hook",
		"https://receiver.example:8443/x/.": "https://receiver.example:8443/x/.",
		"https://receiver.example/a b":      "https://receiver.example/a%20b",
	} {
		resp, err := create(given)
		require.NoError(t, err, given)
		require.Equal(t, want, resp.GetWebhook().GetUrl())
	}
	for _, url := range []string{
		"", "/relative", "receiver.example/hook", "ftp://receiver.example/", "https://", "https:///hook", "https://user:pw@receiver.example/",
		"https://receiver.example/" + strings.Repeat("x", 2048), " https://receiver.example/", "https://receiver.example/\x00",
	} {
		_, err := create(url)
		system.RequireKind(t, fault.Invalid, err, url)
		require.Contains(t, err.Error(), "webhook.url", url)
	}
	strict := false
	secure := a.NewAccount(t, func(acc *postriderv1.Account) { acc.AllowHttp = &strict })
	_, err := secure.Webhooks.CreateWebhook(secure.Ctx(t), &postriderv1.CreateWebhookRequest{
		Webhook: &postriderv1.Webhook{Url: "http://receiver.example/", EventTypes: all},
	})
	system.RequireKind(t, fault.Invalid, err)
	require.Contains(t, err.Error(), "webhook.url")
}
