package doctor_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/postrider/postrider/pkg/conf"
	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/seal"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/auditstream"
	"github.com/postrider/postrider/pkg/stream/deadletterstream"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/stream/journal"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/pkg/stream/shardlease"
	"github.com/postrider/postrider/pkg/stream/topology"
	"github.com/postrider/postrider/services/api"
	"github.com/postrider/postrider/services/standalone"
	"github.com/postrider/postrider/services/standalone/internal/doctor"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is far above what anything here takes.
const patience = 20 * time.Second

// ground is a NATS server on which everything is as the services make it, a delivery log that one of
// them made, and the configuration of services that would use both.
type ground struct {
	nats *natstest.Server
	js   jetstream.JetStream
	cfg  doctor.Config
}

func lay(t *testing.T, opts ...natstest.Option) *ground {
	t.Helper()
	g := &ground{nats: natstest.Start(t, opts...), cfg: doctor.DefaultConfig()}
	g.cfg.Process.NATS.URL = g.nats.URL
	g.cfg.API.LogFile = filepath.Join(folder(t), "delivery-log.db")
	keyset, err := seal.Generate()
	require.NoError(t, err)
	g.cfg.EncryptionKey, g.cfg.AdminKey = conf.Secret(keyset), "prk_something"
	return g
}

// furnish makes every stream, bucket and consumer.
func (g *ground) furnish(t *testing.T) *ground {
	t.Helper()
	c, err := stream.New(g.nats.NC(t), stream.Default())
	require.NoError(t, err)
	t.Cleanup(c.Close)
	g.js = c.JetStream()
	ctx := t.Context()
	events, err := eventstream.Ensure(ctx, c, g.cfg.Events)
	require.NoError(t, err)
	_, err = events.Segments()[0].Router(ctx)
	require.NoError(t, err)
	deliveries, err := deliverystream.Ensure(ctx, c, g.cfg.Deliveries)
	require.NoError(t, err)
	_, err = deliveries.Consumer(ctx, 0)
	require.NoError(t, err)
	retries, err := retrystream.Ensure(ctx, c, g.cfg.Retries)
	require.NoError(t, err)
	t.Cleanup(retries.Close)
	_, err = retries.Due(ctx, 0)
	require.NoError(t, err)
	j, err := journal.Ensure(ctx, c, g.cfg.Journal)
	require.NoError(t, err)
	log, err := api.InspectLog(ctx, g.cfg.API)
	require.NoError(t, err)
	_, err = j.Consumer(ctx, log.Consumer)
	require.NoError(t, err)
	_, err = deadletterstream.Ensure(ctx, c, g.cfg.DeadLetters)
	require.NoError(t, err)
	_, err = auditstream.Ensure(ctx, c, g.cfg.API.Audit)
	require.NoError(t, err)
	_, err = config.Ensure(ctx, c)
	require.NoError(t, err)
	_, err = topology.Ensure(ctx, c)
	require.NoError(t, err)
	leases, err := shardlease.New(c, "dispatcher-1", c.Layout, shardlease.Default(), logtest.New(t))
	require.NoError(t, err)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	held := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- leases.Run(ctx, func(ctx context.Context, _ int) { close(held); <-ctx.Done() })
	}()
	<-held
	stop()
	require.NoError(t, <-ended)
	return g
}

// examine is the report, without a receiver.
func (g *ground) examine(t *testing.T) *doctor.Report {
	t.Helper()
	return doctor.Services(t.Context(), &g.cfg, "")
}

// folder is a data folder that one process has used, and left.
func folder(t *testing.T) string {
	t.Helper()
	cfg := standalone.Default()
	cfg.DataDir = t.TempDir()
	cfg.GRPC.Listen, cfg.HTTPListen, cfg.Admin.MetricsListen = "127.0.0.1:0", "127.0.0.1:0", ""
	svc, err := standalone.New(cfg, logtest.New(t))
	require.NoError(t, err)
	require.NoError(t, svc.Start(t.Context()))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, svc.Stop(ctx))
	return cfg.DataDir
}

// found is the finding of a check that has the words; it fails if there is none with the status.
func found(t *testing.T, r *doctor.Report, status doctor.Status, check, words string) doctor.Finding {
	t.Helper()
	for _, f := range r.Findings {
		if f.Check == check && f.Status == status && strings.Contains(f.What, words) {
			if status != doctor.OK {
				require.NotEmpty(t, f.Mend, "%v says nothing on how to mend it", f)
			}
			return f
		}
	}
	t.Fatalf("no %s of %s with %q in %v", status, check, words, r.Findings)
	return doctor.Finding{}
}

// sound fails if there is any finding but those of these checks that is not ok.
func sound(t *testing.T, r *doctor.Report, except ...string) {
	t.Helper()
	for _, f := range r.Findings {
		if f.Status != doctor.OK && !strings.Contains(strings.Join(except, ","), f.Check) {
			t.Errorf("%v", f)
		}
	}
}
