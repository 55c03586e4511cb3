package scheduler_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/services/scheduler"
	"github.com/postrider/postrider/services/scheduler/internal/retryset"
)

// flaky is an index whose calls fail while it is away, and whose refills fail a number of times.
type flaky struct {
	scheduler.Index

	away    atomic.Bool
	refills atomic.Int64
}

var errAway = errors.New("the index is away")

func (f *flaky) Add(ctx context.Context, list ...retryset.Entry) error {
	if f.away.Load() {
		return errAway
	}
	return f.Index.Add(ctx, list...)
}

func (f *flaky) Claim(ctx context.Context, now time.Time, lease time.Duration, limit int) (retryset.Claimed, error) {
	if f.away.Load() {
		return retryset.Claimed{}, errAway
	}
	return f.Index.Claim(ctx, now, lease, limit)
}

func (f *flaky) BeginRebuild(ctx context.Context) (*retryset.Rebuild, error) {
	if f.away.Load() {
		return nil, errAway
	}
	return f.Index.BeginRebuild(ctx)
}

func (f *flaky) Refill(ctx context.Context, r *retryset.Rebuild, list []retryset.Entry) error {
	if f.refills.Add(-1) >= 0 {
		return errAway
	}
	return f.Index.Refill(ctx, r, list)
}

func TestRetriesStoredWhileTheIndexIsAwayAreReleasedWhenItIsBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	index := &flaky{Index: scheduler.NewMemoryIndex()}
	client := w.start(quick(), index)
	hook := w.webhook()
	before := hook.retries(10, waiting, time.Now())
	w.schedule(client, before...)
	w.await(len(before))

	index.away.Store(true)
	during := hook.retries(300, waiting, time.Now())
	w.schedule(client, during...) // is answered with STORED for each
	require.Len(t, hook.records(), len(during))
	index.away.Store(false)
	w.await(len(before) + len(during))
	require.ElementsMatch(t, append(deliveries(before), deliveries(during)...), dueIDs(w.got()))
}

func TestARebuildThatFailsIsRepeated(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	hook := w.webhook()
	retries := hook.retries(50, waiting, time.Now())
	w.put(retries...)
	index := &flaky{Index: scheduler.NewMemoryIndex()}
	index.refills.Store(2)
	w.start(quick(), index)
	w.await(len(retries))
	require.ElementsMatch(t, deliveries(retries), dueIDs(w.got()))
}

func TestTheSweepPutsBackWhatTheIndexLostInPart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	index := scheduler.NewMemoryIndex()
	cfg := quick()
	cfg.SweepInterval = 100 * time.Millisecond
	client := w.start(cfg, index)
	hook := w.webhook()
	retries := hook.retries(40, waiting, time.Now().Add(time.Hour))
	overdue := hook.retries(10, waiting, time.Now().Add(-time.Hour))
	results := w.schedule(client, retries...)
	members := make([]retryset.Member, len(results))
	for i, r := range results {
		members[i] = retryset.Member{Shard: hook.shard(), Sequence: r.GetSequence()}
	}
	require.NoError(t, index.Drop(t.Context(), members[:25]...))
	w.put(overdue...) // as a dispatcher does that found no scheduler
	require.ElementsMatch(t, deliveries(overdue), dueIDs(w.await(len(overdue))))
	w.eventually(func() bool {
		missing, err := index.Missing(t.Context(), members)
		return err == nil && len(missing) == 0
	}, "every record is indexed")
}

func TestHeldRecordsAreNotIndexed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	hook := w.webhook()
	hook.pause()
	w.put(hook.retries(10, held, time.Now().Add(time.Hour))...)
	index := scheduler.NewMemoryIndex()
	client := w.start(quick(), index)
	w.schedule(client, hook.retries(10, held, time.Now().Add(time.Hour))...)
	n, err := index.Count(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
	require.Equal(t, 20, hook.kinds()[held])
}

func TestANATSServerThatRestartsLosesNoRetry(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	client := w.start(quick(), scheduler.NewMemoryIndex())
	hook := w.webhook()
	var retries []*recordv1.Retry
	begin := time.Now()
	for i := range 400 {
		retries = append(retries, hook.retry(waiting, begin.Add(time.Duration(i)*10*time.Millisecond)))
	}
	w.schedule(client, retries...)
	w.await(50)
	w.server.Restart(t)
	w.await(len(retries))
	w.eventually(func() bool { return len(hook.records()) == 0 }, "no record is left")
	// A release whose acknowledgement was lost is found to have happened, so each is due once. The
	// dispatcher may get one twice: its acknowledgements are not confirmed.
	ids := dueIDs(w.got())
	slices.Sort(ids)
	want := deliveries(retries)
	slices.Sort(want)
	require.Equal(t, want, slices.Compact(ids))
}
