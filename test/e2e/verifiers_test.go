//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// The example that source 001's page prints.
const jewelMusicExample = `{"release_id":"rel_abc123def456","title":"My Album","artist":"Artist Name","status":"live",` +
	`"platforms":[{"name":"spotify","status":"live","url":"https://open.spotify.com/album/..."},` +
	`{"name":"apple_music","status":"live","url":"https://music.apple.com/album/..."}],` +
	`"metadata":{"isrc":"USJML2500001","upc":"123456789012","release_date":"2025-09-01"}}`

// verdict is what a receiver in Node says of one request.
type verdict struct {
	Listening int             `json:"listening"`
	Status    int             `json:"status"`
	Error     string          `json:"error"`
	Event     string          `json:"event"`
	ID        string          `json:"id"`
	Body      json.RawMessage `json:"body"`
}

// nodeReceiver starts a receiver of test/node and returns its port and its verdicts.
func nodeReceiver(t *testing.T, script, secret string) (port int, verdicts <-chan verdict) {
	t.Helper()
	dir, err := filepath.Abs("../node")
	require.NoError(t, err)
	node, err := exec.LookPath("node")
	require.NoError(t, err, "these tests run the systems' own JavaScript: install Node 20 or newer")
	_, err = os.Stat(filepath.Join(dir, "node_modules"))
	require.NoError(t, err, "run npm ci in test/node first, as make test/e2e does")
	cmd := exec.CommandContext(t.Context(), node, script)
	cmd.Dir, cmd.Env, cmd.Stderr = dir, append(os.Environ(), "WEBHOOK_SECRET="+secret), os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := make(chan verdict, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		scanner := bufio.NewScanner(out)
		scanner.Buffer(nil, 4<<20)
		for scanner.Scan() {
			var v verdict
			if json.Unmarshal(scanner.Bytes(), &v) == nil && (v.Status != 0 || v.Listening != 0) {
				lines <- v
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
		_ = cmd.Wait()
	})
	return next(t, lines).Listening, lines
}

func next(t *testing.T, verdicts <-chan verdict) verdict {
	t.Helper()
	select {
	case v := <-verdicts:
		return v
	case <-time.After(patience):
		t.Fatal("the receiver said nothing")
		return verdict{}
	}
}

func TestVerifiers(t *testing.T) {
	forms(t, map[string]func(*testing.T, *system){
		"check 1.2.6: the page's own Express handler accepts JewelMusic deliveries": jewelMusicPage,
		"the standardwebhooks package accepts standard deliveries":                  standardWebhooksPackage,
	})
}

func jewelMusicPage(t *testing.T, s *system) {
	t.Helper()
	a := s.newAccount(t)
	const secret = "jewel_whsec_5f1d"
	port, verdicts := nodeReceiver(t, "jewelmusic.js", secret)
	_, err := a.webhooks.CreateWebhook(a.ctx(t), &postriderv1.CreateWebhookRequest{
		Webhook: &postriderv1.Webhook{
			Url: fmt.Sprintf("http://127.0.0.1:%d/webhooks/jewelmusic", port), EventTypes: []string{"release.*"}, Profile: "jewelmusic",
		},
		Secret: secret,
	})
	require.NoError(t, err)
	for _, data := range []string{jewelMusicExample, `{"title":"<Café> & Söhne 😀"}`, `{}`} {
		receipt := a.publish(t, "release.live", data)
		got := next(t, verdicts)
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

func standardWebhooksPackage(t *testing.T, s *system) {
	t.Helper()
	a := s.newAccount(t)
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	port, verdicts := nodeReceiver(t, "standard.js", secret)
	_, err := a.webhooks.CreateWebhook(a.ctx(t), &postriderv1.CreateWebhookRequest{
		Webhook: &postriderv1.Webhook{Url: fmt.Sprintf("http://127.0.0.1:%d/", port), EventTypes: []string{"*"}},
		Secret:  secret,
	})
	require.NoError(t, err)
	for _, data := range []string{`{"b":9007199254740993,"a":"<&>"}`, "{\"s\":\"\u2028\"}\n", `{}`, `{"pad":"` + strings.Repeat("é", 100_000) + `"}`} {
		receipt := a.publish(t, "contact.created", data)
		got := next(t, verdicts)
		require.Equal(t, 200, got.Status, got.Error)
		require.Equal(t, receipt.GetEventId(), got.ID)
		var body string
		require.NoError(t, json.Unmarshal(got.Body, &body))
		require.Equal(t, data, body)
	}
}
