package profile_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/ecmajson"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/httpsig"
	"github.com/postrider/postrider/pkg/profile"
	"github.com/postrider/postrider/pkg/signature"
)

func lookup(t require.TestingT, name string) profile.Profile {
	p, ok := profile.Lookup(name)
	require.True(t, ok, name)
	return p
}

// deliveryID is one in the form that all have.
const deliveryID = "dlv_aaaaaaaaaabbbbbbbbbbccccce"

// release is the source's example: its body is the worked value's.
func release() *profile.Input {
	return &profile.Input{
		Delivery: &recordv1.Delivery{
			Id:          deliveryID,
			EventId:     "evt_1234567890",
			EventType:   "release.live",
			EventTime:   timestamppb.New(time.Unix(1693526400, 999_999_999)),
			ContentType: "application/json",
		},
		Webhook: &postriderv1.Webhook{Url: "https://consumer.example.com/webhooks/jewelmusic"},
		Data: []byte(`{"release_id":"rel_abc123def456","title":"My Album","artist":"Artist Name","status":"live",` +
			`"platforms":[{"name":"spotify","status":"live","url":"https://open.spotify.com/album/..."},` +
			`{"name":"apple_music","status":"live","url":"https://music.apple.com/album/..."}],` +
			`"metadata":{"isrc":"USJML2500001","upc":"123456789012","release_date":"2025-09-01"}}`),
	}
}

func secrets(t require.TestingT, p profile.Profile, texts ...string) []signature.Secret {
	out := make([]signature.Secret, len(texts))
	for i, text := range texts {
		s, err := p.ParseSecret(text)
		require.NoError(t, err)
		out[i] = s
	}
	return out
}

func TestLookup(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{
		"standard", "cloudevents", "jewelmusic", "jewelmusic-sdk", "audata", "labelst", "offblocks", "ingedata", "custom",
		"svix", "stripe", "github", "shopify", "slack", "square", "twilio",
	}, profile.Names())
	for _, name := range profile.Names() {
		require.Equal(t, name, lookup(t, name).Name())
	}
	require.Equal(t, "standard", lookup(t, "").Name())
	_, ok := profile.Lookup("nobody's")
	require.False(t, ok)
}

// fitting is an input that the profile can render, with its webhook.
func fitting(name string) *profile.Input {
	in := release()
	in.Webhook.Profile = name
	in.Webhook.EventTypes = []string{"*"}
	in.Account = &postriderv1.Account{Id: "acc_1", Subdomain: "developerfm", TimeZone: "Australia/Melbourne"}
	switch name {
	case "audata":
		in.Webhook.EventTypes = []string{"Listener.updated"}
		in.Delivery.EventType = "Listener.updated"
		in.Data = []byte(`{"id":1788495,"first_name":"John","address2":"","gender":null,"ratio":1.10}`)
	case "custom":
		in.Webhook.Options = &postriderv1.ProfileOptions{SignatureScheme: &postriderv1.SignatureScheme{
			Algorithm: "hmac-sha256", Template: "{ts}.{body}", Header: "X-Sig", Value: "t={ts},s={sig}", Multiple: "repeat",
		}}
	}
	return in
}

func bound(t require.TestingT, w *postriderv1.Webhook) profile.Profile {
	p, err := profile.For(w)
	require.NoError(t, err)
	return p
}

func signers(t require.TestingT, alg httpsig.Algorithm) []*httpsig.Signer {
	key, err := httpsig.GenerateKey(alg)
	require.NoError(t, err)
	id, err := httpsig.Thumbprint(key.Public())
	require.NoError(t, err)
	s, err := httpsig.NewSigner(alg, id, key)
	require.NoError(t, err)
	return []*httpsig.Signer{s}
}

func TestEveryProfileHoldsTheContract(t *testing.T) {
	t.Parallel()
	for _, name := range profile.Names() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := fitting(name)
			require.Empty(t, lookup(t, name).ValidateWebhook(in.Webhook))
			p := bound(t, in.Webhook)
			require.Equal(t, name, p.Name())
			require.NoError(t, p.Schedule().Validate())

			text, public, err := p.NewSecret("")
			require.NoError(t, err)
			require.Empty(t, public)
			other, _, err := p.NewSecret("hmac")
			require.NoError(t, err)
			require.NotEqual(t, text, other)
			require.Equal(t, "hmac", secrets(t, p, text)[0].Kind())
			_, _, err = p.NewSecret("rsa")
			kind, ok := fault.KindOf(err)
			require.True(t, ok)
			require.Equal(t, fault.Invalid, kind)
			_, err = p.ParseSecret("")
			require.Error(t, err)

			before, data := proto.CloneOf(in.Delivery), bytes.Clone(in.Data)
			first, err := p.Render(in)
			require.NoError(t, err)
			second, err := p.Render(in)
			require.NoError(t, err)
			require.Equal(t, first, second, "rendering is a pure function")
			require.Equal(t, http.MethodPost, first.Method)

			for _, none := range [][]signature.Secret{nil, {{}}} {
				err = p.Sign(first, in, profile.Attempt{Time: time.Unix(1, 0), Secrets: none})
				require.True(t, errors.Is(err, profile.ErrNoSecret) || errors.Is(err, profile.ErrNoSigner), "%v", err)
			}
			require.Equal(t, second.Header, first.Header, "a refused signature leaves no header")

			at := profile.Attempt{Time: time.Unix(1674087231, 0), Number: 1, Secrets: secrets(t, p, text, other), Signers: signers(t, httpsig.ECDSAP384)}
			require.NoError(t, p.Sign(first, in, at))
			bodies := map[string]bool{string(first.Body): true}
			for attempt := range 3 {
				at.Time, at.Number = at.Time.Add(time.Minute), attempt+2
				require.NoError(t, p.Sign(first, in, at))
				bodies[string(first.Body)] = true
				checkStandard(t, name, first, &at)
				for header, values := range first.Header {
					require.Equal(t, http.CanonicalHeaderKey(header), header)
					require.Len(t, values, 1, header)
					require.NotContains(t, values[0], text)
				}
			}
			require.Equal(t, name != "audata", len(bodies) == 1, "the same bytes for every attempt, but for the time in Audata's")
			require.True(t, proto.Equal(before, in.Delivery))
			require.Equal(t, data, in.Data)
		})
	}
}

// checkStandard verifies the signatures of Standard Webhooks, in the profiles that have them.
func checkStandard(t *testing.T, name string, r *profile.Rendered, at *profile.Attempt) {
	t.Helper()
	if _, scheme := signature.LookupScheme(name); scheme && !strings.HasPrefix(name, "jewelmusic") || name == "custom" || name == "offblocks" {
		require.NotEmpty(t, r.Header.Get("webhook-id"))
		return
	}
	for _, s := range at.Secrets {
		require.NoError(t, signature.VerifyStandardWebhooks(r.Header, r.Body, []signature.Secret{s}, at.Time, 0))
	}
	require.Equal(t, "evt_1234567890", r.Header.Get("webhook-id"))
}

func TestStandardSendsTheDataByteForByte(t *testing.T) {
	t.Parallel()
	p := lookup(t, "standard")
	in := release()
	for _, data := range []string{`{"a": 1.0, "a": 2}`, " \n{}\n", "\xff\x00 not JSON", ""} {
		in.Data = []byte(data)
		r, err := p.Render(in)
		require.NoError(t, err)
		require.Equal(t, data, string(r.Body))
	}
	in.Delivery.ContentType = "application/xml; charset=iso-8859-1"
	r, err := p.Render(in)
	require.NoError(t, err)
	require.Equal(t, "application/xml; charset=iso-8859-1", r.Header.Get("Content-Type"))
	in.Delivery.ContentType = ""
	r, err = p.Render(in)
	require.NoError(t, err)
	require.Equal(t, "application/json", r.Header.Get("Content-Type"))
}

func TestStandardSignsAsTheWorkedValue(t *testing.T) {
	t.Parallel()
	p := lookup(t, "standard")
	in := release()
	in.Delivery.EventId = "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"
	in.Data = []byte(`{"type":"contact.created","timestamp":"2022-11-03T20:26:10.344522Z","data":{"id":"1f81eb52-5198-4599-803e-771906343485"}}`)
	r, err := p.Render(in)
	require.NoError(t, err)
	require.NoError(t, p.Sign(r, in, profile.Attempt{
		Time: time.Unix(1674087231, 999_999_999), Secrets: secrets(t, p, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
	}))
	require.Equal(t, http.Header{
		"Content-Type":      {"application/json"},
		"Webhook-Id":        {"msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"},
		"Webhook-Timestamp": {"1674087231"},
		"Webhook-Signature": {"v1,ARw42xaAApl/nxRo+iPGYwSaMQaOwMo2eyH5JBRA+bQ="},
	}, r.Header)
}

func TestStandardMakesKeyPairs(t *testing.T) {
	t.Parallel()
	p := lookup(t, "standard")
	text, public, err := p.NewSecret("ed25519")
	require.NoError(t, err)
	s := secrets(t, p, text)[0]
	require.Equal(t, "ed25519", s.Kind())
	require.Equal(t, public, s.PublicKey())
	_, err = p.ParseSecret("no prefix")
	require.ErrorContains(t, err, "whsec_")
}

func TestStandardSchedule(t *testing.T) {
	t.Parallel()
	s := lookup(t, "standard").Schedule()
	require.Equal(t, 10, s.MaxAttempts())
	at := time.Unix(0, 0)
	for n := 1; n < s.MaxAttempts(); n++ {
		due, ok := s.Next(n, time.Unix(0, 0), at, time.Time{}, nil)
		require.True(t, ok)
		at = due
	}
	require.Equal(t, 75*time.Hour+35*time.Minute+5*time.Second, at.Sub(time.Unix(0, 0)), "as the specification's table says")
}

func TestJewelMusicGivesTheWorkedValue(t *testing.T) {
	t.Parallel()
	p := lookup(t, "jewelmusic")
	in := release()
	r, err := p.Render(in)
	require.NoError(t, err)
	require.Equal(t, `{"id":"evt_1234567890","type":"release.live","created":1693526400,"data":`+string(in.Data)+`}`, string(r.Body))

	at := profile.Attempt{Time: time.Unix(1674087231, 0), Number: 1, Secrets: secrets(t, p, "jewel_whsec_5f1d", "the older one")}
	require.NoError(t, p.Sign(r, in, at))
	require.Equal(t, "sha256=c5d39dd49a088590501178966f96ab4950e574051eb8f013904a0b888ab774af", r.Header.Get("X-JewelMusic-Signature"),
		"one signature, the newest secret's")
	require.Equal(t, "release.live", r.Header.Get("X-JewelMusic-Event"))
	require.Equal(t, "1674087231", r.Header.Get("X-JewelMusic-Timestamp"))
	require.Equal(t, "application/json", r.Header.Get("Content-Type"))
	require.NoError(t, signature.VerifyHex(r.Header.Get("X-JewelMusic-Signature"), profile.JewelMusicSignaturePrefix, r.Body, at.Secrets))

	sig := r.Header.Get("X-JewelMusic-Signature")
	at.Time = at.Time.Add(time.Minute)
	require.NoError(t, p.Sign(r, in, at))
	require.Equal(t, sig, r.Header.Get("X-JewelMusic-Signature"), "the same for every attempt")
	require.Equal(t, "1674087291", r.Header.Get("X-JewelMusic-Timestamp"), "the attempt's")
}

func TestJewelMusicWritesTheDataAsECMAScriptDoes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ data, page, sdk string }{
		"an empty object":            {`{}`, `{}`, `{}`},
		"characters that Go escapes": {"{\"s\":\"<&>\u2028\u2029\"}", "{\"s\":\"<&>\u2028\u2029\"}", "{\"s\":\"<&>\u2028\u2029\"}"},
		"escapes":                    {`{"s":"\u00e9\/\ud800"}`, `{"s":"é/\ud800"}`, `{"s":"\u00e9\/\ud800"}`},
		"numbers":                    {`{"n":9007199254740993,"f":0.1000,"e":1E+2}`, `{"n":9007199254740992,"f":0.1,"e":100}`, `{"n":9007199254740993,"f":0.1000,"e":1E+2}`},
		"repeated names":             {`{"b":1,"a":2,"b":3}`, `{"b":3,"a":2}`, `{"b":1,"a":2,"b":3}`},
		"names that are numbers":     {`{"b":1,"2":2,"1":3}`, `{"1":3,"2":2,"b":1}`, `{"b":1,"2":2,"1":3}`},
		"whitespace inside":          {`{ "a" : [ 1 ] }`, `{"a":[1]}`, `{ "a" : [ 1 ] }`},
		"whitespace around":          {" \t\r\n{\"a\":1}\n", `{"a":1}`, `{"a":1}`},
		"what lies too deep stays":   {`{"a": ` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + `}`, `{"a": ` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + `}`, `{"a": ` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + `}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := release()
			in.Data = []byte(tt.data)
			for profileName, want := range map[string]string{"jewelmusic": tt.page, "jewelmusic-sdk": tt.sdk} {
				r, err := lookup(t, profileName).Render(in)
				require.NoError(t, err)
				require.Equal(t, `{"id":"evt_1234567890","type":"release.live","created":1693526400,"data":`+want+`}`, string(r.Body))
			}
			require.Equal(t, tt.data, string(in.Data))
		})
	}
}

func TestJewelMusicCannotRender(t *testing.T) {
	t.Parallel()
	p := lookup(t, "jewelmusic")
	tests := map[string]func(in *profile.Input){
		"nothing":                    func(in *profile.Input) { in.Data = nil },
		"whitespace":                 func(in *profile.Input) { in.Data = []byte(" \n") },
		"a list":                     func(in *profile.Input) { in.Data = []byte(`[1]`) },
		"a text":                     func(in *profile.Input) { in.Data = []byte(`"x"`) },
		"null":                       func(in *profile.Input) { in.Data = []byte(`null`) },
		"an object that is cut":      func(in *profile.Input) { in.Data = []byte(`{"a":1`) },
		"two objects":                func(in *profile.Input) { in.Data = []byte(`{}{}`) },
		"XML":                        func(in *profile.Input) { in.Data = []byte(`<a/>`) },
		"a byte order mark":          func(in *profile.Input) { in.Data = []byte("\ufeff{}") },
		"whitespace that is no JSON": func(in *profile.Input) { in.Data = []byte("\v{}") },
		"an escape from the object":  func(in *profile.Input) { in.Data = []byte(`{}},"data":{`) },
		"an odd event type":          func(in *profile.Input) { in.Delivery.EventType = `x","y` },
		"an odd event id":            func(in *profile.Input) { in.Delivery.EventId = "evt_\r\nX: y" },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := release()
			change(in)
			_, err := p.Render(in)
			require.ErrorIs(t, err, profile.ErrUnrenderable)
		})
	}
}

func TestJewelMusicSchedule(t *testing.T) {
	t.Parallel()
	s := lookup(t, "jewelmusic").Schedule()
	require.Equal(t, 5, s.MaxAttempts(), "five attempts, no sixth")
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(0, 0)
		for n, want := range []time.Duration{time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour} {
			due, ok := s.Next(n+1, time.Unix(0, 0), at, time.Time{}, func() float64 { return rapid.Float64Range(0, 0.999999).Draw(t, "share") })
			require.True(t, ok)
			require.GreaterOrEqual(t, due.Sub(at), want, "never early")
			require.LessOrEqual(t, due.Sub(at), want+want/10)
			at = due
		}
		_, ok := s.Next(5, time.Unix(0, 0), at, at.Add(time.Hour), nil)
		require.False(t, ok)
	})
}

func TestJewelMusicSecretsAreTexts(t *testing.T) {
	t.Parallel()
	p := lookup(t, "jewelmusic")
	text, _, err := p.NewSecret("hmac")
	require.NoError(t, err)
	require.Regexp(t, `^[0-9a-f]{64}$`, text)
	_, _, err = p.NewSecret("ed25519")
	require.Error(t, err)

	// A text with the prefix of Standard Webhooks is a text all the same: the source's handler keys
	// its HMAC with the text.
	r, err := p.Render(release())
	require.NoError(t, err)
	const looksLike = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	require.NoError(t, p.Sign(r, release(), profile.Attempt{Time: time.Unix(1, 0), Secrets: secrets(t, p, looksLike)}))
	plain, err := signature.ParseSecret(looksLike, signature.KindText)
	require.NoError(t, err)
	require.Equal(t, "sha256="+signature.HexHMAC(plain, r.Body), r.Header.Get("X-JewelMusic-Signature"))
}

func TestJewelMusicBodyIsOneJSONObject(t *testing.T) {
	t.Parallel()
	p := lookup(t, "jewelmusic")
	rapid.Check(t, func(t *rapid.T) {
		in := release()
		in.Data = []byte(rapid.OneOf(
			rapid.StringMatching(`[ \n]?\{("[a-z]":([0-9]|"[^"\\\x00-\x1f]*"))?\}[ \n]?`),
			rapid.StringMatching(`[{}\[\]",: a1]{0,12}`),
		).Draw(t, "data"))
		r, err := p.Render(in)
		trimmed := strings.Trim(string(in.Data), " \n")
		if !json.Valid(in.Data) || trimmed[0] != '{' {
			require.ErrorIs(t, err, profile.ErrUnrenderable)
			return
		}
		require.NoError(t, err)
		var body struct {
			ID, Type string
			Created  int64
			Data     json.RawMessage
		}
		d := json.NewDecoder(bytes.NewReader(r.Body))
		d.DisallowUnknownFields()
		require.NoError(t, d.Decode(&body))
		require.NoError(t, ecmajson.Stable(r.Body), "as ECMAScript writes it")
		require.JSONEq(t, trimmed, string(body.Data))
		require.Equal(t, int64(1693526400), body.Created)
	})
}

func FuzzJewelMusic(f *testing.F) {
	f.Add([]byte(`{"a":1}`), "release.live", "evt_1")
	f.Add([]byte(" {}\n"), `"`, "\\")
	p := lookup(f, "jewelmusic")
	f.Fuzz(func(t *testing.T, data []byte, eventType, id string) {
		in := release()
		in.Data, in.Delivery.EventType, in.Delivery.EventId = data, eventType, id
		r, err := p.Render(in)
		if err != nil {
			require.ErrorIs(t, err, profile.ErrUnrenderable)
			return
		}
		require.True(t, json.Valid(r.Body))
		if _, deep := ecmajson.Append(nil, data); deep == nil {
			require.NoError(t, ecmajson.Stable(r.Body))
		}
	})
}

func TestValidateWebhook(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(w *postriderv1.Webhook)
		want   []fault.Violation
	}{
		"a plain webhook is fine":      {func(*postriderv1.Webhook) {}, nil},
		"POST may be said":             {func(w *postriderv1.Webhook) { w.Method = "POST" }, nil},
		"another method is refused":    {func(w *postriderv1.Webhook) { w.Method = "GET" }, []fault.Violation{{Field: "webhook.method", Rule: "must be POST in this profile"}}},
		"no URL is refused":            {func(w *postriderv1.Webhook) { w.Url = "" }, []fault.Violation{{Field: "webhook.url", Rule: "must be an absolute URL"}}},
		"a user in the URL is refused": {func(w *postriderv1.Webhook) { w.Url = "https://u:p@x/" }, []fault.Violation{{Field: "webhook.url", Rule: "must hold no user name and no password"}}},
		"a schedule of its own is fine": {func(w *postriderv1.Webhook) {
			w.RetrySchedule = &postriderv1.RetrySchedule{Delays: []*durationpb.Duration{durationpb.New(time.Second)}}
		}, nil},
		"every fault of a schedule is told": {func(w *postriderv1.Webhook) {
			w.RetrySchedule = &postriderv1.RetrySchedule{Delays: []*durationpb.Duration{durationpb.New(25 * time.Hour)}, Jitter: proto.Float64(2)}
		}, []fault.Violation{
			{Field: "webhook.retry_schedule.delays[0]", Rule: "must be 0 s to 24 h"},
			{Field: "webhook.retry_schedule.jitter", Rule: "must be 0 to 1"},
		}},
		"a header is fine": {func(w *postriderv1.Webhook) { w.Headers = map[string]string{"Authorization": "Bearer x"} }, nil},
		"headers of ours are refused": {func(w *postriderv1.Webhook) { w.Headers = map[string]string{"webhook-id": "x", "HOST": "y"} }, []fault.Violation{
			{Field: `webhook.headers["HOST"]`, Rule: "the header is reserved"},
			{Field: `webhook.headers["webhook-id"]`, Rule: "the header is reserved"},
		}},
		"the same header twice is refused": {func(w *postriderv1.Webhook) { w.Headers = map[string]string{"x-a": "1", "X-A": "2"} }, []fault.Violation{
			{Field: "webhook.headers", Rule: "names must differ in more than case"},
		}},
		"too many headers are refused": {func(w *postriderv1.Webhook) {
			w.Headers = map[string]string{}
			for i := range 21 {
				w.Headers["X-"+strings.Repeat("a", i+1)] = "v"
			}
		}, []fault.Violation{{Field: "webhook.headers", Rule: "must be at most 20"}}},
	}
	for _, name := range profile.Names() {
		for test, tt := range tests {
			t.Run(name+": "+test, func(t *testing.T) {
				t.Parallel()
				if name == "audata" && test == "another method is refused" {
					return // it has both
				}
				w := fitting(name).Webhook
				tt.change(w)
				require.Equal(t, tt.want, lookup(t, name).ValidateWebhook(w))
			})
		}
	}
	w := proto.CloneOf(release().Webhook)
	w.Headers = map[string]string{"x-JEWELMUSIC-event": "x"}
	require.Empty(t, lookup(t, "standard").ValidateWebhook(w))
	require.Equal(t, []fault.Violation{{Field: `webhook.headers["x-JEWELMUSIC-event"]`, Rule: "is set by the profile"}}, lookup(t, "jewelmusic").ValidateWebhook(w))
}

func TestCheckHeader(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]string{
		"Authorization": "Bearer x", "X-Custom": "", "x-lower": "päck chen", "User-Agent": "mine/1.0", "Cookie": "a=b",
	} {
		require.NoError(t, profile.CheckHeader(name, value), name)
	}
	for _, name := range []string{
		"", "a b", "a:b", "a\r\nb", "é", "Host", "host", "Content-Type", "content-length", "Content-Anything", "Transfer-Encoding",
		"Connection", "webhook-id", "Webhook-Whatever", "signature", "Signature-Input", "SIGNATURE-AGENT", "traceparent", "Tracestate",
		"Keep-Alive", "TE", "Trailer", "Upgrade", "Proxy-Authorization", "Expect", "HTTP2-Settings",
	} {
		require.Error(t, profile.CheckHeader(name, "v"), name)
	}
	for _, value := range []string{"a\r\nX: y", "a\nb", "a\rb", "a\x00b", "\x7f", " a", "a\t", strings.Repeat("v", profile.MaxHeaderBytes)} {
		require.Error(t, profile.CheckHeader("X-A", value), "%q", value)
	}
}

func TestMergeHeadersNeverOverridesOurs(t *testing.T) {
	t.Parallel()
	for _, name := range profile.Names() {
		in := fitting(name)
		p := bound(t, in.Webhook)
		r, err := p.Render(in)
		require.NoError(t, err)
		at := profile.Attempt{Time: time.Unix(1, 0), Secrets: secrets(t, p, mustSecret(t, p)), Signers: signers(t, httpsig.Ed25519)}
		require.NoError(t, p.Sign(r, in, at))
		want := r.Header.Clone()
		custom := map[string]string{"x-mine": "1", "Host": "evil.example", "Bad": "a\r\nb", "webhook-extra": "x"}
		for name := range want {
			custom[strings.ToLower(name)] = "evil"
		}
		profile.MergeHeaders(r.Header, custom)
		want.Set("X-Mine", "1")
		require.Equal(t, want, r.Header)

		// Merging before signing is as safe.
		r, err = p.Render(in)
		require.NoError(t, err)
		profile.MergeHeaders(r.Header, custom)
		require.NoError(t, p.Sign(r, in, at))
		require.Equal(t, want, r.Header)
	}
}

func mustSecret(t require.TestingT, p profile.Profile) string {
	text, _, err := p.NewSecret("")
	require.NoError(t, err)
	return text
}

func FuzzCheckHeader(f *testing.F) {
	f.Add("X-A", "v")
	f.Add("webhook-id", "v\r\n")
	f.Fuzz(func(t *testing.T, name, value string) {
		if profile.CheckHeader(name, value) != nil {
			return
		}
		var out bytes.Buffer
		h := http.Header{}
		profile.MergeHeaders(h, map[string]string{name: value})
		require.NoError(t, h.Write(&out))
		require.Equal(t, http.CanonicalHeaderKey(name)+": "+value+"\r\n", out.String(), "one line, as given")
	})
}

func BenchmarkRenderAndSign(b *testing.B) {
	for _, name := range profile.Names() {
		b.Run(name, func(b *testing.B) {
			in := fitting(name)
			p := bound(b, in.Webhook)
			in.Data = []byte(`{"id":1,"text":"` + strings.Repeat("x", 1000) + `"}`)
			at := profile.Attempt{Time: time.Unix(1674087231, 0), Secrets: secrets(b, p, mustSecret(b, p)), Signers: signers(b, httpsig.ECDSAP384)}
			b.ReportAllocs()
			for b.Loop() {
				r, err := p.Render(in)
				if err = errors.Join(err, p.Sign(r, in, at)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
