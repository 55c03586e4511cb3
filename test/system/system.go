// Package system runs Postrider as its users do and gives scenarios what they need of it: accounts
// with their keys, webhooks, publishing, the delivery log, and receivers in the source systems' own
// language. Only tests import it.
package system

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

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/rpc"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/cluster"
)

// RetryScale shortens every retry schedule, so that the gaps of minutes and hours become
// fractions of a second: one minute is 30 ms. RetryScaleText is the same as an option's value.
const (
	RetryScale     = 0.0005
	RetryScaleText = "0.0005"
)

// Patience is how long tests wait for what must happen. It is far above what it takes.
const Patience = 30 * time.Second

// System is one running form of Postrider: one process, or many.
type System struct {
	Accounts    postriderv1.AccountServiceClient
	Webhooks    postriderv1.WebhookServiceClient
	EventTypes  postriderv1.EventTypeServiceClient
	Deliveries  postriderv1.DeliveryServiceClient
	Replays     postriderv1.ReplayServiceClient
	SigningKeys postriderv1.SigningKeyServiceClient
	Events      postriderv1.EventServiceClient
	Ledger      postriderv1.LedgerServiceClient
	IngestURL   string // base of ingest's HTTP server
	APIURL      string // base of the api service's HTTP server
	AdminKey    string
}

func connect(t *testing.T, api, ingest, apiURL, ingestURL, adminKey string) *System {
	t.Helper()
	dial := func(target string) patient {
		conn, err := rpc.Dial(rpc.ClientConfig{Target: target})
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		return patient{conn}
	}
	manage, publish := dial(api), dial(ingest)
	return &System{
		Accounts: postriderv1.NewAccountServiceClient(manage), Webhooks: postriderv1.NewWebhookServiceClient(manage),
		EventTypes: postriderv1.NewEventTypeServiceClient(manage), Deliveries: postriderv1.NewDeliveryServiceClient(manage),
		SigningKeys: postriderv1.NewSigningKeyServiceClient(manage), Events: postriderv1.NewEventServiceClient(publish),
		Ledger: postriderv1.NewLedgerServiceClient(manage), Replays: postriderv1.NewReplayServiceClient(manage),
		IngestURL: ingestURL, APIURL: apiURL, AdminKey: adminKey,
	}
}

// patient is a connection whose calls fail when they are not answered for longer than anything takes: a
// test must tell what it waits for, and never wait for ever.
type patient struct{ *grpc.ClientConn }

func (p patient) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	ctx, cancel := context.WithTimeout(ctx, 2*Patience)
	defer cancel()
	return p.ClientConn.Invoke(ctx, method, args, reply, opts...)
}

// binaries is where make built them.
func binaries(t *testing.T) string {
	t.Helper()
	bin, err := filepath.Abs("../../bin")
	require.NoError(t, err)
	_, err = os.Stat(filepath.Join(bin, "postrider"))
	require.NoError(t, err, "run make build first, as make test/e2e does")
	return bin
}

// StartCluster starts every service as a process of its own, until the test ends.
func StartCluster(t *testing.T, opts cluster.Options) (*cluster.Cluster, *System) {
	t.Helper()
	opts.Bin, opts.Dir = binaries(t), t.TempDir()
	opts.Env = scaled(opts.Env)
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

// StartStandalone starts the one process, until the test ends.
func StartStandalone(t *testing.T, env map[string]string) (*cluster.Standalone, *System) {
	t.Helper()
	s, err := cluster.StartStandalone(t.Context(), binaries(t), t.TempDir(), scaled(env))
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("---- standalone\n%s", s.Tail(60))
		}
	})
	return s, Connect(t, s)
}

// Connect returns the system that one process is.
func Connect(t *testing.T, s *cluster.Standalone) *System {
	t.Helper()
	return connect(t, s.GRPC, s.GRPC, s.HTTP, s.HTTP, s.AdminKey)
}

// scaled adds the retry scale to an environment that states none.
func scaled(env map[string]string) map[string]string {
	if env == nil {
		env = map[string]string{}
	}
	if env["POSTRIDER_DISPATCHER_RETRY_TIME_SCALE"] == "" {
		env["POSTRIDER_DISPATCHER_RETRY_TIME_SCALE"] = RetryScaleText
	}
	return env
}

// Forms runs scenarios over both forms of the system, each started once.
func Forms(t *testing.T, scenarios map[string]func(t *testing.T, s *System)) {
	t.Helper()
	t.Run("one process", func(t *testing.T) {
		_, s := StartStandalone(t, nil)
		Run(t, s, scenarios)
	})
	t.Run("separate processes", func(t *testing.T) {
		_, s := StartCluster(t, cluster.Options{})
		Run(t, s, scenarios)
	})
}

// Run runs scenarios side by side over one system.
func Run(t *testing.T, s *System, scenarios map[string]func(t *testing.T, s *System)) {
	t.Helper()
	for name, scenario := range scenarios {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			scenario(t, s)
		})
	}
}

// Admin is a context with the admin key.
func (s *System) Admin(ctx context.Context) context.Context { return As(ctx, s.AdminKey) }

// As is a context with a key.
func As(ctx context.Context, key string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
}

// Call makes a request with a key and reads the whole answer. Headers are names and values in turn.
func Call(t *testing.T, method, url, key, body string, headers ...string) (status int, answer string) {
	t.Helper()
	resp, raw := Exchange(t, method, url, key, body, headers...)
	return resp.StatusCode, raw
}

// Response is an answer beside its body.
type Response struct {
	StatusCode int
	Header     http.Header
}

// Exchange is Call with the answer's headers.
func Exchange(t *testing.T, method, url, key, body string, headers ...string) (head *Response, answer string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*Patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	require.NoError(t, err)
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return &Response{StatusCode: resp.StatusCode, Header: resp.Header}, string(raw)
}

// RequireKind holds an error of the API to its kind.
func RequireKind(t *testing.T, want fault.Kind, err error, context ...any) {
	t.Helper()
	kind, ok := fault.KindOf(err)
	require.True(t, ok, "%v: %v", context, err)
	require.Equal(t, want, kind, context...)
}
