package profile_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/profile"
	"github.com/postrider/postrider/pkg/signature"
)

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
