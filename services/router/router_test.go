package router_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/stream/journal"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/pkg/stream/topology"
	"github.com/postrider/postrider/pkg/telemetry"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/router"
	"github.com/postrider/postrider/test/fixture/budget"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestMain(m *testing.M) {
	budget.Serve()
	goleak.VerifyTestMain(m)
}

const patience = 20 * time.Second

// bench is a router on real streams.
type bench struct {
	server     *natstest.Server
	client     *stream.Client
	store      *config.Store
	events     *eventstream.Stream
	deliveries *deliverystream.Streams
	retries    *retrystream.Streams
	journal    *journal.Journal
	account    postrider.AccountID
}

// away is a scheduler that nobody reaches.
type away struct {
	schedulerv1.SchedulerServiceClient
}

func (away) ScheduleRetry(context.Context, *schedulerv1.ScheduleRetryRequest, ...grpc.CallOption) (*schedulerv1.ScheduleRetryResponse, error) {
	return nil, errors.New("nobody there")
}

func setup(t *testing.T, change ...func(*eventstream.Config)) *bench {
	t.Helper()
	return setupOn(t, natstest.Start(t), change...)
}

// setupOn is setup on a server.
func setupOn(t *testing.T, server *natstest.Server, change ...func(*eventstream.Config)) *bench {
	t.Helper()
	return setupIn(t, server, 1, change...)
}

// setupIn is setup on a server, with events in so many segments.
func setupIn(t *testing.T, server *natstest.Server, segments int, change ...func(*eventstream.Config)) *bench {
	t.Helper()
	streams := stream.Default()
	streams.Segments = segments
	cfg := eventstream.Default()
	for _, c := range change {
		c(&cfg)
	}
	b := &bench{server: server, account: postrider.NewAccountID()}
	var err error
	b.client, err = stream.New(b.server.Connect(t), streams)
	require.NoError(t, err)
	t.Cleanup(b.client.Close)
	b.store, err = config.Ensure(t.Context(), b.client)
	require.NoError(t, err)
	b.events, err = eventstream.Ensure(t.Context(), b.client, cfg)
	require.NoError(t, err)
	_, err = topology.Ensure(t.Context(), b.client)
	require.NoError(t, err)
	b.deliveries, err = deliverystream.Ensure(t.Context(), b.client, deliverystream.Default())
	require.NoError(t, err)
	b.retries, err = retrystream.Ensure(t.Context(), b.client, retrystream.Default())
	require.NoError(t, err)
	t.Cleanup(b.retries.Close)
	b.journal, err = journal.Ensure(t.Context(), b.client, journal.Default())
	require.NoError(t, err)
	return b
}

func (b *bench) start(t *testing.T, change ...func(*router.Config)) *router.Service {
	t.Helper()
	cfg := router.Default()
	for _, c := range change {
		c(&cfg)
	}
	svc, err := router.New(cfg, router.Deps{
		Streams: b.client, Events: b.events, Deliveries: b.deliveries, Retries: b.retries, Journal: b.journal,
		Scheduler: away{}, Instance: "router-test", Logger: logtest.New(t), Telemetry: telemetry.Noop(),
	})
	require.NoError(t, err)
	require.NoError(t, svc.Start(t.Context()))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		require.NoError(t, svc.Stop(ctx))
	})
	return svc
}

func (b *bench) webhook(t *testing.T, patterns ...string) string {
	t.Helper()
	w := &postriderv1.Webhook{
		Id: string(postrider.NewWebhookID()), AccountId: string(b.account), EventTypes: patterns,
		State: postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE, CreateTime: timestamppb.Now(),
	}
	_, err := b.store.CreateWebhook(t.Context(), &recordv1.Webhook{Webhook: w})
	require.NoError(t, err)
	return w.GetId()
}

func (b *bench) event(change ...func(*recordv1.Event)) *recordv1.Event {
	ev := &recordv1.Event{
		Id: string(postrider.NewEventID()), AccountId: string(b.account), Type: "release.live", Time: timestamppb.Now(),
		AcceptTime: timestamppb.Now(), ContentType: "application/json", Data: []byte(`{"n":9007199254740993}`),
	}
	for _, c := range change {
		c(ev)
	}
	return ev
}

func (b *bench) tryPublish(t *testing.T, ev *recordv1.Event) error {
	t.Helper()
	done := make(chan error, 1)
	require.NoError(t, b.events.Publish(t.Context(), ev, func(_ eventstream.Stored, err error) { done <- err }))
	return <-done
}

func (b *bench) publish(t *testing.T, change ...func(*recordv1.Event)) *recordv1.Event {
	t.Helper()
	ev := b.event(change...)
	require.NoError(t, b.tryPublish(t, ev))
	return ev
}

// take consumes n deliveries of the one shard.
func (b *bench) take(t *testing.T, n int) []*recordv1.Delivery {
	t.Helper()
	consumer, err := b.deliveries.Consumer(t.Context(), 0)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var got []*recordv1.Delivery
	require.NoError(t, consumer.Consume(ctx, func(m *stream.Msg) {
		all, err := deliverystream.Decode(m)
		if err == nil {
			err = m.Ack()
		}
		if err != nil {
			t.Error(err)
		}
		if got = append(got, all...); len(got) == n {
			cancel()
		}
	}))
	require.Len(t, got, n)
	return got
}

// routed reads the event's routed entries until they name as many matches as they promise.
func (b *bench) routed(t *testing.T, event string) []*recordv1.Routed {
	t.Helper()
	var entries []*recordv1.Routed
	require.Eventually(t, func() bool {
		entries = nil
		named, total := 0, -1
		err := b.journal.Tail(t.Context(), journal.Routed, time.Hour, func(e *recordv1.JournalEntry) error {
			if e.GetEventId() == event {
				entries = append(entries, e.GetRouted())
				named += len(e.GetRouted().GetDeliveries())
				total = int(e.GetRouted().GetMatchedTotal())
			}
			return nil
		})
		return err == nil && named == total
	}, patience, 10*time.Millisecond)
	return entries
}

func (b *bench) awaitRouted(t *testing.T) {
	t.Helper()
	seg := b.events.Of(b.account)
	consumer, err := seg.Router(t.Context())
	require.NoError(t, err)
	usage, err := seg.Usage(t.Context())
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		info, err := consumer.Info(t.Context())
		// The server tells a consumer of a message after it has acknowledged it.
		return err == nil && info.Delivered >= usage.LastSequence && info.Pending == 0 && info.AckPending == 0
	}, patience, 10*time.Millisecond)
}

func TestAnEventBecomesOneDeliveryForEachWebhookThatWantsIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	wants, other := b.webhook(t, "release.*"), b.webhook(t, "track.*")
	b.start(t)
	added := b.webhook(t, "*") // created after the start, before the event
	ev := b.publish(t)
	got := map[string]*recordv1.Delivery{}
	for _, d := range b.take(t, 2) {
		got[d.GetWebhookId()] = d
	}
	for _, id := range []string{wants, added} {
		require.Equal(t, string(postrider.DeliveryIDFor(postrider.EventID(ev.GetId()), postrider.WebhookID(id), "")), got[id].GetId())
		require.Equal(t, ev.GetData(), got[id].GetData())
		require.Equal(t, ev.GetId(), got[id].GetEventId())
	}
	entries := b.routed(t, ev.GetId())
	require.Len(t, entries, 1)
	require.EqualValues(t, 2, entries[0].GetMatchedTotal())
	require.EqualValues(t, 1, entries[0].GetUnmatchedTotal())
	require.Empty(t, entries[0].GetUnmatched())
	u, ok := postrider.WebhookID(other).ULID()
	require.True(t, ok)
	require.Equal(t, u[:], entries[0].GetOtherTypes())
}

func TestAnEventThatMatchesNothingIsRoutedToNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.start(t)
	ev := b.publish(t)
	b.awaitRouted(t)
	entries := b.routed(t, ev.GetId())
	require.Len(t, entries, 1)
	require.Zero(t, entries[0].GetMatchedTotal())
}

func TestALargePayloadIsReferredTo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.webhook(t, "*")
	b.start(t)
	b.publish(t, func(ev *recordv1.Event) { ev.Data = []byte(`"` + strings.Repeat("x", 100_000) + `"`) })
	d := b.take(t, 1)[0]
	require.True(t, d.GetDataByReference())
	require.Empty(t, d.GetData())
	ev, err := b.events.Get(t.Context(), b.account, d.GetEventSequence())
	require.NoError(t, err)
	require.Len(t, ev.GetData(), 100_002)
}

func TestTenThousandMatchesAreRoutedOnceEach(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const n = 10_000
	for range n {
		b.webhook(t, "release.*")
	}
	b.start(t)
	ev := b.publish(t)
	seen := map[string]bool{}
	for _, d := range b.take(t, n) {
		seen[d.GetId()] = true
	}
	require.Len(t, seen, n)
	entries := b.routed(t, ev.GetId())
	require.Len(t, entries, n/1000)
	b.awaitRouted(t)
	consumer, err := b.events.Of(b.account).Router(t.Context())
	require.NoError(t, err)
	info, err := consumer.Info(t.Context())
	require.NoError(t, err)
	require.Zero(t, info.Redelivered, "one event, given once")
}

// What is routed twice may be stored twice, in messages with others: it is one delivery by its id, which is how a
// dispatcher knows it again.
func TestRoutingTwiceYieldsOneDelivery(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.webhook(t, "*")
	svc := b.start(t)
	ev := b.publish(t)
	b.awaitRouted(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, svc.Stop(ctx))
	// The durable is gone and so is its checkpoint: everything is routed again.
	require.NoError(t, b.client.JetStream().DeleteConsumer(t.Context(), "EVENTS", "router"))
	require.NoError(t, b.client.JetStream().DeleteKeyValue(t.Context(), "checkpoints"))
	var err error
	b.events, err = eventstream.Ensure(t.Context(), b.client, eventstream.Default())
	require.NoError(t, err)
	b.start(t)
	last := b.publish(t)
	b.awaitRouted(t)
	ids := map[string]map[string]bool{ev.GetId(): {}, last.GetId(): {}}
	stored := 0
	require.NoError(t, b.deliveries.Scan(t.Context(), 0, func(d *recordv1.Delivery) error {
		ids[d.GetEventId()][d.GetId()] = true
		stored++
		return nil
	}))
	require.Len(t, ids[ev.GetId()], 1)
	require.Len(t, ids[last.GetId()], 1)
	require.Contains(t, []int{2, 3}, stored)
}

func TestADelayedEventWaitsAsARecordAlsoWithoutTheScheduler(t *testing.T) {
	t.Parallel()
	b := setup(t)
	hook := b.webhook(t, "*")
	b.start(t)
	due := time.Now().Add(time.Hour).Truncate(time.Microsecond)
	big := []byte(`"` + strings.Repeat("x", 10_000) + `"`)
	ev := b.publish(t, func(ev *recordv1.Event) { ev.DeliverAt, ev.Data = timestamppb.New(due), big })
	id := postrider.DeliveryIDFor(postrider.EventID(ev.GetId()), postrider.WebhookID(hook), "")
	var record *retrystream.Record
	require.Eventually(t, func() bool {
		var err error
		record, err = b.retries.Last(t.Context(), b.account, postrider.WebhookID(hook), id)
		return err == nil
	}, patience, 10*time.Millisecond)
	require.Equal(t, recordv1.RetryKind_RETRY_KIND_DELAYED, record.Retry.GetKind())
	require.True(t, due.Equal(record.Retry.GetDueTime().AsTime()))
	require.Equal(t, big, record.Retry.GetDelivery().GetData(), "what may outlive EVENTS carries its payload")
	b.awaitRouted(t)
}

func TestNothingIsLostWhenNATSRestartsWhileRouting(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.webhook(t, "*")
	b.start(t)
	const n = 500
	for i := range n {
		b.publish(t, func(ev *recordv1.Event) { ev.GivenId = strconv.Itoa(i) })
		if i == n/2 {
			b.server.Restart(t)
		}
	}
	b.awaitRouted(t)
	seen := map[string]bool{}
	for _, d := range b.take(t, n) {
		seen[d.GetEventGivenId()] = true
	}
	require.Len(t, seen, n)
}
