//go:build e2e

package compat

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/ecmajson"
	"github.com/postrider/postrider/pkg/signature"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/fixture/receivertest"
	"github.com/postrider/postrider/test/system"
)

const (
	// jewelExample is the data of the page's example, and jewelBody its body, minified.
	jewelExample = `{"release_id":"rel_abc123def456","title":"My Album","artist":"Artist Name","status":"live",` +
		`"platforms":[{"name":"spotify","status":"live","url":"https://open.spotify.com/album/..."},` +
		`{"name":"apple_music","status":"live","url":"https://music.apple.com/album/..."}],` +
		`"metadata":{"isrc":"USJML2500001","upc":"123456789012","release_date":"2025-09-01"}}`
	jewelSecret = "jewel_whsec_5f1d"
)

// trickyData are objects that JSON.stringify would write in another way, and some that it would not.
var trickyData = []string{
	jewelExample,
	`{}`,
	` { "a" : [ 1 , 2 ] }` + "\n",
	`{"s":"\u00e9\/<>&\u003c\u2028"}`,
	"{\"s\":\"é<>&\u2028\u2029\"}",
	`{"n":9007199254740993,"f":0.10,"g":1.0,"e":1E+2,"z":-0,"big":1e21,"small":1e-7,"huge":1e999}`,
	`{"b":1,"a":2,"b":{"y":1,"x":2,"y":3}}`,
	`{"b":1,"10":2,"2":3,"01":4,"4294967295":5}`,
	`{"s":"\ud83d\ude00 \ud800 \udc00"}`,
	`{"__proto__":{"a":1},"constructor":1,"":2}`,
	`{"s":"\u0000\u001F\b\f\n\r\t\"\\"}`,
	`{"deep":` + strings.Repeat(`[`, 200) + strings.Repeat(`]`, 200) + `}`,
	`{"long":"` + strings.Repeat("é", 20_000) + `"}`,
	`{"amount":"100.0000000000000000","updated":"2024-05-08 18:36:47.2137"}`,
}

// jewel makes a webhook of the profile with the worked secret.
func jewel(t *testing.T, a *system.Account, profile, url string, change ...func(*postriderv1.Webhook)) *postriderv1.Webhook {
	t.Helper()
	w := &postriderv1.Webhook{Url: url, Profile: profile, EventTypes: all}
	for _, c := range change {
		c(w)
	}
	return a.WebhookWith(t, &postriderv1.CreateWebhookRequest{Webhook: w, Secret: jewelSecret}).GetWebhook()
}

func TestJewelMusic(t *testing.T) {
	s := open(t)
	for name, check := range map[string]func(*testing.T, *system.Account){
		"1.2.1 the request":                      jewelRequest,
		"1.2.2 the signature":                    jewelSignature,
		"1.2.3 retries":                          jewelRetries,
		"1.2.4 the body":                         jewelBody,
		"1.2.5 the event header":                 jewelEventHeader,
		"1.2.6 the page's own handler":           jewelHandler,
		"1.2.7 one signature":                    jewelOneSignature,
		"1.2.8 the catalogue":                    jewelEvents,
		"1.2.9 what succeeds":                    jewelSuccess,
		"1.2.10 five attempts":                   jewelFiveAttempts,
		"1.2.11 the gaps":                        jewelGaps,
		"1.2.12 jitter and Retry-After":          jewelPostponed,
		"1.2.13 the dead letter":                 jewelDeadLetter,
		"1.2.14 the form of the libraries (SDK)": jewelLibraries,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, s.NewAccount(t))
		})
	}
}

func hexHMAC(key, content string) string {
	m := hmac.New(sha256.New, []byte(key))
	_, _ = m.Write([]byte(content))
	return hex.EncodeToString(m.Sum(nil))
}

func jewelRequest(t *testing.T, a *system.Account) {
	r := receivertest.New(t)
	jewel(t, a, "jewelmusic", r.URL+"/webhooks/jewelmusic")
	a.Publish(t, "release.live", jewelExample)
	got := r.Next(t)
	require.Equal(t, http.MethodPost, got.Method)
	require.Equal(t, "/webhooks/jewelmusic", got.RequestURI)
	require.Equal(t, []string{"application/json"}, got.Header["Content-Type"])
	require.Equal(t, strconv.Itoa(len(got.Body)), got.Header.Get("Content-Length"))
	require.Regexp(t, `^sha256=[0-9a-f]{64}$`, got.Header.Get("X-JewelMusic-Signature"))
	require.Equal(t, "release.live", got.Header.Get("X-JewelMusic-Event"))
	unix, err := strconv.ParseInt(got.Header.Get("X-JewelMusic-Timestamp"), 10, 64)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), time.Unix(unix, 0), time.Minute)
}

func jewelSignature(t *testing.T, a *system.Account) {
	r := receivertest.New(t)
	jewel(t, a, "jewelmusic", r.URL)
	for _, data := range trickyData {
		a.Publish(t, "release.live", data)
		got := r.Next(t)
		require.Equal(t, "sha256="+hexHMAC(jewelSecret, string(got.Body)), got.Header.Get("X-JewelMusic-Signature"), "over the raw body alone")
	}
}

func jewelRetries(t *testing.T, a *system.Account) {
	r := receivertest.New(t).Respond(500, 500, 500, 204)
	jewel(t, a, "jewelmusic", r.URL, func(w *postriderv1.Webhook) {
		// 1.5 s: long enough for another second of the clock.
		w.RetrySchedule = &postriderv1.RetrySchedule{Delays: []*durationpb.Duration{durationpb.New(50 * time.Minute), durationpb.New(0), durationpb.New(0)}}
	})
	a.Publish(t, "release.live", jewelExample)
	first, second := r.Next(t), r.Next(t)
	require.Equal(t, first.Body, second.Body)
	require.Equal(t, first.Header.Get("X-JewelMusic-Signature"), second.Header.Get("X-JewelMusic-Signature"))
	require.NotEqual(t, first.Header.Get("X-JewelMusic-Timestamp"), second.Header.Get("X-JewelMusic-Timestamp"))
}

func jewelBody(t *testing.T, a *system.Account) {
	r := receivertest.New(t).Respond(500, 200, 200)
	jewel(t, a, "jewelmusic", r.URL)
	event := a.PublishEvent(t, &postriderv1.EventInput{
		Type: "release.live", Data: []byte(jewelExample), Time: timestamppb.New(time.Unix(1693526400, 999_000_000)),
	}).GetEventId()
	require.Regexp(t, `^evt_.{10,}$`, event)
	want := fmt.Sprintf(`{"id":%q,"type":"release.live","created":1693526400,"data":%s}`, event, jewelExample)
	require.Equal(t, want, string(r.Next(t).Body))
	require.Equal(t, want, string(r.Next(t).Body), "the id stays over retries")

	list := a.Publish(t, "release.live", `[1]`).GetEventId()
	deliveries, err := a.Webhooks.ListWebhooks(a.Ctx(t), &postriderv1.ListWebhooksRequest{})
	require.NoError(t, err)
	a.AwaitDelivery(t, list, deliveries.GetWebhooks()[0].GetId(), dead) // data is an object
}

func jewelEventHeader(t *testing.T, a *system.Account) {
	r := receivertest.New(t)
	jewel(t, a, "jewelmusic", r.URL)
	for _, eventType := range []string{"release.live", "royalty.payment.completed", "fraud.bot_detection"} {
		a.Publish(t, eventType, `{}`)
		got := r.Next(t)
		var body struct{ Type string }
		require.NoError(t, json.Unmarshal(got.Body, &body))
		require.Equal(t, eventType, body.Type)
		require.Equal(t, body.Type, got.Header.Get("X-JewelMusic-Event"))
	}
}

// jewelHandler delivers to the page's own Express handler, which is unchanged.
func jewelHandler(t *testing.T, a *system.Account) {
	port, verdicts := system.NodeReceiver(t, "jewelmusic.js", jewelSecret)
	jewel(t, a, "jewelmusic", fmt.Sprintf("http://127.0.0.1:%d/webhooks/jewelmusic", port), func(w *postriderv1.Webhook) { w.MaxInFlight = 1 })
	for _, data := range trickyData {
		event := a.Publish(t, "release.live", data).GetEventId()
		v := system.Next(t, verdicts)
		require.Equal(t, http.StatusOK, v.Status, data)
		var body struct {
			ID   string
			Data json.RawMessage
		}
		require.NoError(t, json.Unmarshal(v.Body, &body))
		require.Equal(t, event, body.ID)
		want, err := ecmajson.Append(nil, []byte(data))
		require.NoError(t, err)
		require.Equal(t, string(want), string(body.Data), "the receiver sees the value that was published")
	}

	// A receiver with another secret refuses.
	stranger, refused := system.NodeReceiver(t, "jewelmusic.js", "another secret")
	w := jewel(t, a, "jewelmusic", fmt.Sprintf("http://127.0.0.1:%d/webhooks/jewelmusic", stranger), func(w *postriderv1.Webhook) {
		w.RetrySchedule, w.EventTypes = &postriderv1.RetrySchedule{}, []string{"track.uploaded"}
	})
	event := a.Publish(t, "track.uploaded", `{}`).GetEventId()
	require.Equal(t, http.StatusUnauthorized, system.Next(t, refused).Status)
	a.AwaitDelivery(t, event, w.GetId(), dead)
}

func jewelOneSignature(t *testing.T, a *system.Account) {
	r := receivertest.New(t)
	w := jewel(t, a, "jewelmusic", r.URL)
	rotated, err := a.Webhooks.RotateWebhookSecret(a.Ctx(t), &postriderv1.RotateWebhookSecretRequest{WebhookId: w.GetId(), Overlap: durationpb.New(time.Hour)})
	require.NoError(t, err)
	a.Publish(t, "release.live", `{"a":1}`)
	got := r.Next(t)
	require.Equal(t, []string{"sha256=" + hexHMAC(rotated.GetSecret(), string(got.Body))}, got.Header.Values("X-JewelMusic-Signature"), "the new secret's alone")
	for _, text := range []string{rotated.GetSecret(), jewelSecret} {
		key, err := signature.ParseSecret(text, signature.KindText)
		require.NoError(t, err)
		require.NoError(t, signature.VerifyStandardWebhooks(got.Header, got.Body, []signature.Secret{key}, time.Now(), time.Minute), "the overlap is in the standard headers")
	}
}

func jewelEvents(t *testing.T, a *system.Account) {
	raw, err := os.ReadFile("../../catalogues/jewelmusic.json")
	require.NoError(t, err)
	var catalogue struct {
		EventTypes []struct{ Name, Group, Description string } `json:"event_types"`
	}
	require.NoError(t, json.Unmarshal(raw, &catalogue))
	require.Len(t, catalogue.EventTypes, 16)
	for _, e := range catalogue.EventTypes {
		_, err := a.EventTypes.CreateEventType(a.Ctx(t), &postriderv1.CreateEventTypeRequest{
			EventType: &postriderv1.EventType{Name: e.Name, Group: e.Group, Description: e.Description},
		})
		require.NoError(t, err)
	}
	listed, err := a.EventTypes.ListEventTypes(a.Ctx(t), &postriderv1.ListEventTypesRequest{})
	require.NoError(t, err)
	groups := map[string][]string{}
	for _, e := range listed.GetEventTypes() {
		require.NotEmpty(t, e.GetDescription())
		group, _, _ := strings.Cut(e.GetName(), ".")
		groups[group] = append(groups[group], e.GetName())
		require.NotEmpty(t, e.GetGroup())
	}
	require.Len(t, groups["track"], 4)
	require.Len(t, groups["release"], 4)
	require.Len(t, groups["royalty"], 4)
	require.Len(t, groups["fraud"], 4)

	r := receivertest.New(t)
	for _, e := range catalogue.EventTypes {
		jewel(t, a, "jewelmusic", r.URL+"/"+e.Name, func(w *postriderv1.Webhook) { w.EventTypes = []string{e.Name} })
	}
	for _, e := range catalogue.EventTypes {
		a.Publish(t, e.Name, `{}`)
		got := r.Next(t)
		require.Equal(t, "/"+e.Name, got.RequestURI)
		require.Equal(t, e.Name, got.Header.Get("X-JewelMusic-Event"))
	}
	require.Equal(t, len(catalogue.EventTypes), r.Count(), "each got its own and no other")
}

func jewelSuccess(t *testing.T, a *system.Account) {
	once := func(w *postriderv1.Webhook) {
		w.RetrySchedule, w.AttemptTimeout = &postriderv1.RetrySchedule{}, durationpb.New(time.Second)
	}
	elsewhere := receivertest.New(t)
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	for name, tt := range map[string]struct {
		answer receivertest.Answer
		state  postriderv1.DeliveryState
	}{
		"200": {receivertest.Status(200), delivered}, "201": {receivertest.Status(201), delivered}, "202": {receivertest.Status(202), delivered},
		"204": {receivertest.Status(204), delivered}, "299": {receivertest.Status(299), delivered},
		"301": {receivertest.Redirect(301, elsewhere.URL), dead}, "302": {receivertest.Redirect(302, elsewhere.URL), dead},
		"304": {receivertest.Status(304), dead}, "400": {receivertest.Status(400), dead}, "404": {receivertest.Status(404), dead},
		"500": {receivertest.Status(500), dead}, "reset": {receivertest.Reset(), dead}, "hang": {receivertest.Hang(release), dead},
	} {
		t.Run(name, func(t *testing.T) {
			r := receivertest.New(t).Answer(tt.answer)
			w := jewel(t, a, "jewelmusic", r.URL, once, func(w *postriderv1.Webhook) { w.EventTypes = []string{"probe.s" + name} })
			event := a.Publish(t, "probe.s"+name, `{}`).GetEventId()
			d := a.AwaitDelivery(t, event, w.GetId(), tt.state)
			require.Len(t, madeOf(t, a, d.GetId()), 1, "it counts as an attempt")
			require.Equal(t, 1, r.Count())
		})
	}
	gone := receivertest.New(t)
	url := gone.URL
	gone.Down()
	w := jewel(t, a, "jewelmusic", url, once, func(w *postriderv1.Webhook) { w.EventTypes = []string{"probe.down"} })
	a.AwaitDelivery(t, a.Publish(t, "probe.down", `{}`).GetEventId(), w.GetId(), dead)
	require.Zero(t, elsewhere.Count(), "no redirect is followed")

	// 500, 500, 204: three attempts and delivered.
	r := receivertest.New(t).Respond(500, 500, 204)
	w = jewel(t, a, "jewelmusic", r.URL, func(w *postriderv1.Webhook) { w.EventTypes = []string{"probe.third"} })
	d := a.AwaitDelivery(t, a.Publish(t, "probe.third", `{}`).GetEventId(), w.GetId(), delivered)
	require.Len(t, madeOf(t, a, d.GetId()), 3)
}

func madeOf(t *testing.T, a *system.Account, delivery string) []*postriderv1.Attempt {
	t.Helper()
	got, err := a.Deliveries.ListAttempts(a.Ctx(t), &postriderv1.ListAttemptsRequest{DeliveryId: delivery})
	require.NoError(t, err)
	return got.GetAttempts()
}

// jewelFails publishes to a receiver that always answers so, until the delivery is dead.
func jewelFails(t *testing.T, a *system.Account, answers ...receivertest.Answer) (*receivertest.Receiver, *postriderv1.Delivery, []*postriderv1.Attempt) {
	t.Helper()
	if len(answers) == 0 {
		answers = []receivertest.Answer{receivertest.Status(500)}
	}
	r := receivertest.New(t).Answer(append(answers, receivertest.Status(500), receivertest.Status(500), receivertest.Status(500), receivertest.Status(500))...)
	w := jewel(t, a, "jewelmusic", r.URL)
	d := a.AwaitDelivery(t, a.Publish(t, "release.live", jewelExample).GetEventId(), w.GetId(), dead)
	return r, d, madeOf(t, a, d.GetId())
}

// jewelDelays are the page's gaps, as the process under test compresses them.
var jewelDelays = []time.Duration{scaled(time.Minute), scaled(5 * time.Minute), scaled(30 * time.Minute), scaled(2 * time.Hour)}

func scaled(d time.Duration) time.Duration { return time.Duration(float64(d) * system.RetryScale) }

func jewelFiveAttempts(t *testing.T, a *system.Account) {
	r, d, made := jewelFails(t, a)
	require.Len(t, made, 5)
	for i, one := range made {
		require.Equal(t, int32(i+1), one.GetNumber())
	}
	require.Nil(t, made[4].GetNextAttemptTime(), "the fifth is final")
	for range 5 {
		r.Next(t)
	}
	r.None(t, scaled(4*time.Hour))
	require.Equal(t, dead, a.AwaitDelivery(t, d.GetEventId(), d.GetWebhookId(), dead).GetState())
}

// gaps are from the end of each attempt to the start of the next.
func gaps(made []*postriderv1.Attempt) []time.Duration {
	out := make([]time.Duration, 0, len(made))
	for i := 1; i < len(made); i++ {
		end := made[i-1].GetStartTime().AsTime().Add(made[i-1].GetDuration().AsDuration())
		out = append(out, made[i].GetStartTime().AsTime().Sub(end))
	}
	return out
}

func jewelGaps(t *testing.T, a *system.Account) {
	// Each attempt takes a while, which the gaps do not include.
	const takes = 200 * time.Millisecond
	slow := receivertest.After(takes, receivertest.Status(500))
	_, _, made := jewelFails(t, a, slow, slow, slow, slow, slow)
	require.Len(t, made, 5)
	for i, gap := range gaps(made) {
		require.GreaterOrEqual(t, gap, jewelDelays[i]-time.Millisecond, "gap %d is never early", i)
		require.LessOrEqual(t, gap, jewelDelays[i]*11/10+2*time.Second, "gap %d", i)
		require.GreaterOrEqual(t, made[i].GetDuration().AsDuration(), takes)
	}
}

func jewelPostponed(t *testing.T, a *system.Account) {
	const longer = 2 * time.Second
	_, _, made := jewelFails(t, a, receivertest.RetryAfter(500, "2"), receivertest.Status(500), receivertest.Status(500), receivertest.RetryAfter(503, "1"), receivertest.Status(500))
	require.Len(t, made, 5, "the count stays five")
	got := gaps(made)
	require.GreaterOrEqual(t, got[0], longer-time.Millisecond, "a longer Retry-After postpones")
	for i, d := range jewelDelays {
		require.GreaterOrEqual(t, got[i], d-time.Millisecond, "no gap is early, whatever jitter and Retry-After say")
	}
	require.LessOrEqual(t, got[1], jewelDelays[1]*11/10+2*time.Second)
	require.LessOrEqual(t, got[3], jewelDelays[3]*11/10+2*time.Second)
}

func jewelDeadLetter(t *testing.T, a *system.Account) {
	_, d, made := jewelFails(t, a)
	require.Len(t, made, 5)
	var letter *postriderv1.DeadLetter
	require.Eventually(t, func() bool {
		got, err := a.Deliveries.GetDeadLetter(a.Ctx(t), &postriderv1.GetDeadLetterRequest{DeliveryId: d.GetId()})
		letter = got.GetDeadLetter()
		return err == nil
	}, system.Patience, 20*time.Millisecond)
	require.Equal(t, "exhausted", letter.GetCause())
	require.Equal(t, int32(5), letter.GetAttemptCount())
	require.Equal(t, d.GetEventId(), letter.GetEventId())
	want := jewelExample
	require.Equal(t, want, string(letter.GetData()))
	listed, err := a.Deliveries.ListDeadLetters(a.Ctx(t), &postriderv1.ListDeadLettersRequest{})
	require.NoError(t, err)
	require.Len(t, listed.GetDeadLetters(), 1)
}

func jewelLibraries(t *testing.T, a *system.Account) {
	r := receivertest.New(t)
	w := jewel(t, a, "jewelmusic-sdk", r.URL)
	for _, data := range trickyData {
		event := a.Publish(t, "release.live", data).GetEventId()
		got := r.Next(t)
		parts := strings.Split(got.Header.Get("X-JewelMusic-Signature"), ",")
		require.Len(t, parts, 2)
		ts, ok := strings.CutPrefix(parts[0], "t=")
		require.True(t, ok)
		require.Equal(t, ts, got.Header.Get("X-JewelMusic-Timestamp"))
		unix, err := strconv.ParseInt(ts, 10, 64)
		require.NoError(t, err)
		require.WithinDuration(t, time.Now(), time.Unix(unix, 0), 300*time.Second)
		require.Equal(t, "v1="+hexHMAC(jewelSecret, ts+"."+string(got.Body)), parts[1])
		require.Equal(t, "release.live", got.Header.Get("X-JewelMusic-Event"))
		require.Contains(t, string(got.Body), `"data":`+strings.TrimSpace(data)+`}`, "the data byte for byte")
		require.Contains(t, string(got.Body), event)
	}
	require.Equal(t, "jewelmusic-sdk", w.GetProfile())
	// The two forms never stand in one header.
	page := receivertest.New(t)
	jewel(t, a, "jewelmusic", page.URL)
	a.Publish(t, "release.live", `{}`)
	require.NotContains(t, page.Next(t).Header.Get("X-JewelMusic-Signature"), "t=")
}
