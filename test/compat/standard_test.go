//go:build e2e

package compat

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/postrider/postrider/pkg/fault"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/fixture/receivertest"
	"github.com/postrider/postrider/test/system"
)

// TestStandardWebhooks holds what every receiver may expect, whatever its profile.
func TestStandardWebhooks(t *testing.T) {
	s := open(t)
	for name, check := range map[string]func(*testing.T, *system.Account){
		"2.2.1 Retry-After":            retriesAfter,
		"2.2.2 schedules":              schedules,
		"2.2.3 one attempt":            oneAttempt,
		"2.2.5 the limit of data":      limitOfData,
		"2.2.6 headers of one's own":   ownHeaders,
		"2.2.7 addresses":              addressesChecked,
		"2.2.8 ranges":                 rangesRefused,
		"2.2.9 odd spellings of hosts": oddHosts,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, s.NewAccount(t))
		})
	}
}

// every is a schedule of one delay, again and again, without jitter.
func every(d time.Duration, times int) *postriderv1.RetrySchedule {
	none := 0.0
	s := &postriderv1.RetrySchedule{Jitter: &none}
	for range times {
		s.Delays = append(s.Delays, durationpb.New(d))
	}
	return s
}

// compressed is what becomes of a delay in the tests' process.
func compressed(d time.Duration) time.Duration { return time.Duration(float64(d) * system.RetryScale) }

// madeAttempts are those of an event's delivery to a webhook.
func madeAttempts(t *testing.T, a *system.Account, d *postriderv1.Delivery) []*postriderv1.Attempt {
	t.Helper()
	list, err := a.Deliveries.ListAttempts(a.Ctx(t), &postriderv1.ListAttemptsRequest{DeliveryId: d.GetId()})
	require.NoError(t, err)
	return list.GetAttempts()
}

// wait is how long after an attempt the next one is due.
func wait(at *postriderv1.Attempt) time.Duration {
	end := at.GetStartTime().AsTime().Add(at.GetDuration().AsDuration())
	return at.GetNextAttemptTime().AsTime().Sub(end)
}

// retriesAfter answers with all kinds of Retry-After. The schedule's own delay is 43.2 s here.
func retriesAfter(t *testing.T, a *system.Account) {
	t.Helper()
	const schedule, slack = 43200 * time.Millisecond, 1500 * time.Millisecond
	date := func(d time.Duration) func() string {
		return func() string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
	}
	text := func(s string) func() string { return func() string { return s } }
	for name, c := range map[string]struct {
		status int
		value  func() string
		want   time.Duration
	}{
		"seconds":                          {503, text("120"), 2 * time.Minute},
		"seconds with 429":                 {429, text("120"), 2 * time.Minute},
		"seconds with any failure":         {500, text("120"), 2 * time.Minute},
		"a date":                           {503, date(10 * time.Minute), 10 * time.Minute},
		"a fraction is rounded up":         {503, text("119.2"), 2 * time.Minute},
		"more than a day is a day":         {503, text("172800"), 24 * time.Hour},
		"a date beyond a day is a day":     {429, date(48 * time.Hour), 24 * time.Hour},
		"sooner than the schedule is none": {503, text("5"), schedule},
		"a date that passed is none":       {503, date(-time.Hour), schedule},
		"nonsense is none":                 {503, text("soon"), schedule},
		"a negative number is none":        {503, text("-120"), schedule},
		"zero is none":                     {429, text("0"), schedule},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := receivertest.New(t).Answer(receivertest.RetryAfter(c.status, c.value()))
			hook := a.Webhook(t, &postriderv1.Webhook{Url: r.URL, EventTypes: []string{"a." + strings.ReplaceAll(name, " ", "_")}, RetrySchedule: every(24*time.Hour, 1)}).GetWebhook()
			event := a.Publish(t, hook.GetEventTypes()[0], `{}`).GetEventId()
			d := a.AwaitDelivery(t, event, hook.GetId(), waiting)
			list := madeAttempts(t, a, d)
			require.Len(t, list, 1)
			require.InDelta(t, c.want, wait(list[0]), float64(slack))
			if c.status != 500 && c.want > schedule {
				a.Publish(t, hook.GetEventTypes()[0], `{}`)
				r.AwaitCount(t, 1)
				r.Next(t)
				r.None(t, 300*time.Millisecond) // another event waits as well
			}
		})
	}
}

// schedules holds the default schedule to the delays that Standard Webhooks prints, in a process
// that compresses them further, and a webhook's own one to its bounds.
func schedules(t *testing.T, a *system.Account) {
	t.Helper()
	t.Run("the default", func(t *testing.T) {
		t.Parallel()
		const scale = 0.00005
		_, s := system.StartStandalone(t, map[string]string{"POSTRIDER_DISPATCHER_RETRY_TIME_SCALE": "0.00005"})
		a := s.NewAccount(t)
		r := receivertest.New(t).Respond(500)
		hook := a.Webhook(t, &postriderv1.Webhook{Url: r.URL, EventTypes: all}).GetWebhook()
		event := a.Publish(t, "release.live", `{}`).GetEventId()
		d := a.AwaitDelivery(t, event, hook.GetId(), dead)
		list := madeAttempts(t, a, d)
		delays := []time.Duration{
			5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
		}
		require.Len(t, list, len(delays)+1)
		for i, delay := range delays {
			want := float64(delay) * scale
			require.InDelta(t, want, wait(list[i]), 0.1*want+float64(2*time.Millisecond), "after attempt %d", i+1)
			require.False(t, list[i+1].GetStartTime().AsTime().Before(list[i].GetNextAttemptTime().AsTime().Truncate(time.Millisecond)), "never early")
		}
		require.Nil(t, list[len(delays)].GetNextAttemptTime())
	})
	t.Run("a webhook's own", func(t *testing.T) {
		t.Parallel()
		r := receivertest.New(t).Respond(500)
		hook := a.Webhook(t, &postriderv1.Webhook{Url: r.URL, EventTypes: all, RetrySchedule: every(4*time.Minute, 2)}).GetWebhook()
		event := a.Publish(t, "release.live", `{}`).GetEventId()
		d := a.AwaitDelivery(t, event, hook.GetId(), dead)
		list := madeAttempts(t, a, d)
		require.Len(t, list, 3)
		for _, at := range list[:2] {
			require.InDelta(t, compressed(4*time.Minute), wait(at), float64(2*time.Millisecond))
		}
	})
	jitter := 1.5
	for name, s := range map[string]*postriderv1.RetrySchedule{
		"more than 25 attempts":          every(time.Second, 25),
		"a delay of more than a day":     every(24*time.Hour+time.Second, 1),
		"more than a week in all":        every(24*time.Hour, 8),
		"a delay below zero":             every(-time.Second, 1),
		"more jitter than the delay has": {Delays: every(time.Second, 1).GetDelays(), Jitter: &jitter},
	} {
		_, err := a.Webhooks.CreateWebhook(a.Ctx(t), &postriderv1.CreateWebhookRequest{
			Webhook: &postriderv1.Webhook{Url: "https://receiver.example/", EventTypes: all, RetrySchedule: s},
		})
		system.RequireKind(t, fault.Invalid, err, name)
		require.ErrorContains(t, err, "webhook.retry_schedule", name)
	}
	for _, s := range []*postriderv1.RetrySchedule{every(7*time.Hour, 24), every(24*time.Hour, 7), every(0, 24)} {
		made := a.Webhook(t, &postriderv1.Webhook{Url: "https://receiver.example/", EventTypes: []string{"none"}, RetrySchedule: s})
		require.Len(t, made.GetWebhook().GetRetrySchedule().GetDelays(), len(s.GetDelays()))
	}
}

// oneAttempt looks at what one attempt does and does not do.
func oneAttempt(t *testing.T, a *system.Account) {
	t.Helper()
	test := func(t *testing.T, w *postriderv1.Webhook) *postriderv1.TestWebhookResponse {
		t.Helper()
		w.EventTypes = []string{"none"}
		made := a.Webhook(t, w).GetWebhook()
		resp, err := a.Webhooks.TestWebhook(a.Ctx(t), &postriderv1.TestWebhookRequest{WebhookId: made.GetId()})
		require.NoError(t, err)
		return resp
	}
	t.Run("it has a time limit in all", func(t *testing.T) {
		t.Parallel()
		for name, answer := range map[string]receivertest.Answer{
			"an answer that does not come": receivertest.Hang(nil),
			"a header that does not end":   receivertest.After(10*time.Second, receivertest.Status(200)),
		} {
			r := receivertest.New(t).Answer(answer)
			got := test(t, &postriderv1.Webhook{Url: r.URL, AttemptTimeout: durationpb.New(time.Second)})
			require.False(t, got.GetSuccess(), name)
			require.Equal(t, "timeout", got.GetErrorClass(), name)
			require.InDelta(t, time.Second, got.GetDuration().AsDuration(), float64(900*time.Millisecond), name)
		}
		made := a.Webhook(t, &postriderv1.Webhook{Url: "https://receiver.example/", EventTypes: []string{"none"}})
		require.Equal(t, 20*time.Second, made.GetWebhook().GetAttemptTimeout().AsDuration(), "the default")
		for _, limit := range []time.Duration{999 * time.Millisecond, 30*time.Second + 1, -time.Second} {
			_, err := a.Webhooks.CreateWebhook(a.Ctx(t), &postriderv1.CreateWebhookRequest{
				Webhook: &postriderv1.Webhook{Url: "https://receiver.example/", EventTypes: all, AttemptTimeout: durationpb.New(limit)},
			})
			system.RequireKind(t, fault.Invalid, err, limit)
			require.ErrorContains(t, err, "webhook.attempt_timeout")
		}
	})
	t.Run("it follows no redirect", func(t *testing.T) {
		t.Parallel()
		to := receivertest.New(t)
		for _, code := range []int{301, 302, 303, 304, 307, 308} {
			r := receivertest.New(t).Answer(receivertest.Redirect(code, to.URL))
			got := test(t, &postriderv1.Webhook{Url: r.URL})
			require.False(t, got.GetSuccess())
			require.EqualValues(t, code, got.GetStatusCode())
			require.Equal(t, "redirect", got.GetErrorClass())
		}
		require.Zero(t, to.Count())
	})
	t.Run("a redirect is recorded and retried", func(t *testing.T) {
		t.Parallel()
		r := receivertest.New(t).Answer(receivertest.Redirect(302, "https://elsewhere.example/"), receivertest.Status(200))
		hook := a.Webhook(t, &postriderv1.Webhook{Url: r.URL, EventTypes: []string{"redirected"}}).GetWebhook()
		event := a.Publish(t, "redirected", `{}`).GetEventId()
		list := madeAttempts(t, a, a.AwaitDelivery(t, event, hook.GetId(), delivered))
		require.Len(t, list, 2)
		require.Equal(t, "https://elsewhere.example/", list[0].GetResponseHeaders()["Location"])
	})
	t.Run("it keeps no cookies and asks for no compression", func(t *testing.T) {
		t.Parallel()
		r := receivertest.New(t).Answer(receivertest.Body(500, "", "Set-Cookie", "session=1; Path=/"), receivertest.Status(200))
		hook := a.Webhook(t, &postriderv1.Webhook{Url: r.URL, EventTypes: []string{"cookies"}}).GetWebhook()
		event := a.Publish(t, "cookies", `{}`).GetEventId()
		a.AwaitDelivery(t, event, hook.GetId(), delivered)
		requests := r.All()
		require.Len(t, requests, 2)
		for _, q := range requests {
			require.Empty(t, q.Header.Values("Cookie"))
			require.Empty(t, q.Header.Values("Accept-Encoding"))
			require.Empty(t, q.Header.Values("Transfer-Encoding"))
			require.Equal(t, "2", q.Header.Get("Content-Length"))
		}
	})
	t.Run("it speaks HTTP/2 where the receiver does", func(t *testing.T) {
		t.Parallel()
		r := receivertest.New(t, receivertest.WithHTTP2())
		require.True(t, test(t, &postriderv1.Webhook{Url: r.URL}).GetSuccess())
		require.Equal(t, "HTTP/2.0", r.Next(t).Proto)
	})
	t.Run("it knows no proxy of the environment", func(t *testing.T) {
		t.Parallel()
		proxy := receivertest.New(t)
		_, s := system.StartStandalone(t, map[string]string{
			"HTTP_PROXY": proxy.URL, "HTTPS_PROXY": proxy.URL, "http_proxy": proxy.URL, "https_proxy": proxy.URL, "NO_PROXY": "", "no_proxy": "",
		})
		a := s.NewAccount(t)
		for _, scheme := range []string{"http", "https"} {
			made := a.Webhook(t, &postriderv1.Webhook{Url: scheme + "://receiver.invalid/", EventTypes: []string{"none"}})
			got, err := a.Webhooks.TestWebhook(a.Ctx(t), &postriderv1.TestWebhookRequest{WebhookId: made.GetWebhook().GetId()})
			require.NoError(t, err)
			require.False(t, got.GetSuccess())
			require.Equal(t, "dns", got.GetErrorClass(), got.GetMessage())
		}
		require.Zero(t, proxy.Count())
	})
}

func limitOfData(t *testing.T, a *system.Account) {
	t.Helper()
	r := receivertest.New(t)
	a.Webhook(t, &postriderv1.Webhook{Url: r.URL, EventTypes: all})
	most := `"` + strings.Repeat("x", 1<<20-2) + `"`
	a.Publish(t, "release.live", most)
	require.Equal(t, most, string(r.Next(t).Body))

	long := `"x` + most[1:]
	_, err := a.Events.PublishEvent(a.Ctx(t), &postriderv1.PublishEventRequest{Event: &postriderv1.EventInput{Type: "release.live", Data: []byte(long)}})
	system.RequireKind(t, fault.Invalid, err)
	require.ErrorContains(t, err, "data")
	for name, headers := range map[string][]string{
		`{"type":"release.live","data":` + long + `}`: {"Content-Type", "application/json"},
		long: {"Content-Type", "application/json", "Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "/s", "Ce-Type", "release.live"},
	} {
		code, answer := system.Call(t, http.MethodPost, a.IngestURL+"/v1/events", a.Key, name, headers...)
		require.Equal(t, http.StatusRequestEntityTooLarge, code, answer)
	}
	a.Publish(t, "release.live", `{"last":1}`)
	require.JSONEq(t, `{"last":1}`, string(r.Next(t).Body), "nothing of it is delivered")
}

func ownHeaders(t *testing.T, a *system.Account) {
	t.Helper()
	r := receivertest.New(t)
	create := func(headers map[string]string) (*postriderv1.CreateWebhookResponse, error) {
		return a.Webhooks.CreateWebhook(a.Ctx(t), &postriderv1.CreateWebhookRequest{
			Webhook: &postriderv1.Webhook{Url: r.URL, EventTypes: all, Headers: headers},
		})
	}
	for _, name := range []string{
		"Host", "host", "Content-Type", "content-length", "Content-Encoding", "Content-Whatever", "Transfer-Encoding", "Connection", "Keep-Alive",
		"Upgrade", "TE", "Trailer", "Expect", "Proxy-Authorization", "webhook-id", "Webhook-Signature", "WEBHOOK-X", "Signature", "signature-input",
		"traceparent", "Tracestate", "", "X Y", "X:Y", "X\r\nY", "é",
	} {
		_, err := create(map[string]string{name: "x"})
		system.RequireKind(t, fault.Invalid, err, name)
		require.ErrorContains(t, err, "webhook.headers", name)
	}
	for _, value := range []string{"a\r\nX-Evil: 1", "a\nb", "a\rb", "a\x00b", " a", "a\t", strings.Repeat("x", 5000)} {
		_, err := create(map[string]string{"X-Mine": value})
		system.RequireKind(t, fault.Invalid, err, value)
	}
	_, err := create(map[string]string{"X-Mine": "1", "x-mine": "2"})
	system.RequireKind(t, fault.Invalid, err)
	many := map[string]string{}
	for i := range 21 {
		many[fmt.Sprintf("X-%d", i)] = "x"
	}
	_, err = create(many)
	system.RequireKind(t, fault.Invalid, err)

	_, err = create(map[string]string{"Authorization": "Bearer t", "x-mine": "grüße, \"1\"", "User-Agent": "mine/1"})
	require.NoError(t, err)
	a.Publish(t, "release.live", `{}`)
	q := r.Next(t)
	require.Equal(t, "Bearer t", q.Header.Get("Authorization"))
	require.Equal(t, "grüße, \"1\"", q.Header.Get("X-Mine"))
	require.Len(t, q.Header.Values("User-Agent"), 1)
	require.Len(t, q.Header.Values("Webhook-Id"), 1)
	require.Equal(t, []string{"application/json"}, q.Header.Values("Content-Type"))
}

// strict is a process that may contact public addresses only, one for all checks that need it.
func strict(t *testing.T) *system.Account {
	t.Helper()
	// The default of one process allows loopback, for development.
	_, s := system.StartStandalone(t, map[string]string{"POSTRIDER_DISPATCHER_EGRESS_ALLOW_NETWORKS": "192.0.2.255/32"})
	return s.NewAccount(t)
}

// refused tests a webhook and requires that its address was refused before a packet left.
func refused(t *testing.T, a *system.Account, url string) {
	t.Helper()
	made, err := a.Webhooks.CreateWebhook(a.Ctx(t), &postriderv1.CreateWebhookRequest{
		Webhook: &postriderv1.Webhook{Url: url, EventTypes: []string{"none"}},
	})
	if err != nil {
		system.RequireKind(t, fault.Invalid, err, url)
		return
	}
	got, err := a.Webhooks.TestWebhook(a.Ctx(t), &postriderv1.TestWebhookRequest{WebhookId: made.GetWebhook().GetId()})
	require.NoError(t, err, url)
	require.False(t, got.GetSuccess(), url)
	require.Equal(t, "ssrf_blocked", got.GetErrorClass(), "%s: %s", url, got.GetMessage())
	require.Zero(t, got.GetStatusCode())
	_, err = a.Webhooks.DeleteWebhook(a.Ctx(t), &postriderv1.DeleteWebhookRequest{WebhookId: made.GetWebhook().GetId()})
	require.NoError(t, err)
}

// guarded is a receiver on loopback that fails the test when anybody connects.
func guarded(t *testing.T) string {
	t.Helper()
	touched := make(chan string, 1)
	r := receivertest.New(t, receivertest.WithConnState(func(c net.Conn, _ http.ConnState) {
		select {
		case touched <- c.RemoteAddr().String():
		default:
		}
	}))
	t.Cleanup(func() {
		select {
		case from := <-touched:
			t.Errorf("a packet left, from %s", from)
		default:
		}
	})
	return r.URL
}

func addressesChecked(t *testing.T, _ *system.Account) {
	t.Helper()
	a, url := strict(t), guarded(t)
	refused(t, a, url)

	// An attempt.
	hook := a.Webhook(t, &postriderv1.Webhook{Url: url, EventTypes: []string{"release.live"}, RetrySchedule: every(24*time.Hour, 1)}).GetWebhook()
	event := a.Publish(t, "release.live", `{}`).GetEventId()
	d := a.AwaitDelivery(t, event, hook.GetId(), waiting)
	require.Equal(t, "ssrf_blocked", d.GetLastErrorClass(), "and it is retried, for the name may change")

	// A verification.
	label := a.Webhook(t, &postriderv1.Webhook{Url: url, EventTypes: all, Profile: "labelst"}).GetWebhook()
	verified, err := a.Webhooks.VerifyWebhook(a.Ctx(t), &postriderv1.VerifyWebhookRequest{WebhookId: label.GetId()})
	require.NoError(t, err)
	require.False(t, verified.GetWebhook().GetVerification().GetValid())
	require.Zero(t, verified.GetWebhook().GetVerification().GetOwnStatus())

	// A handshake.
	cloud := a.Webhook(t, &postriderv1.Webhook{
		Url: url, EventTypes: []string{"none"}, Profile: "cloudevents", Options: &postriderv1.ProfileOptions{Handshake: "optional"},
	}).GetWebhook()
	shaken, err := a.Webhooks.HandshakeWebhook(a.Ctx(t), &postriderv1.HandshakeWebhookRequest{WebhookId: cloud.GetId()})
	require.NoError(t, err)
	require.False(t, shaken.GetWebhook().GetHandshake().GetConsented())
}

func rangesRefused(t *testing.T, open *system.Account) {
	t.Helper()
	a := strict(t)
	for _, host := range []string{
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.255", "169.254.169.254",
		"172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.7",
		"203.0.113.7", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
		"[::]", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:10.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::1]", "[100::1]", "[2001::1]", "[2001:db8::1]",
		"[2002:7f00:1::]", "[fc00::1]", "[fdff::1]", "[fe80::1]", "[fec0::1]", "[ff02::1]",
	} {
		refused(t, a, "http://"+host+":9/")
	}
	// The other process is allowed to contact loopback, and nothing else.
	r := receivertest.New(t)
	made := open.Webhook(t, &postriderv1.Webhook{Url: r.URL, EventTypes: []string{"none"}}).GetWebhook()
	got, err := open.Webhooks.TestWebhook(open.Ctx(t), &postriderv1.TestWebhookRequest{WebhookId: made.GetId()})
	require.NoError(t, err)
	require.True(t, got.GetSuccess())
	refused(t, open, "http://169.254.169.254/")
}

func oddHosts(t *testing.T, _ *system.Account) {
	t.Helper()
	a := strict(t)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(guarded(t), "http://"))
	require.NoError(t, err)
	for _, host := range []string{
		"127.1", "0x7f.1", "0x7f000001", "2130706433", "017700000001", "127.0.0.1.", "127.0.1", "[::ffff:7f00:1]", "[::ffff:127.0.0.1]", "localhost",
		"LOCALHOST", "%31%32%37.0.0.1", "127。0。0。1", "①②⑦.0.0.1",
	} {
		refused(t, a, "http://"+host+":"+port+"/")
	}
	// With a dot at its end the name may resolve, or not; nothing is contacted.
	made := a.Webhook(t, &postriderv1.Webhook{Url: "http://localhost.:" + port + "/", EventTypes: []string{"none"}}).GetWebhook()
	got, err := a.Webhooks.TestWebhook(a.Ctx(t), &postriderv1.TestWebhookRequest{WebhookId: made.GetId()})
	require.NoError(t, err)
	require.Contains(t, []string{"ssrf_blocked", "dns"}, got.GetErrorClass())
}
