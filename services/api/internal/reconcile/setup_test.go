package reconcile_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/deadletterstream"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/stream/journal"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/pkg/telemetry"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/logstore"
	"github.com/postrider/postrider/services/api/internal/reconcile"
	"github.com/postrider/postrider/services/api/internal/recorder"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is the record of a deployment of two shards, with a recorder and an index, and nobody who
// moves anything.
type world struct {
	t          *testing.T
	client     *stream.Client
	events     *eventstream.Stream
	deliveries *deliverystream.Streams
	retries    *retrystream.Streams
	journal    *journal.Journal
	letters    *deadletterstream.Stream
	writer     *journal.Writer
	log        *logstore.SQLite
	recorder   *recorder.Recorder
	newest     *recordv1.Event
	index      *index
	reconciler *reconcile.Reconciler
	progress   []*postriderv1.ReconcileProgress
	dbPath     string
}

// index is the scheduler as far as reconciliation asks it.
type index struct {
	mu      sync.Mutex
	missing map[uint64]bool
	away    error
	retries *retrystream.Streams
}

// ScheduleRetry stores as the scheduler does.
func (x *index) ScheduleRetry(ctx context.Context, req *schedulerv1.ScheduleRetryRequest, _ ...grpc.CallOption) (*schedulerv1.ScheduleRetryResponse, error) {
	resp := &schedulerv1.ScheduleRetryResponse{}
	for _, r := range req.GetRetries() {
		stored := make(chan error, 1)
		if err := x.retries.Put(ctx, r, func(_ retrystream.Place, err error) { stored <- err }); err != nil {
			return nil, err
		}
		result := &schedulerv1.ScheduleResult{Status: schedulerv1.ScheduleStatus_SCHEDULE_STATUS_STORED}
		if err := <-stored; err != nil {
			result.Status, result.Error = schedulerv1.ScheduleStatus_SCHEDULE_STATUS_FAILED, err.Error()
		}
		resp.Results = append(resp.Results, result)
	}
	return resp, nil
}

// CompareIndex answers as the scheduler does.
func (x *index) CompareIndex(_ context.Context, req *schedulerv1.CompareIndexRequest, _ ...grpc.CallOption) (*schedulerv1.CompareIndexResponse, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	resp := &schedulerv1.CompareIndexResponse{}
	for _, r := range req.GetRecords() {
		if !x.missing[r.GetSequence()] {
			continue
		}
		resp.Missing = append(resp.Missing, r)
		if req.GetRepair() {
			delete(x.missing, r.GetSequence())
			resp.Repaired = append(resp.Repaired, r)
		}
	}
	return resp, x.away
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldIn(t, 1)
}

// newWorldIn is a world with events in so many segments.
func newWorldIn(t *testing.T, segments int) *world {
	t.Helper()
	cfg := stream.Default()
	cfg.Shards, cfg.Segments = 2, segments
	c, err := stream.New(natstest.Start(t).Connect(t), cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	w := &world{t: t, client: c, index: &index{missing: make(map[uint64]bool)}, dbPath: filepath.Join(t.TempDir(), "log.db")}
	ctx := t.Context()
	w.events, err = eventstream.Ensure(ctx, c, eventstream.Default())
	require.NoError(t, err)
	w.deliveries, err = deliverystream.Ensure(ctx, c, deliverystream.Default())
	require.NoError(t, err)
	retries := retrystream.Default()
	w.retries, err = retrystream.Ensure(ctx, c, retries)
	require.NoError(t, err)
	t.Cleanup(w.retries.Close)
	w.index.retries = w.retries
	w.journal, err = journal.Ensure(ctx, c, journal.Default())
	require.NoError(t, err)
	w.letters, err = deadletterstream.Ensure(ctx, c, deadletterstream.Default())
	require.NoError(t, err)
	w.log, err = logstore.OpenSQLite(ctx, w.dbPath, logtest.New(t))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.log.Close()) })
	for _, seg := range w.events.Segments() {
		_, err = seg.Router(ctx)
		require.NoError(t, err)
	}
	w.writer = w.journal.NewWriter("test")
	t.Cleanup(func() { require.NoError(t, w.writer.Close(context.WithoutCancel(ctx))) })
	w.record()
	w.reconciler = w.with(reconcile.Config{Settle: 10 * time.Millisecond, CatchUp: time.Minute})
	return w
}

func (w *world) with(cfg reconcile.Config) *reconcile.Reconciler {
	return reconcile.New(cfg, reconcile.Deps{
		Streams: w.client, Events: w.events, Journal: w.journal, Recorder: w.recorder.Durable, Letters: w.letters,
		Log: w.log, Scheduler: w.index, Now: time.Now,
	})
}

// record runs the recorder until the test ends.
func (w *world) record() {
	w.t.Helper()
	rec, err := recorder.New(recorder.Deps{
		Journal: w.journal, Store: w.log, Name: "recorder", Logger: logtest.New(w.t), Meter: telemetry.Noop().Meter("test"), Now: time.Now,
	})
	require.NoError(w.t, err)
	require.NoError(w.t, rec.Prepare(w.t.Context()))
	w.recorder = rec
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- rec.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		require.NoError(w.t, <-ended)
	})
}

// run reconciles and returns what was named, and keeps how far it said to be.
func (w *world) run(repair bool) ([]*postriderv1.Imbalance, *postriderv1.ReconcileSummary) {
	w.t.Helper()
	var named []*postriderv1.Imbalance
	summary, err := w.reconciler.Run(w.t.Context(), repair, func(i *postriderv1.Imbalance) error {
		named = append(named, i)
		return nil
	}, func(p *postriderv1.ReconcileProgress) error {
		w.progress = append(w.progress, p)
		return nil
	})
	require.NoError(w.t, err)
	return named, summary
}

// event publishes one and has it routed to one webhook, as far as the steps say.
func (w *world) event() *recordv1.Delivery {
	w.t.Helper()
	return w.eventOf(postrider.NewAccountID())
}

func (w *world) eventOf(account postrider.AccountID) *recordv1.Delivery {
	w.t.Helper()
	id, webhook := postrider.NewEventID(), postrider.NewWebhookID()
	stored := make(chan eventstream.Stored, 1)
	w.newest = &recordv1.Event{
		Id: string(id), AccountId: string(account), Type: "release.live", AcceptTime: timestamppb.Now(), Data: []byte("{}"),
	}
	require.NoError(w.t, w.events.Publish(w.t.Context(), w.newest, func(s eventstream.Stored, err error) {
		if err != nil {
			w.t.Errorf("publish: %v", err)
		}
		stored <- s
	}))
	return &recordv1.Delivery{
		Id: string(postrider.DeliveryIDFor(id, webhook, "")), AccountId: string(account), WebhookId: string(webhook),
		EventId: string(id), EventSequence: (<-stored).Sequence, EventType: "release.live", AcceptTime: timestamppb.Now(),
		Progress: &recordv1.Progress{},
	}
}

// ackAll acks every event, as routers do when all of it is stored.
func (w *world) ackAll() {
	w.t.Helper()
	for _, seg := range w.events.Segments() {
		w.ack(seg)
	}
}

// ack acks every event of a segment.
func (w *world) ack(seg *eventstream.Segment) {
	w.t.Helper()
	usage, err := seg.Usage(w.t.Context())
	require.NoError(w.t, err)
	routed := func() bool {
		floor, _, err := seg.Routed(w.t.Context())
		return err == nil && floor == usage.LastSequence
	}
	if routed() {
		return
	}
	router, err := seg.Router(w.t.Context())
	require.NoError(w.t, err)
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	require.NoError(w.t, router.Consume(ctx, func(m *stream.Msg) {
		if err := m.Ack(); err != nil {
			w.t.Errorf("ack: %v", err)
		}
		if m.Sequence() == usage.LastSequence {
			cancel()
		}
	}))
	require.Eventually(w.t, routed, time.Minute, 5*time.Millisecond)
}

// await calls what answers once and waits for the answer.
func (w *world) await(call func(done func(error)) error) {
	w.t.Helper()
	answer := make(chan error, 1)
	require.NoError(w.t, call(func(err error) { answer <- err }))
	require.NoError(w.t, <-answer)
}

func (w *world) write(d *recordv1.Delivery, e *recordv1.JournalEntry) {
	w.t.Helper()
	e.Time, e.AccountId, e.EventId, e.EventType, e.Series = timestamppb.Now(), d.GetAccountId(), d.GetEventId(), d.GetEventType(), d.GetProgress().GetSeries()
	if e.GetRouted() == nil {
		e.DeliveryId, e.WebhookId = d.GetId(), d.GetWebhookId()
	}
	w.await(func(done func(error)) error { return w.writer.Write(w.t.Context(), 0, e, done) })
}

func (w *world) routed(d *recordv1.Delivery) {
	w.t.Helper()
	w.write(d, &recordv1.JournalEntry{What: &recordv1.JournalEntry_Routed{Routed: &recordv1.Routed{
		Deliveries: []*recordv1.RoutedDelivery{{DeliveryId: d.GetId(), WebhookId: d.GetWebhookId()}}, MatchedTotal: 1,
	}}})
}

func (w *world) waiting(d *recordv1.Delivery) {
	w.t.Helper()
	w.write(d, &recordv1.JournalEntry{What: &recordv1.JournalEntry_Waiting{Waiting: &recordv1.Waiting{DueTime: timestamppb.Now()}}})
}

func (w *world) dead(d *recordv1.Delivery) {
	w.t.Helper()
	w.write(d, &recordv1.JournalEntry{What: &recordv1.JournalEntry_Dead{Dead: &recordv1.Dead{Cause: "exhausted"}}})
}

func (w *world) cancelled(d *recordv1.Delivery) {
	w.t.Helper()
	w.write(d, &recordv1.JournalEntry{What: &recordv1.JournalEntry_Cancelled{Cancelled: &recordv1.Cancelled{Reason: "request"}}})
}

// deliver puts the delivery into DELIVERIES.
func (w *world) deliver(d *recordv1.Delivery) {
	w.t.Helper()
	w.await(func(done func(error)) error { return w.deliveries.Publish(w.t.Context(), d, done) })
}

// put puts the delivery into RETRIES.
func (w *world) put(d *recordv1.Delivery, kind recordv1.RetryKind) uint64 {
	w.t.Helper()
	var at uint64
	w.await(func(done func(error)) error {
		return w.retries.Put(w.t.Context(), &recordv1.Retry{
			Delivery: proto.CloneOf(d), Kind: kind, DueTime: timestamppb.New(time.Now().Add(time.Hour)),
		}, func(place retrystream.Place, err error) {
			at = place.Sequence
			done(err)
		})
	})
	return at
}

// bury puts the delivery into DEADLETTERS.
func (w *world) bury(d *recordv1.Delivery) {
	w.t.Helper()
	w.await(func(done func(error)) error {
		return w.letters.Publish(w.t.Context(), &recordv1.DeadLetter{Delivery: d, Cause: "exhausted", Time: timestamppb.Now()}, done)
	})
}

// recorded waits until the log holds the journal.
func (w *world) recorded() {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		last, err1 := w.journal.Last(w.t.Context())
		floor, pending, err2 := w.journal.Recorded(w.t.Context(), w.recorder.Durable())
		return err1 == nil && err2 == nil && floor == last && pending == 0
	}, time.Minute, 5*time.Millisecond)
}

func short(i *postriderv1.Imbalance) string {
	return fmt.Sprintf("%s %s", i.GetKind(), i.GetDeliveryId())
}
