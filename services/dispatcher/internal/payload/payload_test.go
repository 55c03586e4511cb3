package payload_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/services/dispatcher/internal/payload"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store is EVENTS with an event "evt_<n>" of size bytes at every sequence n below its end.
type store struct {
	end     uint64
	size    int
	gets    atomic.Int64
	finds   atomic.Int64
	blocked chan struct{}
	err     error
}

func (s *store) Get(ctx context.Context, account postrider.AccountID, sequence uint64) (*recordv1.Event, error) {
	s.gets.Add(1)
	if s.blocked != nil {
		select {
		case <-s.blocked:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if s.err != nil {
		return nil, s.err
	}
	if sequence >= s.end {
		return nil, eventstream.ErrNotFound
	}
	if account != "" { // a segment of its own
		return &recordv1.Event{Id: fmt.Sprintf("evt_%d of %s", sequence, account), Data: []byte(account)}, nil
	}
	return &recordv1.Event{Id: fmt.Sprintf("evt_%d", sequence), Data: make([]byte, s.size)}, nil
}

func (s *store) Find(_ context.Context, _ postrider.AccountID, id postrider.EventID) (*recordv1.Event, uint64, error) {
	s.finds.Add(1)
	if id == "evt_moved" {
		return &recordv1.Event{Id: string(id), Data: []byte("moved")}, 5, nil
	}
	return nil, 0, eventstream.ErrNotFound
}

func reference(sequence uint64) *recordv1.Delivery {
	return &recordv1.Delivery{EventId: fmt.Sprintf("evt_%d", sequence), EventSequence: sequence, DataByReference: true}
}

func TestADeliverysOwnDataNeedsNoFetch(t *testing.T) {
	t.Parallel()
	s := &store{}
	data, err := payload.New(s, 1<<20).Data(t.Context(), &recordv1.Delivery{Data: []byte("own")})
	require.NoError(t, err)
	require.Equal(t, "own", string(data))
	require.Zero(t, s.gets.Load())
}

func TestManyDeliveriesOfAnEventCostOneFetch(t *testing.T) {
	t.Parallel()
	s := &store{end: 100, size: 5000, blocked: make(chan struct{})}
	c := payload.New(s, 1<<20)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			data, err := c.Data(t.Context(), reference(7))
			if err != nil || len(data) != 5000 {
				t.Errorf("%d bytes, %v", len(data), err)
			}
		})
	}
	close(s.blocked)
	all.Wait()
	require.Equal(t, int64(1), s.gets.Load())
}

func TestTheCacheIsBounded(t *testing.T) {
	t.Parallel()
	s := &store{end: 1 << 30, size: 1000}
	c := payload.New(s, 16*2*1256) // two payloads in each of its parts
	for _, sequence := range []uint64{16, 32, 16, 48, 16} {
		_, err := c.Data(t.Context(), reference(sequence))
		require.NoError(t, err)
	}
	require.Equal(t, int64(3), s.gets.Load(), "16 was used again and again, so 32 went")
	_, err := c.Data(t.Context(), reference(32))
	require.NoError(t, err)
	require.Equal(t, int64(4), s.gets.Load())
}

func TestAPayloadBeyondTheCacheIsServedAllTheSame(t *testing.T) {
	t.Parallel()
	c := payload.New(&store{end: 10, size: 5000}, 16*100)
	for range 2 {
		data, err := c.Data(t.Context(), reference(3))
		require.NoError(t, err)
		require.Len(t, data, 5000)
	}
}

func TestAPayloadThatIsGoneIsMissing(t *testing.T) {
	t.Parallel()
	s := &store{end: 10}
	c := payload.New(s, 1<<20)
	_, err := c.Data(t.Context(), reference(10))
	require.ErrorIs(t, err, payload.ErrMissing)
	require.Zero(t, s.finds.Load())
	require.ErrorIs(t, c.Embed(t.Context(), reference(10)), payload.ErrMissing)
}

func TestEventsOfTwoSegmentsMayHaveOneSequence(t *testing.T) {
	t.Parallel()
	s := &store{end: 10}
	c := payload.New(s, 1<<20)
	for range 2 {
		for _, account := range []string{"acc_1", "acc_4"} {
			d := reference(3)
			d.AccountId, d.EventId = account, "evt_3 of "+account
			data, err := c.Data(t.Context(), d)
			require.NoError(t, err)
			require.Equal(t, account, string(data))
		}
	}
	require.EqualValues(t, 2, s.gets.Load(), "both are cached")
	require.Zero(t, s.finds.Load())
}

func TestAnEventThatMovedIsFoundByItsID(t *testing.T) {
	t.Parallel()
	c := payload.New(&store{end: 10}, 1<<20)
	moved := &recordv1.Delivery{EventId: "evt_moved", EventSequence: 3, DataByReference: true}
	data, err := c.Data(t.Context(), moved)
	require.NoError(t, err)
	require.Equal(t, "moved", string(data))
	moved.EventId = "evt_lost"
	_, err = c.Data(t.Context(), moved)
	require.ErrorIs(t, err, payload.ErrMissing)
}

func TestAStreamThatIsAwayIsNotAMissingPayload(t *testing.T) {
	t.Parallel()
	away := errors.New("away")
	s := &store{end: 10, err: away}
	c := payload.New(s, 1<<20)
	_, err := c.Data(t.Context(), reference(3))
	require.ErrorIs(t, err, away)
	require.NotErrorIs(t, err, payload.ErrMissing)
	s.err = nil
	_, err = c.Data(t.Context(), reference(3))
	require.NoError(t, err, "errors are not cached")
}

func TestACallerThatGivesUpDoesNotFailTheOthers(t *testing.T) {
	t.Parallel()
	s := &store{end: 10, blocked: make(chan struct{})}
	c := payload.New(s, 1<<20)
	ctx, cancel := context.WithCancel(t.Context())
	var first, second error
	var both sync.WaitGroup
	both.Go(func() { _, first = c.Data(ctx, reference(3)) })
	require.Eventually(t, func() bool { return s.gets.Load() == 1 }, 5*time.Second, time.Millisecond)
	both.Go(func() { _, second = c.Data(t.Context(), reference(3)) })
	cancel()
	require.Eventually(t, func() bool { return s.gets.Load() == 2 }, 5*time.Second, time.Millisecond)
	close(s.blocked)
	both.Wait()
	require.ErrorIs(t, first, context.Canceled)
	require.NoError(t, second)
}

func TestEmbedMakesADeliverySelfContained(t *testing.T) {
	t.Parallel()
	c := payload.New(&store{end: 10, size: 5}, 1<<20)
	d := reference(3)
	require.NoError(t, c.Embed(t.Context(), d))
	require.Len(t, d.GetData(), 5)
	require.False(t, d.GetDataByReference())
	require.NoError(t, c.Embed(t.Context(), d))
}
