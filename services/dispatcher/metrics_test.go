package dispatcher_test

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/telemetry"
	"github.com/postrider/postrider/services/dispatcher"
	"github.com/postrider/postrider/test/fixture/receivertest"
)

func TestTheMetricsTellWhatHappenedAndNobodysName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tel, err := telemetry.New(telemetry.Default(), "dispatcher")
	require.NoError(t, err)
	receiver := receivertest.New(t).Respond(500, 200)
	w.dispatch(t, testConfig(), func(d *dispatcher.Deps) { d.Telemetry = tel })
	good := w.send(t, w.webhook(t, receiver.URL), 1)[0]
	spent := w.webhook(t, "http://10.0.0.1/", func(h *postriderv1.Webhook) { h.RetrySchedule = schedule() })
	held := w.webhook(t, receiver.URL, setState(paused))
	dead := w.send(t, spent, 1)[0]
	w.send(t, held, 1)
	w.ledger.state(t, good, "delivered")
	w.ledger.state(t, dead, "dead")
	w.settled(t)

	page := httptest.NewRecorder()
	tel.Handler().ServeHTTP(page, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	text := page.Body.String()
	for _, line := range []string{
		`postrider_delivery_attempts_total{account_class="standard",attempt="first",error_class="http_status",outcome="retryable"} 1`,
		`postrider_delivery_attempts_total{account_class="standard",attempt="retry",error_class="",outcome="succeeded"} 1`,
		`postrider_delivery_attempts_total{account_class="standard",attempt="first",error_class="ssrf_blocked",outcome="retryable"} 1`,
		`postrider_delivery_attempt_duration_seconds_count{account_class="standard",outcome="succeeded"} 1`,
		`postrider_delivery_first_attempt_delay_seconds_count{account_class="standard"} 2`,
		`postrider_delivery_total_duration_seconds_count{account_class="standard"} 1`,
		`postrider_delivery_held_total{reason="paused"} 1`,
		`postrider_dead_letters_total{account_class="standard",reason="exhausted"} 1`,
		`postrider_ssrf_blocked_total 1`,
		`postrider_dispatcher_handovers_total{by="scheduler"} 2`,
		`postrider_dispatcher_shards 2`, `postrider_dispatcher_unsettled 0`, `postrider_dispatcher_storing 0`,
		`postrider_delivery_inflight 0`, `postrider_circuit_webhooks{state="open"} 0`, `postrider_ordering_lines{blocked="true"} 0`, `postrider_streams_shards 2`, `postrider_dispatcher_webhooks 3`,
		`# TYPE postrider_dispatcher_connections_total counter`,
	} {
		require.Contains(t, text, line+"\n")
	}
	for _, name := range []string{w.account, good, spent.GetId(), held.GetId(), "10.0.0.1", receiver.Addr()} {
		require.NotContains(t, text, name)
	}
}

func TestTheConfigurationIsChecked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, change := range map[string]func(*dispatcher.Config){
		"slots":                    func(c *dispatcher.Config) { c.Pipeline.Slots = 0 },
		"max-unsettled":            func(c *dispatcher.Config) { c.Pipeline.MaxUnsettled = 0 },
		"breaker-failures":         func(c *dispatcher.Config) { c.Pipeline.Breaker.Failures = 0 },
		"egress-allow-networks":    func(c *dispatcher.Config) { c.Egress.AllowNetworks = []string{"nowhere"} },
		"egress-connect-timeout":   func(c *dispatcher.Config) { c.Egress.ConnectTimeout = 0 },
		"attempt-timeout":          func(c *dispatcher.Config) { c.AttemptTimeout = time.Hour },
		"retry-time-scale":         func(c *dispatcher.Config) { c.RetryTimeScale = 0 },
		"proxy":                    func(c *dispatcher.Config) { c.Egress.Proxy = "socks5://x" },
		"certificate authorities:": func(c *dispatcher.Config) { c.Egress.CAFile = "/nowhere.pem" },
	} {
		cfg := testConfig()
		change(&cfg)
		_, err := dispatcher.New(cfg, w.deps())
		require.ErrorContains(t, err, "configure dispatcher: ")
		require.ErrorContains(t, err, name)
	}
}
