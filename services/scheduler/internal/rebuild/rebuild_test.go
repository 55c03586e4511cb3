package rebuild_test

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

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/pkg/telemetry"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/services/scheduler/internal/rebuild"
	"github.com/postrider/postrider/services/scheduler/internal/retryset"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// list is RETRIES with one shard whose records come slowly.
type list struct {
	entries []retrystream.Entry
	every   time.Duration
	fails   int
}

var errRead = errors.New("the stream did not answer")

func (l *list) Layout() postrider.Layout { return postrider.Layout{Shards: 1, Streams: 1} }

func (l *list) ScanToFill(ctx context.Context, _ int, fn func(retrystream.Entry) error) error {
	if l.fails > 0 {
		l.fails--
		return errRead
	}
	for _, e := range l.entries {
		select {
		case <-time.After(l.every):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

// watched is an index that notes when it was refilled.
type watched struct {
	*retryset.Memory

	mu      sync.Mutex
	refills []time.Time
}

func (w *watched) Refill(ctx context.Context, r *retryset.Rebuild, entries []retryset.Entry) error {
	w.mu.Lock()
	w.refills = append(w.refills, time.Now())
	w.mu.Unlock()
	return w.Memory.Refill(ctx, r, entries)
}

// start runs a rebuilder in a bubble and returns how to stop it.
func start(t *testing.T, records *list, index *watched) (r *rebuild.Rebuilder, whole chan struct{}, stop func()) {
	t.Helper()
	metrics, err := rebuild.NewMetrics(telemetry.Noop().Meter("test"))
	require.NoError(t, err)
	whole = make(chan struct{}, 10)
	r = rebuild.New(rebuild.Deps{
		Records: records, Index: index, Metrics: metrics, Logger: slog.New(slog.DiscardHandler),
		Look: func(retrystream.Entry) {}, Refilled: func() { whole <- struct{}{} },
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = r.Run(ctx)
	}()
	return r, whole, func() {
		cancel()
		<-ended
	}
}

func TestARebuildThatReadsForLongShowsThatItGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// A minute of held records, of which none is indexed.
		records := &list{every: time.Second}
		for seq := range uint64(60) {
			records.entries = append(records.entries, retrystream.Entry{Sequence: seq, Kind: recordv1.RetryKind_RETRY_KIND_HELD})
		}
		index := &watched{Memory: retryset.NewMemory()}
		begun := time.Now()
		r, whole, stop := start(t, records, index)
		defer stop()
		r.Lost()
		<-whole
		last := begun
		for _, at := range append(index.refills, time.Now()) {
			require.LessOrEqual(t, at.Sub(last), 5*time.Second)
			last = at
		}
		n, err := index.Count(t.Context())
		require.NoError(t, err)
		require.Zero(t, n)
	})
}

func TestARebuildThatFailsIsRepeatedMoreAndMoreSlowly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		records := &list{fails: 4, entries: []retrystream.Entry{{Sequence: 1, Kind: recordv1.RetryKind_RETRY_KIND_WAITING, Due: time.Now()}}}
		index := &watched{Memory: retryset.NewMemory()}
		begun := time.Now()
		r, whole, stop := start(t, records, index)
		defer stop()
		r.Lost()
		<-whole
		// 0.5 + 1 + 2 + 4 seconds.
		require.Equal(t, 7500*time.Millisecond, time.Since(begun))
		n, err := index.Count(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 1, n)
	})
}

func TestARebuildIsStoppedAtOnceAndLeavesTheIndexToTheNextOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		records := &list{every: time.Hour, entries: []retrystream.Entry{{Sequence: 1}}}
		index := &watched{Memory: retryset.NewMemory()}
		r, _, stop := start(t, records, index)
		r.Lost()
		synctest.Wait()
		begun := time.Now()
		stop()
		require.Zero(t, time.Since(begun))
		build, err := index.BeginRebuild(t.Context())
		require.NoError(t, err)
		require.NotZero(t, build.Slots)
	})
}

func TestAWholeIndexIsNotRebuilt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		index := &watched{Memory: retryset.NewMemory()}
		r, whole, stop := start(t, &list{}, index)
		defer stop()
		r.Lost()
		<-whole
		r.Lost()
		time.Sleep(time.Minute) //nolint:forbidigo // a bubble's clock
		synctest.Wait()
		require.Empty(t, whole)
	})
}
