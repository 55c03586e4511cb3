package scheduler_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/journal"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/pkg/telemetry"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/services/scheduler/internal/cancel"
	"github.com/postrider/postrider/services/scheduler/internal/entries"
	"github.com/postrider/postrider/services/scheduler/internal/hold"
	"github.com/postrider/postrider/services/scheduler/internal/release"
	"github.com/postrider/postrider/services/scheduler/internal/retryset"
	"github.com/postrider/postrider/services/scheduler/internal/webhooks"
)

// The tests below force the orders that matter, with the real streams underneath: a seam stops
// one side at its most delicate point until the other has done its part.

// gate stops whoever comes to it until it is opened, and says that somebody came.
type gate struct {
	came chan struct{}
	open chan struct{}
	once sync.Once
}

func newGate() *gate { return &gate{came: make(chan struct{}), open: make(chan struct{})} }

func (g *gate) pass() {
	if g == nil {
		return
	}
	g.once.Do(func() { close(g.came) })
	<-g.open
}

// awaitArrival waits until somebody stands at the gate.
func (g *gate) awaitArrival(t *testing.T) {
	t.Helper()
	select {
	case <-g.came:
	case <-time.After(patience):
		require.Fail(t, "nobody came to the gate")
	}
}

// seam is the retry streams with gates in front of their calls.
type seam struct {
	*retrystream.Streams

	release, replace, remove *gate
}

func (s *seam) Release(ctx context.Context, r retrystream.Record, done func(error)) error {
	s.release.pass()
	return s.Streams.Release(ctx, r, done)
}

func (s *seam) ReplaceAsync(ctx context.Context, old retrystream.Record, r *recordv1.Retry, done func(uint64, error)) error {
	s.replace.pass()
	return s.Streams.ReplaceAsync(ctx, old, r, done)
}

func (s *seam) Remove(ctx context.Context, r retrystream.Record) error {
	s.remove.pass()
	return s.Streams.Remove(ctx, r)
}

// marks stands for the configuration and its barrier where only their being asked matters.
type marks struct{}

func (marks) MarkCancelled(context.Context, string, string) (uint64, error) { return 1, nil }
func (marks) Confirm(context.Context, string, uint64) error                 { return nil }

// replica is the inside of a scheduler, with a seam below it and an index of its own.
type replica struct {
	index    *retryset.Memory
	registry *webhooks.Registry
	hold     *hold.Manager
	cancel   *cancel.Canceller
	loop     *release.Loop
}

func (w *world) replica(s *seam, index *retryset.Memory) *replica {
	w.t.Helper()
	meter := telemetry.Noop().Meter("test")
	holds, err := hold.NewMetrics(meter)
	require.NoError(w.t, err)
	releases, err := release.NewMetrics(meter)
	require.NoError(w.t, err)
	writer := w.journal.NewWriter("test")
	log := entries.New(writer, time.Now)
	r := &replica{index: index}
	r.registry = webhooks.NewRegistry(func(h webhooks.Webhook) { r.hold.Check(h.ID) })
	r.cancel = cancel.New(cancel.Deps{Records: s, Journal: log, Index: index, Marks: marks{}, Barrier: marks{}, Logger: w.log})
	r.hold = hold.New(hold.Config{Rate: 10_000, Workers: 4, Window: 50}, hold.Deps{
		Records: s, Events: w.events, Index: index, Journal: log, Cancel: r.cancel,
		Registry: r.registry, Metrics: holds, Logger: w.log, Now: time.Now,
	})
	r.loop = release.New(release.Config{Lease: 300 * time.Millisecond, Poll: 10 * time.Millisecond, MaxInFlight: 256, Readers: 2}, release.Deps{
		Index: index, Records: s, Hold: r.hold, Cancel: r.cancel, Registry: r.registry,
		Lost: func() {}, Metrics: releases, Logger: w.log, Now: time.Now,
	})
	w.closeWriter(writer)
	return r
}

func (w *world) closeWriter(writer *journal.Writer) {
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience) // the test's has ended
		defer cancel()
		if err := writer.Close(ctx); err != nil {
			w.t.Errorf("close the journal: %v", err)
		}
	})
}

// run runs a loop until the test ends.
func (w *world) run(loop func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = loop(ctx)
	}()
	w.t.Cleanup(func() {
		cancel()
		<-ended
	})
}

// indexed stores a retry and puts it into indexes.
func (w *world) indexed(r *recordv1.Retry, indexes ...*retryset.Memory) retryset.Member {
	w.t.Helper()
	sequence := w.put(r)[0]
	m := retryset.Member{Shard: postrider.ShardOf(postrider.WebhookID(r.GetDelivery().GetWebhookId()), shards), Sequence: sequence}
	for _, index := range indexes {
		require.NoError(w.t, index.Add(w.t.Context(), retryset.Entry{Member: m, Due: r.GetDueTime().AsTime()}))
	}
	return m
}

// emptied waits until the index holds nothing.
func (w *world) emptied(index *retryset.Memory) {
	w.t.Helper()
	w.eventually(func() bool {
		n, err := index.Count(w.t.Context())
		return err == nil && n == 0
	}, "the member is dropped")
}

func TestReleaseAgainstTheRecordsOwnFiring(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Second)
	s := &seam{Streams: w.retries, release: newGate()}
	r := w.replica(s, retryset.NewMemory())
	w.run(r.loop.Run)
	hook := w.webhook()
	w.indexed(hook.retry(waiting, time.Now()), r.index)
	s.release.awaitArrival(t)
	fired := w.await(1)[0]
	require.True(t, fired.fired, "the server made it due while the scheduler was stopped at its release")
	close(s.release.open)
	w.emptied(r.index)
	require.Len(t, w.got(), 1)
	require.Empty(t, hook.records())
}

func TestReleaseAgainstCancel(t *testing.T) {
	t.Parallel()
	t.Run("the cancel comes between reading and releasing", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, time.Hour)
		s := &seam{Streams: w.retries, release: newGate()}
		r := w.replica(s, retryset.NewMemory())
		w.run(r.loop.Run)
		hook := w.webhook()
		retry := hook.retry(waiting, time.Now())
		w.indexed(retry, r.index)
		s.release.awaitArrival(t)
		n, err := r.cancel.Delivery(t.Context(), hook.account(), hook.id(), postrider.DeliveryID(retry.GetDelivery().GetId()), "request")
		require.NoError(t, err)
		require.EqualValues(t, 1, n)
		close(s.release.open)
		w.emptied(r.index)
		require.Empty(t, w.got())
		require.Empty(t, hook.records())
		require.Equal(t, 1, hook.count(isCancelled))
	})
	t.Run("the release comes between journalling and removing", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, time.Hour)
		s := &seam{Streams: w.retries, remove: newGate()}
		r := w.replica(s, retryset.NewMemory())
		hook := w.webhook()
		retry := hook.retry(waiting, time.Now())
		w.indexed(retry, r.index)
		cancelled := make(chan int64, 1)
		go func() {
			n, _ := r.cancel.Delivery(t.Context(), hook.account(), hook.id(), postrider.DeliveryID(retry.GetDelivery().GetId()), "request")
			cancelled <- n
		}()
		s.remove.awaitArrival(t)
		require.Equal(t, 1, hook.count(isCancelled), "what is removed is journalled before")
		w.run(r.loop.Run)
		w.await(1)
		close(s.remove.open)
		require.Zero(t, <-cancelled, "the due delivery is the dispatcher's to end: it has the mark")
		require.Len(t, w.got(), 1)
	})
}

func TestReleaseAgainstReplacement(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	s := &seam{Streams: w.retries, release: newGate()}
	r := w.replica(s, retryset.NewMemory())
	w.run(r.loop.Run)
	hook := w.webhook()
	retry := hook.retry(waiting, time.Now())
	w.indexed(retry, r.index)
	s.release.awaitArrival(t)
	later := proto.CloneOf(retry)
	later.Delivery.Progress.Attempts = 2
	close(s.release.open) // the next line races the release on purpose: both orders are right
	sequence := make(chan uint64, 1)
	require.NoError(t, w.retries.Put(t.Context(), later, func(at retrystream.Place, err error) {
		if err != nil {
			at.Sequence = 0
		}
		sequence <- at.Sequence
	}))
	n := <-sequence
	require.NotZero(t, n)
	require.NoError(t, r.index.Add(t.Context(), retryset.Entry{Member: retryset.Member{Shard: hook.shard(), Sequence: n}, Due: time.Now()}))
	w.emptied(r.index)
	dues := w.got()
	attempts := make([]int32, 0, len(dues))
	for _, d := range dues {
		attempts = append(attempts, d.retry.GetDelivery().GetProgress().GetAttempts())
	}
	require.Contains(t, [][]int32{{2}, {1, 2}}, attempts)
}

func TestAReplicaThatWakesUpAfterItsLeaseReleasesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	index := retryset.NewMemory()
	stuck := &seam{Streams: w.retries, release: newGate()}
	asleep := w.replica(stuck, index)
	w.run(asleep.loop.Run)
	hook := w.webhook()
	w.indexed(hook.retry(waiting, time.Now()), index)
	stuck.release.awaitArrival(t)
	awake := w.replica(&seam{Streams: w.retries}, index)
	w.run(awake.loop.Run)
	require.False(t, w.await(1)[0].fired)
	w.emptied(index)
	close(stuck.release.open)
	require.Len(t, w.got(), 1)
}

func TestReleaseAgainstHold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	s := &seam{Streams: w.retries, release: newGate()}
	r := w.replica(s, retryset.NewMemory())
	other := w.replica(&seam{Streams: w.retries}, retryset.NewMemory())
	w.run(r.loop.Run)
	hook := w.webhook()
	w.indexed(hook.retry(waiting, time.Now()), r.index)
	s.release.awaitArrival(t)
	hook.pause()
	other.registry.Put(hook.rec, hook.revision)
	paused, ok := other.registry.Lookup(hook.id())
	require.True(t, ok)
	n, err := other.hold.Hold(t.Context(), paused)
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	close(s.release.open)
	w.emptied(r.index)
	require.Empty(t, w.got())
	require.Equal(t, map[recordv1.RetryKind]int{held: 1}, hook.kinds())
}

func TestAPauseAndAResumeThatRaceStrandNothing(t *testing.T) {
	t.Parallel()
	// One replica is stopped in the middle of holding. The webhook is resumed, and the other
	// replica releases everything that is held, which is nothing yet. Then the first one goes on.
	w := newWorld(t, time.Hour)
	s := &seam{Streams: w.retries, replace: newGate()}
	slow := w.replica(s, retryset.NewMemory())
	quick := w.replica(&seam{Streams: w.retries}, retryset.NewMemory())
	w.run(slow.hold.Run)
	w.run(quick.hold.Run)
	hook := w.webhook()
	slow.registry.Put(hook.rec, hook.revision)
	quick.registry.Put(hook.rec, hook.revision)
	retries := hook.retries(300, waiting, time.Now().Add(time.Hour))
	w.put(retries...)

	hook.pause()
	slow.registry.Put(hook.rec, hook.revision)
	s.replace.awaitArrival(t)
	hook.resume()
	quick.registry.Put(hook.rec, hook.revision)
	now, ok := quick.registry.Lookup(hook.id())
	require.True(t, ok)
	n, err := quick.hold.CountHeld(t.Context(), now)
	require.NoError(t, err)
	require.Zero(t, n)
	close(s.replace.open)
	w.eventually(func() bool { return hook.kinds()[held] > 0 }, "the slow replica holds")
	slow.registry.Put(hook.rec, hook.revision)
	w.eventually(func() bool { return hook.kinds()[held] == 0 }, "nothing is stranded")
	// What was held was released, each once; what was not yet held waits for its time as before.
	left := make([]string, 0, len(retries))
	for _, rec := range hook.records() {
		require.Equal(t, waiting, rec.Retry.GetKind())
		left = append(left, rec.Retry.GetDelivery().GetId())
	}
	w.await(len(retries) - len(left))
	released := dueIDs(w.got())
	require.ElementsMatch(t, deliveries(retries), append(released, left...))
}

func TestAMemberWhoseRecordIsNotDueIsPostponed(t *testing.T) {
	t.Parallel()
	// A restore of the streams may give a sequence to another delivery.
	w := newWorld(t, time.Hour)
	r := w.replica(&seam{Streams: w.retries}, retryset.NewMemory())
	w.run(r.loop.Run)
	hook := w.webhook()
	dueTime := time.Now().Add(time.Hour)
	m := w.indexed(hook.retry(waiting, dueTime))
	require.NoError(t, r.index.Add(t.Context(), retryset.Entry{Member: m, Due: time.Now().Add(-time.Minute)}))
	w.eventually(func() bool {
		got, _ := r.index.Claim(t.Context(), time.Unix(0, 0), time.Second, 1)
		return got.Next.After(dueTime.Add(-time.Minute))
	}, "the index learns when the record is due")
	require.Empty(t, w.got())
}
