//go:build e2e

package compat

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/httpsig"
	"github.com/postrider/postrider/pkg/signature"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/fixture/receivertest"
	"github.com/postrider/postrider/test/system"
)

// record is the page's example, with what a record may also hold.
const record = `{"id":1788495,"first_name":"John","last_name":"Smith","email":"john@example.com","dob":"1990-07-29","gender":null,` +
	`"address2":"","created_at":"2020-02-26T09:50:31.759+11:00","balance":10.500,"ok":true,"name":"A & B=C+ü",` +
	`"custom_data":{"k":"v","deep":{"x":1}},"tags":["a","b"],"prizes":[{"id":1},{"id":2}],"none":[]}`

const listenerUpdated = "Listener.updated"

func TestAudata(t *testing.T) {
	s := open(t)
	for name, check := range map[string]func(*testing.T, *system.Account){
		"1.3.1 one event, one endpoint, one method": audataOne,
		"1.3.2 https":                          audataHTTPS,
		"1.3.3 event keys":                     audataKeys,
		"1.3.4 the body":                       audataBody,
		"1.3.5 sentAt":                         audataSentAt,
		"1.3.6 station and sender":             audataSender,
		"1.3.7 plain JSON":                     audataPlain,
		"1.3.8 webhookCallId":                  audataCallID,
		"1.3.9 parameters":                     audataParameters,
		"1.3.10 the endpoint's own":            audataOwnParameters,
		"1.3.11 long URLs and masked ones":     audataLong,
		"1.3.12 signatures":                    audataSignatures,
		"1.3.13 success and retries":           audataRetries,
		"1.3.14 another station's webhooks":    audataIsolated,
		"1.3.15 only the station that owns it": audataOwner,
		"1.3.16 the same by GET and POST":      audataSame,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, station(t, s))
		})
	}
}

// station is an account in a time zone whose offset is no whole hour, nor ever UTC's.
func station(t *testing.T, s *system.System) *system.Account {
	t.Helper()
	return s.NewAccount(t, func(a *postriderv1.Account) { a.TimeZone = "Asia/Kathmandu" })
}

func audataWebhook(url string, change ...func(*postriderv1.Webhook)) *postriderv1.Webhook {
	w := &postriderv1.Webhook{Url: url, Profile: "audata", EventTypes: []string{listenerUpdated}}
	for _, c := range change {
		c(w)
	}
	return w
}

func byGet(w *postriderv1.Webhook) { w.Method = http.MethodGet }

// call is what a POST holds.
type call struct {
	Event         string          `json:"event"`
	SentAt        string          `json:"sentAt"`
	Station       string          `json:"station"`
	SenderID      json.Number     `json:"sender_id"`
	Sender        json.RawMessage `json:"sender"`
	WebhookCallID string          `json:"webhookCallId"`
}

func readCall(t *testing.T, body []byte) call {
	t.Helper()
	var c call
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.DisallowUnknownFields()
	require.NoError(t, d.Decode(&c))
	return c
}

// invalid creates a webhook that must be refused for a field, over gRPC and, as 422 or 400, REST.
func invalid(t *testing.T, a *system.Account, w *postriderv1.Webhook, field string) {
	t.Helper()
	_, err := a.Webhooks.CreateWebhook(a.Ctx(t), &postriderv1.CreateWebhookRequest{Webhook: w})
	f, ok := fault.As(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, fault.Invalid, f.Kind)
	names := make([]string, len(f.Violations))
	for i, v := range f.Violations {
		names[i] = v.Field
	}
	require.Contains(t, names, field)
}

func audataOne(t *testing.T, a *system.Account) {
	r := receivertest.New(t, receivertest.WithTLS())
	for _, types := range [][]string{nil, {"*"}, {"Listener.*"}, {listenerUpdated, "Prize.created"}} {
		invalid(t, a, audataWebhook(r.URL, func(w *postriderv1.Webhook) { w.EventTypes = types }), "webhook.event_types")
	}
	for _, method := range []string{"PUT", "PATCH", "DELETE", "HEAD"} {
		invalid(t, a, audataWebhook(r.URL, func(w *postriderv1.Webhook) { w.Method = method }), "webhook.method")
	}
	invalid(t, a, audataWebhook(""), "webhook.url")
	for _, method := range []string{"", "POST", "GET"} {
		w := a.Webhook(t, audataWebhook(r.URL+"/"+method, func(w *postriderv1.Webhook) { w.Method = method })).GetWebhook()
		require.Equal(t, []string{listenerUpdated}, w.GetEventTypes())
	}
	a.Publish(t, listenerUpdated, record)
	got := map[string]string{}
	for range 3 {
		one := r.Next(t)
		got[one.Path] = one.Method
	}
	require.Equal(t, map[string]string{"/": "POST", "/POST": "POST", "/GET": "GET"}, got)
}

func audataHTTPS(t *testing.T, a *system.Account) {
	for _, bad := range []string{
		"http://consumer.example.com/hook", "HTTP://consumer.example.com/", "ftp://x.example/", "//x.example/", "https:x", "https:///x",
		"https://user:pw@x.example/", " https://x.example/", "https://x.example/\r\nX: y", "javascript:alert(1)",
	} {
		invalid(t, a, audataWebhook(bad), "webhook.url")
		code, answer := system.Call(t, http.MethodPost, a.APIURL+"/v1/webhooks", a.Key, webhookJSON(t, bad), "Content-Type", "application/json")
		require.Contains(t, []int{http.StatusUnprocessableEntity, http.StatusBadRequest}, code, answer)
	}
	r := receivertest.New(t, receivertest.WithTLS())
	w := a.Webhook(t, audataWebhook(strings.Replace(r.URL, "https", "HtTpS", 1)+"/x#part")).GetWebhook()
	require.Equal(t, r.URL+"/x", w.GetUrl(), "normalised, without its fragment")
	w.Url = "http://consumer.example.com/"
	_, err := a.Webhooks.UpdateWebhook(a.Ctx(t), &postriderv1.UpdateWebhookRequest{Webhook: w, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"url"}}})
	system.RequireKind(t, fault.Invalid, err)

	// The certificate is checked at delivery: the system's roots do not know this name.
	host := strings.Replace(r.URL, "127.0.0.1", "localhost", 1)
	stranger := a.Webhook(t, audataWebhook(host, func(w *postriderv1.Webhook) {
		w.EventTypes, w.RetrySchedule = []string{"Prize.created"}, &postriderv1.RetrySchedule{}
	})).GetWebhook()
	event := a.Publish(t, "Prize.created", record).GetEventId()
	d := a.AwaitDelivery(t, event, stranger.GetId(), dead)
	require.Contains(t, []string{"tls", "ssrf_blocked", "dns"}, madeOf(t, a, d.GetId())[0].GetErrorClass())
	require.Zero(t, r.Count())
}

func webhookJSON(t *testing.T, u string) string {
	t.Helper()
	raw, err := json.Marshal(map[string]any{"webhook": map[string]any{"url": u, "profile": "audata", "event_types": []string{listenerUpdated}}})
	require.NoError(t, err)
	return string(raw)
}

func audataKeys(t *testing.T, a *system.Account) {
	r := receivertest.New(t, receivertest.WithTLS())
	for _, bad := range []string{"listener.updated", "Listener.Updated", "Listener.changed", "Listener", "Listener.x.updated", "List_ener.updated", "Listener.updated.x"} {
		invalid(t, a, audataWebhook(r.URL, func(w *postriderv1.Webhook) { w.EventTypes = []string{bad} }), "webhook.event_types")
	}
	for _, key := range []string{"Listener.created", "Prize.updated", "A1.deleted"} {
		a.Webhook(t, audataWebhook(r.URL+"/"+key, func(w *postriderv1.Webhook) { w.EventTypes = []string{key} }))
	}
	for _, other := range []string{"Listener.updated", "listener.created", "Prize.updatedx", "PrizeX.updated"} {
		a.Publish(t, other, record)
	}
	for _, key := range []string{"Listener.created", "Prize.updated", "A1.deleted"} {
		a.Publish(t, key, record)
		got := r.Next(t)
		require.Equal(t, "/"+key, got.Path)
		require.Equal(t, key, readCall(t, got.Body).Event)
	}
	require.Equal(t, 3, r.Count())
}

func audataBody(t *testing.T, a *system.Account) {
	r := receivertest.New(t, receivertest.WithTLS())
	a.Webhook(t, audataWebhook(r.URL))
	a.Publish(t, listenerUpdated, record)
	got := r.Next(t)
	require.Equal(t, "POST", got.Method)
	require.Equal(t, "application/json", got.Header.Get("Content-Type"))
	c := readCall(t, got.Body)
	require.Equal(t, fmt.Sprintf(`{"event":%q,"sentAt":%q,"station":%q,"sender_id":%s,"sender":%s,"webhookCallId":%q}`,
		listenerUpdated, c.SentAt, a.Record.GetSubdomain(), "1788495", record, c.WebhookCallID), string(got.Body))
}

func audataSentAt(t *testing.T, a *system.Account) {
	const layout = "2006-01-02T15:04:05.000-07:00"
	r := receivertest.New(t, receivertest.WithTLS()).Respond(500, 200)
	a.Webhook(t, audataWebhook(r.URL))
	a.Publish(t, listenerUpdated, record)
	first, second := readCall(t, r.Next(t).Body), readCall(t, r.Next(t).Body)
	require.NotEqual(t, first.SentAt, second.SentAt, "the attempt's time")
	require.Equal(t, first.WebhookCallID, second.WebhookCallID)
	at, err := time.Parse(layout, first.SentAt)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), at, time.Minute)
	require.Regexp(t, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+05:45$`, first.SentAt)

	// UTC has an offset in figures. A change of the station's zone counts from the next attempt on.
	_, err = a.Accounts.UpdateAccount(a.Admin(t.Context()), &postriderv1.UpdateAccountRequest{
		Account: &postriderv1.Account{Id: a.ID, TimeZone: "UTC"}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"time_zone"}},
	})
	require.NoError(t, err)
	a.Publish(t, listenerUpdated, record)
	require.Regexp(t, `\.\d{3}\+00:00$`, readCall(t, r.Next(t).Body).SentAt)
}

func audataSender(t *testing.T, a *system.Account) {
	r := receivertest.New(t, receivertest.WithTLS())
	w := a.Webhook(t, audataWebhook(r.URL)).GetWebhook()
	for _, data := range []string{
		record, `{"id":-7,"n":1.10,"big":12345678901234567890,"e":1E+2,"s":"","z":null}`, "{ \"id\" : 9007199254740993 ,\n\"s\":\"\\u00e9\\/<&>\" }", `{"id":1,"a":2,"id":3}`,
	} {
		a.Publish(t, listenerUpdated, data)
		c := readCall(t, r.Next(t).Body)
		require.Equal(t, data, string(c.Sender), "the text of every value")
		require.Equal(t, a.Record.GetSubdomain(), c.Station)
		var last struct{ ID json.Number }
		require.NoError(t, json.Unmarshal([]byte(data), &last))
		require.Equal(t, last.ID, c.SenderID)
	}
	for _, data := range []string{`{"name":"x"}`, `{"id":"x"}`, `[1]`} {
		event := a.Publish(t, listenerUpdated, data).GetEventId()
		a.AwaitDelivery(t, event, w.GetId(), dead)
	}
}

func audataPlain(t *testing.T, a *system.Account) {
	r := receivertest.New(t, receivertest.WithTLS())
	a.Webhook(t, audataWebhook(r.URL))
	a.Publish(t, listenerUpdated, record)
	got := r.Next(t)
	require.True(t, json.Valid(got.Body))
	require.NotContains(t, string(got.Body), "“")
	require.Equal(t, strings.TrimSpace(string(got.Body)), string(got.Body))
}

func audataCallID(t *testing.T, a *system.Account) {
	r := receivertest.New(t, receivertest.WithTLS()).Respond(500, 200)
	one := a.Webhook(t, audataWebhook(r.URL+"/one")).GetWebhook()
	a.Webhook(t, audataWebhook(r.URL+"/two"))
	event := a.Publish(t, listenerUpdated, record).GetEventId()
	ids := map[string]map[string]bool{}
	for range 3 { // one of them twice
		got := r.Next(t)
		if ids[got.Path] == nil {
			ids[got.Path] = map[string]bool{}
		}
		ids[got.Path][readCall(t, got.Body).WebhookCallID] = true
	}
	require.Len(t, ids["/one"], 1, "the same over retries")
	require.Len(t, ids["/two"], 1)
	require.NotEqual(t, ids["/one"], ids["/two"], "another for each endpoint")
	for path, set := range ids {
		for id := range set {
			require.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, id)
			var found []*postriderv1.Delivery
			require.Eventually(t, func() bool {
				resp, err := a.Deliveries.ListDeliveries(a.Ctx(t), &postriderv1.ListDeliveriesRequest{CallId: id})
				found = resp.GetDeliveries()
				return err == nil && len(found) == 1 && found[0].GetState() == delivered
			}, system.Patience, 20*time.Millisecond)
			require.Equal(t, event, found[0].GetEventId())
			require.Equal(t, path == "/one", found[0].GetWebhookId() == one.GetId())
			require.Equal(t, id, found[0].GetCallId())
			require.NotEmpty(t, madeOf(t, a, found[0].GetId()), "the log lists its attempts")
			code, answer := system.Call(t, http.MethodGet, a.APIURL+"/v1/deliveries?call_id="+id, a.Key, "")
			require.Equal(t, http.StatusOK, code, answer)
			require.Contains(t, answer, found[0].GetId())
		}
	}
	a.Publish(t, listenerUpdated, record)
	next := r.Next(t)
	require.NotContains(t, ids[next.Path], readCall(t, next.Body).WebhookCallID, "another for each event")
}

func audataParameters(t *testing.T, a *system.Account) {
	r := receivertest.New(t, receivertest.WithTLS())
	for _, style := range []string{"", "brackets", "dots", "json"} {
		a.Webhook(t, audataWebhook(r.URL+"/"+style, byGet, func(w *postriderv1.Webhook) { w.Options = &postriderv1.ProfileOptions{QueryStyle: style} }))
	}
	invalid(t, a, audataWebhook(r.URL, byGet, func(w *postriderv1.Webhook) { w.Options = &postriderv1.ProfileOptions{QueryStyle: "php"} }), "webhook.options.query_style")
	a.Publish(t, listenerUpdated, record)
	queries := map[string]string{}
	for range 4 {
		got := r.Next(t)
		require.Equal(t, "GET", got.Method)
		require.Empty(t, got.Body)
		require.NotContains(t, got.Header, "Content-Type")
		require.NotContains(t, got.Header, "Content-Length")
		_, queries[got.Path], _ = strings.Cut(got.RequestURI, "?")
	}
	brackets := queries["/brackets"]
	require.Equal(t, names(t, queries["/"]), names(t, brackets), "brackets are the default")
	require.Equal(t, strings.Split("event sentAt station sender_id sender[id] sender[first_name] sender[last_name] sender[email] sender[dob] sender[gender] "+
		"sender[address2] sender[created_at] sender[balance] sender[ok] sender[name] sender[custom_data][k] sender[custom_data][deep][x] "+
		"sender[tags][] sender[tags][] sender[prizes][][id] sender[prizes][][id] webhookCallId", " "), names(t, brackets))
	require.Contains(t, brackets, "sender%5Bname%5D=A+%26+B%3DC%2B%C3%BC&")
	require.Contains(t, brackets, "sender%5Bgender%5D=&sender%5Baddress2%5D=&")
	require.Contains(t, brackets, "sender%5Bbalance%5D=10.500&")
	require.Regexp(t, `&sentAt=[^&]*%2B05%3A45&`, brackets, "the plus of the offset is encoded")
	require.Contains(t, queries["/dots"], "sender.custom_data.deep.x=1&sender.tags.0=a&sender.tags.1=b&sender.prizes.0.id=1&sender.prizes.1.id=2&")
	values, err := url.ParseQuery(queries["/json"])
	require.NoError(t, err)
	whole := record
	require.Equal(t, whole, values.Get("sender"))

	// What the frameworks read of it. Express 4 and Rails take brackets as qs does.
	sender := readWithQs(t, brackets, `{}`)
	require.Equal(t, "A & B=C+ü", sender["name"])
	require.Equal(t, map[string]any{"k": "v", "deep": map[string]any{"x": "1"}}, sender["custom_data"])
	require.Equal(t, []any{"a", "b"}, sender["tags"])
	require.Empty(t, sender["gender"])
	dots := readWithQs(t, queries["/dots"], `{allowDots: true}`)
	require.Equal(t, map[string]any{"k": "v", "deep": map[string]any{"x": "1"}}, dots["custom_data"])
	require.Equal(t, []any{"a", "b"}, dots["tags"])
	require.Equal(t, []any{map[string]any{"id": "1"}, map[string]any{"id": "2"}}, dots["prizes"])
}

// readWithQs is what Express's own reader of queries makes of sender.
func readWithQs(t *testing.T, query, options string) map[string]any {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "node", "-e",
		"console.log(JSON.stringify(require('qs').parse(process.argv[1], Object.assign({parameterLimit: 100, depth: 10}, "+options+")).sender))", query)
	cmd.Dir = system.NodeDir(t)
	out, err := cmd.Output()
	require.NoError(t, err)
	var sender map[string]any
	require.NoError(t, json.Unmarshal(out, &sender), "%s", out)
	return sender
}

// names are those of a query, in their order.
func names(t *testing.T, query string) []string {
	t.Helper()
	var out []string
	for pair := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		require.NoError(t, err)
		out = append(out, name)
	}
	return out
}

func audataOwnParameters(t *testing.T, a *system.Account) {
	r := receivertest.New(t, receivertest.WithTLS())
	for path, prefix := range map[string]string{
		"/a": "/a?event=Listener.updated&", "/b?": "/b?event=Listener.updated&", "/c?tenant=7&event=mine&flag&x=%20+": "/c?tenant=7&event=mine&flag&x=%20+&event=Listener.updated&",
		"/d?b=2&a=1#part": "/d?b=2&a=1&event=Listener.updated&", "/e?a=1&": "/e?a=1&event=Listener.updated&",
	} {
		w := a.Webhook(t, audataWebhook(r.URL+path, byGet)).GetWebhook()
		a.Publish(t, listenerUpdated, record)
		got := r.Next(t)
		require.True(t, strings.HasPrefix(got.RequestURI, prefix), "%s", got.RequestURI)
		require.NotContains(t, got.RequestURI, "#")
		_, err := a.Webhooks.DeleteWebhook(a.Ctx(t), &postriderv1.DeleteWebhookRequest{WebhookId: w.GetId()})
		require.NoError(t, err)
	}
}

func audataLong(t *testing.T, a *system.Account) {
	r := receivertest.New(t, receivertest.WithTLS())
	get := a.Webhook(t, audataWebhook(r.URL, byGet)).GetWebhook()
	event := a.Publish(t, listenerUpdated, `{"id":1,"text":"`+strings.Repeat("x", 8<<10)+`"}`).GetEventId()
	d := a.AwaitDelivery(t, event, get.GetId(), dead)
	made := madeOf(t, a, d.GetId())
	require.Len(t, made, 1, "it is not tried again")
	require.Equal(t, "url_too_long", made[0].GetErrorClass())
	require.Equal(t, "permanent", made[0].GetOutcome())
	require.Zero(t, r.Count())

	event = a.Publish(t, listenerUpdated, record).GetEventId()
	require.Contains(t, r.Next(t).RequestURI, "john")
	d = a.AwaitDelivery(t, event, get.GetId(), delivered)
	shown := madeOf(t, a, d.GetId())[0]
	require.NotContains(t, shown.String(), "john")
	require.Contains(t, shown.GetRequestUrl(), "sender%5Bemail%5D=***")
}

func audataSignatures(t *testing.T, a *system.Account) {
	r := receivertest.New(t, receivertest.WithTLS())
	signed := func(w *postriderv1.Webhook) { w.Options = &postriderv1.ProfileOptions{MessageSignature: "target-uri"} }
	for _, change := range [][]func(*postriderv1.Webhook){{signed}, {signed, byGet}} {
		created := a.Webhook(t, audataWebhook(r.URL+"/in?tenant=7", change...))
		a.Publish(t, listenerUpdated, record)
		got := r.Next(t)
		key, err := signature.ParseVerificationKey(created.GetSecret())
		require.NoError(t, err)
		require.NoError(t, signature.VerifyStandardWebhooks(got.Header, got.Body, []signature.Secret{key}, time.Now(), time.Minute))

		keys, err := a.SigningKeys.ListSigningKeys(a.Ctx(t), &postriderv1.ListSigningKeysRequest{})
		require.NoError(t, err)
		require.NotEmpty(t, keys.GetSigningKeys())
		public, alg, err := httpsig.ParsePublicKey(keys.GetSigningKeys()[0].GetPublicKey())
		require.NoError(t, err)
		v := httpsig.Verifier{
			Keys: func(id string) (httpsig.Key, bool) {
				return httpsig.Key{Algorithm: alg, Key: public}, id == keys.GetSigningKeys()[0].GetId()
			},
			Components: []string{"@method", "@target-uri"}, Tag: "webhook", RequireExpires: true,
		}
		m := &httpsig.Message{Method: got.Method, URL: r.URL + got.RequestURI, Header: got.Header}
		_, err = v.Verify(m, got.Body)
		require.NoError(t, err)
		m.URL += "x" // one byte of one parameter
		_, err = v.Verify(m, got.Body)
		require.Error(t, err)
		_, err = a.Webhooks.DeleteWebhook(a.Ctx(t), &postriderv1.DeleteWebhookRequest{WebhookId: created.GetWebhook().GetId()})
		require.NoError(t, err)
	}
}

func audataRetries(t *testing.T, a *system.Account) {
	r := receivertest.New(t, receivertest.WithTLS()).Respond(500, 302, 204)
	w := a.Webhook(t, audataWebhook(r.URL)).GetWebhook()
	standard := a.Webhook(t, &postriderv1.Webhook{Url: r.URL, EventTypes: []string{"other"}}).GetWebhook()
	require.Equal(t, standard.GetRetrySchedule().GetDelays(), w.GetRetrySchedule().GetDelays())
	d := a.AwaitDelivery(t, a.Publish(t, listenerUpdated, record).GetEventId(), w.GetId(), delivered)
	made := madeOf(t, a, d.GetId())
	require.Len(t, made, 3)
	between := gaps(made)
	for i, delay := range []time.Duration{scaled(5 * time.Second), scaled(5 * time.Minute)} {
		require.GreaterOrEqual(t, between[i], delay*9/10-time.Millisecond)
	}
	once := a.Webhook(t, audataWebhook(receivertest.New(t, receivertest.WithTLS()).Respond(404, 204).URL, byGet, func(w *postriderv1.Webhook) {
		w.EventTypes, w.RetrySchedule = []string{"Prize.deleted"}, &postriderv1.RetrySchedule{Delays: []*durationpb.Duration{durationpb.New(time.Second)}}
	})).GetWebhook()
	d = a.AwaitDelivery(t, a.Publish(t, "Prize.deleted", record).GetEventId(), once.GetId(), delivered)
	require.Len(t, madeOf(t, a, d.GetId()), 2)
}

func audataIsolated(t *testing.T, a *system.Account) {
	r := receivertest.New(t, receivertest.WithTLS())
	w := a.Webhook(t, audataWebhook(r.URL)).GetWebhook()
	other := station(t, a.System)
	_, err := other.Webhooks.GetWebhook(other.Ctx(t), &postriderv1.GetWebhookRequest{WebhookId: w.GetId()})
	system.RequireKind(t, fault.NotFound, err)
	_, err = other.Webhooks.DeleteWebhook(other.Ctx(t), &postriderv1.DeleteWebhookRequest{WebhookId: w.GetId()})
	system.RequireKind(t, fault.NotFound, err)
	_, err = other.Webhooks.UpdateWebhook(other.Ctx(t), &postriderv1.UpdateWebhookRequest{Webhook: w, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"url"}}})
	system.RequireKind(t, fault.NotFound, err)
	code, _ := system.Call(t, http.MethodGet, other.APIURL+"/v1/webhooks/"+w.GetId(), other.Key, "")
	require.Equal(t, http.StatusNotFound, code)
	code, _ = system.Call(t, http.MethodGet, other.APIURL+"/v1/webhooks/"+w.GetId(), "", "")
	require.Equal(t, http.StatusUnauthorized, code)
	listed, err := other.Webhooks.ListWebhooks(other.Ctx(t), &postriderv1.ListWebhooksRequest{})
	require.NoError(t, err)
	require.Empty(t, listed.GetWebhooks())
}

func audataOwner(t *testing.T, a *system.Account) {
	r := receivertest.New(t, receivertest.WithTLS())
	b := station(t, a.System)
	a.Webhook(t, audataWebhook(r.URL+"/a1"))
	a.Webhook(t, audataWebhook(r.URL+"/a2"))
	b.Webhook(t, audataWebhook(r.URL+"/b"))
	a.Publish(t, listenerUpdated, record)
	calls := map[string]call{}
	for range 2 {
		got := r.Next(t)
		calls[got.Path] = readCall(t, got.Body)
	}
	require.Equal(t, a.Record.GetSubdomain(), calls["/a1"].Station)
	require.Equal(t, a.Record.GetSubdomain(), calls["/a2"].Station)
	require.NotEqual(t, calls["/a1"].WebhookCallID, calls["/a2"].WebhookCallID)
	b.Publish(t, listenerUpdated, record)
	got := r.Next(t)
	require.Equal(t, "/b", got.Path)
	require.Equal(t, b.Record.GetSubdomain(), readCall(t, got.Body).Station)
	require.NotEqual(t, a.Record.GetSubdomain(), b.Record.GetSubdomain())
	require.Equal(t, 3, r.Count())
}

func audataSame(t *testing.T, a *system.Account) {
	const flat = `{"id":17,"name":"A & B=C+ü","empty":"","nothing":null,"yes":true,"n":10.500}`
	r := receivertest.New(t, receivertest.WithTLS())
	a.Webhook(t, audataWebhook(r.URL))
	a.Webhook(t, audataWebhook(r.URL, byGet))
	a.Publish(t, listenerUpdated, flat)
	var get url.Values
	var post call
	for range 2 {
		if got := r.Next(t); got.Method == http.MethodGet {
			get = got.Query
		} else {
			post = readCall(t, got.Body)
		}
	}
	want := url.Values{
		"event": {post.Event}, "station": {post.Station}, "sender_id": {post.SenderID.String()}, "sentAt": get["sentAt"], "webhookCallId": get["webhookCallId"],
	}
	var sender map[string]any
	d := json.NewDecoder(strings.NewReader(string(post.Sender)))
	d.UseNumber()
	require.NoError(t, d.Decode(&sender))
	for name, value := range sender {
		text := fmt.Sprint(value)
		if value == nil {
			text = ""
		}
		want["sender["+name+"]"] = []string{text}
	}
	require.Equal(t, want, get)
	require.Len(t, get["sentAt"], 1)
	require.Len(t, get["webhookCallId"], 1)
	require.NotEqual(t, post.WebhookCallID, get.Get("webhookCallId"), "two calls, two ids")
}
