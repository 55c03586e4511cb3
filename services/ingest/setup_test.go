package ingest_test

import (
	"context"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc/metadata"

	"github.com/postrider/postrider/pkg/access"
	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/rpc"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/telemetry"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/ingest"
	"github.com/postrider/postrider/test/fixture/budget"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestMain(m *testing.M) {
	budget.Serve()
	goleak.VerifyTestMain(m)
}

const (
	soon = 60 * time.Second
	tick = 2 * time.Millisecond

	adminKey = "the-admins-key"
)

// bench is what a deployment's ingests share: a NATS server with the streams and buckets, and an
// account with a key that may publish and read.
type bench struct {
	server  *natstest.Server
	log     *slog.Logger
	streams stream.Config
	limits  eventstream.Config
	events  *eventstream.Stream
	store   *config.Store
	account postrider.AccountID
	key     string
}

func setup(t testing.TB, change ...func(*stream.Config, *eventstream.Config)) *bench {
	t.Helper()
	return setupOn(t, natstest.Start(t), change...)
}

// setupOn is setup on a server.
func setupOn(t testing.TB, server *natstest.Server, change ...func(*stream.Config, *eventstream.Config)) *bench {
	t.Helper()
	b := &bench{server: server, log: logtest.New(t), streams: stream.Default(), limits: eventstream.Default()}
	for _, c := range change {
		c(&b.streams, &b.limits)
	}
	client := b.client(t)
	var err error
	b.store, err = config.Ensure(t.Context(), client)
	require.NoError(t, err)
	b.events, err = eventstream.Ensure(t.Context(), client, b.limits)
	require.NoError(t, err)
	b.account, b.key = b.newAccount(t, postrider.ScopePublish, postrider.ScopeRead)
	return b
}

// client is a connection of its own, as every process has one.
func (b *bench) client(t testing.TB) *stream.Client {
	t.Helper()
	client, err := stream.New(b.server.Connect(t), b.streams)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return client
}

func (b *bench) newAccount(t testing.TB, scopes ...postrider.Scope) (postrider.AccountID, string) {
	t.Helper()
	account := postrider.NewAccountID()
	_, err := b.store.CreateAccount(t.Context(), &recordv1.Account{Account: &postriderv1.Account{Id: string(account)}})
	require.NoError(t, err)
	id, secret := access.NewKeySecret()
	rec := &recordv1.Key{Key: &postriderv1.ApiKey{Id: id, AccountId: string(account)}, Hash: access.HashKey(secret)}
	for _, s := range scopes {
		rec.Key.Scopes = append(rec.Key.Scopes, string(s))
	}
	_, err = b.store.CreateKey(t.Context(), rec)
	require.NoError(t, err)
	return account, secret
}

// ingestOf is a running ingest and its faces.
type ingestOf struct {
	*ingest.Service

	events postriderv1.EventServiceClient
	http   http.Handler
}

// start runs an ingest until the test ends.
func (b *bench) start(t testing.TB, keys ingest.Dedup, change ...func(*ingest.Config)) *ingestOf {
	t.Helper()
	cfg := ingest.Default()
	for _, c := range change {
		c(&cfg)
	}
	client := b.client(t)
	events, err := eventstream.Ensure(t.Context(), client, b.limits)
	require.NoError(t, err)
	svc, err := ingest.New(cfg, ingest.Deps{
		Streams: client, Events: events, Dedup: keys, AdminKey: adminKey,
		Instance: t.Name(), Logger: b.log, Telemetry: telemetry.Noop(),
	})
	require.NoError(t, err)
	require.NoError(t, svc.Start(t.Context()))

	listener, option := rpc.InMemory()
	server, err := rpc.NewServer(rpc.ServerConfig{}, b.log, append(svc.Guards(), rpc.WithListener(listener))...)
	require.NoError(t, err)
	svc.Register(server.Registrar())
	require.NoError(t, server.Start(t.Context()))
	conn, err := rpc.Dial(rpc.ClientConfig{Target: rpc.InMemoryTarget}, option)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		defer cancel()
		require.NoError(t, conn.Close())
		require.NoError(t, server.Stop(ctx))
		require.NoError(t, svc.Stop(ctx))
		require.NoError(t, svc.Stop(ctx), "twice is fine")
	})
	return &ingestOf{Service: svc, events: postriderv1.NewEventServiceClient(conn), http: svc.Handler()}
}

// as is a context with a credential.
func as(ctx context.Context, key string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
}

func requestOf(key, data string) *postriderv1.PublishEventRequest {
	return &postriderv1.PublishEventRequest{
		Event: &postriderv1.EventInput{Type: "release.live", Data: []byte(data)}, IdempotencyKey: key,
	}
}

// publish must succeed.
func (b *bench) publish(t testing.TB, in *ingestOf, key, data string) *postriderv1.Receipt {
	t.Helper()
	res, err := in.events.PublishEvent(as(t.Context(), b.key), requestOf(key, data))
	require.NoError(t, err)
	return res.GetReceipt()
}

// refused must fail with the kind and reason.
func (b *bench) refused(t testing.TB, in *ingestOf, key, data string, kind fault.Kind, reason string) {
	t.Helper()
	_, err := in.events.PublishEvent(as(t.Context(), b.key), requestOf(key, data))
	isFault(t, err, kind, reason)
}

func isFault(t testing.TB, err error, kind fault.Kind, reason string) {
	t.Helper()
	e, ok := fault.As(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, kind.String(), e.Kind.String())
	require.Equal(t, reason, e.Reason)
}

// stored is how many events EVENTS holds.
func (b *bench) stored(t testing.TB) int {
	t.Helper()
	usage, err := b.events.Of(b.account).Usage(t.Context())
	require.NoError(t, err)
	return int(usage.Messages)
}

// eachKey counts the events that have a deduplication key.
func eachKey(key string, found *int) func(uint64, *recordv1.Event) error {
	return func(_ uint64, ev *recordv1.Event) error {
		if ev.GetDedupKey() == key {
			*found++
		}
		return nil
	}
}
