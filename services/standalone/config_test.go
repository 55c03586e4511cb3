package standalone_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/conf"
	"github.com/postrider/postrider/services/standalone"
)

func TestTheDefaultsAreValidAndOnLoopback(t *testing.T) {
	t.Parallel()
	cfg, err := load(nil, nil)
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:9090", cfg.GRPC.Listen)
	require.Equal(t, "127.0.0.1:8080", cfg.HTTPListen)
	require.Equal(t, "127.0.0.1:9464", cfg.Admin.MetricsListen)
	require.Empty(t, cfg.Admin.HealthListen)
	require.Equal(t, "var", cfg.DataDir)
}

func TestOptionsHaveTheNamesThatScriptsRelyOn(t *testing.T) {
	t.Parallel()
	cfg := standalone.Default()
	names := map[string]bool{}
	for _, o := range conf.Describe(&cfg) {
		names[o.Env] = true
	}
	for _, name := range []string{
		"DATA_DIR", "GRPC_LISTEN", "HTTP_LISTEN", "HEALTH_LISTEN", "METRICS_LISTEN", "ADMIN_KEY", "ENCRYPTION_KEY", "REDIS_URL",
		"DISPATCHER_RETRY_TIME_SCALE", "DISPATCHER_EGRESS_ALLOW_NETWORKS", "INGEST_DEDUP_WINDOW", "ROUTER_HEARTBEAT",
		"SCHEDULER_LEASE", "API_LOG_FILE", "API_ALLOW_HTTP", "TELEMETRY_LOG_LEVEL", "STREAMS_SHARDS", "STOP_GRACE",
	} {
		require.True(t, names["POSTRIDER_"+name], name)
	}
}

func TestOptionsAreSetAndFaultsAreToldAtOnce(t *testing.T) {
	t.Parallel()
	cfg, err := load([]string{"--data-dir", "/tmp/x"}, map[string]string{"POSTRIDER_SCHEDULER_LEASE": "5s"})
	require.NoError(t, err)
	require.Equal(t, "/tmp/x", cfg.DataDir)
	require.Equal(t, 5*time.Second, cfg.Scheduler.Lease)

	_, err = load([]string{"--streams-replicas", "3", "--http-listen", "", "--scheduler-lease", "-1s", "--nats-sync-interval", "1ns"}, nil)
	for _, name := range []string{"streams-replicas", "http-listen", "scheduler-lease", "nats-sync-interval"} {
		require.ErrorContains(t, err, name)
	}

	broken := standalone.Default()
	broken.DataDir = ""
	_, err = standalone.New(broken, nil)
	require.ErrorContains(t, err, "data-dir")
}
