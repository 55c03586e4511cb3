package scheduler_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/rpc"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/stream/journal"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/pkg/stream/topology"
	"github.com/postrider/postrider/pkg/telemetry"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/scheduler"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestMain(m *testing.M) {
	// While a Redis is away its pool of connections tries it once a second, and looks only then
	// whether it has been closed.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// patience is how long a test waits for what must happen. Nothing is measured by it.
const patience = 2 * time.Minute

// the kinds, by short names.
const (
	waiting = recordv1.RetryKind_RETRY_KIND_WAITING
	parked  = recordv1.RetryKind_RETRY_KIND_PARKED
	held    = recordv1.RetryKind_RETRY_KIND_HELD
	delayed = recordv1.RetryKind_RETRY_KIND_DELAYED
)

// world is a deployment without schedulers: the streams, the buckets, and dispatchers that take
// every due delivery and write down what they got.
type world struct {
	t       testing.TB
	server  *natstest.Server
	nc      *nats.Conn
	log     *slog.Logger
	client  *stream.Client
	events  *eventstream.Stream
	retries *retrystream.Streams
	journal *journal.Journal
	store   *config.Store

	mu      sync.Mutex
	dues    []due
	markers map[string]bool
	more    chan struct{} // closed with the next due delivery
}

// due is a due delivery as a dispatcher got it.
type due struct {
	retry *recordv1.Retry
	fired bool // by the server itself
	at    time.Time
}

func (d due) delivery() string { return d.retry.GetDelivery().GetId() }

const shards = 2

// newWorld starts a server, with records that fire by themselves after the grace.
func newWorld(t testing.TB, grace time.Duration) *world {
	t.Helper()
	server := natstest.Start(t)
	w := &world{t: t, server: server, nc: server.Connect(t), log: quietLog(t), more: make(chan struct{}), markers: make(map[string]bool)}
	cfg := stream.Default()
	cfg.Shards = shards
	// A machine that is busy with something else is no fault of the scheduler's.
	cfg.PublishTimeout, cfg.PublishBudget = 10*time.Second, time.Minute
	var err error
	w.client, err = stream.New(w.nc, cfg)
	require.NoError(t, err)
	t.Cleanup(w.client.Close)
	retries := retrystream.Default()
	retries.Grace = grace
	ensure(t, func(ctx context.Context) (err error) { _, err = topology.Ensure(ctx, w.client); return err })
	ensure(t, func(ctx context.Context) (err error) {
		w.events, err = eventstream.Ensure(ctx, w.client, eventstream.Default())
		return err
	})
	ensure(t, func(ctx context.Context) (err error) {
		w.retries, err = retrystream.Ensure(ctx, w.client, retries)
		return err
	})
	t.Cleanup(w.retries.Close)
	ensure(t, func(ctx context.Context) (err error) {
		w.journal, err = journal.Ensure(ctx, w.client, journal.Default())
		return err
	})
	ensure(t, func(ctx context.Context) (err error) { w.store, err = config.Ensure(ctx, w.client); return err })
	w.dispatch()
	return w
}

// ensure opens something, again if the server did not answer in time.
func ensure(t testing.TB, open func(context.Context) error) {
	t.Helper()
	for begun := time.Now(); ; {
		err := open(t.Context())
		if err == nil {
			return
		}
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > patience {
			require.NoError(t, err)
		}
	}
}

// quietLog logs to a test, and nowhere for a benchmark.
func quietLog(t testing.TB) *slog.Logger {
	t.Helper()
	if _, ok := t.(*testing.B); ok {
		return slog.New(slog.DiscardHandler)
	}
	return logtest.New(t)
}

// dispatch takes due deliveries until the test ends.
func (w *world) dispatch() {
	ctx, cancel := context.WithCancel(w.t.Context())
	var group sync.WaitGroup
	for shard := range shards {
		consumer, err := w.retries.Due(ctx, shard)
		require.NoError(w.t, err)
		group.Go(func() {
			_ = consumer.Consume(ctx, func(m *stream.Msg) {
				retry, fired, err := retrystream.DecodeDue(m)
				if err != nil {
					w.t.Errorf("decode a due delivery: %v", err)
				}
				w.take(due{retry: retry, fired: fired, at: time.Now()})
				_ = m.Ack()
			})
		})
	}
	w.t.Cleanup(func() {
		cancel()
		group.Wait()
	})
}

// take writes a due delivery down.
func (w *world) take(d due) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d.retry.GetReason() == markerReason {
		w.markers[d.delivery()] = true
		return
	}
	w.dues = append(w.dues, d)
	close(w.more)
	w.more = make(chan struct{})
}

// got returns every delivery that has become due, also those on their way: behind a marker on
// each shard nothing is on its way any more.
func (w *world) got() []due {
	w.t.Helper()
	for shard := range shards {
		marker := &hook{w: w, rec: &recordv1.Webhook{Webhook: &postriderv1.Webhook{AccountId: string(postrider.NewAccountID())}}}
		for marker.id() == "" || marker.shard() != shard {
			marker.rec.Webhook.Id = string(postrider.NewWebhookID())
		}
		retry := marker.retry(waiting, time.Now().Add(time.Hour))
		retry.Reason = markerReason
		released := make(chan error, 1)
		rec := retrystream.Record{Shard: shard, Sequence: w.put(retry)[0], Retry: retry}
		require.NoError(w.t, w.retries.Release(w.t.Context(), rec, func(err error) { released <- err }))
		require.NoError(w.t, <-released)
		w.eventually(func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.markers[retry.GetDelivery().GetId()]
		}, "the marker arrives")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.dues)
}

// markerReason tells the markers of got apart.
const markerReason = "marker"

// await waits for n due deliveries and returns them all.
func (w *world) await(n int) []due {
	w.t.Helper()
	deadline := time.After(patience)
	for {
		w.mu.Lock()
		list, more := slices.Clone(w.dues), w.more
		w.mu.Unlock()
		if len(list) >= n {
			return list
		}
		select {
		case <-more:
		case <-deadline:
			require.Failf(w.t, "due deliveries are missing", "got %d of %d", len(list), n)
		}
	}
}

// webhook creates a webhook and returns its stored form.
func (w *world) webhook(change ...func(*postriderv1.Webhook)) *hook {
	w.t.Helper()
	hook := &hook{w: w, rec: &recordv1.Webhook{Webhook: &postriderv1.Webhook{
		Id: string(postrider.NewWebhookID()), AccountId: string(postrider.NewAccountID()),
		Url: "https://receiver.test/", Profile: "standard", EventTypes: []string{"*"},
		State:     postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE,
		StateTime: timestamppb.Now(),
	}}}
	for _, c := range change {
		c(hook.rec.GetWebhook())
	}
	var err error
	hook.revision, err = w.store.CreateWebhook(w.t.Context(), hook.rec)
	require.NoError(w.t, err)
	return hook
}

// hook is a webhook of a world.
type hook struct {
	w        *world
	rec      *recordv1.Webhook
	revision uint64
	events   uint64
}

func (h *hook) account() postrider.AccountID {
	return postrider.AccountID(h.rec.GetWebhook().GetAccountId())
}

func (h *hook) id() postrider.WebhookID { return postrider.WebhookID(h.rec.GetWebhook().GetId()) }

func (h *hook) shard() int { return postrider.ShardOf(h.id(), shards) }

// become puts the webhook into a state.
func (h *hook) become(state postriderv1.WebhookState) {
	h.w.t.Helper()
	h.rec.GetWebhook().State = state
	h.rec.GetWebhook().StateTime = timestamppb.Now()
	var err error
	h.revision, err = h.w.store.UpdateWebhook(h.w.t.Context(), h.rec, h.revision)
	require.NoError(h.w.t, err)
}

func (h *hook) pause()  { h.become(postriderv1.WebhookState_WEBHOOK_STATE_PAUSED) }
func (h *hook) resume() { h.become(postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE) }

// retry returns a retry of a new delivery of the webhook.
func (h *hook) retry(kind recordv1.RetryKind, dueTime time.Time) *recordv1.Retry {
	h.events++
	event := postrider.NewEventID()
	return &recordv1.Retry{
		Delivery: &recordv1.Delivery{
			Id:        string(postrider.DeliveryIDFor(event, h.id(), "")),
			AccountId: string(h.account()), WebhookId: string(h.id()), EventId: string(event),
			EventSequence: h.events, EventType: "release.live", ContentType: "application/json",
			Data:     []byte(`{"number":42}`),
			Progress: &recordv1.Progress{Attempts: 1},
		},
		Kind: kind, DueTime: timestamppb.New(dueTime), Reason: "http_status",
	}
}

// retries returns n of them.
func (h *hook) retries(n int, kind recordv1.RetryKind, dueTime time.Time) []*recordv1.Retry {
	list := make([]*recordv1.Retry, n)
	for i := range list {
		list[i] = h.retry(kind, dueTime)
	}
	return list
}

// put stores records without a scheduler, as a dispatcher does when the scheduler is away.
func (w *world) put(retries ...*recordv1.Retry) []uint64 {
	w.t.Helper()
	type result struct {
		sequence uint64
		err      error
	}
	results := make([]chan result, len(retries))
	for i, r := range retries {
		results[i] = make(chan result, 1)
		require.NoError(w.t, w.retries.Put(w.t.Context(), r, func(at retrystream.Place, err error) { results[i] <- result{at.Sequence, err} }))
	}
	sequences := make([]uint64, len(retries))
	for i := range retries {
		got := <-results[i]
		require.NoError(w.t, got.err)
		sequences[i] = got.sequence
	}
	return sequences
}

// records returns what waits for a webhook.
func (h *hook) records() []retrystream.Record {
	h.w.t.Helper()
	var list []retrystream.Record
	err := h.w.retries.ScanWebhook(h.w.t.Context(), h.account(), h.id(), retrystream.Place{}, func(r retrystream.Record) error {
		list = append(list, r)
		return nil
	})
	require.NoError(h.w.t, err)
	return list
}

// kinds counts what waits for a webhook by kind.
func (h *hook) kinds() map[recordv1.RetryKind]int {
	h.w.t.Helper()
	kinds := make(map[recordv1.RetryKind]int)
	for _, r := range h.records() {
		kinds[r.Retry.GetKind()]++
	}
	return kinds
}

// entries returns what the journal says of the webhook.
func (h *hook) entries() []*recordv1.JournalEntry {
	h.w.t.Helper()
	var list []*recordv1.JournalEntry
	err := h.w.journal.Tail(h.w.t.Context(), h.shard(), time.Hour, func(e *recordv1.JournalEntry) error {
		if e.GetWebhookId() == string(h.id()) {
			list = append(list, e)
		}
		return nil
	})
	require.NoError(h.w.t, err)
	return list
}

// count counts entries of the webhook.
func (h *hook) count(which func(*recordv1.JournalEntry) bool) int {
	h.w.t.Helper()
	n := 0
	for _, e := range h.entries() {
		if which(e) {
			n++
		}
	}
	return n
}

func isHeld(e *recordv1.JournalEntry) bool      { return e.GetHeld() != nil }
func isReleased(e *recordv1.JournalEntry) bool  { return e.GetReleased() != nil }
func isCancelled(e *recordv1.JournalEntry) bool { return e.GetCancelled() != nil }

// quick is the configuration of a scheduler that tests need not wait for.
func quick() scheduler.Config {
	cfg := scheduler.Default()
	cfg.Lease = 2 * time.Second
	cfg.Poll = 20 * time.Millisecond
	cfg.SweepInterval = time.Hour // none
	return cfg
}

// start runs a scheduler on the world and returns a client of it.
func (w *world) start(cfg scheduler.Config, index scheduler.Index) schedulerv1.SchedulerServiceClient {
	w.t.Helper()
	client, _ := w.startStoppable(cfg, index)
	return client
}

// startStoppable is start with a way to stop before the test ends.
func (w *world) startStoppable(cfg scheduler.Config, index scheduler.Index) (schedulerv1.SchedulerServiceClient, func()) {
	w.t.Helper()
	svc, err := scheduler.New(cfg, scheduler.Deps{
		Streams: w.client, Events: w.events, Retries: w.retries, Journal: w.journal, Config: w.store,
		Index: index, Instance: "scheduler-test", Logger: w.log, Telemetry: telemetry.Noop(),
	})
	require.NoError(w.t, err)
	require.NoError(w.t, svc.Start(w.t.Context()))
	require.NoError(w.t, svc.Ready())
	conn, stopServer := w.serve(svc.Register)
	var once sync.Once
	stop := func() {
		once.Do(func() {
			stopServer()
			ctx, cancel := context.WithTimeout(context.Background(), patience) // the test's has ended
			defer cancel()
			if err := svc.Stop(ctx); err != nil {
				w.t.Errorf("stop the scheduler: %v", err)
			}
		})
	}
	w.t.Cleanup(stop)
	return schedulerv1.NewSchedulerServiceClient(conn), stop
}

// known waits until a scheduler knows that the webhook is active. Api processes wait for that before
// they answer, so that nobody pauses a webhook that a scheduler has not heard of.
func (w *world) known(client schedulerv1.SchedulerServiceClient, h *hook) {
	w.t.Helper()
	w.eventually(func() bool {
		_, err := client.Resume(w.t.Context(), &schedulerv1.ResumeRequest{AccountId: string(h.account()), WebhookId: string(h.id())})
		return err == nil
	}, "the scheduler knows that it is active")
}

// serve serves what registers over a listener in memory.
func (w *world) serve(register func(grpc.ServiceRegistrar)) (*grpc.ClientConn, func()) {
	w.t.Helper()
	listener, dial := rpc.InMemory()
	server, err := rpc.NewServer(rpc.ServerConfig{}, w.log, rpc.WithListener(listener))
	require.NoError(w.t, err)
	register(server.Registrar())
	require.NoError(w.t, server.Start(w.t.Context()))
	conn, err := rpc.Dial(rpc.ClientConfig{Target: rpc.InMemoryTarget}, dial)
	require.NoError(w.t, err)
	return conn, func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience) // the test's has ended
		defer cancel()
		_ = conn.Close()
		if err := server.Stop(ctx); err != nil {
			w.t.Errorf("stop the server: %v", err)
		}
	}
}

// schedule hands retries to a scheduler, all of which it must store.
func (w *world) schedule(client schedulerv1.SchedulerServiceClient, retries ...*recordv1.Retry) []*schedulerv1.ScheduleResult {
	w.t.Helper()
	var results []*schedulerv1.ScheduleResult
	for len(retries) > 0 {
		n := min(len(retries), 256)
		resp, err := client.ScheduleRetry(w.t.Context(), &schedulerv1.ScheduleRetryRequest{Retries: retries[:n]})
		require.NoError(w.t, err)
		for _, r := range resp.GetResults() {
			require.Equal(w.t, schedulerv1.ScheduleStatus_SCHEDULE_STATUS_STORED, r.GetStatus(), r.GetError())
		}
		results = append(results, resp.GetResults()...)
		retries = retries[n:]
	}
	return results
}

// deliveries are the ids of retries.
func deliveries(retries []*recordv1.Retry) []string {
	ids := make([]string, len(retries))
	for i, r := range retries {
		ids[i] = r.GetDelivery().GetId()
	}
	return ids
}

// dueIDs are the ids of due deliveries.
func dueIDs(dues []due) []string {
	ids := make([]string, len(dues))
	for i, d := range dues {
		ids[i] = d.delivery()
	}
	return ids
}

// publish stores an event and returns its sequence.
func (w *world) publish(e *recordv1.Event) uint64 {
	w.t.Helper()
	type result struct {
		stored eventstream.Stored
		err    error
	}
	results := make(chan result, 1)
	require.NoError(w.t, w.events.Publish(w.t.Context(), e, func(s eventstream.Stored, err error) { results <- result{s, err} }))
	got := <-results
	require.NoError(w.t, got.err)
	return got.stored.Sequence
}

// eventually waits for a condition.
func (w *world) eventually(holds func() bool, what string) {
	w.t.Helper()
	require.Eventually(w.t, holds, patience, 10*time.Millisecond, what)
}
