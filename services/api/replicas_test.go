package api_test

import (
	"context"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/rpc"
	"github.com/postrider/postrider/pkg/seal"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/deadletterstream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/stream/journal"
	"github.com/postrider/postrider/pkg/telemetry"
	dispatcherv1 "github.com/postrider/postrider/proto/gen/go/postrider/dispatcher/v1"
	routerv1 "github.com/postrider/postrider/proto/gen/go/postrider/router/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/natstest"
)

// deployment is a NATS server on which any number of api replicas run.
type deployment struct {
	nats   *natstest.Server
	keyset string
}

func newDeployment(t *testing.T) *deployment {
	t.Helper()
	keyset, err := seal.Generate()
	require.NoError(t, err)
	return &deployment{nats: natstest.Start(t), keyset: keyset}
}

// replica is one api process, with a connection, a store and a delivery log of its own.
type replica struct {
	service *api.Service
	store   *config.Store
	sealer  *seal.Sealer
	conn    *grpc.ClientConn
	url     string // of its HTTP side
	stop    func()
}

func (d *deployment) start(t *testing.T, instance string, change ...func(*api.Config)) *replica {
	t.Helper()
	c, err := stream.New(d.nats.Connect(t), stream.Default())
	require.NoError(t, err)
	t.Cleanup(c.Close)
	r := &replica{}
	r.store, err = config.Ensure(t.Context(), c)
	require.NoError(t, err)
	entries, err := journal.Ensure(t.Context(), c, journal.Default())
	require.NoError(t, err)
	letters, err := deadletterstream.Ensure(t.Context(), c, deadletterstream.Default())
	require.NoError(t, err)
	events, err := eventstream.Ensure(t.Context(), c, eventstream.Default())
	require.NoError(t, err)
	r.sealer, err = seal.Parse(d.keyset)
	require.NoError(t, err)
	nobody, err := rpc.Dial(rpc.ClientConfig{Target: "127.0.0.1:1"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = nobody.Close() })
	cfg := api.Default()
	cfg.LogFile, cfg.Recorder = filepath.Join(t.TempDir(), "log.db"), instance
	for _, f := range change {
		f(&cfg)
	}
	r.service, err = api.New(t.Context(), cfg, api.Deps{
		Streams: c, Store: r.store, Journal: entries, DeadLetters: letters, Events: events, EventsAge: 7 * 24 * time.Hour, Sealer: r.sealer,
		Router: routerv1.NewRouterServiceClient(nobody), Dispatcher: dispatcherv1.NewDispatcherServiceClient(nobody),
		Scheduler: schedulerv1.NewSchedulerServiceClient(nobody), AdminKey: adminKey, Instance: instance,
		Logger: logtest.New(t), Telemetry: telemetry.Noop(),
	})
	require.NoError(t, err)
	require.NoError(t, r.service.Start(t.Context()))
	r.conn = serve(t, r.service)
	web := httptest.NewServer(r.service.Handler())
	r.url = web.URL
	stopped := false
	r.stop = func() {
		if !stopped {
			stopped = true
			web.Close()
			require.NoError(t, r.service.Stop(context.WithoutCancel(t.Context())))
		}
	}
	t.Cleanup(r.stop)
	return r
}

// newAccount makes an account and a key with the scopes.
func (r *replica) newAccount(t *testing.T, scopes ...string) (id, key string) {
	t.Helper()
	accounts := postriderv1.NewAccountServiceClient(r.conn)
	admin := as(t.Context(), adminKey)
	acc, err := accounts.CreateAccount(admin, &postriderv1.CreateAccountRequest{Account: &postriderv1.Account{DisplayName: "Acme"}})
	require.NoError(t, err)
	created, err := accounts.CreateApiKey(admin, &postriderv1.CreateApiKeyRequest{AccountId: acc.GetAccount().GetId(), Scopes: scopes})
	require.NoError(t, err)
	return acc.GetAccount().GetId(), created.GetSecret()
}
