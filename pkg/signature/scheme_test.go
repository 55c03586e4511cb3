package signature_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/signature"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

const (
	commonID   = "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"
	commonUnix = 1674087231
	inbox      = "https://consumer.example.com/hooks/in"
	form       = "application/x-www-form-urlencoded"

	slackBody = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar" +
		"&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands" +
		"%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
	slackSecret = "8f742231b10e8888abcd99yyyzzz85a5"

	twilioURL  = "https://mycompany.com/myapp.php?foo=1&bar=2"
	twilioForm = "Digits=1234&To=%2B18005551212&From=%2B12349013030&Caller=%2B12349013030&CallSid=CA1234567890ABCDE"
)

// A vector is one worked or published value of a system.
type vector struct {
	scheme, secret string
	message        signature.SchemeMessage
	want           map[string]string
}

func message(unix int64, url, contentType, body string) signature.SchemeMessage {
	return signature.SchemeMessage{
		ID: commonID, Type: "contact.created", Delivery: "dlv_1", Time: time.Unix(unix, 0),
		Method: http.MethodPost, URL: url, ContentType: contentType, Body: []byte(body),
	}
}

func vectors() map[string]vector {
	published := message(1614265330, inbox, "application/json", `{"test": 2432232314}`)
	published.ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	contact := message(commonUnix, inbox, "application/json", contactBody)
	jewel := message(commonUnix, inbox, "application/json", jewelBody)
	return map[string]vector{
		"svix, the published value": {"svix", publishedSecret, published, map[string]string{
			"svix-id": published.ID, "svix-timestamp": "1614265330", "svix-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
		}},
		"stripe, the worked value": {"stripe", "whsec_test_4f9d3c2b1a", contact, map[string]string{
			"Stripe-Signature": "t=1674087231,v1=3f24c2b0d35da5730a32f9e71ec23eefb9679bab919fe9ef21713df10d54f373",
		}},
		"github, the published value": {
			"github", "It's a Secret to Everybody", message(commonUnix, inbox, "text/plain", "Hello, World!"), map[string]string{
				"X-Hub-Signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
				"X-Hub-Signature":     "sha1=01dc10d0c83e72ed246219cdd91669667fe2ca59",
				"X-GitHub-Event":      "contact.created", "X-GitHub-Delivery": commonID,
			},
		},
		"shopify, the worked value": {"shopify", "shpss_0123456789abcdef0123456789abcdef", jewel, map[string]string{
			"X-Shopify-Hmac-Sha256": "prb9C80VTzCDvcHmGMvj/+W7PD5ARaEb43xHklu6bAg=",
			"X-Shopify-Topic":       "contact.created", "X-Shopify-Webhook-Id": "dlv_1", "X-Shopify-Event-Id": commonID,
		}},
		"slack, the published value": {"slack", slackSecret, message(1531420618, inbox, form, slackBody), map[string]string{
			"X-Slack-Signature":         "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
			"X-Slack-Request-Timestamp": "1531420618",
		}},
		"square, the worked value": {"square", "sq0sig_test_key", jewel, map[string]string{
			"x-square-hmacsha256-signature": "KHcp6GSOoPYmuJAngnvqIPw0me0hCwBi5RRTwyPWnAo=",
		}},
		"twilio, the published value": {"twilio", "12345", message(commonUnix, twilioURL, form, twilioForm), map[string]string{
			"X-Twilio-Signature": "0/KCTR6DLpKmkAf8muzZqo1nDgQ=",
		}},
		"jewelmusic, the worked value": {"jewelmusic", "jewel_whsec_5f1d", jewel, map[string]string{
			"X-JewelMusic-Signature": "sha256=c5d39dd49a088590501178966f96ab4950e574051eb8f013904a0b888ab774af",
		}},
	}
}

func TestSchemesGiveTheKnownValues(t *testing.T) {
	t.Parallel()
	for name, v := range vectors() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, secrets := scheme(t, v.scheme, v.secret)
			h := http.Header{}
			for range 3 { // states and buffers are reused
				require.NoError(t, s.Sign(h, v.message, secrets))
			}
			require.Len(t, h, len(v.want))
			require.Len(t, s.Headers(), len(v.want))
			for name, want := range v.want {
				require.Equal(t, []string{want}, h.Values(name), name)
				require.Contains(t, s.Headers(), http.CanonicalHeaderKey(name))
			}
			_, err := s.Verify(h, v.message, secrets, v.message.Time, signature.DefaultTolerance)
			require.NoError(t, err)
		})
	}
}

func scheme(t testing.TB, name string, texts ...string) (*signature.Scheme, []signature.Secret) {
	t.Helper()
	s, ok := signature.LookupScheme(name)
	require.True(t, ok)
	secrets := make([]signature.Secret, len(texts))
	for i, text := range texts {
		var err error
		secrets[i], err = s.ParseSecret(text)
		require.NoError(t, err)
	}
	return s, secrets
}

func TestEverySchemeSignsWhatItVerifiesAndGeneratesItsSecrets(t *testing.T) {
	t.Parallel()
	_, ok := signature.LookupScheme("nobody")
	require.False(t, ok)
	names := make([]string, 0, len(signature.Schemes()))
	for _, n := range signature.Schemes() {
		names = append(names, n.Name)
		text, public := n.Scheme.GenerateSecret()
		require.Empty(t, public)
		require.Equal(t, signature.KindHMAC, n.Scheme.Kind())
		secret, err := n.Scheme.ParseSecret(text)
		require.NoError(t, err)
		other, err := n.Scheme.ParseSecret(text[:len(text)-4] + "AAA=")
		require.NoError(t, err)
		for _, body := range trickyBodies() {
			m := message(commonUnix, inbox, "application/json", body)
			m.URL, err = n.Scheme.Target(inbox, m.ContentType, m.Body)
			require.NoError(t, err)
			h := http.Header{}
			require.NoError(t, n.Scheme.Sign(h, m, []signature.Secret{{}, secret}))
			got, err := n.Scheme.Verify(h, m, []signature.Secret{other, secret}, m.Time, 0)
			require.NoError(t, err, n.Name)
			if got.SignedTime {
				require.Equal(t, m.Time, got.Time)
			}
			_, err = n.Scheme.Verify(h, m, []signature.Secret{other}, m.Time, 0)
			require.ErrorIs(t, err, signature.ErrNoMatch)
			tampered := m
			tampered.Body = append([]byte(body), 'x')
			tampered.URL, _ = n.Scheme.Target(inbox, m.ContentType, tampered.Body)
			_, err = n.Scheme.Verify(h, tampered, []signature.Secret{secret}, m.Time, 0)
			require.ErrorIs(t, err, signature.ErrNoMatch)
		}
		require.ErrorIs(t, n.Scheme.Sign(http.Header{}, message(0, inbox, "", ""), []signature.Secret{{}}), signature.ErrNoSecret)
	}
	require.Equal(t, []string{"svix", "stripe", "github", "shopify", "slack", "square", "twilio"}, names)
}

func trickyBodies() []string {
	return []string{
		`{}`, "", "{}\n", `{"s":"<&>"}`, "{\"s\":\"\u2028\u2029\"}", `{"n":9007199254740993,"f":0.1000,"b":1,"a":2}`,
		`{"name":"Söhne 😀"}`, strings.Repeat("x", 1<<20), "\xff\xfe not UTF-8",
	}
}

func TestRotationInEachScheme(t *testing.T) {
	t.Parallel()
	m := message(commonUnix, inbox, "application/json", contactBody)
	tests := map[string]struct {
		newer, older string
		want         func(newer, older string) string
	}{
		"svix":   {publishedSecret, "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", func(a, b string) string { return a + " " + b }},
		"stripe": {"whsec_a", "whsec_b", func(a, b string) string { return a + strings.TrimPrefix(b, "t=1674087231") }},
		"github": {"a", "b", func(a, _ string) string { return a }},
		"slack":  {"a", "b", func(a, _ string) string { return a }},
		"square": {"a", "b", func(a, _ string) string { return a }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, secrets := scheme(t, name, tt.newer, tt.older)
			value := func(secrets ...signature.Secret) string {
				h := http.Header{}
				require.NoError(t, s.Sign(h, m, secrets))
				return h.Get(s.Headers()[0])
			}
			require.Equal(t, tt.want(value(secrets[0]), value(secrets[1])), value(secrets...))
		})
	}
}

func TestTwilioSignsTheURLAndSortedForms(t *testing.T) {
	t.Parallel()
	s, secrets := scheme(t, "twilio", "1c892n40nd03kdnc0112slzkl3091j20")
	t.Run("the URL of a body that is no form gets its hash", func(t *testing.T) {
		t.Parallel()
		// Made with validateRequestWithBody's own functions of the twilio package.
		got, err := s.Target("http://www.postbin.org/1ed898x", "application/json", []byte(`{"property": "value", "boolean": true}`))
		require.NoError(t, err)
		require.Equal(t, "http://www.postbin.org/1ed898x?bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620", got)
		h := http.Header{}
		require.NoError(t, s.Sign(h, signature.SchemeMessage{URL: got, ContentType: "application/json", Body: []byte("not signed")}, secrets))
		require.Equal(t, "7L7giZXAVtSFWFlLwMu22WrRkMg=", h.Get("X-Twilio-Signature"))

		got, err = s.Target(inbox+"?a=b", "application/json", nil)
		require.NoError(t, err)
		require.Equal(t, inbox+"?a=b&bodySHA256=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", got)
	})
	t.Run("a hash that is there already is replaced", func(t *testing.T) {
		t.Parallel()
		for _, url := range []string{inbox, inbox + "?a=b", inbox + "?a=b&c"} {
			once, err := s.Target(url, "application/json", []byte("other"))
			require.NoError(t, err)
			twice, err := s.Target(once, "application/json", []byte("{}"))
			require.NoError(t, err)
			want, err := s.Target(url, "application/json", []byte("{}"))
			require.NoError(t, err)
			require.Equal(t, want, twice)
		}
	})
	t.Run("the URL of a form stays as it is", func(t *testing.T) {
		t.Parallel()
		got, err := s.Target(twilioURL, form+"; charset=utf-8", []byte(twilioForm))
		require.NoError(t, err)
		require.Equal(t, twilioURL, got)
	})
	t.Run("a form that cannot be read is refused", func(t *testing.T) {
		t.Parallel()
		for _, body := range []string{"a=%", "a;b", "%zz=1"} {
			_, err := s.Target(twilioURL, form, []byte(body))
			require.Error(t, err)
		}
	})
	t.Run("each value of a name counts once, sorted", func(t *testing.T) {
		t.Parallel()
		h, want := http.Header{}, http.Header{}
		require.NoError(t, s.Sign(h, message(0, inbox, form, "b=2&a=z&a=1&a=z&c="), secrets))
		require.NoError(t, s.Sign(want, message(0, inbox+"a1azb2c", form, ""), secrets))
		require.Equal(t, want, h)
	})
}

func TestSchemesRefuse(t *testing.T) {
	t.Parallel()
	at := time.Unix(commonUnix, 0)
	tests := map[string]struct {
		scheme string
		change func(h http.Header, m *signature.SchemeMessage)
		now    time.Time
		want   error
	}{
		"the end of the tolerance verifies":             {scheme: "stripe", now: at.Add(signature.DefaultTolerance)},
		"a stale message does not":                      {scheme: "stripe", now: at.Add(signature.DefaultTolerance + time.Second), want: signature.ErrTimestamp},
		"a message from the future does not":            {scheme: "slack", now: at.Add(-signature.DefaultTolerance - time.Second), want: signature.ErrTimestamp},
		"another timestamp does not":                    {scheme: "slack", change: header("X-Slack-Request-Timestamp", "1674087232"), want: signature.ErrNoMatch},
		"a timestamp with a tail does not":              {scheme: "svix", change: header("svix-timestamp", "1674087231abc"), want: signature.ErrTimestamp},
		"a timestamp with a sign does not":              {scheme: "svix", change: header("svix-timestamp", "+1674087231"), want: signature.ErrTimestamp},
		"a timestamp with a zero before it does not":    {scheme: "svix", change: header("svix-timestamp", "01674087231"), want: signature.ErrTimestamp},
		"another id does not":                           {scheme: "svix", change: header("svix-id", "msg_x"), want: signature.ErrNoMatch},
		"a missing id does not":                         {scheme: "svix", change: without("svix-id"), want: signature.ErrMissingHeader},
		"a missing signature does not":                  {scheme: "github", change: without("X-Hub-Signature-256"), want: signature.ErrMissingHeader},
		"a repeated signature does not":                 {scheme: "github", change: repeated("X-Hub-Signature-256"), want: signature.ErrMissingHeader},
		"a repeated timestamp does not":                 {scheme: "slack", change: repeated("X-Slack-Request-Timestamp"), want: signature.ErrMissingHeader},
		"another URL does not":                          {scheme: "square", change: func(_ http.Header, m *signature.SchemeMessage) { m.URL += "/" }, want: signature.ErrNoMatch},
		"another URL does not in twilio":                {scheme: "twilio", change: func(_ http.Header, m *signature.SchemeMessage) { m.URL += "&x=" }, want: signature.ErrNoMatch},
		"the weaker hash of github is not believed":     {scheme: "github", change: moved("X-Hub-Signature", "X-Hub-Signature-256"), want: signature.ErrNoMatch},
		"unknown versions in a list are skipped":        {scheme: "stripe", change: wrapped("Stripe-Signature", "v0=00,", ",v9=zz")},
		"unknown versions in a list are skipped (svix)": {scheme: "svix", change: wrapped("svix-signature", "v9,x nonsense v1,short ", " v1a,xx")},
		"spaces between items do not matter":            {scheme: "stripe", change: wrapped("Stripe-Signature", "", ", v0=1")},
		"two times contradict each other":               {scheme: "stripe", change: wrapped("Stripe-Signature", "t=1674087230,", ""), want: signature.ErrTimestamp},
		"a list without a known version does not":       {scheme: "stripe", change: header("Stripe-Signature", "t=1674087231,v0=00"), want: signature.ErrNoMatch},
		"a list without a time does not":                {scheme: "stripe", change: cut("Stripe-Signature", "t=1674087231,"), want: signature.ErrTimestamp},
		"a list in a header that holds one does not":    {scheme: "slack", change: wrapped("X-Slack-Signature", "", ",v0=00"), want: signature.ErrNoMatch},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
			s, secrets := scheme(t, tt.scheme, text)
			m := message(commonUnix, inbox+"?a=b", "application/json", contactBody)
			h := http.Header{}
			require.NoError(t, s.Sign(h, m, secrets))
			if tt.change != nil {
				tt.change(h, &m)
			}
			now := at
			if !tt.now.IsZero() {
				now = tt.now
			}
			_, err := s.Verify(h, m, secrets, now, signature.DefaultTolerance)
			require.ErrorIs(t, err, tt.want)
			_, err = s.Verify(h, m, nil, now, signature.DefaultTolerance)
			require.Error(t, err, "nothing verifies without a secret")
		})
	}
}

type change = func(http.Header, *signature.SchemeMessage)

func header(name, value string) change {
	return func(h http.Header, _ *signature.SchemeMessage) { h.Set(name, value) }
}

func without(name string) change {
	return func(h http.Header, _ *signature.SchemeMessage) { h.Del(name) }
}

func repeated(name string) change {
	return func(h http.Header, _ *signature.SchemeMessage) { h.Add(name, h.Get(name)) }
}

func moved(from, to string) change {
	return func(h http.Header, _ *signature.SchemeMessage) { h.Set(to, h.Get(from)) }
}

func wrapped(name, before, after string) change {
	return func(h http.Header, _ *signature.SchemeMessage) { h.Set(name, before+h.Get(name)+after) }
}

func cut(name, prefix string) change {
	return func(h http.Header, _ *signature.SchemeMessage) { h.Set(name, strings.TrimPrefix(h.Get(name), prefix)) }
}

func TestParseSchemeNamesFieldAndRule(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(p *postriderv1.SignatureScheme)
		field  string
		rule   string
	}{
		"an algorithm is required":                   {func(p *postriderv1.SignatureScheme) { p.Algorithm = "" }, "algorithm", "must be one of"},
		"the algorithm must be known":                {func(p *postriderv1.SignatureScheme) { p.Algorithm = "md5" }, "algorithm", "must be one of"},
		"the key's form must be known":               {func(p *postriderv1.SignatureScheme) { p.KeyEncoding = "pem" }, "key_encoding", "must be one of"},
		"an Ed25519 key is no text":                  {func(p *postriderv1.SignatureScheme) { p.Algorithm, p.KeyEncoding = "ed25519", "utf8" }, "key_encoding", "must be one of"},
		"the encoding must be known":                 {func(p *postriderv1.SignatureScheme) { p.Encoding = "base32" }, "encoding", "must be one of"},
		"a template is required":                     {func(p *postriderv1.SignatureScheme) { p.Template = "" }, "template", "must hold {body}"},
		"a template must sign something":             {func(p *postriderv1.SignatureScheme) { p.Template = "{id}.{ts}" }, "template", "must hold {body}"},
		"a template's tokens must be known":          {func(p *postriderv1.SignatureScheme) { p.Template = "{body}{sig}" }, "template", "not {sig}"},
		"a template's braces must close":             {func(p *postriderv1.SignatureScheme) { p.Template = "{body" }, "template", "must close"},
		"a template's braces must open":              {func(p *postriderv1.SignatureScheme) { p.Template = "body}{body}" }, "template", "without its {"},
		"a template's last brace must open":          {func(p *postriderv1.SignatureScheme) { p.Template = "{body}}" }, "template", "without its {"},
		"a template signs the body once":             {func(p *postriderv1.SignatureScheme) { p.Template = "{body}{body}" }, "template", "at most once"},
		"a template has an end":                      {func(p *postriderv1.SignatureScheme) { p.Template = "{body}" + strings.Repeat("x", 300) }, "template", "at most"},
		"a header is required":                       {func(p *postriderv1.SignatureScheme) { p.Header = "" }, "header", "is required"},
		"a header is a token":                        {func(p *postriderv1.SignatureScheme) { p.Header = "X Sig" }, "header", "name of an HTTP header"},
		"a header is none of HTTP's":                 {func(p *postriderv1.SignatureScheme) { p.Header = "content-length" }, "header", "must not be"},
		"a header is not that of RFC 9421":           {func(p *postriderv1.SignatureScheme) { p.Header = "signature" }, "header", "must not be"},
		"the time has a header of its own":           {func(p *postriderv1.SignatureScheme) { p.TimestampHeader = "x-sig" }, "timestamp_header", "must not be"},
		"the id has a header of its own":             {func(p *postriderv1.SignatureScheme) { p.IdHeader = "X-Time" }, "id_header", "must not be"},
		"the time's header is none of HTTP's":        {func(p *postriderv1.SignatureScheme) { p.TimestampHeader = "Host" }, "timestamp_header", "must not be"},
		"a signed time is told":                      {func(p *postriderv1.SignatureScheme) { p.TimestampHeader = "" }, "timestamp_header", "is required"},
		"signed milliseconds are told":               {func(p *postriderv1.SignatureScheme) { p.Template = "{ts_ms}{body}" }, "value", "{ts_ms}"},
		"a signed id is told":                        {func(p *postriderv1.SignatureScheme) { p.Template = "{id}{body}" }, "id_header", "is required"},
		"a value holds the signature":                {func(p *postriderv1.SignatureScheme) { p.Value = "t={ts}" }, "value", "{sig} once"},
		"a value holds the signature once":           {func(p *postriderv1.SignatureScheme) { p.Value = "{sig},{sig}" }, "value", "{sig} once"},
		"a value does not hold the body":             {func(p *postriderv1.SignatureScheme) { p.Value = "{body},{sig}" }, "value", "not {body}"},
		"a value is one line":                        {func(p *postriderv1.SignatureScheme) { p.Value = "{sig}\r\nX: y" }, "value", "printable"},
		"a value is ASCII":                           {func(p *postriderv1.SignatureScheme) { p.Value = "é{sig}" }, "value", "printable"},
		"a value has no space at its end":            {func(p *postriderv1.SignatureScheme) { p.Value = "{sig} " }, "value", "printable"},
		"a value's tokens are apart":                 {func(p *postriderv1.SignatureScheme) { p.Value = "{ts}{sig}" }, "value", "text between tokens"},
		"a value's time ends":                        {func(p *postriderv1.SignatureScheme) { p.Value = "{ts}0{sig}" }, "value", "cannot be part of it"},
		"a value's id ends":                          {func(p *postriderv1.SignatureScheme) { p.Value = "{id}.{sig}" }, "value", "cannot be part of it"},
		"a value with spaces is no list of spaces":   {func(p *postriderv1.SignatureScheme) { p.Value, p.Multiple = "a {sig}", "space" }, "value", "no space"},
		"several signatures go together as is known": {func(p *postriderv1.SignatureScheme) { p.Multiple = "comma" }, "multiple", "must be one of"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &postriderv1.SignatureScheme{
				Algorithm: "hmac-sha256", Template: "{ts}.{body}", Header: "X-Sig", TimestampHeader: "X-Time",
			}
			_, err := signature.ParseScheme(p)
			require.NoError(t, err)
			tt.change(p)
			_, err = signature.ParseScheme(p)
			f, ok := fault.As(err)
			require.True(t, ok)
			require.Equal(t, fault.Invalid, f.Kind)
			require.Len(t, f.Violations, 1, "%v", f.Violations)
			require.Equal(t, tt.field, f.Violations[0].Field)
			require.Contains(t, f.Violations[0].Rule, tt.rule)
		})
	}
	_, err := signature.ParseScheme(nil)
	f, ok := fault.As(err)
	require.True(t, ok)
	require.Len(t, f.Violations, 3, "algorithm, header, template")
}

func TestASchemeOfAWebhooksOwn(t *testing.T) {
	t.Parallel()
	ed, public := signature.GenerateEd25519()
	tests := map[string]struct {
		p      *postriderv1.SignatureScheme
		secret string
		verify string
		want   map[string]string
	}{
		"the shape of Standard Webhooks": {
			p: &postriderv1.SignatureScheme{
				Algorithm: "hmac-sha256", KeyEncoding: "base64", Template: "{id}.{ts}.{body}", Encoding: "base64", Header: "Webhook-Signature",
				Value: "v1,{sig}", TimestampHeader: "Webhook-Timestamp", IdHeader: "Webhook-Id", Multiple: "space",
			},
			secret: strings.TrimPrefix(publishedSecret, "whsec_"),
			want: map[string]string{
				"Webhook-Id": commonID, "Webhook-Timestamp": "1674087231", "Webhook-Signature": "v1,ARw42xaAApl/nxRo+iPGYwSaMQaOwMo2eyH5JBRA+bQ=",
			},
		},
		"everything of the request": {
			p: &postriderv1.SignatureScheme{
				Algorithm: "hmac-sha1", KeyEncoding: "hex", Template: "{method}\n{path}\n{query}\n{ts_ms}\n{id}\n{body}", Header: "Authorization",
				Value: "HMAC id={id};ts={ts_ms};sig={sig}!",
			},
			secret: "00ff00ff",
		},
		"Ed25519": {
			p:      &postriderv1.SignatureScheme{Algorithm: "ed25519", Template: "{body}{url}", Encoding: "base64", Header: "X-Sig", Multiple: "repeat", Value: "k={sig},n={id},{ts}"},
			secret: ed, verify: public,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := signature.ParseScheme(tt.p)
			require.NoError(t, err)
			secret, err := s.ParseSecret(tt.secret)
			require.NoError(t, err)
			m := message(commonUnix, inbox+"?a=b%20c&d", "application/json", contactBody)
			h := http.Header{}
			require.NoError(t, s.Sign(h, m, []signature.Secret{secret, secret}))
			for name, value := range tt.want {
				got, _, _ := strings.Cut(h.Get(name), " ")
				require.Equal(t, value, got, name)
			}
			key := secret
			if tt.verify != "" {
				key, err = s.ParseVerificationKey(tt.verify)
				require.NoError(t, err)
				require.ErrorIs(t, s.Sign(http.Header{}, m, []signature.Secret{key}), signature.ErrNoSecret)
			}
			got, err := s.Verify(h, m, []signature.Secret{key}, m.Time, 0)
			require.NoError(t, err)
			require.Equal(t, commonID, got.ID)
			require.Equal(t, m.Time, got.Time)
			m.URL = strings.Replace(m.URL, "a=b", "a=c", 1)
			_, err = s.Verify(h, m, []signature.Secret{key}, m.Time, 0)
			if strings.Contains(tt.p.GetTemplate(), "{query}") || strings.Contains(tt.p.GetTemplate(), "{url}") {
				require.ErrorIs(t, err, signature.ErrNoMatch)
			} else {
				require.NoError(t, err)
			}
			text, _ := s.GenerateSecret()
			_, err = s.ParseSecret(text)
			require.NoError(t, err)
		})
	}
}

func TestSecretsOfSchemesThatAreNone(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ algorithm, encoding, text string }{
		"hexadecimal it is not": {"hmac-sha256", "hex", "xyz"},
		"base64 it is not":      {"hmac-sha256", "base64", "?"},
		"base64 with line ends": {"hmac-sha256", "base64", "YWFh\nYWFh"},
		"nothing":               {"hmac-sha256", "base64", ""},
		"nothing as a text":     {"hmac-sha256", "utf8", ""},
		"too long":              {"hmac-sha256", "hex", strings.Repeat("00", 256)},
		"a seed that is short":  {"ed25519", "hex", "00"},
		"a text for Ed25519":    {"ed25519", "base64", "!"},
		"a public key to sign":  {"ed25519", "base64", publishedPublic},
		"a wrong public half":   {"ed25519", "base64", publishedPrivate[:len(publishedPrivate)-6] + "AAAA=="},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := signature.ParseScheme(&postriderv1.SignatureScheme{
				Algorithm: tt.algorithm, KeyEncoding: tt.encoding, Template: "{body}", Header: "X",
			})
			require.NoError(t, err)
			_, err = s.ParseSecret(tt.text)
			require.Error(t, err)
			if tt.text != "" {
				require.NotContains(t, err.Error(), tt.text)
			}
		})
	}
}

func TestSchemesAgreeWithSortedForms(t *testing.T) {
	t.Parallel()
	values, err := url.ParseQuery(twilioForm)
	require.NoError(t, err)
	s, secrets := scheme(t, "twilio", "12345")
	a, b := http.Header{}, http.Header{}
	require.NoError(t, s.Sign(a, message(0, twilioURL, form, twilioForm), secrets))
	require.NoError(t, s.Sign(b, message(0, twilioURL, form, values.Encode()), secrets))
	require.Equal(t, a, b, "the order of the members does not matter")
}
