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
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/httpsig"
	"github.com/postrider/postrider/pkg/profile"
	"github.com/postrider/postrider/pkg/signature"
)

// sent renders and signs for an attempt at a time.
func sent(t require.TestingT, in *profile.Input, at time.Time, texts ...string) *profile.Rendered {
	p := bound(t, in.Webhook)
	if len(texts) == 0 {
		texts = []string{mustSecret(t, p)}
	}
	r, err := p.Render(in)
	require.NoError(t, err)
	alg, _ := profile.SigningAlgorithm(in.Webhook)
	require.NoError(t, p.Sign(r, in, profile.Attempt{Time: at, Number: 1, Secrets: secrets(t, p, texts...), Signers: signers(t, alg)}))
	return r
}

func unrenderable(t *testing.T, in *profile.Input) {
	t.Helper()
	_, err := bound(t, in.Webhook).Render(in)
	require.ErrorIs(t, err, profile.ErrUnrenderable)
}

const labelToken, olderToken = "whtok_7f3c9a1e5b2d4c6880aa11bb22cc33dd", "whtok_00000000000000000000000000000000"

func TestLabelSendsTokenTypeAndRequestByteForByte(t *testing.T) {
	t.Parallel()
	for name, data := range map[string]string{
		"times and decimals keep their text": `{"data":{"updated":"2024-05-08 18:36:47.2137","score":"100.0000000000000000","n":100.0000000000000000}}`,
		"repeated names":                     `{"name":"Allo Martin","name":"Cecillie Carpenter"}`,
		"escapes, order and whitespace":      " { \"b\" : \"\\u00e9\\/<&>\u2028\", \"a\" : 9007199254740993 } \n",
		"a value of no object":               `[1,"x",null]`,
		"lone surrogates":                    `{"s":"\ud800"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := fitting("labelst")
			in.Delivery.EventType, in.Data = "release.created", []byte(data)
			r := sent(t, in, time.Unix(1674087231, 0), labelToken, olderToken)
			require.Equal(t, `{"token":"`+labelToken+`","type":"release.created","request":`+data+`}`, string(r.Body))
			require.Equal(t, []string{"application/json"}, r.Header["Content-Type"])
			require.Equal(t, []string{labelToken, olderToken}, r.Sensitive)
			for header, values := range r.Header {
				require.NotContains(t, strings.Join(values, " "), labelToken, header)
			}
		})
	}
	for _, data := range []string{"", "not JSON", "{", `{}},"x":{`, "\ufeff{}"} {
		in := fitting("labelst")
		in.Data = []byte(data)
		unrenderable(t, in)
	}
	in := fitting("labelst")
	in.Delivery.EventType = `x","token":"y`
	unrenderable(t, in)
}

func TestLabelTokens(t *testing.T) {
	t.Parallel()
	p := lookup(t, "labelst")
	seen := map[string]bool{}
	for range 100 {
		text := mustSecret(t, p)
		require.Regexp(t, `^whtok_[0-9a-f]{32}$`, text)
		require.False(t, seen[text])
		seen[text] = true
	}
	for _, text := range []string{"", "whtok_", strings.ToUpper(labelToken), labelToken + "00", labelToken[:36], "whsec_" + labelToken[6:], labelToken[:37] + "g", "WHTOK_" + labelToken[6:], labelToken[:36] + "AA"} {
		_, err := p.ParseSecret(text)
		require.Error(t, err, text)
		require.NotContains(t, err.Error(), "7f3c9a")
	}
	_, _, err := p.NewSecret("ed25519")
	require.Error(t, err)
}

func TestLabelWebhooksGetEveryEvent(t *testing.T) {
	t.Parallel()
	p := lookup(t, "labelst")
	scopes, err := structpb.NewStruct(map[string]any{"a": 1})
	require.NoError(t, err)
	w := fitting("labelst").Webhook
	w.EventTypes, w.Filter, w.Scopes = []string{"release.created"}, "true", scopes
	require.Equal(t, []string{"webhook.event_types", "webhook.filter", "webhook.scopes"}, fields(p.ValidateWebhook(w)))
	w = fitting("labelst").Webhook
	w.Options = &postriderv1.ProfileOptions{RequireVerification: true}
	require.Empty(t, p.ValidateWebhook(w))
}

func fields(violations []fault.Violation) []string {
	out := make([]string, len(violations))
	for i, v := range violations {
		out[i] = v.Field
	}
	return out
}

func TestJewelMusicSDKSignsTheTime(t *testing.T) {
	t.Parallel()
	in := release()
	in.Webhook.Profile = "jewelmusic-sdk"
	at := time.Unix(1674087231, 0)
	r := sent(t, in, at, "jewel_whsec_5f1d", "the older one")
	key, err := signature.ParseSecret("jewel_whsec_5f1d", signature.KindText)
	require.NoError(t, err)
	want := "t=1674087231,v1=" + signature.HexHMAC(key, []byte("1674087231."+string(r.Body)))
	require.Equal(t, want, r.Header.Get("X-JewelMusic-Signature"), "one signature, the newest secret's")
	require.Equal(t, "1674087231", r.Header.Get("X-JewelMusic-Timestamp"))
	require.Equal(t, "release.live", r.Header.Get("X-JewelMusic-Event"))
	require.Equal(t, lookup(t, "jewelmusic").Schedule(), lookup(t, "jewelmusic-sdk").Schedule())
}

func TestIngedataSendsTheAdvisedPayload(t *testing.T) {
	t.Parallel()
	in := fitting("ingedata")
	in.Delivery.EventTime = timestamppb.New(time.Date(2022, 11, 3, 20, 26, 10, 344522000, time.UTC))
	in.Data = []byte(` {"b": 1.10, "a":"<é>"} `)
	r := sent(t, in, time.Unix(1674087231, 0), "s3cr3t")
	want := `{"type":"release.live","timestamp":"2022-11-03T20:26:10.344522Z","data":{"b": 1.10, "a":"<é>"}}`
	require.Equal(t, want, string(r.Body))
	raw, err := signature.ParseSecret("s3cr3t", signature.KindText)
	require.NoError(t, err)
	require.Equal(t, "sha256="+signature.HexHMAC(raw, r.Body), r.Header.Get("X-Webhook-Signature"))
	require.NoError(t, signature.VerifyStandardWebhooks(r.Header, r.Body, []signature.Secret{raw}, time.Unix(1674087231, 0), 0))

	const encoded = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	r = sent(t, in, time.Unix(1674087231, 0), encoded)
	decoded, err := signature.ParseSecret(encoded, signature.KindHMAC)
	require.NoError(t, err)
	require.Equal(t, "sha256="+signature.HexHMAC(decoded, r.Body), r.Header.Get("X-Webhook-Signature"))

	in.Data = []byte("no JSON")
	unrenderable(t, in)
}

func TestOffBlocksSendsTheEntityFlat(t *testing.T) {
	t.Parallel()
	id := profile.EventUUID("evt_1234567890")
	require.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, id)
	for name, tt := range map[string]struct{ data, rest string }{
		"members keep their bytes":      {`{"id":"29ca152b","createdAt":"2024-01-24T14:18:37.749861007Z","n":1.10, "x" : {"b":[1 ,2],"a":"\u00e9"} }`, `,"id":"29ca152b","createdAt":"2024-01-24T14:18:37.749861007Z","n":1.10, "x" : {"b":[1 ,2],"a":"\u00e9"} }`},
		"an empty entity":               {"{ \n }", `}`},
		"members of our names give way": {`{"eventId":"x","a":1,"webhookType":{"y":2},"b" : 2}`, `,"a":1,"b" : 2}`},
		"however they are written":      {`{"event\u0049d":"x", "a":1}`, `,"a":1}`},
		"but not within":                {`{"a":{"eventId":"x"}}`, `,"a":{"eventId":"x"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := fitting("offblocks")
			in.Delivery.EventType, in.Data = "customer.updated", []byte(tt.data)
			at := time.Unix(1706105917, 0)
			r := sent(t, in, at)
			require.Equal(t, `{"webhookType":"customer.updated","eventId":"`+id+`"`+tt.rest, string(r.Body))
			require.True(t, json.Valid(r.Body))
			require.Equal(t, id, r.Header.Get("Webhook-Id"))
			require.Equal(t, "1706105917", r.Header.Get("Webhook-Timestamp"))
			require.Equal(t, httpsig.ContentDigest(r.Body), r.Header.Get("Content-Digest"))
			require.Regexp(t, `^sig1=\("@method" "@target-uri" "content-type" "content-digest" "webhook-id" "webhook-timestamp"\);created=1706105917;expires=1706106217;`+
				`keyid="[^"]+";alg="ecdsa-p384-sha384";tag="webhook"$`, r.Header.Get("Signature-Input"))
			require.NotContains(t, r.Header, "Webhook-Signature")
		})
	}
	for _, data := range []string{"[1]", "", "1", `{"a":1`} {
		in := fitting("offblocks")
		in.Data = []byte(data)
		unrenderable(t, in)
	}
	require.NotEqual(t, id, profile.EventUUID("evt_1234567891"))
}

func TestOffBlocksTriesForADay(t *testing.T) {
	t.Parallel()
	s := lookup(t, "offblocks").Schedule()
	rapid.Check(t, func(t *rapid.T) {
		first := time.Unix(1000, 0)
		took := time.Duration(rapid.Int64Range(0, int64(20*time.Second)).Draw(t, "took"))
		end, minute, attempts := first.Add(took), 1, 1
		for {
			due, ok := s.Next(attempts, first, end, time.Time{}, func() float64 { return rapid.Float64Range(0, 0.999999).Draw(t, "share") })
			if !ok {
				break
			}
			attempts++
			require.Less(t, due.Sub(first), 24*time.Hour)
			if due.Sub(first) < time.Minute {
				minute++
			}
			end = due.Add(took)
		}
		require.GreaterOrEqual(t, minute, 3, "attempts in the first minute")
		require.Greater(t, end.Sub(first), 16*time.Hour, "it does not give up early")
	})
	require.Equal(t, httpsig.ECDSAP384, algorithm(t, &postriderv1.Webhook{Profile: "offblocks"}))
}

func algorithm(t *testing.T, w *postriderv1.Webhook) httpsig.Algorithm {
	t.Helper()
	alg, ok := profile.SigningAlgorithm(w)
	require.True(t, ok)
	return alg
}

func TestEveryProfileCanCarryAMessageSignature(t *testing.T) {
	t.Parallel()
	at := time.Unix(1674087231, 0)
	for _, name := range profile.Names() {
		for _, mode := range []string{"target-uri", "authority-parts"} {
			t.Run(name+" "+mode, func(t *testing.T) {
				t.Parallel()
				in := fitting(name)
				if in.Webhook.Options == nil {
					in.Webhook.Options = &postriderv1.ProfileOptions{}
				}
				in.Webhook.Options.MessageSignature = mode
				require.Empty(t, lookup(t, name).ValidateWebhook(in.Webhook))
				p := bound(t, in.Webhook)
				require.Equal(t, name, p.Name())
				r, err := p.Render(in)
				require.NoError(t, err)
				alg := algorithm(t, in.Webhook)
				keys := append(signers(t, alg), signers(t, alg)...)
				before := r.Header.Clone()
				require.ErrorIs(t, p.Sign(r, in, profile.Attempt{Time: at, Secrets: secrets(t, p, mustSecret(t, p))}), profile.ErrNoSigner)
				require.Equal(t, before, r.Header)
				require.NoError(t, p.Sign(r, in, profile.Attempt{Time: at, Secrets: secrets(t, p, mustSecret(t, p)), Signers: keys}))
				input := r.Header.Get("Signature-Input")
				require.Contains(t, input, `sig1=(`)
				require.Contains(t, input, `, sig2=(`)
				require.Contains(t, input, `"content-digest"`)
				require.Contains(t, input, `"webhook-id"`)
				require.Equal(t, mode == "target-uri", strings.Contains(input, `"@target-uri"`))
				require.Equal(t, mode == "authority-parts", strings.Contains(input, `"@authority" "@path" "@query"`))
				require.Equal(t, httpsig.ContentDigest(r.Body), r.Header.Get("Content-Digest"))
			})
		}
	}
	_, signed := profile.SigningAlgorithm(&postriderv1.Webhook{Profile: "standard"})
	require.False(t, signed)
	_, signed = profile.SigningAlgorithm(&postriderv1.Webhook{Profile: "standard", Options: &postriderv1.ProfileOptions{MessageSignature: "none"}})
	require.False(t, signed)
}

func TestOptionsThatAProfileDoesNotKnowAreRefused(t *testing.T) {
	t.Parallel()
	know := map[string][]string{
		"query_style": {"audata"}, "cloudevents_mode": {"cloudevents"}, "handshake": {"cloudevents"},
		"require_verification": {"labelst"}, "signature_scheme": {"custom"},
	}
	values := map[string]*postriderv1.ProfileOptions{
		"query_style": {QueryStyle: "dots"}, "cloudevents_mode": {CloudeventsMode: "binary"}, "handshake": {Handshake: "required"},
		"require_verification": {RequireVerification: true},
		"signature_scheme":     {SignatureScheme: &postriderv1.SignatureScheme{Algorithm: "hmac-sha1", Template: "{body}", Header: "X-S"}},
	}
	for _, name := range profile.Names() {
		for option, value := range values {
			w := fitting(name).Webhook
			scheme := w.GetOptions().GetSignatureScheme()
			w.Options = value
			if name == "custom" && value.GetSignatureScheme() == nil {
				w.Options = &postriderv1.ProfileOptions{
					QueryStyle: value.GetQueryStyle(), CloudeventsMode: value.GetCloudeventsMode(), Handshake: value.GetHandshake(),
					RequireVerification: value.GetRequireVerification(), SignatureScheme: scheme,
				}
			}
			known := false
			for _, n := range know[option] {
				known = known || n == name
			}
			got := lookup(t, name).ValidateWebhook(w)
			if known {
				require.Empty(t, got, "%s %s", name, option)
			} else {
				require.Equal(t, []fault.Violation{{Field: "webhook.options." + option, Rule: "is not known in this profile"}}, got, "%s %s", name, option)
			}
		}
	}
	for option, bad := range map[string]*postriderv1.Webhook{
		"query_style":       {Profile: "audata", Options: &postriderv1.ProfileOptions{QueryStyle: "slashes"}},
		"cloudevents_mode":  {Profile: "cloudevents", Options: &postriderv1.ProfileOptions{CloudeventsMode: "batch"}},
		"handshake":         {Profile: "cloudevents", Options: &postriderv1.ProfileOptions{Handshake: "yes"}},
		"message_signature": {Profile: "standard", Options: &postriderv1.ProfileOptions{MessageSignature: "both"}},
	} {
		w := fitting(bad.GetProfile()).Webhook
		w.Options = bad.GetOptions()
		require.Equal(t, []string{"webhook.options." + option}, fields(lookup(t, bad.GetProfile()).ValidateWebhook(w)))
	}
	w := fitting("offblocks").Webhook
	w.Options = &postriderv1.ProfileOptions{MessageSignature: "none"}
	require.Equal(t, []string{"webhook.options.message_signature"}, fields(lookup(t, "offblocks").ValidateWebhook(w)))
}

func TestCustomSignsAsItsWebhookSays(t *testing.T) {
	t.Parallel()
	in := fitting("custom")
	r := sent(t, in, time.Unix(1674087231, 0), "new", "old")
	newer, err := signature.ParseSecret("new", signature.KindText)
	require.NoError(t, err)
	older, err := signature.ParseSecret("old", signature.KindText)
	require.NoError(t, err)
	content := []byte("1674087231." + string(in.Data))
	require.Equal(t, "t=1674087231,s="+signature.HexHMAC(newer, content)+",s="+signature.HexHMAC(older, content), r.Header.Get("X-Sig"))
	require.Equal(t, in.Data, r.Body)

	// The profile as Lookup finds it renders and signs the same, and has no secrets of its own.
	plain := lookup(t, "custom")
	again, err := plain.Render(in)
	require.NoError(t, err)
	require.NoError(t, plain.Sign(again, in, profile.Attempt{Time: time.Unix(1674087231, 0), Secrets: []signature.Secret{newer, older}}))
	require.Equal(t, r.Header, again.Header)
	_, _, err = plain.NewSecret("")
	require.Error(t, err)
	_, err = plain.ParseSecret("x")
	require.Error(t, err)

	w := fitting("custom").Webhook
	w.Options.SignatureScheme = &postriderv1.SignatureScheme{Algorithm: "md5", Header: "Host"}
	got := fields(plain.ValidateWebhook(w))
	require.Contains(t, got, "webhook.options.signature_scheme.algorithm")
	require.Contains(t, got, "webhook.options.signature_scheme.header")
	require.Contains(t, got, "webhook.options.signature_scheme.template")
	_, err = profile.For(w)
	require.Error(t, err)
	w.Options = nil
	require.Equal(t, []string{"webhook.options.signature_scheme"}, fields(plain.ValidateWebhook(w)))
	w = fitting("custom").Webhook
	w.Headers = map[string]string{"x-sig": "mine"}
	require.Equal(t, []fault.Violation{{Field: `webhook.headers["x-sig"]`, Rule: "is set by the profile"}}, plain.ValidateWebhook(w))
	_, err = profile.For(&postriderv1.Webhook{Profile: "pigeon"})
	require.Error(t, err)
}

func TestNamedSchemesSetTheirHeaders(t *testing.T) {
	t.Parallel()
	at := time.Unix(1674087231, 0)
	for name, want := range map[string][]string{
		"github":  {"X-Github-Event", "X-Github-Delivery", "X-Hub-Signature-256"},
		"stripe":  {"Stripe-Signature"},
		"shopify": {"X-Shopify-Topic", "X-Shopify-Hmac-Sha256"},
		"slack":   {"X-Slack-Signature", "X-Slack-Request-Timestamp"},
		"square":  {"X-Square-Hmacsha256-Signature"},
		"svix":    {"Svix-Id", "Svix-Timestamp", "Svix-Signature"},
		"twilio":  {"X-Twilio-Signature"},
	} {
		r := sent(t, fitting(name), at)
		for _, header := range want {
			require.NotEmpty(t, r.Header[header], "%s %s", name, header)
		}
		require.Equal(t, "evt_1234567890", r.Header.Get("Webhook-Id"))
		w := fitting(name).Webhook
		w.Headers = map[string]string{strings.ToLower(want[0]): "mine"}
		require.Len(t, lookup(t, name).ValidateWebhook(w), 1, name)
	}
	require.Contains(t, sent(t, fitting("twilio"), at).URL, "?bodySHA256=")
	in := fitting("twilio")
	in.Delivery.ContentType, in.Data = "application/x-www-form-urlencoded", []byte("a=%zz")
	unrenderable(t, in)
}

func cloudEvent(mode string) *profile.Input {
	in := fitting("cloudevents")
	in.Webhook.Options = &postriderv1.ProfileOptions{CloudeventsMode: mode}
	in.Delivery.EventSource, in.Delivery.EventGivenId = "https://label.example/ö", "a b%\"c"
	in.Delivery.Extensions = map[string]string{"subject": "sub<é>\u2028", "dataschema": "https://s.example", "id": "evil", "ext1": "x"}
	in.Delivery.EventTime = timestamppb.New(time.Date(2018, 4, 5, 17, 31, 0, 0, time.UTC))
	return in
}

func TestCloudEventsInBinaryMode(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"", "binary"} {
		in := cloudEvent(mode)
		in.Delivery.ContentType, in.Data = "text/xml", []byte("<a/>\n")
		r := sent(t, in, time.Unix(1, 0))
		require.Equal(t, "<a/>\n", string(r.Body))
		for header, want := range map[string]string{
			"Content-Type": "text/xml", "Ce-Specversion": "1.0", "Ce-Id": "a%20b%25%22c", "Ce-Source": "https://label.example/%C3%B6",
			"Ce-Type": "release.live", "Ce-Time": "2018-04-05T17:31:00Z", "Ce-Subject": "sub<%C3%A9>%E2%80%A8", "Ce-Dataschema": "https://s.example", "Ce-Ext1": "x",
		} {
			require.Equal(t, []string{want}, r.Header[header], header)
		}
		require.NotContains(t, r.Header, "Ce-Datacontenttype")
		require.NotContains(t, r.Header, "Webhook-Request-Origin")
	}
	in := fitting("cloudevents")
	in.Delivery.AccountId = "acc_1"
	r := sent(t, in, time.Unix(1, 0))
	require.Equal(t, "evt_1234567890", r.Header.Get("Ce-Id"))
	require.Equal(t, "/accounts/acc_1", r.Header.Get("Ce-Source"))
	w := fitting("cloudevents").Webhook
	w.Headers = map[string]string{"ce-x": "1"}
	require.Len(t, lookup(t, "cloudevents").ValidateWebhook(w), 1)
}

func TestCloudEventsInStructuredMode(t *testing.T) {
	t.Parallel()
	const head = `{"specversion":"1.0","id":"a b%\"c","source":"https://label.example/ö","type":"release.live","time":"2018-04-05T17:31:00Z",` +
		`"dataschema":"https://s.example","ext1":"x","subject":"sub<é>\u2028"`
	for name, tt := range map[string]struct{ contentType, data, rest string }{
		"JSON, byte for byte":       {"application/json", `{"b":1.0, "a":"\u00e9"}`, `,"datacontenttype":"application/json","data":{"b":1.0, "a":"\u00e9"}}`},
		"a type of JSON":            {"application/vnd.api+json; charset=utf-8", `[1]`, `,"datacontenttype":"application/vnd.api+json; charset=utf-8","data":[1]}`},
		"without a type":            {"", `1`, `,"datacontenttype":"application/json","data":1}`},
		"XML, in base64":            {"text/xml", `<a/>`, `,"datacontenttype":"text/xml","data_base64":"PGEvPg=="}`},
		"what is no JSON after all": {"application/json", "\xff", `,"datacontenttype":"application/json","data_base64":"/w=="}`},
		"no data":                   {"application/json", "", `}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := cloudEvent("structured")
			in.Delivery.ContentType, in.Data = tt.contentType, []byte(tt.data)
			r := sent(t, in, time.Unix(1, 0))
			require.Equal(t, head+tt.rest, string(r.Body))
			require.True(t, json.Valid(r.Body))
			require.Equal(t, "application/cloudevents+json", r.Header.Get("Content-Type"))
			require.NotContains(t, r.Header, "Ce-Id")
		})
	}
}

func TestConsentIsToldWithEveryDelivery(t *testing.T) {
	t.Parallel()
	in := cloudEvent("")
	in.Webhook.Handshake = &postriderv1.Handshake{Consented: true, Origin: "postrider.example", AllowedRate: 90}
	require.NotContains(t, sent(t, in, time.Unix(1, 0)).Header, "Webhook-Request-Origin", "the handshake is off")
	require.Zero(t, profile.AllowedRate(in.Webhook))
	in.Webhook.Options.Handshake = "required"
	require.Equal(t, "postrider.example", sent(t, in, time.Unix(1, 0)).Header.Get("WebHook-Request-Origin"))
	require.InDelta(t, 1.5, profile.AllowedRate(in.Webhook), 1e-9)
	in.Webhook.Handshake.Consented = false
	require.NotContains(t, sent(t, in, time.Unix(1, 0)).Header, "Webhook-Request-Origin")
}

const sender = `{
        "id": 1788495,
        "first_name": "John",
        "address2": "",
        "gender": null,
        "created_at": "2020-02-26T09:50:31.759+11:00",
        "balance": 10.500, "ok": true,
        "custom_data": {"k": "v & w=ü+", "deep": {"x": []}},
        "tags": ["a", "b"], "prizes": [{"id": 1}, {"id": 2}]
    }`

func audataInput(method, style string) *profile.Input {
	in := fitting("audata")
	in.Webhook.Method = method
	in.Webhook.Url = "https://consumer.example.com/hook"
	in.Webhook.Options = &postriderv1.ProfileOptions{QueryStyle: style}
	in.Data = []byte(sender)
	return in
}

// moment is the source's example.
var moment = time.Date(2020, 3, 18, 6, 41, 56, 555_999_000, time.UTC)

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

func FuzzRender(f *testing.F) {
	for _, data := range []string{`{"id":1}`, sender, `[]`, "", `{"id":1,"a":[{"b":[]}]}`, "\xff"} {
		f.Add([]byte(data), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, get bool) {
		for _, name := range profile.Names() {
			in := fitting(name)
			if name == "audata" && get {
				in.Webhook.Method = "GET"
			}
			in.Data = data
			p := bound(t, in.Webhook)
			r, err := p.Render(in)
			if err != nil {
				continue
			}
			text, _, err := p.NewSecret("")
			require.NoError(t, err)
			if name == "offblocks" {
				require.True(t, json.Valid(r.Body))
				continue
			}
			require.NoError(t, p.Sign(r, in, profile.Attempt{Time: moment, Secrets: secrets(t, p, text)}))
			if r.Header.Get("Content-Type") == "application/json" && json.Valid(data) {
				require.True(t, json.Valid(r.Body), name)
			}
			if _, err := url.Parse(r.URL); err != nil {
				t.Error(name, err)
			}
		}
	})
}
