package standalone_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/postrider/postrider/pkg/conf"
	"github.com/postrider/postrider/pkg/rpc"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/standalone"
	"github.com/postrider/postrider/test/fixture/logtest"
)

// childDir names the data folder in the environment of a process that a test means to kill.
const childDir = "POSTRIDER_TEST_CHILD_DIR"

// patience is how long tests wait for what must happen. It is far above what it takes.
const patience = time.Minute

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		os.Exit(child(dir)) //nolint:forbidigo // this is a main
	}
	goleak.VerifyTestMain(m)
}

// config is the default on free ports with everything in dir.
func config(dir string) standalone.Config {
	cfg := standalone.Default()
	cfg.DataDir = dir
	cfg.GRPC.Listen, cfg.HTTPListen, cfg.Admin.MetricsListen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	cfg.Dispatcher.RetryTimeScale = 0.001 // a minute is 60 ms
	return cfg
}

// child runs everything until it is killed, and says where and with which key.
func child(dir string) int {
	ctx := context.Background()
	svc, err := standalone.New(config(dir), slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err == nil {
		err = svc.Start(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(svc.GRPCAddr(), svc.AdminKey())
	<-ctx.Done() // never
	return 0
}

// startChild runs everything in a process of its own and returns a client and what kills it.
func startChild(t *testing.T, dir string) (*user, func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err, "the process did not start")
	addr, key, ok := strings.Cut(strings.TrimSpace(line), " ")
	require.True(t, ok, line)
	kill := func() {
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, cmd.Wait())
	}
	return connect(t, addr, key), kill
}

// start runs everything in dir until the test ends, or stop is called.
func start(t *testing.T, cfg standalone.Config) (svc *standalone.Service, stop func()) {
	t.Helper()
	svc, err := standalone.New(cfg, logtest.New(t))
	require.NoError(t, err)
	require.NoError(t, svc.Start(t.Context()))
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
		defer cancel()
		require.NoError(t, svc.Stop(ctx))
	}
	t.Cleanup(stop)
	return svc, stop
}

// user is a client with a credential.
type user struct {
	conn       *grpc.ClientConn
	key        string
	account    string
	accounts   postriderv1.AccountServiceClient
	webhooks   postriderv1.WebhookServiceClient
	deliveries postriderv1.DeliveryServiceClient
	events     postriderv1.EventServiceClient
}

func connect(t *testing.T, addr, key string) *user {
	t.Helper()
	conn, err := rpc.Dial(rpc.ClientConfig{Target: addr})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return &user{
		conn: conn, key: key,
		accounts: postriderv1.NewAccountServiceClient(conn), webhooks: postriderv1.NewWebhookServiceClient(conn),
		deliveries: postriderv1.NewDeliveryServiceClient(conn), events: postriderv1.NewEventServiceClient(conn),
	}
}

func admin(t *testing.T, svc *standalone.Service) *user {
	t.Helper()
	return connect(t, svc.GRPCAddr(), svc.AdminKey())
}

// with is the same client with another credential.
func (u *user) with(key string) *user {
	v := *u
	v.key = key
	return &v
}

func (u *user) ctx(t *testing.T) context.Context {
	t.Helper()
	return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+u.key)
}

// newAccount makes an account with a key that may do everything in it.
func (u *user) newAccount(t *testing.T) *user {
	t.Helper()
	acc, err := u.accounts.CreateAccount(u.ctx(t), &postriderv1.CreateAccountRequest{Account: &postriderv1.Account{DisplayName: t.Name()}})
	require.NoError(t, err)
	key, err := u.accounts.CreateApiKey(u.ctx(t), &postriderv1.CreateApiKeyRequest{
		AccountId: acc.GetAccount().GetId(), Scopes: []string{"publish", "manage", "read"},
	})
	require.NoError(t, err)
	v := u.with(key.GetSecret())
	v.account = acc.GetAccount().GetId()
	return v
}

func (u *user) webhook(t *testing.T, url string, change ...func(*postriderv1.Webhook)) *postriderv1.CreateWebhookResponse {
	t.Helper()
	w := &postriderv1.Webhook{Url: url, EventTypes: []string{"*"}}
	for _, c := range change {
		c(w)
	}
	resp, err := u.webhooks.CreateWebhook(u.ctx(t), &postriderv1.CreateWebhookRequest{Webhook: w})
	require.NoError(t, err)
	return resp
}

func (u *user) publish(t *testing.T, key, data string) *postriderv1.Receipt {
	t.Helper()
	resp, err := u.events.PublishEvent(u.ctx(t), &postriderv1.PublishEventRequest{
		IdempotencyKey: key, Event: &postriderv1.EventInput{Type: "order.paid", Data: []byte(data)},
	})
	require.NoError(t, err)
	return resp.GetReceipt()
}

// awaitDelivered waits until the log says that the event's delivery was delivered.
func (u *user) awaitDelivered(t *testing.T, event string) *postriderv1.Delivery {
	t.Helper()
	var last []*postriderv1.Delivery
	require.Eventually(t, func() bool {
		resp, err := u.deliveries.ListDeliveries(u.ctx(t), &postriderv1.ListDeliveriesRequest{EventId: event})
		last = resp.GetDeliveries()
		return err == nil && len(last) == 1 && last[0].GetState() == postriderv1.DeliveryState_DELIVERY_STATE_DELIVERED
	}, patience, 10*time.Millisecond, "the log has %v", &last)
	return last[0]
}

// awaitStates waits until the log has n deliveries, all in the state.
func (u *user) awaitStates(t *testing.T, n int, state postriderv1.DeliveryState) {
	t.Helper()
	have := 0
	require.Eventually(t, func() bool {
		resp, err := u.deliveries.ListDeliveries(u.ctx(t), &postriderv1.ListDeliveriesRequest{State: state, PageSize: 1000})
		have = len(resp.GetDeliveries())
		return err == nil && have == n
	}, patience, 10*time.Millisecond, "want %d, have %v", n, &have)
}

// load is conf.Load of the default configuration.
func load(args []string, env map[string]string) (standalone.Config, error) {
	cfg := standalone.Default()
	lookup := func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	}
	err := conf.Load("postrider up", &cfg, args, lookup, os.Stderr)
	return cfg, err
}
