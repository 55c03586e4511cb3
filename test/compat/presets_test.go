//go:build e2e

package compat

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/signature"
	"github.com/postrider/postrider/pkg/verify"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/fixture/receivertest"
	"github.com/postrider/postrider/test/system"
)

// tricky are bodies that careless code does not hand on as they are. The last is the longest there is.
var tricky = []string{
	`{}`, "{\"a\":1}\n", `{"s":"<&>"}`, "{\"s\":\"\u2028\u2029\"}", `{"n":9007199254740993,"f":0.1000,"b":1,"a":2,"a":3}`,
	`{"name":"Söhne 😀 \ud83d\ude00"}`, " [1, 2]\t", `"text"`, `{"pad":"` + strings.Repeat("é", (1<<20-10)/2) + `"}`,
}

const (
	formType  = "application/x-www-form-urlencoded"
	slackForm = "token=xyzz0WbapA4vBCDEFasx0q6G&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands&text=+a+%26"
)

// A preset is a system's own verifier, and a secret in that system's form.
type preset struct {
	scheme, verifier, secret string
	forms                    []string // bodies that are forms
}

func TestPresets(t *testing.T) {
	s := open(t)
	for number, p := range map[string][]preset{
		"2.3.1": {{scheme: "svix", secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}},
		"2.3.2": {{scheme: "stripe", secret: "whsec_test_4f9d3c2b1a"}},
		"2.3.3": {{scheme: "github", secret: "It's a Secret to Everybody"}, {scheme: "github", verifier: "github-sha1"}},
		"2.3.4": {{scheme: "shopify", secret: "shpss_0123456789abcdef0123456789abcdef"}},
		"2.3.5": {{scheme: "slack", secret: "8f742231b10e8888abcd99yyyzzz85a5", forms: []string{slackForm}}},
		"2.3.6": {{scheme: "square", secret: "sq0sig_test_key"}},
		"2.3.7": {{scheme: "twilio", secret: "12345", forms: []string{slackForm, "b=2&a=%C3%A9&a=1&a=%C3%A9&c="}}},
	} {
		t.Run(number+" "+p[0].scheme, func(t *testing.T) {
			t.Parallel()
			for _, p := range p {
				if p.verifier == "" {
					p.verifier = p.scheme
				}
				t.Run(p.verifier, func(t *testing.T) {
					t.Parallel()
					p.check(t, s.NewAccount(t))
				})
			}
		})
	}
	t.Run("2.3.8 a scheme that the webhook describes", func(t *testing.T) {
		t.Parallel()
		described(t, s.NewAccount(t))
	})
}

// check delivers to the system's own verifier, which takes what is genuine and nothing else.
func (p preset) check(t *testing.T, a *system.Account) {
	t.Helper()
	given := p.secret
	if given == "" {
		given = "a secret"
	}
	port, verdicts := system.NodeReceiver(t, "presets.js", given, "SCHEME="+p.verifier)
	url := fmt.Sprintf("http://127.0.0.1:%d/hook?tenant=7&x=a%%20b", port)
	genuine := a.WebhookWith(t, &postriderv1.CreateWebhookRequest{
		Webhook: &postriderv1.Webhook{Url: url, EventTypes: all, Profile: p.scheme}, Secret: given,
	}).GetWebhook()
	publish := func(contentType, data string) {
		event := a.PublishEvent(t, &postriderv1.EventInput{Type: "release.live", ContentType: contentType, Data: []byte(data)}).GetEventId()
		got := system.Next(t, verdicts)
		require.Equal(t, http.StatusOK, got.Status, "%s: %.60q", got.Error, data)
		require.Equal(t, event, got.ID)
		var body string
		require.NoError(t, json.Unmarshal(got.Body, &body))
		require.Equal(t, data, body, "the bytes are those that were published")
		a.AwaitDelivery(t, event, genuine.GetId(), delivered)
	}
	for _, data := range tricky {
		publish("application/json", data)
	}
	for _, data := range p.forms {
		publish(formType, data)
	}

	_, err := a.Webhooks.PauseWebhook(a.Ctx(t), &postriderv1.PauseWebhookRequest{WebhookId: genuine.GetId()})
	require.NoError(t, err)
	made := a.Webhook(t, &postriderv1.Webhook{Url: url, EventTypes: all, Profile: p.scheme})
	require.NotEmpty(t, made.GetSecret())
	test, err := a.Webhooks.TestWebhook(a.Ctx(t), &postriderv1.TestWebhookRequest{WebhookId: made.GetWebhook().GetId()})
	require.NoError(t, err)
	require.False(t, test.GetSuccess(), "one that is signed with another secret is refused")
	require.EqualValues(t, http.StatusUnauthorized, test.GetStatusCode())
}

// described has a webhook sign as it says, and the library for receivers verify it.
func described(t *testing.T, a *system.Account) {
	t.Helper()
	r := receivertest.New(t)
	described := &postriderv1.SignatureScheme{
		Algorithm: "hmac-sha256", KeyEncoding: "hex", Template: "{method}:{path}:{query}:{ts_ms}:{id}:{body}", Encoding: "base64",
		Header: "X-Acme-Signature", Value: "ts={ts_ms},id={id},sig={sig}", Multiple: "repeat",
	}
	hook := func(s *postriderv1.SignatureScheme) *postriderv1.Webhook {
		return &postriderv1.Webhook{
			Url: r.URL + "/hook?a=b%20c", EventTypes: all, Profile: "custom", Options: &postriderv1.ProfileOptions{SignatureScheme: s},
		}
	}
	for field, s := range map[string]*postriderv1.SignatureScheme{
		"webhook.options.signature_scheme":          nil,
		"webhook.options.signature_scheme.template": {Algorithm: "hmac-sha256", Header: "X-Sig", Template: "{ts}"},
		"webhook.options.signature_scheme.header":   {Algorithm: "hmac-sha256", Header: "Host", Template: "{body}"},
	} {
		_, err := a.Webhooks.CreateWebhook(a.Ctx(t), &postriderv1.CreateWebhookRequest{Webhook: hook(s)})
		system.RequireKind(t, fault.Invalid, err)
		require.ErrorContains(t, err, field)
	}
	created := a.Webhook(t, hook(described))
	_, err := a.Webhooks.RotateWebhookSecret(a.Ctx(t), &postriderv1.RotateWebhookSecretRequest{WebhookId: created.GetWebhook().GetId()})
	require.NoError(t, err)
	scheme, err := signature.ParseScheme(described)
	require.NoError(t, err)
	verifier, err := verify.Custom(scheme, []string{created.GetSecret()}, verify.Options{URL: verify.Origin(r.URL)})
	require.NoError(t, err)
	for _, data := range tricky {
		event := a.Publish(t, "release.live", data).GetEventId()
		q := r.Next(t)
		m, err := verifier.Verify(received(t, q), q.Body)
		require.NoError(t, err, "the older secret signs for a while")
		require.Equal(t, event, m.ID)
		require.Equal(t, data, string(q.Body))
		_, err = verifier.Verify(received(t, q), append(q.Body, ' '))
		require.ErrorIs(t, err, verify.ErrNoMatch)
	}
}

// received is the request as a server read it.
func received(t *testing.T, q *receivertest.Request) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), q.Method, "http://"+q.Host+q.RequestURI, http.NoBody)
	require.NoError(t, err)
	r.Header, r.RequestURI = q.Header.Clone(), q.RequestURI
	return r
}
