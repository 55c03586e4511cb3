package verify_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/signature"
	"github.com/postrider/postrider/pkg/verify"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

const (
	inbox   = "https://consumer.example.com/hooks/in?tenant=7&x=a%20b"
	private = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
	public  = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
	whsec   = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	jewel   = "jewel_whsec_5f1d"
)

var sent = time.Unix(1674087231, 0)

func clock() time.Time { return sent.Add(time.Second) }

// request is one that a server read.
func request(t *testing.T, url, body string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	r.RequestURI = r.URL.RequestURI() // as clients send it
	r.Header.Set("Content-Type", "application/json")
	return r
}

// A form is a way to sign and to verify.
type form struct {
	sign   func(t *testing.T, r *http.Request, body string, at time.Time)
	verify func(opts verify.Options) (*verify.Verifier, error)
	wrong  func(opts verify.Options) (*verify.Verifier, error)
	// What the signature covers.
	body, url, id, time bool
}

func standardForm(texts []string, kind string, keys ...string) form {
	return form{
		sign: func(t *testing.T, r *http.Request, body string, at time.Time) {
			t.Helper()
			var secrets []signature.Secret
			for _, text := range texts {
				s, err := signature.ParseSecret(text, kind)
				require.NoError(t, err)
				secrets = append(secrets, s)
			}
			r.Header.Set("webhook-id", "evt_1")
			r.Header.Set("webhook-timestamp", stamp(at))
			r.Header.Set("webhook-signature", signature.StandardWebhooks("evt_1", at, []byte(body), secrets))
		},
		verify: func(o verify.Options) (*verify.Verifier, error) {
			if kind == signature.KindText {
				return verify.StandardText(keys, o)
			}
			return verify.Standard(keys, o)
		},
		wrong: func(o verify.Options) (*verify.Verifier, error) {
			return verify.Standard([]string{signature.GenerateHMAC()}, o)
		},
		body: true, id: true, time: true,
	}
}

func schemeForm(name string, s *signature.Scheme, texts []string, f form) form {
	f.sign = func(t *testing.T, r *http.Request, body string, at time.Time) {
		t.Helper()
		var secrets []signature.Secret
		for _, text := range texts {
			secret, err := s.ParseSecret(text)
			require.NoError(t, err)
			secrets = append(secrets, secret)
		}
		url, err := s.Target("https://"+r.Host+r.RequestURI, r.Header.Get("Content-Type"), []byte(body))
		require.NoError(t, err)
		r.RequestURI = strings.TrimPrefix(url, "https://"+r.Host)
		m := signature.SchemeMessage{
			ID: "evt_1", Type: "a.b", Delivery: "dlv_1", Time: at, Method: r.Method, URL: url, ContentType: r.Header.Get("Content-Type"), Body: []byte(body),
		}
		require.NoError(t, s.Sign(r.Header, m, secrets))
	}
	f.verify = func(o verify.Options) (*verify.Verifier, error) {
		if name == "" {
			return verify.Custom(s, texts, o)
		}
		return verify.Scheme(name, texts, o)
	}
	f.wrong = func(o verify.Options) (*verify.Verifier, error) {
		text, _ := s.GenerateSecret()
		return verify.Custom(s, []string{text}, o)
	}
	return f
}

func forms(t *testing.T) map[string]form {
	t.Helper()
	other := signature.GenerateHMAC()
	all := map[string]form{
		"Standard Webhooks v1":                     standardForm([]string{whsec}, signature.KindHMAC, whsec),
		"Standard Webhooks v1 in a rotation":       standardForm([]string{other, whsec}, signature.KindHMAC, whsec),
		"Standard Webhooks v1a":                    standardForm([]string{private}, signature.KindEd25519, public),
		"Standard Webhooks of a text, several":     standardForm([]string{jewel}, signature.KindText, "other", jewel),
		"message signatures, target-uri":           messageForm(t, verify.TargetURI),
		"message signatures, authority-parts":      messageForm(t, verify.AuthorityParts),
		"message signatures of two keys, rotating": rotatingForm(t),
	}
	for name, covers := range map[string]form{
		"svix":           {body: true, id: true, time: true},
		"stripe":         {body: true, time: true},
		"github":         {body: true},
		"shopify":        {body: true},
		"slack":          {body: true, time: true},
		"square":         {body: true, url: true},
		"twilio":         {body: true, url: true},
		"jewelmusic":     {body: true},
		"jewelmusic-sdk": {body: true, time: true},
	} {
		s, ok := signature.LookupScheme(name)
		require.True(t, ok)
		text, _ := s.GenerateSecret()
		all[name] = schemeForm(name, s, []string{text}, covers)
	}
	s, err := signature.ParseScheme(&postriderv1.SignatureScheme{
		Algorithm: "ed25519", Template: "{ts_ms}{method}{url}{body}", Header: "X-Sig", Value: "{ts_ms}:{sig}",
	})
	require.NoError(t, err)
	text, _ := s.GenerateSecret()
	all["a scheme of one's own"] = schemeForm("", s, []string{text}, form{body: true, url: true, time: true})
	return all
}

func TestEveryFormVerifiesAndRefuses(t *testing.T) {
	t.Parallel()
	for name, f := range forms(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := verify.Options{Now: clock}
			v, err := f.verify(opts)
			require.NoError(t, err)
			wrong, err := f.wrong(opts)
			require.NoError(t, err)
			signed := func(body string, at time.Time) *http.Request {
				r := request(t, inbox, body)
				f.sign(t, r, body, at)
				return r
			}
			for _, body := range tricky() {
				m, err := v.Verify(signed(body, sent), []byte(body))
				require.NoError(t, err)
				require.Equal(t, body, string(m.Body))
				require.Equal(t, f.time, !m.Time.IsZero())
				if f.time {
					require.True(t, sent.Equal(m.Time))
				}
				require.Equal(t, f.id, m.ID == "evt_1", m.ID)
				_, err = v.Verify(signed(body, sent), []byte(body+"x"))
				require.ErrorIs(t, err, verify.ErrNoMatch, "a tampered body")
			}
			const body = `{"a":1}`
			_, err = wrong.Verify(signed(body, sent), []byte(body))
			require.ErrorIs(t, err, verify.ErrNoMatch, "a wrong secret")

			r := signed(body, sent)
			r.RequestURI = strings.Replace(r.RequestURI, "tenant=7", "tenant=8", 1)
			_, err = v.Verify(r, []byte(body))
			require.Equal(t, f.url, err != nil, "a tampered URL")

			_, err = v.Verify(request(t, inbox, body), []byte(body))
			require.ErrorIs(t, err, verify.ErrMissingHeader)
			f.refusesOtherTimes(t, v, signed)
			f.refusesChangedHeaders(t, v, signed)
		})
	}
}

func (f form) refusesOtherTimes(t *testing.T, v *verify.Verifier, signed func(string, time.Time) *http.Request) {
	t.Helper()
	const body = `{"a":1}`
	for _, at := range []time.Time{clock().Add(-verify.DefaultTolerance - time.Second), clock().Add(verify.DefaultTolerance + time.Second)} {
		_, err := v.Verify(signed(body, at), []byte(body))
		if f.time {
			require.ErrorIs(t, err, verify.ErrTimestamp)
		} else {
			require.NoError(t, err)
		}
	}
}

// refusesChangedHeaders changes and repeats each header that signing sets.
func (f form) refusesChangedHeaders(t *testing.T, v *verify.Verifier, signed func(string, time.Time) *http.Request) {
	t.Helper()
	const body = `{"a":1}`
	// These are told beside the signature, and are not covered by it.
	free := map[string]bool{
		"Content-Type": true, "X-Hub-Signature": true, "X-Github-Event": true, "X-Github-Delivery": true,
		"X-Shopify-Topic": true, "X-Shopify-Webhook-Id": true, "X-Shopify-Event-Id": true,
	}
	for name := range signed(body, sent).Header {
		if free[name] {
			continue
		}
		r := signed(body, sent)
		value := []byte(r.Header.Get(name))
		value[len(value)-3] ^= 1 // of the last signature, which is the one that is known
		r.Header.Set(name, string(value))
		_, err := v.Verify(r, []byte(body))
		require.Error(t, err, "a tampered %s", name)

		r = signed(body, sent)
		r.Header.Add(name, r.Header.Get(name))
		_, err = v.Verify(r, []byte(body))
		if name != "Signature" && name != "Signature-Input" { // dictionaries, whose last member of a name counts
			require.Error(t, err, "a repeated %s", name)
		}

		r = signed(body, sent)
		r.Header.Del(name)
		_, err = v.Verify(r, []byte(body))
		require.Error(t, err, "a missing %s", name)
	}
}

func tricky() []string {
	return []string{
		`{}`, "", "{}\n", `{"s":"<&>"}`, "{\"s\":\"\u2028\u2029\"}", `{"n":9007199254740993,"f":0.1000,"b":1,"a":2}`,
		`{"name":"Söhne 😀"}`, strings.Repeat("x", 1<<20), "\xff\xfe not UTF-8",
	}
}

func TestUnknownVersionsAreSkipped(t *testing.T) {
	t.Parallel()
	v, err := verify.Standard([]string{whsec}, verify.Options{Now: clock})
	require.NoError(t, err)
	r := request(t, inbox, "{}")
	standardForm([]string{whsec}, signature.KindHMAC).sign(t, r, "{}", sent)
	r.Header.Set("webhook-signature", "v9,AAAA v1a,zzzz x "+r.Header.Get("webhook-signature"))
	_, err = v.Verify(r, []byte("{}"))
	require.NoError(t, err)
	r.Header.Set("webhook-signature", "v9,AAAA v1a,zzzz x")
	_, err = v.Verify(r, []byte("{}"))
	require.ErrorIs(t, err, verify.ErrNoMatch)
}

func TestVerifiersThatCannotBe(t *testing.T) {
	t.Parallel()
	window := verify.Options{Window: verify.NewWindow(1)}
	tests := map[string]func() (*verify.Verifier, error){
		"no secret":                       func() (*verify.Verifier, error) { return verify.Standard(nil, verify.Options{}) },
		"a secret that is none":           func() (*verify.Verifier, error) { return verify.Standard([]string{"whsec_x"}, verify.Options{}) },
		"an unknown system":               func() (*verify.Verifier, error) { return verify.Scheme("nobody", []string{"x"}, verify.Options{}) },
		"a system without a secret":       func() (*verify.Verifier, error) { return verify.Scheme("github", nil, verify.Options{}) },
		"a window where no time is":       func() (*verify.Verifier, error) { return verify.Scheme("github", []string{"x"}, window) },
		"message signatures without keys": func() (*verify.Verifier, error) { return verify.MessageSignatures(nil, verify.TargetURI, window) },
	}
	for name, build := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := build()
			require.Error(t, err)
			require.NotContains(t, err.Error(), "whsec_x", "an error repeats no secret")
		})
	}
}

func TestTheURLOfARequest(t *testing.T) {
	t.Parallel()
	s, ok := signature.LookupScheme("square")
	require.True(t, ok)
	secret, err := s.ParseSecret("k")
	require.NoError(t, err)
	tests := map[string]struct {
		signed, received string
		opts             verify.Options
		change           func(r *http.Request)
	}{
		"as it came":               {signed: inbox, received: inbox},
		"behind TLS":               {signed: inbox, received: inbox, change: func(r *http.Request) { r.TLS = &tls.ConnectionState{} }},
		"with another origin":      {inbox, "http://10.0.0.1:8080/hooks/in?tenant=7&x=a%20b", verify.Options{URL: verify.Origin("https://consumer.example.com/")}, nil},
		"the host in upper case":   {inbox, strings.Replace(inbox, "consumer", "CONSUMER", 1), verify.Options{}, nil},
		"without a path":           {"https://h.example/?a=b", "https://h.example?a=b", verify.Options{}, func(r *http.Request) { r.RequestURI = "" }},
		"absolute, without a path": {"https://h.example/", "https://h.example/", verify.Options{}, func(r *http.Request) { r.RequestURI = "http://h.example" }},
		"absolute with a query":    {"https://h.example/?a", "https://h.example/", verify.Options{}, func(r *http.Request) { r.RequestURI = "http://h.example?a" }},
		"absolute with a path":     {"https://h.example/b", "https://h.example/", verify.Options{}, func(r *http.Request) { r.RequestURI = "http://h.example/b" }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := request(t, tt.received, "{}")
			if tt.change != nil {
				tt.change(r)
			}
			require.NoError(t, s.Sign(r.Header, signature.SchemeMessage{URL: tt.signed, Body: []byte("{}")}, []signature.Secret{secret}))
			v, err := verify.Scheme("square", []string{"k"}, tt.opts)
			require.NoError(t, err)
			_, err = v.Verify(r, []byte("{}"))
			require.NoError(t, err)
		})
	}
}

func TestHandlerHandsTheBodyOn(t *testing.T) {
	t.Parallel()
	var refused []error
	v, err := verify.Standard([]string{whsec}, verify.Options{
		Now: clock, MaxBody: 100, Refused: func(_ *http.Request, err error) { refused = append(refused, err) },
	})
	require.NoError(t, err)
	calls := 0
	h := v.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls++
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		m, ok := verify.FromContext(r.Context())
		assert.True(t, ok)
		assert.Equal(t, "evt_1", m.ID)
		assert.Equal(t, body, m.Body)
		assert.Equal(t, int64(len(body)), r.ContentLength)
		w.WriteHeader(http.StatusNoContent)
	}))
	serve := func(body string, change func(r *http.Request)) int {
		r := request(t, inbox, body)
		standardForm([]string{whsec}, signature.KindHMAC).sign(t, r, body, sent)
		if change != nil {
			change(r)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	require.Equal(t, http.StatusNoContent, serve(strings.Repeat("x", 100), nil))
	require.Equal(t, http.StatusNoContent, serve("", nil))
	require.Equal(t, 2, calls)
	require.Empty(t, refused)
	require.Equal(t, http.StatusRequestEntityTooLarge, serve(strings.Repeat("x", 101), nil))
	require.Equal(t, http.StatusUnauthorized, serve("{}", func(r *http.Request) { r.Header.Set("webhook-id", "evt_2") }))
	require.Equal(t, http.StatusBadRequest, serve("{}", func(r *http.Request) { r.Body = io.NopCloser(io.MultiReader(bytes.NewReader([]byte("{")), broken{})) }))
	require.Len(t, refused, 3)
	require.ErrorIs(t, refused[1], verify.ErrNoMatch)
	require.Equal(t, 2, calls, "what is refused is not handed on")
	_, ok := verify.FromContext(t.Context())
	require.False(t, ok)
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
