package profile_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/profile"
	"github.com/postrider/postrider/pkg/signature"
)

func audataInput(method, style string) *profile.Input {
	in := fitting("audata")
	in.Webhook.Method = method
	in.Webhook.Url = "https://consumer.example.com/hook"
	in.Webhook.Options = &postriderv1.ProfileOptions{QueryStyle: style}
	in.Data = []byte(sender)
	return in
}

func TestAudataPostsTheSixMembers(t *testing.T) {
	t.Parallel()
	in := audataInput("", "")
	r := sent(t, in, moment)
	id := profile.CallID(deliveryID)
	require.Equal(t, `{"event":"Listener.updated","sentAt":"2020-03-18T17:41:56.555+11:00","station":"developerfm","sender_id":1788495,"sender":`+
		sender+`,"webhookCallId":"`+id+`"}`, string(r.Body))
	require.Equal(t, "https://consumer.example.com/hook", r.URL)
	require.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, id)
	require.NotEqual(t, id, profile.CallID("dlv_aaaaaaaaaabbbbbbbbbbcccccq"))

	in.Account.TimeZone = ""
	require.Contains(t, string(sent(t, in, moment).Body), `"sentAt":"2020-03-18T06:41:56.555+00:00"`)
	in.Account.TimeZone = "Asia/Kathmandu"
	require.Contains(t, string(sent(t, in, moment).Body), `"sentAt":"2020-03-18T12:26:56.555+05:45"`)
	in.Account.TimeZone = "Australia/Melbourne"
	require.Contains(t, string(sent(t, in, moment.AddDate(0, 4, 0)).Body), `+10:00"`, "without summer time")
}

func TestAudataGetsTheSameAsParameters(t *testing.T) {
	t.Parallel()
	id := profile.CallID(deliveryID)
	head := "event=Listener.updated&sentAt=2020-03-18T17%3A41%3A56.555%2B11%3A00&station=developerfm&sender_id=1788495"
	want := map[string]string{
		"": "&sender%5Bid%5D=1788495&sender%5Bfirst_name%5D=John&sender%5Baddress2%5D=&sender%5Bgender%5D=&sender%5Bcreated_at%5D=2020-02-26T09%3A50%3A31.759%2B11%3A00" +
			"&sender%5Bbalance%5D=10.500&sender%5Bok%5D=true&sender%5Bcustom_data%5D%5Bk%5D=v+%26+w%3D%C3%BC%2B" +
			"&sender%5Btags%5D%5B%5D=a&sender%5Btags%5D%5B%5D=b&sender%5Bprizes%5D%5B%5D%5Bid%5D=1&sender%5Bprizes%5D%5B%5D%5Bid%5D=2",
		"dots": "&sender.id=1788495&sender.first_name=John&sender.address2=&sender.gender=&sender.created_at=2020-02-26T09%3A50%3A31.759%2B11%3A00" +
			"&sender.balance=10.500&sender.ok=true&sender.custom_data.k=v+%26+w%3D%C3%BC%2B&sender.tags.0=a&sender.tags.1=b&sender.prizes.0.id=1&sender.prizes.1.id=2",
		"json": "&sender=" + url.QueryEscape(sender),
	}
	want["brackets"] = want[""]
	for style, middle := range want {
		in := audataInput("GET", style)
		r := sent(t, in, moment)
		require.Equal(t, "https://consumer.example.com/hook?"+head+middle+"&webhookCallId="+id, r.URL, style)
		require.Nil(t, r.Body)
		require.NotContains(t, r.Header, "Content-Type")
		require.Equal(t, "GET", r.Method)
	}
	for base, start := range map[string]string{
		"https://c.example/h":              "https://c.example/h?event=",
		"https://c.example/h?":             "https://c.example/h?event=",
		"https://c.example/h?event=mine&b": "https://c.example/h?event=mine&b&event=",
		"https://c.example/h?a=%20+é":      "https://c.example/h?a=%20+é&event=",
		"https://c.example/h?a=1&":         "https://c.example/h?a=1&event=",
	} {
		in := audataInput("GET", "")
		in.Webhook.Url = base
		require.True(t, strings.HasPrefix(sent(t, in, moment).URL, start), base)
	}
}

func TestAudataGetIsSignedOverTheEmptyBodyAndItsTarget(t *testing.T) {
	t.Parallel()
	in := audataInput("GET", "")
	in.Webhook.Options.MessageSignature = "target-uri"
	p := bound(t, in.Webhook)
	text := mustSecret(t, p)
	r := sent(t, in, moment, text)
	require.NoError(t, signature.VerifyStandardWebhooks(r.Header, nil, secrets(t, p, text), moment, time.Second))
	require.Regexp(t, `^sig1=\("@method" "@target-uri" "webhook-id" "webhook-timestamp"\);`, r.Header.Get("Signature-Input"))
	require.NotContains(t, r.Header, "Content-Digest")
	in.Webhook.Options.MessageSignature = "authority-parts"
	require.Equal(t, []string{"webhook.options.message_signature"}, fields(lookup(t, "audata").ValidateWebhook(in.Webhook)))
}

func TestAudataCannotRender(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(in *profile.Input){
		"a list":               func(in *profile.Input) { in.Data = []byte(`[1]`) },
		"no id":                func(in *profile.Input) { in.Data = []byte(`{"x":{"id":1}}`) },
		"a text as id":         func(in *profile.Input) { in.Data = []byte(`{"id":"1"}`) },
		"a fraction as id":     func(in *profile.Input) { in.Data = []byte(`{"id":1.0}`) },
		"null as id":           func(in *profile.Input) { in.Data = []byte(`{"id":1,"id":null}`) },
		"no JSON":              func(in *profile.Input) { in.Data = []byte(`id=1`) },
		"plain HTTP":           func(in *profile.Input) { in.Webhook.Url = "http://consumer.example.com/hook" },
		"an odd type of event": func(in *profile.Input) { in.Delivery.EventType = `a"b` },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, method := range []string{"POST", "GET"} {
				in := audataInput(method, "")
				change(in)
				unrenderable(t, in)
			}
		})
	}
	in := audataInput("", "")
	in.Account = nil
	_, err := bound(t, in.Webhook).Render(in)
	require.ErrorIs(t, err, profile.ErrNoAccount)
	in = audataInput("", "")
	in.Account.TimeZone = "Nowhere/Land"
	_, err = bound(t, in.Webhook).Render(in)
	require.Error(t, err)
	require.NotErrorIs(t, err, profile.ErrUnrenderable, "it is no fault of the delivery")
}

func TestAudataURLsAreBounded(t *testing.T) {
	t.Parallel()
	for name, data := range map[string]string{
		"long":           `{"id":1,"x":"` + strings.Repeat("x", 8000) + `"}`,
		"much":           `{"id":1,"x":[` + strings.Repeat("1,", 200_000) + `1]}`,
		"deep":           `{"id":1,"x":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}`,
		"deep and broad": `{"id":1,"x":` + strings.Repeat("[", 3000) + strings.Repeat("1,", 200_000) + "1" + strings.Repeat("]", 3000) + `}`,
	} {
		for _, style := range []string{"brackets", "dots", "json"} {
			in := audataInput("GET", style)
			in.Data = []byte(data)
			_, err := bound(t, in.Webhook).Render(in)
			require.ErrorIs(t, err, profile.ErrURLTooLong, "%s %s", name, style)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		in := audataInput("GET", "")
		in.Data = []byte(`{"id":1,"x":"` + strings.Repeat("x", rapid.IntRange(7600, 8100).Draw(t, "length")) + `"}`)
		p := bound(t, in.Webhook)
		r, err := p.Render(in)
		if err != nil {
			require.ErrorIs(t, err, profile.ErrURLTooLong)
			return
		}
		require.NoError(t, p.Sign(r, in, profile.Attempt{Time: moment, Secrets: secrets(t, p, mustSecret(t, p))}))
		require.LessOrEqual(t, len(r.URL), profile.MaxTargetBytes)
	})
}

func TestAudataWebhooks(t *testing.T) {
	t.Parallel()
	p := lookup(t, "audata")
	for types, fine := range map[string]bool{
		"Listener.updated": true, "Prize.created": true, "A1.deleted": true,
		"": false, "*": false, "Listener.*": false, "listener.updated": false, "Listener.Updated": false, "Listener.changed": false,
		"Listener.updated,Prize.created": false, "Listener.sub.updated": false, "Listener": false, "List_ener.updated": false,
	} {
		w := fitting("audata").Webhook
		w.EventTypes = strings.Split(types, ",")
		require.Equal(t, fine, len(p.ValidateWebhook(w)) == 0, types)
	}
	for _, method := range []string{"", "POST", "GET"} {
		w := fitting("audata").Webhook
		w.Method = method
		require.Empty(t, p.ValidateWebhook(w))
	}
	w := fitting("audata").Webhook
	w.Method = "PUT"
	require.Equal(t, []fault.Violation{{Field: "webhook.method", Rule: "must be POST or GET in this profile"}}, p.ValidateWebhook(w))
	for _, u := range []string{"http://x.example/", "HTTP://x.example/", "ftp://x.example/"} {
		w := fitting("audata").Webhook
		w.Url = u
		require.Equal(t, []string{"webhook.url"}, fields(p.ValidateWebhook(w)), u)
	}
	w = fitting("audata").Webhook
	w.Url = "HtTpS://x.example/"
	require.Empty(t, p.ValidateWebhook(w))
}

// What a receiver decodes of a GET is what it decodes of a POST.
func TestAudataCarriesTheSameValuesEitherWay(t *testing.T) {
	t.Parallel()
	name := regexp.MustCompile(`^[a-z_]+$`)
	rapid.Check(t, func(t *rapid.T) {
		record := map[string]string{}
		for range rapid.IntRange(0, 8).Draw(t, "fields") {
			key := rapid.StringMatching(`[a-z_]{1,8}`).Filter(func(s string) bool { return name.MatchString(s) && s != "id" }).Draw(t, "name")
			record[key] = rapid.String().Draw(t, "value")
		}
		members := make([]string, 0, len(record))
		for k, v := range record {
			text, err := json.Marshal(v)
			require.NoError(t, err)
			members = append(members, fmt.Sprintf("%q:%s", k, text))
		}
		in := audataInput("GET", "")
		in.Data = []byte(`{"id":7` + strings.Join(append([]string{""}, members...), ",") + `}`)
		u, err := url.Parse(sent(t, in, moment).URL)
		require.NoError(t, err)
		query, err := url.ParseQuery(u.RawQuery)
		require.NoError(t, err)
		in.Webhook.Method = http.MethodPost
		var body struct {
			Event, SentAt, Station, WebhookCallID string
			SenderID                              json.Number `json:"sender_id"`
			Sender                                map[string]any
		}
		require.NoError(t, json.Unmarshal(sent(t, in, moment).Body, &body))
		want := url.Values{
			"event": {body.Event}, "sentAt": {body.SentAt}, "station": {body.Station}, "sender_id": {body.SenderID.String()}, "webhookCallId": {body.WebhookCallID},
		}
		for k, v := range body.Sender {
			want.Set("sender["+k+"]", fmt.Sprint(v))
		}
		require.Equal(t, want, query)
	})
}
