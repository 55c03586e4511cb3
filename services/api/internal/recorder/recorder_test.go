package recorder_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/journal"
	"github.com/postrider/postrider/pkg/telemetry"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/services/api/internal/logstore"
	"github.com/postrider/postrider/services/api/internal/recorder"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen. It is shorter than the time after which the
// server would give a message again by itself.
const patience = 30 * time.Second

const account = postrider.AccountID("acc_1")

// troubled is the real store, in front of which a test can make trouble.
type troubled struct {
	*logstore.SQLite

	mu      sync.Mutex
	trouble func(ctx context.Context) error // before each transaction; nil: none
	lost    error                           // why the log's state cannot be read
}

func (s *troubled) set(trouble func(ctx context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble = trouble
}

// Record stores a batch unless the trouble is an error.
func (s *troubled) Record(ctx context.Context, b *logstore.Batch) error {
	s.mu.Lock()
	trouble := s.trouble
	s.mu.Unlock()
	if trouble != nil {
		if err := trouble(ctx); err != nil {
			return err
		}
	}
	return s.SQLite.Record(ctx, b)
}

// Refresh reads the log's state, unless it is away.
func (s *troubled) Refresh(ctx context.Context) error {
	s.mu.Lock()
	lost := s.lost
	s.mu.Unlock()
	if lost != nil {
		return lost
	}
	return s.SQLite.Refresh(ctx)
}

// away takes the store away.
func (s *troubled) away() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = errors.New("connection refused")
	lost := s.lost
	s.trouble = func(context.Context) error { return lost }
}

// rig is a journal on a real server, a log in a real file, and the recorder between them.
type rig struct {
	nc       *nats.Conn
	journal  *journal.Journal
	store    *troubled
	recorder *recorder.Recorder
	metrics  http.Handler
	n        int // events so far
}

func setup(t *testing.T) *rig {
	t.Helper()
	return setupWith(t, func(*recorder.Deps) {})
}

// setupWith is setup with dependencies that a test changes.
func setupWith(t *testing.T, change func(*recorder.Deps)) *rig {
	t.Helper()
	r := &rig{nc: natstest.Start(t).Connect(t)}
	c, err := stream.New(r.nc, stream.Default())
	require.NoError(t, err)
	t.Cleanup(c.Close)
	r.journal, err = journal.Ensure(t.Context(), c, journal.Default())
	require.NoError(t, err)
	store, err := logstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "log.db"), logtest.New(t))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	r.store = &troubled{SQLite: store}
	tel, err := telemetry.New(telemetry.Default(), "test")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tel.Shutdown(context.WithoutCancel(t.Context()))) })
	r.metrics = tel.Handler()
	deps := recorder.Deps{
		Journal: r.journal, Store: r.store, Name: "test", Logger: logtest.New(t), Meter: tel.Meter(""), Now: time.Now, Yield: true,
	}
	change(&deps)
	r.recorder, err = recorder.New(deps)
	require.NoError(t, err)
	require.NoError(t, r.recorder.Prepare(t.Context()))
	return r
}

// run records until the test ends, or stop is called.
func (r *rig) run(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.recorder.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			require.NoError(t, <-ended)
		})
	}
	t.Cleanup(stop)
	return stop
}

// event journals that one event was routed to one webhook and that its delivery died, in a message of
// its own, and returns the delivery.
func (r *rig) event(t *testing.T) (delivery string) {
	t.Helper()
	r.n++
	event := postrider.EventID(fmt.Sprintf("evt_%d", r.n))
	delivery = string(postrider.DeliveryIDFor(event, "wh_1", ""))
	entry := func() *recordv1.JournalEntry {
		return &recordv1.JournalEntry{Time: timestamppb.Now(), AccountId: string(account), EventId: string(event), EventType: "release.live"}
	}
	routed, dead := entry(), entry()
	routed.What = &recordv1.JournalEntry_Routed{Routed: &recordv1.Routed{
		Deliveries: []*recordv1.RoutedDelivery{{DeliveryId: delivery, WebhookId: "wh_1"}}, MatchedTotal: 1, AcceptTime: timestamppb.Now(),
	}}
	dead.DeliveryId, dead.WebhookId = delivery, "wh_1"
	dead.What = &recordv1.JournalEntry_Dead{Dead: &recordv1.Dead{Cause: "expired"}}
	w := r.journal.NewWriter("test")
	stored := make(chan error, 2)
	for _, e := range []*recordv1.JournalEntry{routed, dead} {
		require.NoError(t, w.Write(t.Context(), journal.Routed, e, func(err error) { stored <- err }))
	}
	require.NoError(t, w.Close(t.Context()))
	require.NoError(t, errors.Join(<-stored, <-stored))
	return delivery
}

func (r *rig) events(t *testing.T, n int) (deliveries []string) {
	t.Helper()
	for range n {
		deliveries = append(deliveries, r.event(t))
	}
	return deliveries
}

// awaitDead waits until the log has the end of each delivery.
func (r *rig) awaitDead(t *testing.T, deliveries ...string) {
	t.Helper()
	for _, id := range deliveries {
		require.Eventually(t, func() bool {
			d, err := r.store.Delivery(t.Context(), account, id)
			return err == nil && d.State == postrider.Dead
		}, patience, 5*time.Millisecond, "%s is not recorded", id)
	}
}

// awaitAll waits until nothing of the journal is left to record.
func (r *rig) awaitAll(t *testing.T) recorder.Status {
	t.Helper()
	var s recorder.Status
	require.Eventually(t, func() bool {
		var err error
		s, err = r.recorder.Status(t.Context())
		return err == nil && s.Pending == 0 && s.Recorded == s.Last
	}, patience, 5*time.Millisecond)
	return s
}

// taken is how many messages the recorder has and has not acknowledged.
func (r *rig) taken(t *testing.T) int {
	t.Helper()
	consumer, err := r.journal.Consumer(t.Context(), r.recorder.Durable())
	require.NoError(t, err)
	info, err := consumer.Info(t.Context())
	require.NoError(t, err)
	return info.AckPending
}

func TestTheJournalIsRecorded(t *testing.T) {
	t.Parallel()
	r := setup(t)
	before := r.events(t, 20)
	var s recorder.Status
	require.Eventually(t, func() bool { // The server tells its consumers of a message a moment after it has acknowledged it.
		var err error
		s, err = r.recorder.Status(t.Context())
		return err == nil && s.Pending == int64(s.Last)
	}, patience, 5*time.Millisecond)
	require.Zero(t, s.Recorded)
	require.WithinDuration(t, time.Now(), s.Oldest, time.Minute, "it says how old the oldest is")
	r.run(t)
	r.awaitDead(t, before...)
	r.awaitDead(t, r.events(t, 5)...)
	require.Zero(t, r.awaitAll(t).Oldest)
	ledger, err := r.store.Ledger(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 25, ledger[account].In[postrider.Dead])
}

func TestATransactionThatFailedIsMadeAgain(t *testing.T) {
	t.Parallel()
	r := setup(t)
	failures := 3
	r.store.set(func(context.Context) error { // one transaction at a time
		if failures--; failures >= 0 {
			return errors.New("the disk is full")
		}
		return nil
	})
	deliveries := r.events(t, 3)
	r.run(t)
	r.awaitDead(t, deliveries...)
	r.awaitAll(t)
	require.Negative(t, failures)
}

// Nobody would learn that the log falls behind, if its state had to be read first.
func TestHowFarItIsBehindIsKnownWhileTheStoreIsAway(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.store.away()
	r.events(t, 3)
	r.run(t)
	for _, behind := range []*regexp.Regexp{
		regexp.MustCompile(`(?m)^postrider_recorder_pending(\{.*\})? 3$`),
		regexp.MustCompile(`(?m)^postrider_recorder_lag_seconds(\{.*\})? (0\.\d|[1-9])`),
	} {
		require.Eventually(t, func() bool {
			w := httptest.NewRecorder()
			r.metrics.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody))
			return behind.MatchString(w.Body.String())
		}, patience, 100*time.Millisecond, behind)
	}
}

// hang makes the store hang, until the recorder is stopped. The channel tells of the first transaction.
func (r *rig) hang() (begun <-chan struct{}) {
	started := make(chan struct{})
	var once sync.Once
	r.store.set(func(ctx context.Context) error {
		once.Do(func() { close(started) })
		<-ctx.Done()
		return ctx.Err()
	})
	return started
}

// What is acknowledged is recorded: a process that dies before the commit leaves the message to the
// next.
func TestAMessageIsAckedOnlyAfterItsTransaction(t *testing.T) {
	t.Parallel()
	r := setup(t)
	begun := r.hang()
	first := r.event(t)
	stop := r.run(t)
	<-begun
	second := r.event(t)
	require.Eventually(t, func() bool { return r.taken(t) == 2 }, patience, 5*time.Millisecond)
	stop()
	r.store.set(nil)
	r.run(t)
	// The server settles messages in order, so when the second is back, an acknowledgement of the first
	// would have been counted.
	r.awaitDead(t, second)
	s, err := r.recorder.Status(t.Context())
	require.NoError(t, err)
	_, err = r.store.Delivery(t.Context(), account, first)
	require.True(t, s.Recorded == 0 || err == nil, "acked up to %d, and the log says: %v", s.Recorded, err)
}

func TestWhatWasTakenAndNotBegunIsGivenBackAtAStop(t *testing.T) {
	t.Parallel()
	r := setup(t)
	begun := r.hang()
	r.event(t)
	stop := r.run(t)
	<-begun
	waiting := r.events(t, 40)
	require.Eventually(t, func() bool { return r.taken(t) == 41 }, patience, 5*time.Millisecond, "the recorder takes what it has room for")
	stop()
	r.store.set(nil)
	r.run(t)
	r.awaitDead(t, waiting...) // long before the server would give them again by itself
}

func TestAMessageThatCannotBeReadDoesNotStopTheRecorder(t *testing.T) {
	t.Parallel()
	r := setup(t)
	before := r.event(t)
	_, err := r.nc.Request("journal.routed", []byte("\xff\xff no journal batch"), patience)
	require.NoError(t, err)
	after := r.event(t)
	r.run(t)
	r.awaitDead(t, before, after)
	r.awaitAll(t)
}

// A log that is dropped while events arrive is built again whole, and says nothing until it is.
func TestALogIsBuiltAgainWhileTheJournalGrows(t *testing.T) {
	t.Parallel()
	r := setup(t)
	deliveries := r.events(t, 30)
	r.run(t)
	r.awaitDead(t, deliveries...)
	old := r.recorder.Durable()
	rebuilt := make(chan error, 1)
	go func() {
		_, err := r.recorder.Rebuild(t.Context())
		rebuilt <- err
	}()
	for done := false; !done; {
		select {
		case err := <-rebuilt:
			require.NoError(t, err)
			done = true
		default:
			deliveries = append(deliveries, r.event(t))
		}
	}
	deliveries = append(deliveries, r.events(t, 5)...)
	require.NotEqual(t, old, r.recorder.Durable(), "the journal's consumer is that of the new log")
	require.Eventually(t, func() bool { return r.store.Incomplete() == 0 }, patience, 5*time.Millisecond)
	r.awaitDead(t, deliveries...)
	r.awaitAll(t)
	ledger, err := r.store.Ledger(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, len(deliveries), ledger[account].In[postrider.Dead], "each is there once")
	require.Eventually(t, func() bool {
		_, _, err := r.journal.Recorded(t.Context(), old)
		return errors.Is(err, stream.ErrNotFound)
	}, patience, 5*time.Millisecond, "the consumer of the dropped log goes")
}
