package kube_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/postrider/postrider/pkg/rpc"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/kube/plane"
)

// hooks is how many webhooks want every event.
const hooks = 3

// receiver takes webhooks by HTTPS. Of each tenth event it refuses the first request, so that
// retries are under way whatever happens.
type receiver struct {
	mu      sync.Mutex
	taken   map[string]int // requests that were answered 200, by webhook and event
	refused map[string]bool
}

func startReceiver(t *testing.T, authority *plane.Authority) *receiver {
	t.Helper()
	r := &receiver{taken: map[string]int{}, refused: map[string]bool{}}
	pair, err := authority.IssueStore(nil, "receiver.example.com")
	require.NoError(t, err)
	cert, err := pair.TLS()
	require.NoError(t, err)
	config := authority.Trust("")
	config.Certificates = append(config.Certificates, cert)
	listener, err := net.Listen("tcp", net.JoinHostPort(public.String(), "443")) //nolint:noctx // a bind does not wait
	require.NoError(t, err)
	server := &http.Server{Handler: r, TLSConfig: config, ReadHeaderTimeout: time.Minute}
	var served sync.WaitGroup
	served.Go(func() { _ = server.ServeTLS(listener, "", "") }) // it ends when it is closed
	t.Cleanup(func() {
		_ = server.Close()
		served.Wait()
	})
	return r
}

// ServeHTTP takes one request.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var body struct{ N int }
	if err := json.NewDecoder(req.Body).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	key := req.URL.Path + "/" + strconv.Itoa(body.N)
	r.mu.Lock()
	defer r.mu.Unlock()
	if body.N%10 == 0 && !r.refused[key] {
		r.refused[key] = true
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	r.taken[key]++
}

// count is how many deliveries arrived, and how many requests beyond the first of each.
func (r *receiver) count() (arrived, repeats int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.taken {
		arrived++
		repeats += n - 1
	}
	return arrived, repeats
}

// load is a producer that publishes over gRPC at a steady pace, until it is stopped.
type load struct {
	w        *world
	events   postriderv1.EventServiceClient
	ledgers  postriderv1.LedgerServiceClient
	pace     time.Duration // of each worker
	key      string
	cancel   context.CancelFunc
	running  sync.WaitGroup
	next     atomic.Int64
	accepted atomic.Int64
	repeats  atomic.Int64 // calls that failed and were made again

	mu       sync.Mutex
	failures map[string]int // by what was said
}

// pace is the pause between two events of a worker, unless a test has another.
const (
	pace    = 100 * time.Millisecond
	workers = 4
)

func as(ctx context.Context, key string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
}

func dial(t *testing.T, target string) *grpc.ClientConn {
	t.Helper()
	conn, err := rpc.Dial(rpc.ClientConfig{Target: target})
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// publish makes an account with webhooks and begins.
func (w *world) publish(t *testing.T, pace time.Duration) *load {
	t.Helper()
	api := dial(t, "dns:///api.postrider.svc:9090")
	l := &load{w: w, pace: pace, failures: map[string]int{}, events: postriderv1.NewEventServiceClient(dial(t, "dns:///ingest.postrider.svc:9090")), ledgers: postriderv1.NewLedgerServiceClient(api)}
	accounts, webhooks := postriderv1.NewAccountServiceClient(api), postriderv1.NewWebhookServiceClient(api)
	made, err := accounts.CreateAccount(as(t.Context(), adminKey), &postriderv1.CreateAccountRequest{Account: &postriderv1.Account{DisplayName: t.Name()}})
	require.NoError(t, err)
	key, err := accounts.CreateApiKey(as(t.Context(), adminKey), &postriderv1.CreateApiKeyRequest{
		AccountId: made.GetAccount().GetId(), Scopes: []string{"publish", "manage", "read"},
	})
	require.NoError(t, err)
	l.key = key.GetSecret()
	short := &postriderv1.RetrySchedule{}
	for range 20 {
		short.Delays = append(short.Delays, durationpb.New(2*time.Second))
	}
	for i := range hooks {
		_, err := webhooks.CreateWebhook(as(t.Context(), l.key), &postriderv1.CreateWebhookRequest{Webhook: &postriderv1.Webhook{
			Url: fmt.Sprintf("https://receiver.example.com/%d", i), EventTypes: []string{"order.*"}, RetrySchedule: short,
		}})
		require.NoError(t, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	l.cancel = cancel
	for range workers {
		l.running.Go(func() { l.work(ctx) })
	}
	return l
}

// work publishes event after event, each until it has a receipt.
func (l *load) work(ctx context.Context) {
	tick := time.NewTicker(l.pace)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		n := l.next.Add(1)
		req := &postriderv1.PublishEventRequest{Event: &postriderv1.EventInput{
			Id: fmt.Sprintf("order-%d", n), Source: "kube", Type: "order.placed", Data: fmt.Appendf(nil, `{"n":%d}`, n),
		}}
		// An event that was begun gets its receipt, also when the load has ended meanwhile.
		for {
			call, cancel := context.WithTimeout(as(context.WithoutCancel(ctx), l.key), 15*time.Second)
			_, err := l.events.PublishEvent(call, req)
			cancel()
			if err == nil {
				l.accepted.Add(1)
				break
			}
			l.repeats.Add(1)
			l.mu.Lock()
			l.failures[err.Error()]++
			l.mu.Unlock()
			<-tick.C
		}
	}
}

// severed are the failures that no service told: calls whose connection was lost or not there. What
// a service tells, such as that NATS did not answer in time, is its own business and the machine's.
func (l *load) severed() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for text := range l.failures {
		for _, sign := range []string{"connection", "transport", "EOF", "zero addresses"} {
			if strings.Contains(text, sign) {
				out = append(out, text)
			}
		}
	}
	return out
}

// stop ends the load and waits for its receipts.
func (l *load) stop() {
	l.cancel()
	l.running.Wait()
}

// settle returns when everything that was accepted has arrived and the ledger says so: nothing lost,
// nothing stuck.
func (l *load) settle(t *testing.T) {
	t.Helper()
	want := int(l.accepted.Load()) * hooks
	var last *postriderv1.GetLedgerResponse
	var failure error
	arrived := 0
	require.Eventually(t, func() bool {
		arrived, _ = l.w.receiver.count()
		ctx, cancel := context.WithTimeout(as(t.Context(), l.key), 10*time.Second)
		defer cancel()
		last, failure = l.ledgers.GetLedger(ctx, &postriderv1.GetLedgerRequest{})
		sum := last.GetLedger()
		return failure == nil && arrived == want && last.GetUnrecorded() == 0 && sum.GetDelivered() == int64(want) && sum.GetRouted() == int64(want) &&
			sum.GetWaiting()+sum.GetHeld()+sum.GetInFlight()+sum.GetDead()+sum.GetCancelled()+sum.GetDifference() == 0
	}, patience, 250*time.Millisecond, "%d deliveries wanted, %d arrived; the ledger: %v %v", want, &arrived, &last, &failure)
	_, repeats := l.w.receiver.count()
	l.mu.Lock()
	defer l.mu.Unlock()
	for text, n := range l.failures {
		t.Logf("%d times a producer was told: %s", n, text)
	}
	t.Logf("%d events accepted, %d calls made again, %d deliveries arrived, %d twice, 0 lost, 0 stuck", l.accepted.Load(), l.repeats.Load(), arrived, repeats)
}
