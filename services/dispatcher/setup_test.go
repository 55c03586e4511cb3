package dispatcher_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/seal"
	"github.com/postrider/postrider/pkg/signature"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/deadletterstream"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/stream/journal"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/pkg/stream/topology"
	"github.com/postrider/postrider/pkg/telemetry"
	"github.com/postrider/postrider/services/dispatcher"
	"github.com/postrider/postrider/test/fixture/budget"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestMain(m *testing.M) {
	budget.Serve()
	goleak.VerifyTestMain(m)
}

// patience is how long a test waits for what must happen. Nothing is measured by it.
const patience = 30 * time.Second

const shards = 2

// world is a deployment with one account and everything but dispatchers: the streams, the
// buckets, a scheduler that is small and real, and a reader of the journal.
type world struct {
	server      *natstest.Server
	nc          *nats.Conn
	log         *slog.Logger
	client      *stream.Client
	store       *config.Store
	events      *eventstream.Stream
	deliveries  *deliverystream.Streams
	retries     *retrystream.Streams
	journal     *journal.Journal
	deadLetters *deadletterstream.Stream
	sealer      *seal.Sealer
	account     string
	secret      string

	barrier   *config.Barrier
	scheduler *smallScheduler
	disabler  *disabler
	ledger    *ledger
	topology  *topology.Topology
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldWith(t, retrystream.Default())
}

func newWorldWith(t testing.TB, retries retrystream.Config) *world {
	t.Helper()
	w := newWorldOn(t, natstest.Start(t), retries)
	w.ledger = newLedger(t, w)
	return w
}

// newWorldOn is a world on a server, without a reader of the journal.
func newWorldOn(t testing.TB, server *natstest.Server, retries retrystream.Config) *world {
	t.Helper()
	w := &world{server: server, log: logtest.New(t), account: string(postrider.NewAccountID()), secret: signature.GenerateHMAC()}
	w.nc = w.server.Connect(t)
	cfg := stream.Default()
	cfg.Shards = shards
	var err error
	w.client, err = stream.New(w.nc, cfg)
	require.NoError(t, err)
	t.Cleanup(w.client.Close)
	w.topology, err = topology.Ensure(t.Context(), w.client)
	require.NoError(t, err)
	w.store, err = config.Ensure(t.Context(), w.client)
	require.NoError(t, err)
	w.events, err = eventstream.Ensure(t.Context(), w.client, eventstream.Default())
	require.NoError(t, err)
	w.deliveries, err = deliverystream.Ensure(t.Context(), w.client, deliverystream.Default())
	require.NoError(t, err)
	w.retries, err = retrystream.Ensure(t.Context(), w.client, retries)
	require.NoError(t, err)
	t.Cleanup(w.retries.Close)
	w.journal, err = journal.Ensure(t.Context(), w.client, journal.Default())
	require.NoError(t, err)
	w.deadLetters, err = deadletterstream.Ensure(t.Context(), w.client, deadletterstream.Default())
	require.NoError(t, err)
	keyset, err := seal.Generate()
	require.NoError(t, err)
	w.sealer, err = seal.Parse(keyset)
	require.NoError(t, err)
	_, err = w.store.CreateAccount(t.Context(), &recordv1.Account{Account: &postriderv1.Account{Id: w.account, TimeZone: "UTC"}})
	require.NoError(t, err)
	w.barrier = config.NewBarrier(w.client, w.log)
	t.Cleanup(func() { _ = w.barrier.Stop(context.WithoutCancel(t.Context())) })
	w.scheduler = &smallScheduler{retries: w.retries}
	t.Cleanup(w.scheduler.stop)
	w.disabler = &disabler{store: w.store}
	return w
}

func testConfig() dispatcher.Config {
	cfg := dispatcher.Default()
	cfg.Egress.AllowNetworks = []string{"127.0.0.0/8", "::1"}
	return cfg
}

func (w *world) deps() dispatcher.Deps {
	return dispatcher.Deps{
		Streams: w.client, Events: w.events, Deliveries: w.deliveries, Retries: w.retries, Journal: w.journal,
		DeadLetters: w.deadLetters, Sealer: w.sealer, Scheduler: w.scheduler, Disabler: w.disabler,
		Instance: "test", Logger: w.log, Telemetry: telemetry.Noop(),
	}
}

// dispatch runs a dispatcher until the test ends or the returned function is called.
func (w *world) dispatch(t testing.TB, cfg dispatcher.Config, change ...func(*dispatcher.Deps)) (s *dispatcher.Service, stop func()) {
	t.Helper()
	deps := w.deps()
	for _, c := range change {
		c(&deps)
	}
	s, err := dispatcher.New(cfg, deps)
	require.NoError(t, err)
	require.NoError(t, s.Start(t.Context()))
	var once sync.Once
	stop = func() {
		once.Do(func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
			defer cancel()
			if err := s.Stop(ctx); err != nil {
				t.Errorf("stop the dispatcher: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return s, stop
}

// depsOn is the deps of a dispatcher with a connection of its own.
func (w *world) depsOn(t testing.TB, nc *nats.Conn) dispatcher.Deps {
	t.Helper()
	deps := w.deps()
	var err error
	deps.Streams, err = stream.New(nc, w.client.Config())
	require.NoError(t, err)
	t.Cleanup(deps.Streams.Close)
	deps.Events, err = eventstream.Ensure(t.Context(), deps.Streams, eventstream.Default())
	require.NoError(t, err)
	deps.Deliveries, err = deliverystream.Ensure(t.Context(), deps.Streams, deliverystream.Default())
	require.NoError(t, err)
	deps.Retries, err = retrystream.Ensure(t.Context(), deps.Streams, retrystream.Default())
	require.NoError(t, err)
	t.Cleanup(deps.Retries.Close)
	deps.Journal, err = journal.Ensure(t.Context(), deps.Streams, journal.Default())
	require.NoError(t, err)
	deps.DeadLetters, err = deadletterstream.Ensure(t.Context(), deps.Streams, deadletterstream.Default())
	require.NoError(t, err)
	return deps
}

// webhook stores a webhook with retries within milliseconds.
func (w *world) webhook(t testing.TB, url string, change ...func(*postriderv1.Webhook)) *postriderv1.Webhook {
	t.Helper()
	hook := &postriderv1.Webhook{
		Id: string(postrider.NewWebhookID()), AccountId: w.account, Url: url, Profile: "standard", EventTypes: []string{"*"},
		State: postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE, RetrySchedule: schedule(10*time.Millisecond, 10*time.Millisecond),
	}
	for _, c := range change {
		c(hook)
	}
	sealed, err := w.sealer.Seal([]byte(w.secret), config.SecretContext(w.account, hook.GetId(), "sec_1"))
	require.NoError(t, err)
	rev, err := w.store.CreateWebhook(t.Context(), &recordv1.Webhook{
		Webhook: hook, Secrets: []*recordv1.SealedSecret{{Id: "sec_1", Kind: "hmac", Ciphertext: sealed}},
	})
	require.NoError(t, err)
	require.NoError(t, w.barrier.Confirm(t.Context(), config.BucketWebhooks, rev))
	return hook
}

func schedule(delays ...time.Duration) *postriderv1.RetrySchedule {
	s := &postriderv1.RetrySchedule{Jitter: new(float64)}
	for _, d := range delays {
		s.Delays = append(s.Delays, durationpb.New(d))
	}
	return s
}

// update changes a stored webhook, and returns when every dispatcher acts on that.
func (w *world) update(t testing.TB, id string, change func(*postriderv1.Webhook)) {
	t.Helper()
	rec, rev, err := w.store.GetWebhook(t.Context(), w.account, id)
	require.NoError(t, err)
	change(rec.GetWebhook())
	rec.Webhook.StateTime = timestamppb.Now()
	rev, err = w.store.UpdateWebhook(t.Context(), rec, rev)
	require.NoError(t, err)
	require.NoError(t, w.barrier.Confirm(t.Context(), config.BucketWebhooks, rev))
}

// remove deletes a stored webhook, and returns when every dispatcher acts on that.
func (w *world) remove(t testing.TB, id string) {
	t.Helper()
	rev, err := w.store.DeleteWebhook(t.Context(), w.account, id, 0)
	require.NoError(t, err)
	require.NoError(t, w.barrier.Confirm(t.Context(), config.BucketWebhooks, rev))
}

func setState(state postriderv1.WebhookState) func(*postriderv1.Webhook) {
	return func(h *postriderv1.Webhook) { h.State = state }
}

const (
	active   = postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE
	paused   = postriderv1.WebhookState_WEBHOOK_STATE_PAUSED
	disabled = postriderv1.WebhookState_WEBHOOK_STATE_DISABLED
)

// delivery makes a delivery of an event of its own.
func (w *world) delivery(hook *postriderv1.Webhook, data string) *recordv1.Delivery {
	event := postrider.NewEventID()
	return &recordv1.Delivery{
		Id:        string(postrider.DeliveryIDFor(event, postrider.WebhookID(hook.GetId()), "")),
		AccountId: w.account, WebhookId: hook.GetId(), EventId: string(event), EventType: "release.live",
		EventTime: timestamppb.Now(), AcceptTime: timestamppb.Now(), RouteTime: timestamppb.Now(),
		ContentType: "application/json", Data: []byte(data),
	}
}

// publish stores deliveries in the delivery stream.
func (w *world) publish(t testing.TB, list ...*recordv1.Delivery) {
	t.Helper()
	stored := make(chan error, len(list))
	for _, d := range list {
		require.NoError(t, w.deliveries.Publish(t.Context(), d, func(err error) { stored <- err }))
	}
	for range list {
		require.NoError(t, <-stored)
	}
}

// send publishes n deliveries for a webhook and returns their ids.
func (w *world) send(t testing.TB, hook *postriderv1.Webhook, n int) []string {
	t.Helper()
	list := make([]*recordv1.Delivery, n)
	ids := make([]string, n)
	for i := range list {
		list[i] = w.delivery(hook, fmt.Sprintf(`{"n":%d}`, i))
		ids[i] = list[i].GetId()
	}
	w.publish(t, list...)
	return ids
}

// put stores a retry record.
func (w *world) put(t testing.TB, r *recordv1.Retry) {
	t.Helper()
	stored := make(chan error, 1)
	require.NoError(t, w.retries.Put(t.Context(), r, func(_ retrystream.Place, err error) { stored <- err }))
	require.NoError(t, <-stored)
}

// record reads the record of a delivery, nil if there is none.
func (w *world) record(t testing.TB, d string, hook *postriderv1.Webhook) *recordv1.Retry {
	t.Helper()
	r, err := w.retries.Last(t.Context(), postrider.AccountID(w.account), postrider.WebhookID(hook.GetId()), postrider.DeliveryID(d))
	if errors.Is(err, retrystream.ErrGone) {
		return nil
	}
	require.NoError(t, err)
	return r.Retry
}

// release has a record released now.
func (w *world) release(t testing.TB, d string, hook *postriderv1.Webhook) {
	t.Helper()
	r, err := w.retries.Last(t.Context(), postrider.AccountID(w.account), postrider.WebhookID(hook.GetId()), postrider.DeliveryID(d))
	require.NoError(t, err)
	released := make(chan error, 1)
	require.NoError(t, w.retries.Release(t.Context(), *r, func(err error) { released <- err }))
	require.NoError(t, <-released)
}

// settled waits until nothing is left in the delivery and due streams.
func (w *world) settled(t testing.TB) {
	t.Helper()
	for shard := range w.client.Layout().Streams {
		first, err := w.deliveries.Consumer(t.Context(), shard)
		require.NoError(t, err)
		due, err := w.retries.Due(t.Context(), shard)
		require.NoError(t, err)
		for _, c := range []*stream.Consumer{first, due} {
			require.Eventually(t, func() bool {
				info, err := c.Info(t.Context())
				return err == nil && info.Pending == 0 && info.AckPending == 0
			}, patience, 10*time.Millisecond, "messages are left")
		}
	}
}

// smallScheduler stores records and releases them when they are due. It forgets what it has not
// released; the records fire by themselves then.
type smallScheduler struct {
	schedulerv1.SchedulerServiceClient // of the calls that no dispatcher makes: there is none

	retries *retrystream.Streams

	mu      sync.Mutex
	away    bool
	idle    bool // stores, and releases nothing
	calls   int
	stored  []*recordv1.Retry
	timers  []*time.Timer
	stopped bool
	wg      sync.WaitGroup
}

func (s *smallScheduler) set(change func(*smallScheduler)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *smallScheduler) records(kind recordv1.RetryKind) []*recordv1.Retry {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*recordv1.Retry
	for _, r := range s.stored {
		if r.GetKind() == kind {
			out = append(out, r)
		}
	}
	return out
}

func (s *smallScheduler) ScheduleRetry(ctx context.Context, in *schedulerv1.ScheduleRetryRequest, _ ...grpc.CallOption) (*schedulerv1.ScheduleRetryResponse, error) {
	s.mu.Lock()
	s.calls++
	away := s.away
	s.mu.Unlock()
	if away {
		return nil, fault.New(fault.Unavailable, "AWAY", "the scheduler is away")
	}
	type result struct {
		i   int
		at  retrystream.Place
		err error
	}
	results := make(chan result, len(in.GetRetries()))
	for i, r := range in.GetRetries() {
		if err := s.retries.Put(ctx, r, func(at retrystream.Place, err error) { results <- result{i, at, err} }); err != nil {
			return nil, err
		}
	}
	res := &schedulerv1.ScheduleRetryResponse{Results: make([]*schedulerv1.ScheduleResult, len(in.GetRetries()))}
	for range in.GetRetries() {
		r := <-results
		out := &schedulerv1.ScheduleResult{Status: schedulerv1.ScheduleStatus_SCHEDULE_STATUS_STORED, Sequence: r.at.Sequence}
		switch {
		case errors.Is(r.err, retrystream.ErrSuperseded):
			out.Status = schedulerv1.ScheduleStatus_SCHEDULE_STATUS_SUPERSEDED
		case r.err != nil:
			out.Status, out.Error = schedulerv1.ScheduleStatus_SCHEDULE_STATUS_FAILED, r.err.Error()
		default:
			s.later(context.WithoutCancel(ctx), in.GetRetries()[r.i], r.at)
		}
		res.Results[r.i] = out
	}
	return res, nil
}

func (s *smallScheduler) later(ctx context.Context, r *recordv1.Retry, at retrystream.Place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stored = append(s.stored, r)
	if r.GetKind() == recordv1.RetryKind_RETRY_KIND_HELD || s.idle || s.stopped {
		return
	}
	s.wg.Add(1)
	s.timers = append(s.timers, time.AfterFunc(time.Until(r.GetDueTime().AsTime()), func() {
		defer s.wg.Done()
		rec, err := s.retries.Get(ctx, at.Shard, at.Sequence)
		if err != nil {
			return
		}
		released := make(chan struct{})
		if s.retries.Release(ctx, *rec, func(error) { close(released) }) == nil {
			<-released
		}
	}))
}

func (s *smallScheduler) stop() {
	s.mu.Lock()
	s.stopped = true
	for _, t := range s.timers {
		if t.Stop() {
			s.wg.Done()
		}
	}
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *smallScheduler) Hold(context.Context, *schedulerv1.HoldRequest, ...grpc.CallOption) (*schedulerv1.HoldResponse, error) {
	return &schedulerv1.HoldResponse{}, nil
}

func (s *smallScheduler) Resume(context.Context, *schedulerv1.ResumeRequest, ...grpc.CallOption) (*schedulerv1.ResumeResponse, error) {
	return &schedulerv1.ResumeResponse{}, nil
}

func (s *smallScheduler) Cancel(context.Context, *schedulerv1.CancelRequest, ...grpc.CallOption) (*schedulerv1.CancelResponse, error) {
	return &schedulerv1.CancelResponse{}, nil
}

func (s *smallScheduler) RetryNow(context.Context, *schedulerv1.RetryNowRequest, ...grpc.CallOption) (*schedulerv1.RetryNowResponse, error) {
	return &schedulerv1.RetryNowResponse{}, nil
}

func (s *smallScheduler) ListRetries(context.Context, *schedulerv1.ListRetriesRequest, ...grpc.CallOption) (*schedulerv1.ListRetriesResponse, error) {
	return &schedulerv1.ListRetriesResponse{}, nil
}

// disabler disables webhooks in the store, as the api service does.
type disabler struct {
	store *config.Store

	mu    sync.Mutex
	fail  int
	calls int
}

func (d *disabler) Disable(ctx context.Context, account, webhook, reason string, revision uint64) (bool, error) {
	d.mu.Lock()
	d.calls++
	failing := d.fail > 0
	if failing {
		d.fail--
	}
	d.mu.Unlock()
	if failing {
		return false, fault.New(fault.Unavailable, "AWAY", "the api is away")
	}
	rec, rev, err := d.store.GetWebhook(ctx, account, webhook)
	if err != nil {
		return false, err
	}
	if rev != revision {
		return false, nil
	}
	rec.Webhook.State, rec.Webhook.StateReason, rec.Webhook.StateTime = disabled, reason, timestamppb.Now()
	_, err = d.store.UpdateWebhook(ctx, rec, rev)
	return err == nil, err
}

// ledger reads the journal.
type ledger struct {
	mu      sync.Mutex
	entries map[string][]*recordv1.JournalEntry
	more    chan struct{}
}

func newLedger(t testing.TB, w *world) *ledger {
	t.Helper()
	l := &ledger{entries: map[string][]*recordv1.JournalEntry{}, more: make(chan struct{})}
	consumer, err := w.journal.Consumer(t.Context(), "ledger")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var reading sync.WaitGroup
	reading.Go(func() {
		_ = consumer.Consume(ctx, func(m *stream.Msg) {
			batch, err := journal.Decode(m)
			if err != nil {
				t.Errorf("decode the journal: %v", err)
			}
			l.add(batch.GetEntries())
			_ = m.Ack()
		})
	})
	t.Cleanup(func() {
		cancel()
		reading.Wait()
	})
	return l
}

func (l *ledger) add(entries []*recordv1.JournalEntry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range entries {
		l.entries[e.GetDeliveryId()] = append(l.entries[e.GetDeliveryId()], e)
	}
	close(l.more)
	l.more = make(chan struct{})
}

// of is what the journal says of a delivery so far.
func (l *ledger) of(delivery string) []*recordv1.JournalEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entries[delivery]
}

// await waits for an entry of the delivery that fits.
func (l *ledger) await(t testing.TB, delivery, what string, fits func(*recordv1.JournalEntry) bool) *recordv1.JournalEntry {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		l.mu.Lock()
		more := l.more
		for _, e := range l.entries[delivery] {
			if fits(e) {
				l.mu.Unlock()
				return e
			}
		}
		l.mu.Unlock()
		select {
		case <-more:
		case <-deadline.C:
			t.Fatalf("no entry %s of %s; there are %v", what, delivery, l.of(delivery))
		}
	}
}

// state waits for an attempt that made the delivery what is named.
func (l *ledger) state(t testing.TB, delivery, state string) *recordv1.Attempted {
	t.Helper()
	return l.await(t, delivery, "with state "+state, func(e *recordv1.JournalEntry) bool {
		return e.GetAttempted().GetState() == state
	}).GetAttempted()
}

func postriderAccount(w *world) postrider.AccountID { return postrider.AccountID(w.account) }

func postriderDelivery(id string) postrider.DeliveryID { return postrider.DeliveryID(id) }
