package standalone_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/telemetry"
	"github.com/postrider/postrider/services/standalone"
	"github.com/postrider/postrider/test/fixture/receivertest"
)

// output is a log that may be read while it is written.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write appends.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// Whatever happens, at every level, no log has a credential, a signing secret, a payload, what a
// receiver answered, or a URL beyond its host; and each line is JSON.
func TestLogsKeepSecrets(t *testing.T) {
	t.Parallel()
	cfg := config(t.TempDir())
	cfg.Telemetry.LogLevel, cfg.Telemetry.LogFormat = "debug", telemetry.FormatJSON
	out := &output{}
	log, level := telemetry.Logger(cfg.Telemetry, out)
	svc, err := standalone.New(cfg, log, standalone.WithLevel(level))
	require.NoError(t, err)
	require.NoError(t, svc.Start(t.Context()))
	u := admin(t, svc).newAccount(t)
	receiver := receivertest.New(t).Answer(
		receivertest.Body(http.StatusInternalServerError, "marker-answer", "X-Marker", "marker-answer-header"),
		receivertest.Reset(), receivertest.Status(http.StatusOK))
	hook := u.webhook(t, receiver.URL+"/marker-path?token=marker-query", func(w *postriderv1.Webhook) {
		w.Headers = map[string]string{"X-Token": "marker-header"}
	})
	gone := u.webhook(t, "http://127.0.0.1:1/marker-path?token=marker-query", func(w *postriderv1.Webhook) { w.EventTypes = []string{"other"} })
	require.NotEmpty(t, hook.GetSecret())
	event := u.publish(t, "marker-key", `{"data":"marker-payload"}`).GetEventId()
	u.with("pk_marker-credential").refused(t)
	require.Eventually(t, func() bool {
		resp, err := u.deliveries.ListDeliveries(u.ctx(t), &postriderv1.ListDeliveriesRequest{EventId: event, WebhookId: hook.GetWebhook().GetId()})
		return err == nil && len(resp.GetDeliveries()) == 1 && resp.GetDeliveries()[0].GetState() == postriderv1.DeliveryState_DELIVERY_STATE_DELIVERED
	}, patience, 10*time.Millisecond)
	_, err = u.webhooks.TestWebhook(u.ctx(t), &postriderv1.TestWebhookRequest{WebhookId: gone.GetWebhook().GetId()})
	require.NoError(t, err)
	require.NoError(t, svc.Stop(t.Context()))

	text := out.text()
	// Neither Contains nor NotContains, which would print all of it.
	if !strings.Contains(text, `"msg":"call"`) {
		t.Fatal("nothing was logged at debug")
	}
	keyset, err := os.ReadFile(cfg.DataDir + "/encryption.key")
	require.NoError(t, err)
	for what, secret := range map[string]string{
		"the admin key": svc.AdminKey(), "an api key": u.key, "a signing secret": hook.GetSecret(), "another": gone.GetSecret(),
		"the keyset": strings.TrimSpace(string(keyset)), "a marker": "marker-",
	} {
		if strings.Contains(text, secret) {
			t.Fatalf("%s was logged", what)
		}
	}
	for line := range strings.Lines(text) {
		var record map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &record), line)
		require.NotEmpty(t, record["msg"])
	}
}

// refused makes a call that is not let in.
func (u *user) refused(t *testing.T) {
	t.Helper()
	_, err := u.events.PublishEvent(u.ctx(t), &postriderv1.PublishEventRequest{
		Event: &postriderv1.EventInput{Type: "order.paid", Data: []byte(`"marker-payload"`)},
	})
	require.Error(t, err)
}
