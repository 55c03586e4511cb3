//go:build logbench

package bench

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/rpc"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/journal"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// BenchmarkLogFed gives a running system's journal so many attempts a second as routers and
// dispatchers would, and tells how far behind the log is meanwhile; then it asks for every page of the
// console, with all those attempts in the log. Nothing else runs on the machine.
func BenchmarkLogFed(b *testing.B) {
	for name, open := range map[string]func(testing.TB) store{"SQLite": sqliteStore, "PostgreSQL": postgresStore} {
		b.Run(name, func(b *testing.B) {
			at := open(b)
			s := running(b, at)
			t := newLogTenant(b, s)
			known := t.feed(b, s, at)
			t.pages(b, s, known)
		})
	}
}

// logTenant is an account whose log is filled.
type logTenant struct {
	account, key string
	webhooks     []string
}

const (
	tenantWebhooks = 50
	tenantTypes    = 7
	spool          = 500 * time.Millisecond // how often the log is looked at
)

func eventType(i int) string { return fmt.Sprintf("order.type%d", i%tenantTypes) }

func newLogTenant(b *testing.B, s *system) *logTenant {
	b.Helper()
	conn, err := rpc.Dial(rpc.ClientConfig{Target: s.api})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, conn.Close()) })
	accounts, webhooks, types := postriderv1.NewAccountServiceClient(conn), postriderv1.NewWebhookServiceClient(conn), postriderv1.NewEventTypeServiceClient(conn)
	admin := metadata.AppendToOutgoingContext(b.Context(), "authorization", "Bearer "+s.adminKey)
	acc, err := accounts.CreateAccount(admin, &postriderv1.CreateAccountRequest{Account: &postriderv1.Account{DisplayName: "A full log"}})
	require.NoError(b, err)
	t := &logTenant{account: acc.GetAccount().GetId()}
	key, err := accounts.CreateApiKey(admin, &postriderv1.CreateApiKeyRequest{AccountId: t.account, Scopes: []string{"publish", "manage", "read"}})
	require.NoError(b, err)
	t.key = key.GetSecret()
	owner := metadata.AppendToOutgoingContext(b.Context(), "authorization", "Bearer "+t.key)
	for i := range tenantTypes {
		_, err := types.CreateEventType(owner, &postriderv1.CreateEventTypeRequest{EventType: &postriderv1.EventType{Name: eventType(i), Description: "An order."}})
		require.NoError(b, err)
	}
	for i := range tenantWebhooks {
		w, err := webhooks.CreateWebhook(owner, &postriderv1.CreateWebhookRequest{Webhook: &postriderv1.Webhook{
			DisplayName: "Shop " + strconv.Itoa(i), Url: "http://127.0.0.1:9/" + strconv.Itoa(i), EventTypes: []string{eventType(i)},
		}})
		require.NoError(b, err)
		t.webhooks = append(t.webhooks, w.GetWebhook().GetId())
	}
	return t
}

// entries is the journal of the i-th event: one in fifty was given up, one in a thousand answered with 204.
func (t *logTenant) entries(i int) (routed, attempted *recordv1.JournalEntry) {
	now := timestamppb.Now()
	event, webhook := string(postrider.NewEventID()), t.webhooks[i%len(t.webhooks)]
	delivery := string(postrider.DeliveryIDFor(postrider.EventID(event), postrider.WebhookID(webhook), ""))
	entry := func() *recordv1.JournalEntry {
		return &recordv1.JournalEntry{Time: now, CreateTime: now, AccountId: t.account, EventId: event, EventType: eventType(i)}
	}
	routed, attempted = entry(), entry()
	routed.What = &recordv1.JournalEntry_Routed{Routed: &recordv1.Routed{
		Deliveries: []*recordv1.RoutedDelivery{{DeliveryId: delivery, WebhookId: webhook}}, MatchedTotal: 1, UnmatchedTotal: 1,
		Unmatched: []*recordv1.Unmatched{{WebhookId: t.webhooks[(i+1)%len(t.webhooks)], Reason: "event_type"}}, AcceptTime: now, EventSequence: uint64(i + 1),
		DedupKey: "key:order-" + strconv.Itoa(i), Traceparent: fmt.Sprintf("00-%032x-b7ad6b7169203331-01", i+1),
	}}
	at := &recordv1.Attempted{
		AttemptId: string(postrider.NewAttemptID()), Number: 1, Outcome: string(postrider.Succeeded), StartTime: now, DurationUs: int64(1000 + i%40_000),
		RequestMethod: "POST", RequestUrl: "https://hooks.example.com/orders", StatusCode: 200, Trigger: "schedule", State: string(postrider.Delivered),
		RequestHeaders: map[string]string{
			"Content-Type": "application/json", "User-Agent": "Postrider", "Webhook-Id": event, "Webhook-Timestamp": strconv.FormatInt(now.GetSeconds(), 10),
			"Webhook-Signature": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
		},
		ResponseHeaders: map[string]string{"Content-Type": "application/json", "Date": now.AsTime().Format(time.RFC1123), "Content-Length": "11"},
		ResponseBody:    []byte(`{"ok":true}`), RequestBodyIsData: true, RequestBodySize: payloadSize,
		Timings: &recordv1.Timings{DnsUs: 120, ConnectUs: 300, TlsUs: 900, FirstByteUs: 1000},
	}
	switch {
	case i%50 == 0:
		at.Outcome, at.ErrorClass, at.State, at.Reason = string(postrider.Retryable), "http_status", string(postrider.Dead), "exhausted"
		at.StatusCode = 500 + int32(i/50%3)
	case i%1000 == 1:
		at.StatusCode = 204
	}
	attempted.DeliveryId, attempted.WebhookId, attempted.What = delivery, webhook, &recordv1.JournalEntry_Attempted{Attempted: at}
	return routed, attempted
}

// known is what of the log one can ask for.
type known struct{ event, delivery, attempt, failed, key, trace string }

// feed fills the journal and returns what stands in its middle, once all is recorded.
func (t *logTenant) feed(b *testing.B, s *system, at store) (middle known) {
	b.Helper()
	nc, err := nats.Connect(s.nats)
	require.NoError(b, err)
	b.Cleanup(nc.Close)
	cfg := stream.Default()
	cfg.Shards = 4
	client, err := stream.New(nc, cfg)
	require.NoError(b, err)
	b.Cleanup(client.Close)
	entries, err := journal.Ensure(b.Context(), client, journal.Default())
	require.NoError(b, err)
	writer := entries.NewWriter("the benchmark")

	var refused atomic.Int64
	stored := func(err error) {
		if err != nil {
			refused.Add(1)
		}
	}
	used := func() time.Duration {
		api, err := cpuOf(s.procs["api"])
		require.NoError(b, err)
		return api + at.cpu()
	}
	awaitRecorded(b, s)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	var lags []time.Duration
	cpu, begun, looked := used(), time.Now(), time.Now()
	for i := 0; i < *attempts; {
		due := min(*attempts, int(time.Since(begun).Seconds()*float64(*rate)))
		for ; i < due; i++ {
			routed, attempted := t.entries(i)
			require.NoError(b, writer.Write(b.Context(), 0, routed, stored))
			require.NoError(b, writer.Write(b.Context(), i%cfg.Shards, attempted, stored))
			if i >= *attempts/2 && i%50 == 1 && middle.event == "" {
				middle = known{
					event: attempted.GetEventId(), delivery: attempted.GetDeliveryId(), attempt: attempted.GetAttempted().GetAttemptId(),
					key: "order-" + strconv.Itoa(i), trace: fmt.Sprintf("%032x", i+1),
				}
			}
			if i%50 == 0 && middle.failed == "" {
				middle.failed = attempted.GetDeliveryId()
			}
		}
		if time.Since(looked) > spool {
			looked = time.Now()
			lag, err := metric(b.Context(), s.metrics["api"], "postrider_recorder_lag_seconds")
			require.NoError(b, err)
			lags = append(lags, time.Duration(lag*float64(time.Second)))
		}
		<-tick.C
	}
	fed := time.Since(begun)
	require.NoError(b, writer.Close(b.Context()))
	require.Zero(b, refused.Load(), "entries that NATS did not store")
	awaitRecorded(b, s)
	all := time.Since(begun)
	spent := used() - cpu
	slices.Sort(lags)
	b.Logf("%d attempts at %.0f/s: the log was behind by %.1f s at the median, %.1f s at most, and had the last %.1f s after it was stored; CPU of recorder and store %.4f s per 1000 attempts",
		*attempts, float64(*attempts)/fed.Seconds(), lags[len(lags)/2].Seconds(), lags[len(lags)-1].Seconds(), (all - fed).Seconds(), spent.Seconds()/float64(*attempts)*1000)
	return middle
}

// behind tells how much the recorder has before it.
func behind(b *testing.B, s *system) string {
	b.Helper()
	return fmt.Sprintf("%.0f messages of the journal not recorded", pending(b.Context(), b, s))
}

func pending(ctx context.Context, b *testing.B, s *system) float64 {
	b.Helper()
	n, err := metric(ctx, s.metrics["api"], "postrider_recorder_pending")
	require.NoError(b, err)
	return n
}

// awaitRecorded waits until the log has all that the journal has. The metric is a second old at most, so
// it must say so twice.
func awaitRecorded(b *testing.B, s *system) {
	b.Helper()
	for quiet := 0; quiet < 4; quiet++ {
		if pending(b.Context(), b, s) != 0 {
			quiet = -1
		}
		select {
		case <-b.Context().Done():
			b.Fatal(b.Context().Err())
		case <-time.After(spool):
		}
	}
}

// masked hides an id in the name of a page.
func masked(path string, k known, t *logTenant) string {
	return strings.NewReplacer(k.event, "{event}", k.delivery, "{delivery}", k.failed, "{failed}", t.webhooks[7], "{webhook}", k.attempt, "{attempt}").Replace(path)
}
