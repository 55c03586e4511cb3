package settle_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"

	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/pkg/telemetry"
	"github.com/postrider/postrider/services/dispatcher/internal/meters"
	"github.com/postrider/postrider/services/dispatcher/internal/settle"
	"github.com/postrider/postrider/test/fixture/logtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errAway = errors.New("away")

// stores is the journal, RETRIES, DEADLETTERS and the scheduler in one: it notes in what order
// things are stored, and fails as often as it is told to.
type stores struct {
	mu      sync.Mutex
	order   []string
	batches []int
	fail    map[string]int                                   // failures left by store
	verdict func(*recordv1.Retry) schedulerv1.ScheduleStatus // of the scheduler
	put     func(*recordv1.Retry) error                      // of RETRIES
	answer  func(*schedulerv1.ScheduleRetryResponse)         // last word of the scheduler
	hang    chan struct{}                                    // the scheduler does
}

func (s *stores) note(store, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail[store] > 0 {
		s.fail[store]--
		return errAway
	}
	s.order = append(s.order, store+" "+id)
	return nil
}

func (s *stores) refuses() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail["refuse"]--
	return s.fail["refuse"] >= 0
}

func (s *stores) Write(_ context.Context, _ int, e *recordv1.JournalEntry, done func(error)) error {
	if s.refuses() {
		return errAway
	}
	go func() { done(s.note("journal", e.GetDeliveryId())) }()
	return nil
}

type letters struct{ *stores }

func (l letters) Publish(_ context.Context, d *recordv1.DeadLetter, done func(error)) error {
	go func() { done(l.note("letter", d.GetDelivery().GetId())) }()
	return nil
}

func (s *stores) Put(_ context.Context, r *recordv1.Retry, done func(retrystream.Place, error)) error {
	var err error
	if s.put != nil {
		err = s.put(r)
	}
	if err == nil {
		err = s.note("record", r.GetDelivery().GetId())
	}
	go done(retrystream.Place{Sequence: 1}, err)
	return nil
}

func (s *stores) ScheduleRetry(ctx context.Context, in *schedulerv1.ScheduleRetryRequest, _ ...grpc.CallOption) (*schedulerv1.ScheduleRetryResponse, error) {
	if s.hang != nil {
		select {
		case <-s.hang:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail["scheduler"] > 0 {
		s.fail["scheduler"]--
		return nil, errAway
	}
	s.batches = append(s.batches, len(in.GetRetries()))
	res := &schedulerv1.ScheduleRetryResponse{}
	for _, r := range in.GetRetries() {
		status := schedulerv1.ScheduleStatus_SCHEDULE_STATUS_STORED
		if s.verdict != nil {
			status = s.verdict(r)
		}
		if status == schedulerv1.ScheduleStatus_SCHEDULE_STATUS_STORED {
			s.order = append(s.order, "scheduled "+r.GetDelivery().GetId())
		}
		res.Results = append(res.Results, &schedulerv1.ScheduleResult{Status: status})
	}
	if s.answer != nil {
		s.answer(res)
	}
	return res, nil
}

type bench struct {
	*stores
	*settle.Settler
}

func setup(t *testing.T, s *stores) *bench {
	t.Helper()
	if s.fail == nil {
		s.fail = map[string]int{}
	}
	m, err := meters.New(telemetry.Noop().Meter(""))
	require.NoError(t, err)
	settler := settle.New(settle.Deps{
		Journal: s, Scheduler: s, Records: s, DeadLetters: letters{s}, Meters: m, Logger: logtest.New(t),
	})
	settler.Start()
	t.Cleanup(settler.Close)
	return &bench{s, settler}
}

func (b *bench) settle(id string, retry, dead bool) {
	d := &recordv1.Delivery{Id: id}
	st := settle.Settlement{Entry: &recordv1.JournalEntry{DeliveryId: id}}
	if retry {
		st.Retry = &recordv1.Retry{Delivery: d}
	}
	if dead {
		st.Dead = &recordv1.DeadLetter{Delivery: d}
	}
	st.Done = func() { _ = b.note("done", id) }
	b.Settle(st)
}

func (b *bench) drain(t *testing.T) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, b.Drain(ctx))
	require.Zero(t, b.Storing())
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.order)
}

func TestTheJournalComesFirstAndTheAcknowledgementLast(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		retry, dead bool
		want        []string
	}{
		"a delivered delivery": {false, false, []string{"journal a", "done a"}},
		"a retry":              {true, false, []string{"journal a", "scheduled a", "done a"}},
		"a dead letter":        {false, true, []string{"journal a", "letter a", "done a"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, &stores{})
			b.settle("a", test.retry, test.dead)
			require.Equal(t, test.want, b.drain(t))
		})
	}
}

func TestStoresThatAreAwayAreTriedUntilTheyAreBack(t *testing.T) {
	t.Parallel()
	b := setup(t, &stores{fail: map[string]int{"refuse": 2, "journal": 2, "letter": 2, "record": 2, "scheduler": 1}})
	b.settle("a", false, true)
	require.Equal(t, []string{"journal a", "letter a", "done a"}, b.drain(t))
	b.settle("b", true, false)
	got := b.drain(t)[3:]
	require.Equal(t, "journal b", got[0])
	require.Equal(t, "done b", got[len(got)-1])
	require.Len(t, got, 3, "stored once, by the one or the other")
}

func TestTheDispatcherStoresWhatTheSchedulerDoesNot(t *testing.T) {
	t.Parallel()
	t.Run("because it is away", func(t *testing.T) {
		t.Parallel()
		const each = 2 // one for each, as a worker may ask before another has learned that it is away
		b := setup(t, &stores{fail: map[string]int{"scheduler": each}})
		b.settle("a", true, false)
		b.settle("b", true, false)
		got := b.drain(t)
		require.Contains(t, got, "record a")
		require.Contains(t, got, "record b")
	})
	t.Run("because it failed for some", func(t *testing.T) {
		t.Parallel()
		b := setup(t, &stores{verdict: func(r *recordv1.Retry) schedulerv1.ScheduleStatus {
			switch r.GetDelivery().GetId() {
			case "a":
				return schedulerv1.ScheduleStatus_SCHEDULE_STATUS_FAILED
			case "b":
				return schedulerv1.ScheduleStatus_SCHEDULE_STATUS_SUPERSEDED
			case "c":
				return schedulerv1.ScheduleStatus_SCHEDULE_STATUS_UNSPECIFIED
			}
			return schedulerv1.ScheduleStatus_SCHEDULE_STATUS_STORED
		}})
		for _, id := range []string{"a", "b", "c", "d"} {
			b.settle(id, true, false)
		}
		got := b.drain(t)
		require.Contains(t, got, "record a")
		require.NotContains(t, got, "record b")
		require.Contains(t, got, "record c")
		require.NotContains(t, got, "record d")
		require.Contains(t, got, "scheduled d")
	})
	t.Run("because it answered for too few", func(t *testing.T) {
		t.Parallel()
		b := setup(t, &stores{answer: func(r *schedulerv1.ScheduleRetryResponse) { r.Results = nil }})
		b.settle("a", true, false)
		require.Contains(t, b.drain(t), "record a")
	})
	t.Run("because it hangs", func(t *testing.T) {
		t.Parallel()
		b := setup(t, &stores{hang: make(chan struct{})})
		b.settle("a", true, false)
		require.Contains(t, b.drain(t), "record a")
		b.settle("b", true, false)
		require.Contains(t, b.drain(t), "record b")
	})
}

func TestARecordThatStandsAlreadyIsStored(t *testing.T) {
	t.Parallel()
	b := setup(t, &stores{
		fail: map[string]int{"scheduler": 1},
		put: func(*recordv1.Retry) error {
			return &retrystream.SupersededError{Standing: retrystream.Record{Sequence: 7}}
		},
	})
	b.settle("a", true, false)
	require.Equal(t, []string{"journal a", "done a"}, b.drain(t))
}

func TestRecordsGoInBatches(t *testing.T) {
	t.Parallel()
	s := &stores{hang: make(chan struct{})}
	b := setup(t, s)
	for range 2000 {
		b.settle("a", true, false)
	}
	close(s.hang)
	b.drain(t)
	require.Less(t, len(b.batches), 200)
	require.LessOrEqual(t, slices.Max(b.batches), 256)
}

func TestBatchesAreBoundedInBytes(t *testing.T) {
	t.Parallel()
	s := &stores{hang: make(chan struct{})}
	b := setup(t, s)
	big := &recordv1.Retry{Delivery: &recordv1.Delivery{Id: "a", Data: make([]byte, 1<<20)}}
	for range 20 {
		b.Settle(settle.Settlement{Retry: big, Done: func() {}})
	}
	close(s.hang)
	b.drain(t)
	require.LessOrEqual(t, slices.Max(b.batches)*proto.Size(big), 4<<20)
}

func TestWhatIsNotStoredInTimeIsReported(t *testing.T) {
	t.Parallel()
	b := setup(t, &stores{fail: map[string]int{"journal": 1 << 30}})
	b.settle("a", false, false)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, b.Drain(ctx), context.DeadlineExceeded)
	require.Equal(t, 1, b.Storing())
	b.Close()
}
