package replay_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/deadletterstream"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/stream/journal"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/pkg/telemetry"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	routerv1 "github.com/postrider/postrider/proto/gen/go/postrider/router/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/logstore"
	"github.com/postrider/postrider/services/api/internal/replay"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen. Nothing is measured by it.
const patience = time.Minute

const account = postrider.AccountID("acc_01HF7YAT00ZZZZZZZZZZZZZZZZ")

// hooks are the webhooks, of which each wants every event.
var hooks = []string{"wh_01HF7YAT00ZZZZZZZZZZZZZZZ1", "wh_01HF7YAT00ZZZZZZZZZZZZZZZ2"}

// world is the streams and the bucket; nobody takes deliveries out of them.
type world struct {
	streams    *stream.Client
	store      *config.Store
	events     *eventstream.Stream
	deliveries *deliverystream.Streams
	retries    *retrystream.Streams
	journal    *journal.Journal
	letters    *deadletterstream.Stream
	log        *logstore.SQLite
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldIn(t, 1)
}

// newWorldIn is a world with events in so many segments.
func newWorldIn(t *testing.T, segments int) *world {
	t.Helper()
	cfg := stream.Default()
	cfg.Segments = segments
	c, err := stream.New(natstest.Start(t).Connect(t), cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	w := &world{streams: c}
	w.store, err = config.Ensure(t.Context(), c)
	require.NoError(t, err)
	w.events, err = eventstream.Ensure(t.Context(), c, eventstream.Default())
	require.NoError(t, err)
	w.deliveries, err = deliverystream.Ensure(t.Context(), c, deliverystream.Default())
	require.NoError(t, err)
	w.retries, err = retrystream.Ensure(t.Context(), c, retrystream.Default())
	require.NoError(t, err)
	t.Cleanup(w.retries.Close)
	w.journal, err = journal.Ensure(t.Context(), c, journal.Default())
	require.NoError(t, err)
	w.letters, err = deadletterstream.Ensure(t.Context(), c, deadletterstream.Default())
	require.NoError(t, err)
	w.log, err = logstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "log.db"), logtest.New(t))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.log.Close()) })
	require.NoError(t, w.log.SetIncomplete(t.Context(), w.log.Token(), 0)) // nobody records here
	return w
}

// publish stores n events and returns the sequence of the last.
func (w *world) publish(t *testing.T, n int) uint64 {
	t.Helper()
	return w.publishOf(t, account, n)
}

func (w *world) publishOf(t *testing.T, account postrider.AccountID, n int) uint64 {
	t.Helper()
	last := make(chan uint64, n)
	for range n {
		ev := &recordv1.Event{
			Id: string(postrider.NewEventID()), AccountId: string(account), Type: "release.live", AcceptTime: timestamppb.Now(), Data: []byte(`{}`),
		}
		require.NoError(t, w.events.Publish(t.Context(), ev, func(s eventstream.Stored, err error) {
			if err != nil {
				t.Error(err)
			}
			last <- s.Sequence
		}))
	}
	var sequence uint64
	for range n {
		sequence = max(sequence, <-last)
	}
	return sequence
}

// bury stores n dead letters.
func (w *world) bury(t *testing.T, n int) {
	t.Helper()
	stored := make(chan error, n)
	for i := range n {
		event := postrider.NewEventID()
		require.NoError(t, w.letters.Publish(t.Context(), &recordv1.DeadLetter{
			Cause: "exhausted", Time: timestamppb.Now(),
			Delivery: &recordv1.Delivery{
				Id: string(postrider.DeliveryIDFor(event, postrider.WebhookID(hooks[0]), "")), AccountId: string(account), WebhookId: hooks[i%len(hooks)],
				EventId: string(event), EventType: "release.live", Data: []byte(`{}`), Progress: &recordv1.Progress{Attempts: 5},
			},
		}, func(err error) { stored <- err }))
	}
	for range n {
		require.NoError(t, <-stored)
	}
}

// power is a process's: when it is cut, nothing that the process calls has an effect any more, as if
// it had been killed.
type power struct {
	left atomic.Int64 // calls with an effect
	cut  chan struct{}
	once sync.Once
}

var errKilled = errors.New("killed")

func newPower(calls int64) *power {
	p := &power{cut: make(chan struct{})}
	p.left.Store(calls)
	return p
}

// use reports whether a call still has an effect.
func (p *power) use() bool {
	if p.left.Add(-1) >= 0 {
		return true
	}
	p.once.Do(func() { close(p.cut) })
	return false
}

// process is what a runner calls, until its power is cut. It is the router and the scheduler too.
type process struct {
	*world
	writer *journal.Writer
	power  *power
}

func (p *process) JobNames(ctx context.Context) ([]config.JobName, error) {
	return p.store.JobNames(ctx)
}

func (p *process) GetJob(ctx context.Context, account, id string) (*recordv1.Job, uint64, error) {
	return p.store.GetJob(ctx, account, id)
}

func (p *process) GetWebhook(ctx context.Context, account, id string) (*recordv1.Webhook, uint64, error) {
	return p.store.GetWebhook(ctx, account, id)
}

func (p *process) UpdateJob(ctx context.Context, j *recordv1.Job, rev uint64) (uint64, error) {
	if !p.power.use() {
		return 0, errKilled
	}
	return p.store.UpdateJob(ctx, j, rev)
}

type deliveries struct{ *process }

func (d deliveries) Publish(ctx context.Context, m *recordv1.Delivery, done func(error)) error {
	if !d.power.use() {
		return errKilled
	}
	return d.deliveries.Publish(ctx, m, done)
}

func (d deliveries) Layout() postrider.Layout { return d.deliveries.Layout() }

type letters struct {
	*deadletterstream.Stream
	power *power
}

func (l letters) Remove(ctx context.Context, sequence uint64) error {
	if !l.power.use() {
		return errKilled
	}
	return l.Stream.Remove(ctx, sequence)
}

// Write stores an entry.
func (p *process) Write(ctx context.Context, shard int, e *recordv1.JournalEntry, done func(error)) error {
	if !p.power.use() {
		return errKilled
	}
	return p.writer.Write(ctx, shard, e, done)
}

// MatchEvents finds every webhook.
func (*process) MatchEvents(_ context.Context, in *routerv1.MatchEventsRequest, _ ...grpc.CallOption) (*routerv1.MatchEventsResponse, error) {
	resp := &routerv1.MatchEventsResponse{}
	for range in.GetEvents() {
		resp.Matches = append(resp.Matches, &routerv1.EventMatch{WebhookIds: hooks})
	}
	return resp, nil
}

// ScheduleRetry stores records.
func (p *process) ScheduleRetry(ctx context.Context, in *schedulerv1.ScheduleRetryRequest, _ ...grpc.CallOption) (*schedulerv1.ScheduleRetryResponse, error) {
	resp := &schedulerv1.ScheduleRetryResponse{}
	for _, r := range in.GetRetries() {
		if !p.power.use() {
			return nil, errKilled
		}
		result := make(chan error, 1)
		if err := p.retries.Put(ctx, r, func(_ retrystream.Place, err error) { result <- err }); err != nil {
			return nil, err
		}
		status := schedulerv1.ScheduleStatus_SCHEDULE_STATUS_STORED
		if err := <-result; errors.Is(err, retrystream.ErrSuperseded) {
			status = schedulerv1.ScheduleStatus_SCHEDULE_STATUS_SUPERSEDED
		} else if err != nil {
			return nil, err
		}
		resp.Results = append(resp.Results, &schedulerv1.ScheduleResult{Status: status})
	}
	return resp, nil
}

// run runs a process until its power is cut, or ctx ends.
func (w *world) run(t *testing.T, ctx context.Context, calls int64) *power { //nolint:revive // the test comes first
	t.Helper()
	p := &process{world: w, writer: w.journal.NewWriter("test"), power: newPower(calls)}
	cfg := replay.Config{Lease: 200 * time.Millisecond, Poll: 10 * time.Millisecond, Running: 4}
	r, err := replay.New(cfg, replay.Deps{
		Jobs: p, Events: w.events, Deliveries: deliveries{p}, Letters: letters{w.letters, p.power}, Journal: p, Log: w.log,
		Router: p, Scheduler: p, Logger: logtest.New(t), Meter: telemetry.Noop().Meter(""), Now: time.Now,
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { p.power.use() })
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
		if err := p.writer.Close(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	}()
	go func() {
		select {
		case <-p.power.cut:
			cancel()
		case <-ended:
		}
	}()
	t.Cleanup(func() { stop(); cancel(); <-ended })
	return p.power
}

func (w *world) job(t *testing.T, id postrider.ReplayID) *postriderv1.Replay {
	t.Helper()
	job, _, err := w.store.GetJob(t.Context(), string(account), string(id))
	require.NoError(t, err)
	return job.GetReplay()
}

// kill runs process after process, each of which is killed after a few calls, until the job has
// ended; it returns how many were killed.
func (w *world) kill(t *testing.T, id postrider.ReplayID, calls int64) int {
	t.Helper()
	for killed := 0; ; killed++ {
		power := w.run(t, t.Context(), calls)
		require.Eventually(t, func() bool {
			select {
			case <-power.cut:
				return true
			default:
				return replay.Ended(w.job(t, id))
			}
		}, patience, 2*time.Millisecond)
		if replay.Ended(w.job(t, id)) {
			return killed
		}
		calls++ // so that a batch is finished some day
	}
}

// entries reads the journal.
func (w *world) entries(t *testing.T, shard int) []*recordv1.JournalEntry {
	t.Helper()
	var out []*recordv1.JournalEntry
	require.NoError(t, w.journal.Tail(t.Context(), shard, time.Hour, func(e *recordv1.JournalEntry) error {
		out = append(out, e)
		return nil
	}))
	return out
}

func TestAReplayWhoseProcessesAreKilledAtEveryStepMakesEachDeliveryAndCountsExactly(t *testing.T) {
	t.Parallel()
	for _, calls := range []int64{1, 2, 3, 5, 8, 13, 40} {
		t.Run(fmt.Sprintf("after %d calls", calls), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			const n = 9
			last := w.publish(t, n)
			w.publish(t, 3) // not selected: accepted after the job was created
			id := postrider.NewReplayID()
			_, err := w.store.CreateJob(t.Context(), &recordv1.Job{NextSequence: 1, LastSequence: last, Replay: &postriderv1.Replay{
				Id: string(id), AccountId: string(account), Rate: 10, State: postriderv1.ReplayState_REPLAY_STATE_RUNNING,
				Selection: &postriderv1.Replay_Events{Events: &postriderv1.EventSelection{StartTime: timestamppb.New(time.Now().Add(-time.Hour))}},
			}})
			require.NoError(t, err)
			killed := w.kill(t, id, calls)
			t.Logf("%d processes killed", killed)
			job := w.job(t, id)
			require.Equal(t, postriderv1.ReplayState_REPLAY_STATE_SUCCEEDED, job.GetState())
			require.EqualValues(t, n*len(hooks), job.GetDeliveries())
			require.Zero(t, job.GetSkipped())

			stored := make(map[string]int)
			require.NoError(t, w.deliveries.Scan(t.Context(), 0, func(d *recordv1.Delivery) error {
				require.Equal(t, string(id), d.GetReplayId())
				stored[d.GetId()]++
				return nil
			}))
			require.Len(t, stored, n*len(hooks))
			journalled := make(map[string]bool)
			for _, e := range w.entries(t, journal.Routed) {
				require.Equal(t, string(id), e.GetRouted().GetReplayId())
				for _, d := range e.GetRouted().GetDeliveries() {
					journalled[d.GetDeliveryId()] = true
				}
			}
			require.Len(t, journalled, n*len(hooks))
			for d, times := range stored {
				require.Equal(t, 1, times, d)
				require.True(t, journalled[d], d)
			}
		})
	}
}

func TestARedriveWhoseProcessesAreKilledAtEveryStepLosesNoLetterAndCountsExactly(t *testing.T) {
	t.Parallel()
	for _, calls := range []int64{1, 2, 3, 5, 8, 13, 40} {
		t.Run(fmt.Sprintf("after %d calls", calls), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			const n = 9
			w.bury(t, n)
			last, err := w.letters.LastSequence(t.Context())
			require.NoError(t, err)
			w.bury(t, 1) // not selected: it died after the job was created
			id := postrider.NewReplayID()
			_, err = w.store.CreateJob(t.Context(), &recordv1.Job{NextSequence: 1, LastSequence: last, Replay: &postriderv1.Replay{
				Id: string(id), AccountId: string(account), Rate: 10, State: postriderv1.ReplayState_REPLAY_STATE_RUNNING,
				Selection: &postriderv1.Replay_DeadLetters{DeadLetters: &postriderv1.DeadLetterSelection{}},
			}})
			require.NoError(t, err)
			w.kill(t, id, calls)
			job := w.job(t, id)
			require.Equal(t, postriderv1.ReplayState_REPLAY_STATE_SUCCEEDED, job.GetState())
			require.EqualValues(t, n, job.GetDeliveries())
			require.Zero(t, job.GetSkipped())

			records := make(map[string]bool)
			require.NoError(t, retrystream.Walk(t.Context(), w.streams, 0, func(r retrystream.Standing) error {
				progress := r.Retry.GetDelivery().GetProgress()
				require.EqualValues(t, 1, progress.GetSeries())
				require.Zero(t, progress.GetAttempts(), "a fresh schedule")
				records[r.Retry.GetDelivery().GetId()] = true
				return nil
			}))
			require.Len(t, records, n)
			left, err := w.letters.List(t.Context(), account, "", 0, 100)
			require.NoError(t, err)
			require.Len(t, left, 1)
			journalled := make(map[string]bool)
			for _, e := range w.entries(t, 0) {
				require.Equal(t, "redriven", e.GetReleased().GetReason())
				require.EqualValues(t, 1, e.GetSeries())
				journalled[e.GetDeliveryId()] = true
			}
			require.Equal(t, records, journalled)
		})
	}
}

// Of two processes one runs the job; when it falls silent the other takes it over, and the first,
// which still lives, learns that it has lost it and makes nothing more.
func TestAJobIsOneProcessesAtATimeAndIsTakenOverFromOneThatFallsSilent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const n = 12
	last := w.publish(t, n)
	id := postrider.NewReplayID()
	job := &recordv1.Job{NextSequence: 1, LastSequence: last, Holder: "silent", Replay: &postriderv1.Replay{
		Id: string(id), AccountId: string(account), Rate: 40, State: postriderv1.ReplayState_REPLAY_STATE_RUNNING,
		Selection: &postriderv1.Replay_Events{Events: &postriderv1.EventSelection{StartTime: timestamppb.New(time.Now().Add(-time.Hour))}},
	}}
	rev, err := w.store.CreateJob(t.Context(), job)
	require.NoError(t, err)
	const unlimited = 1 << 40
	w.run(t, t.Context(), unlimited)
	w.run(t, t.Context(), unlimited)
	for range 10 { // it is seen to live for longer than a lease, and nobody takes it
		job.Beat++
		rev, err = w.store.UpdateJob(t.Context(), job, rev)
		require.NoError(t, err)
		timer := time.NewTimer(40 * time.Millisecond)
		<-timer.C
	}
	require.Eventually(t, func() bool { return replay.Ended(w.job(t, id)) }, patience, 5*time.Millisecond)
	_, err = w.store.UpdateJob(t.Context(), job, rev)
	require.ErrorIs(t, err, config.ErrConflict, "the silent one has lost it")
	require.EqualValues(t, n*len(hooks), w.job(t, id).GetDeliveries())
	stored := 0
	require.NoError(t, w.deliveries.Scan(t.Context(), 0, func(*recordv1.Delivery) error { stored++; return nil }))
	require.Equal(t, n*len(hooks), stored)
}
