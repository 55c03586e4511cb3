//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/system"
)

// The example that source 001's page prints.
const jewelMusicExample = `{"release_id":"rel_abc123def456","title":"My Album","artist":"Artist Name","status":"live",` +
	`"platforms":[{"name":"spotify","status":"live","url":"https://open.spotify.com/album/..."},` +
	`{"name":"apple_music","status":"live","url":"https://music.apple.com/album/..."}],` +
	`"metadata":{"isrc":"USJML2500001","upc":"123456789012","release_date":"2025-09-01"}}`

func TestVerifiers(t *testing.T) {
	system.Forms(t, map[string]func(*testing.T, *system.System){
		"check 1.2.6: the page's own Express handler accepts JewelMusic deliveries": jewelMusicPage,
		"the standardwebhooks package accepts standard deliveries":                  standardWebhooksPackage,
	})
}

func jewelMusicPage(t *testing.T, s *system.System) {
	t.Helper()
	a := s.NewAccount(t)
	const secret = "jewel_whsec_5f1d"
	port, verdicts := system.NodeReceiver(t, "jewelmusic.js", secret)
	_, err := a.Webhooks.CreateWebhook(a.Ctx(t), &postriderv1.CreateWebhookRequest{
		Webhook: &postriderv1.Webhook{
			Url: fmt.Sprintf("http://127.0.0.1:%d/webhooks/jewelmusic", port), EventTypes: []string{"release.*"}, Profile: "jewelmusic",
		},
		Secret: secret,
	})
	require.NoError(t, err)
	for _, data := range []string{jewelMusicExample, `{"title":"<Café> & Söhne 😀"}`, `{}`} {
		receipt := a.Publish(t, "release.live", data)
		got := system.Next(t, verdicts)
		require.Equal(t, 200, got.Status)
		require.Equal(t, "release.live", got.Event)
		var body struct {
			ID   string          `json:"id"`
			Type string          `json:"type"`
			Data json.RawMessage `json:"data"`
		}
		require.NoError(t, json.Unmarshal(got.Body, &body))
		require.Equal(t, receipt.GetEventId(), body.ID)
		require.Equal(t, "release.live", body.Type)
		require.JSONEq(t, data, string(body.Data))
	}
}

func standardWebhooksPackage(t *testing.T, s *system.System) {
	t.Helper()
	a := s.NewAccount(t)
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	port, verdicts := system.NodeReceiver(t, "standard.js", secret)
	_, err := a.Webhooks.CreateWebhook(a.Ctx(t), &postriderv1.CreateWebhookRequest{
		Webhook: &postriderv1.Webhook{Url: fmt.Sprintf("http://127.0.0.1:%d/", port), EventTypes: []string{"*"}},
		Secret:  secret,
	})
	require.NoError(t, err)
	for _, data := range []string{`{"b":9007199254740993,"a":"<&>"}`, "{\"s\":\"\u2028\"}\n", `{}`, `{"pad":"` + strings.Repeat("é", 100_000) + `"}`} {
		receipt := a.Publish(t, "contact.created", data)
		got := system.Next(t, verdicts)
		require.Equal(t, 200, got.Status, got.Error)
		require.Equal(t, receipt.GetEventId(), got.ID)
		var body string
		require.NoError(t, json.Unmarshal(got.Body, &body))
		require.Equal(t, data, body)
	}
}
