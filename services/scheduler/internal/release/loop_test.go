package release_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/pkg/telemetry"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/services/scheduler/internal/release"
	"github.com/postrider/postrider/services/scheduler/internal/retryset"
	"github.com/postrider/postrider/services/scheduler/internal/webhooks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shelf is RETRIES in its simplest form: records by sequence, released once.
type shelf struct {
	mu       sync.Mutex
	records  map[uint64]time.Time
	released map[uint64]time.Time
	away     bool
}

var errAway = errors.New("the stream did not answer")

func (s *shelf) Layout() postrider.Layout { return postrider.Layout{Shards: 1, Streams: 1} }

func (s *shelf) GetAll(_ context.Context, _ int, sequences []uint64) ([]*retrystream.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return nil, errAway
	}
	found := make([]*retrystream.Record, len(sequences))
	for i, seq := range sequences {
		if due, ok := s.records[seq]; ok {
			found[i] = &retrystream.Record{Sequence: seq, Retry: &recordv1.Retry{DueTime: timestamppb.New(due)}}
		}
	}
	return found, nil
}

func (s *shelf) Release(_ context.Context, r retrystream.Record, done func(error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.records[r.Sequence]; !ok {
		done(retrystream.ErrGone)
		return nil
	}
	delete(s.records, r.Sequence)
	s.released[r.Sequence] = time.Now()
	done(nil)
	return nil
}

func (s *shelf) set(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

// counted is an index that counts claims, and is away at will.
type counted struct {
	*retryset.Memory

	mu     sync.Mutex
	claims int
	away   bool
}

func (c *counted) Claim(ctx context.Context, now time.Time, lease time.Duration, limit int) (retryset.Claimed, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.claims++
	if c.away {
		return retryset.Claimed{}, errAway
	}
	return c.Memory.Claim(ctx, now, lease, limit)
}

func (c *counted) set(away bool) (claims int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away = away
	claims, c.claims = c.claims, 0
	return claims
}

// bundle is a loop in a bubble.
type bundle struct {
	t     *testing.T
	shelf *shelf
	index *counted
	loop  *release.Loop
	lost  int
	next  uint64
}

func run(t *testing.T, test func(t *testing.T, b *bundle)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		metrics, err := release.NewMetrics(telemetry.Noop().Meter("test"))
		require.NoError(t, err)
		b := &bundle{
			t: t, index: &counted{Memory: retryset.NewMemory()},
			shelf: &shelf{records: make(map[uint64]time.Time), released: make(map[uint64]time.Time)},
		}
		r, err := b.index.BeginRebuild(t.Context())
		require.NoError(t, err)
		_, err = b.index.EndRebuild(t.Context(), r)
		require.NoError(t, err)
		b.loop = release.New(release.Config{Lease: 10 * time.Second, Poll: 100 * time.Millisecond, MaxInFlight: 256, Readers: 2}, release.Deps{
			Index: b.index, Records: b.shelf, Registry: webhooks.NewRegistry(func(webhooks.Webhook) {}),
			Lost: func() { b.lost++ }, Metrics: metrics, Logger: slog.New(slog.DiscardHandler), Now: time.Now,
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = b.loop.Run(ctx)
		}()
		synctest.Wait()
		test(t, b)
		cancel()
		<-ended
	})
}

// add stores and indexes a record as another replica does: the loop is not told.
func (b *bundle) add(after time.Duration) uint64 {
	b.t.Helper()
	b.next++
	due := time.Now().Add(after)
	b.shelf.mu.Lock()
	b.shelf.records[b.next] = due
	b.shelf.mu.Unlock()
	require.NoError(b.t, b.index.Add(b.t.Context(), retryset.Entry{Member: retryset.Member{Sequence: b.next}, Due: due}))
	return b.next
}

// pass lets time pass.
func (b *bundle) pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // a bubble's clock
	synctest.Wait()
}

func (b *bundle) late(seq uint64, due time.Time) time.Duration {
	b.t.Helper()
	b.shelf.mu.Lock()
	defer b.shelf.mu.Unlock()
	at, ok := b.shelf.released[seq]
	require.True(b.t, ok, "%d is not released", seq)
	return at.Sub(due)
}

func TestLoopReleasesAtTheDueTime(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, b *bundle) {
		t.Helper()
		due := time.Now().Add(1234567 * time.Microsecond)
		seq := b.add(1234567 * time.Microsecond)
		b.pass(2 * time.Second)
		late := b.late(seq, due)
		require.GreaterOrEqual(t, late, time.Duration(0))
		require.LessOrEqual(t, late, 2*time.Millisecond, "the loop sleeps until the next due time")
	})
}

func TestLoopSleepsWhileNothingIsDue(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, b *bundle) {
		t.Helper()
		b.add(time.Hour)
		b.index.set(false)
		b.pass(10 * time.Second)
		require.LessOrEqual(t, b.index.set(false), 101)
	})
}

func TestLoopIsWokenForWhatThisProcessIndexed(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, b *bundle) {
		t.Helper()
		b.pass(time.Millisecond)
		due := time.Now().Add(10 * time.Millisecond)
		seq := b.add(10 * time.Millisecond)
		b.loop.Wake(due)
		b.pass(time.Second)
		require.LessOrEqual(t, b.late(seq, due), 2*time.Millisecond)

		due = time.Now().Add(10 * time.Millisecond)
		seq = b.add(10 * time.Millisecond) // by another replica
		b.pass(time.Second)
		require.LessOrEqual(t, b.late(seq, due), 102*time.Millisecond)
	})
}

func TestLoopTakesABurstInTurns(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, b *bundle) {
		t.Helper()
		for range 5000 {
			b.add(time.Second)
		}
		b.pass(1010 * time.Millisecond)
		b.shelf.mu.Lock()
		defer b.shelf.mu.Unlock()
		require.Len(t, b.shelf.released, 5000)
		n, err := b.index.Count(t.Context())
		require.NoError(t, err)
		require.Zero(t, n)
	})
}

func TestLoopTriesAgainWhatTheStreamDidNotTake(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, b *bundle) {
		t.Helper()
		b.shelf.set(true)
		due := time.Now()
		seq := b.add(0)
		b.pass(5 * time.Second)
		b.shelf.set(false)
		b.pass(2 * time.Second)
		require.LessOrEqual(t, b.late(seq, due), 6100*time.Millisecond, "within a second of its return, not at the end of a lease")
	})
}

func TestLoopTurnsToAnIndexThatIsAwayMoreAndMoreSlowly(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, b *bundle) {
		t.Helper()
		b.index.set(true)
		b.pass(time.Minute)
		require.LessOrEqual(t, b.index.set(false), 40)
		due := time.Now()
		seq := b.add(0)
		b.pass(3 * time.Second)
		require.LessOrEqual(t, b.late(seq, due), 2100*time.Millisecond)
		require.Zero(t, b.lost)
	})
}

func TestLoopTellsThatTheIndexLostItsContents(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, b *bundle) {
		t.Helper()
		b.index.Distrust(retryset.Member{})
		seq := b.add(0)
		b.pass(time.Second)
		require.NotZero(t, b.lost)
		b.late(seq, time.Now())
	})
}

func TestLoopPutsOffMembersOfShardsThatItDoesNotKnowYet(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, b *bundle) {
		t.Helper()
		require.NoError(t, b.index.Add(t.Context(), retryset.Entry{Member: retryset.Member{Shard: 7, Sequence: 1}, Due: time.Now()}))
		b.pass(time.Second)
		n, err := b.index.Count(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 1, n)
	})
}
