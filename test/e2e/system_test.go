//go:build e2e

package e2e

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/postrider/postrider/pkg/rpc"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/cluster"
)

// retryScale shortens every retry schedule, so that the gaps of minutes and hours become
// fractions of a second: one minute is 30 ms.
const (
	retryScale     = 0.0005
	retryScaleText = "0.0005"
)

// system is one running form of Postrider: one process, or many.
type system struct {
	accounts   postriderv1.AccountServiceClient
	webhooks   postriderv1.WebhookServiceClient
	eventTypes postriderv1.EventTypeServiceClient
	deliveries postriderv1.DeliveryServiceClient
	events     postriderv1.EventServiceClient
	ingestURL  string
	apiURL     string
	adminKey   string
}

func connect(t *testing.T, api, ingest, apiURL, ingestURL, adminKey string) *system {
	t.Helper()
	dial := func(target string) *grpc.ClientConn {
		conn, err := rpc.Dial(rpc.ClientConfig{Target: target})
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	manage, publish := dial(api), dial(ingest)
	return &system{
		accounts: postriderv1.NewAccountServiceClient(manage), webhooks: postriderv1.NewWebhookServiceClient(manage),
		eventTypes: postriderv1.NewEventTypeServiceClient(manage), deliveries: postriderv1.NewDeliveryServiceClient(manage),
		events: postriderv1.NewEventServiceClient(publish), ingestURL: ingestURL, apiURL: apiURL, adminKey: adminKey,
	}
}

// binaries is where make test/e2e built them.
func binaries(t *testing.T) string {
	t.Helper()
	bin, err := filepath.Abs("../../bin")
	require.NoError(t, err)
	_, err = os.Stat(filepath.Join(bin, "postrider"))
	require.NoError(t, err, "run make build, or make test/e2e, first")
	return bin
}

func startCluster(t *testing.T, opts cluster.Options) (*cluster.Cluster, *system) {
	t.Helper()
	opts.Bin, opts.Dir = binaries(t), t.TempDir()
	if opts.Env == nil {
		opts.Env = map[string]string{}
	}
	if opts.Env["POSTRIDER_DISPATCHER_RETRY_TIME_SCALE"] == "" {
		opts.Env["POSTRIDER_DISPATCHER_RETRY_TIME_SCALE"] = retryScaleText
	}
	c, err := cluster.Start(t.Context(), opts)
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			for _, p := range c.Processes() {
				t.Logf("---- %s\n%s", p.Name, p.Tail(30))
			}
		}
	})
	return c, connect(t, c.APITarget(), c.IngestTarget(), c.APIURLs()[0], c.IngestURLs()[0], c.AdminKey)
}

func startStandalone(t *testing.T, env map[string]string) (*cluster.Standalone, *system) {
	t.Helper()
	if env == nil {
		env = map[string]string{}
	}
	if env["POSTRIDER_DISPATCHER_RETRY_TIME_SCALE"] == "" {
		env["POSTRIDER_DISPATCHER_RETRY_TIME_SCALE"] = retryScaleText
	}
	s, err := cluster.StartStandalone(t.Context(), binaries(t), t.TempDir(), env)
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("---- standalone\n%s", s.Tail(60))
		}
	})
	return s, connect(t, s.GRPC, s.GRPC, s.HTTP, s.HTTP, s.AdminKey)
}

// admin is a context with the admin key.
func (s *system) admin(ctx context.Context) context.Context { return as(ctx, s.adminKey) }

func as(ctx context.Context, key string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
}

// tenant is an account with a key that may do everything in it.
type tenant struct {
	*system
	id  string
	key string
}

func (s *system) newAccount(t *testing.T) *tenant {
	t.Helper()
	acc := &postriderv1.Account{DisplayName: t.Name()}
	created, err := s.accounts.CreateAccount(s.admin(t.Context()), &postriderv1.CreateAccountRequest{Account: acc})
	require.NoError(t, err)
	key, err := s.accounts.CreateApiKey(s.admin(t.Context()), &postriderv1.CreateApiKeyRequest{
		AccountId: created.GetAccount().GetId(), Scopes: []string{"publish", "manage", "read"},
	})
	require.NoError(t, err)
	return &tenant{system: s, id: created.GetAccount().GetId(), key: key.GetSecret()}
}

func (a *tenant) ctx(t *testing.T) context.Context {
	t.Helper()
	return as(t.Context(), a.key)
}

func (a *tenant) webhook(t *testing.T, w *postriderv1.Webhook) *postriderv1.CreateWebhookResponse {
	t.Helper()
	resp, err := a.webhooks.CreateWebhook(a.ctx(t), &postriderv1.CreateWebhookRequest{Webhook: w})
	require.NoError(t, err)
	return resp
}

func (a *tenant) publish(t *testing.T, eventType, data string) *postriderv1.Receipt {
	t.Helper()
	resp, err := a.events.PublishEvent(a.ctx(t), &postriderv1.PublishEventRequest{
		Event: &postriderv1.EventInput{Type: eventType, Data: []byte(data)},
	})
	require.NoError(t, err)
	return resp.GetReceipt()
}

// awaitDelivery waits until the log shows the event's delivery to the webhook in the state.
func (a *tenant) awaitDelivery(t *testing.T, event, webhook string, state postriderv1.DeliveryState) *postriderv1.Delivery {
	t.Helper()
	var last []*postriderv1.Delivery
	require.Eventually(t, func() bool {
		resp, err := a.deliveries.ListDeliveries(a.ctx(t), &postriderv1.ListDeliveriesRequest{EventId: event, WebhookId: webhook})
		if err != nil {
			return false
		}
		last = resp.GetDeliveries()
		return len(last) == 1 && last[0].GetState() == state
	}, patience, 20*time.Millisecond, "want %s, the log has %v", state, &last)
	return last[0]
}

// patience is how long tests wait for what must happen. It is far above what it takes.
const patience = 30 * time.Second

// forms runs a scenario over both forms of the system, each started once.
func forms(t *testing.T, scenarios map[string]func(t *testing.T, s *system)) {
	t.Helper()
	run := func(t *testing.T, s *system) {
		t.Helper()
		for name, scenario := range scenarios {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				scenario(t, s)
			})
		}
	}
	t.Run("one process", func(t *testing.T) {
		_, s := startStandalone(t, nil)
		run(t, s)
	})
	t.Run("separate processes", func(t *testing.T) {
		_, s := startCluster(t, cluster.Options{})
		run(t, s)
	})
}

// call makes a request and reads the whole answer.
func call(t *testing.T, method, url, key, body string, headers ...string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+key)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(raw)
}

// hours is a retry schedule of one delay, long enough (also scaled) to find the delivery waiting.
func hours(n int) []*durationpb.Duration {
	return []*durationpb.Duration{durationpb.New(time.Duration(n) * time.Hour)}
}
