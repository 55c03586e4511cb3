package profile_test

import (
	"encoding/json"
	"net/url"
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

// moment is the source's example.
var moment = time.Date(2020, 3, 18, 6, 41, 56, 555_999_000, time.UTC)

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
