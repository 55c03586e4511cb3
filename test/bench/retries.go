package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

const groupRetries = "retries"

// Sizes of the backlogs.
const (
	someRetries = 100_000
	manyRetries = 1_000_000
	atOnce      = 30_000 // that come due at one instant; more than can be released in a second
	atOnceQuick = 15_000
)

// retries measures what waits: how fast it is released, how fast the index is rebuilt, and what memory
// it takes. A short run does without the million.
func (b *bench) retries(ctx context.Context) (rows []Row, err error) {
	err = b.system(ctx, groupRetries, func(s *system) error {
		w, err := b.backlog(ctx, s)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, w.close()) }()
		empty, err := w.footprint(ctx)
		if err != nil {
			return err
		}
		sizes, burst := []int{someRetries, manyRetries}, atOnce
		if b.opts.Repetitions == 1 {
			sizes, burst = sizes[:1], atOnceQuick
		}
		for i, n := range sizes {
			if err := w.wait(ctx, n); err != nil {
				return err
			}
			if i == len(sizes)-1 {
				full, err := w.footprint(ctx)
				if err != nil {
					return err
				}
				rows = append(rows, full.rows(empty, n)...)
			}
			if i == 0 {
				released, err := w.releases(ctx, burst)
				if err != nil {
					return err
				}
				rows = append(rows, released...)
			}
			rebuilt, err := w.rebuilds(ctx, n)
			if err != nil {
				return err
			}
			rows = append(rows, rebuilt)
		}
		return nil
	})
	return rows, err
}

// rows are the memory for one of n that wait.
func (f footprint) rows(empty footprint, n int) []Row {
	each := func(of func(footprint) int64) float64 { return float64(of(f)-of(empty)) / float64(n) }
	of := count(float64(n)) + " waiting retries: "
	return []Row{
		figure(groupRetries, of+"memory of Redis for one", unitBytes, each(func(f footprint) int64 { return f.redis })).atMost(200).noting("used_memory"),
		figure(groupRetries, of+"memory of NATS for one", unitBytes, each(func(f footprint) int64 { return f.nats })).atMost(700).noting("resident, 1 KiB of data on disk"),
		figure(groupRetries, of+"memory of the scheduler for one", unitBytes, each(func(f footprint) int64 { return f.scheduler })).noting("resident"),
	}
}

func (w *backlog) rebuilds(ctx context.Context, n int) (Row, error) {
	var runs []float64
	for i := range w.b.opts.Repetitions {
		took, err := w.rebuild(ctx)
		if err != nil {
			return Row{}, err
		}
		w.b.say("%-20s %d/%d  index of %s rebuilt in %.2f s", groupRetries, i+1, w.b.opts.Repetitions, count(float64(n)), took.Seconds())
		runs = append(runs, took.Seconds())
	}
	row := figure(groupRetries, count(float64(n))+" waiting retries: index rebuilt", unitSecond, runs...).noting("after FLUSHALL under the running scheduler")
	if n == manyRetries {
		row = row.atMost(10)
	}
	return row, nil
}

// releases lets many retries come due at one instant, in turn with dispatchers that deliver them and
// without. What counts is how many are released within a second of their due time.
func (w *backlog) releases(ctx context.Context, burst int) ([]Row, error) {
	var with, without, delivered []float64
	for i := range w.b.opts.Repetitions {
		alone, err := w.withoutDispatcher(ctx, burst)
		if err != nil {
			return nil, err
		}
		all, err := w.release(ctx, burst)
		if err != nil {
			return nil, err
		}
		if err := w.delivered(ctx, all, burst); err != nil {
			return nil, err
		}
		w.b.say("%-20s %d/%d  %s due at one instant: %s released within 1 s, all in %.2f s; %s and %.2f s while they are delivered, which takes %.2f s",
			groupRetries, i+1, w.b.opts.Repetitions, count(float64(burst)), count(float64(alone.inTime())), alone.last().Seconds(),
			count(float64(all.inTime())), all.last().Seconds(), all.arrived.Seconds())
		without, with = append(without, float64(alone.inTime())), append(with, float64(all.inTime()))
		delivered = append(delivered, float64(burst)/all.arrived.Seconds())
	}
	note := fmt.Sprintf("%s due at one instant, %s others wait", count(float64(burst)), count(float64(w.waiting)))
	return []Row{
		figure(groupRetries, "released at most 1 s late, everything runs", unitRate, with...).atLeast(10_000).noting("%s", note),
		figure(groupRetries, "released at most 1 s late, no dispatcher", unitRate, without...).atLeast(10_000).noting("%s", note),
		figure(groupRetries, "retries delivered", unitRate, delivered...).noting("%s", note),
	}, nil
}

// burst is what came of retries that were due at one instant.
type burst struct {
	due     time.Time
	late    []time.Duration // of each release, as it was stored
	arrived time.Duration   // when all had arrived at the receiver
}

func (r *burst) inTime() (n int) {
	for _, d := range r.late {
		if d <= time.Second {
			n++
		}
	}
	return n
}

func (r *burst) last() time.Duration {
	if len(r.late) == 0 {
		return 0
	}
	return slices.Max(r.late)
}

// Times of release.
const (
	releaseLead  = 3 * time.Second // between what is stored last and when it is due
	releaseLimit = 2 * time.Minute
)

// release hands n retries over that are due at one instant soon, and waits until all are released. It
// watches them as they are published: each release is one message that becomes the due delivery.
func (w *backlog) release(ctx context.Context, n int) (_ *burst, err error) {
	if err := w.b.receiver.reset(ctx); err != nil {
		return nil, err
	}
	nc, err := nats.Connect(w.s.nats)
	if err != nil {
		return nil, fmt.Errorf("watch releases: %w", err)
	}
	defer nc.Close()
	var seen atomic.Int64
	at := make([]time.Time, 2*n)
	ours := "." + w.p.account + "."
	sub, err := nc.Subscribe("due.>", func(m *nats.Msg) {
		if i := seen.Add(1); strings.Contains(m.Subject, ours) && int(i) <= len(at) {
			at[i-1] = time.Now()
		}
	})
	if err == nil {
		err = errors.Join(sub.SetPendingLimits(-1, -1), nc.FlushTimeout(time.Second))
	}
	if err != nil {
		return nil, fmt.Errorf("watch releases: %w", err)
	}
	r := &burst{due: time.Now().Add(releaseLead + time.Duration(2*float64(n)/w.perSecond*float64(time.Second)))}
	if err := w.handOver(ctx, n, r.due); err != nil {
		return nil, err
	}
	if time.Now().After(r.due) || seen.Load() > 0 {
		return nil, errors.New("the first was due before all were stored")
	}
	ticker := time.NewTicker(countStep)
	defer ticker.Stop()
	for seen.Load() < int64(n) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-ticker.C:
		}
		if time.Since(r.due) > releaseLimit {
			return nil, fmt.Errorf("%d of %d retries were released in %s", seen.Load(), n, releaseLimit)
		}
	}
	for _, t := range at[:n] {
		r.late = append(r.late, t.Sub(r.due))
	}
	return r, nil
}

// delivered waits until all arrived.
func (w *backlog) delivered(ctx context.Context, r *burst, n int) error {
	if err := w.b.receiver.await(ctx, n); err != nil {
		return err
	}
	arrivals, err := w.b.receiver.arrivals(ctx)
	if err != nil {
		return err
	}
	for _, a := range arrivals {
		r.arrived = max(r.arrived, time.Unix(0, a.at).Sub(r.due))
	}
	_, err = w.s.procs.awaitQuiet(ctx)
	return err
}

// withoutDispatcher is release while no dispatcher runs. Afterwards one delivers what was released.
func (w *backlog) withoutDispatcher(ctx context.Context, n int) (*burst, error) {
	dispatcher := w.s.cluster.Of("dispatcher")[0]
	if err := dispatcher.Stop(stopLimit); err != nil {
		return nil, err
	}
	delete(w.s.procs, dispatcher.Service)
	r, err := w.release(ctx, n)
	if err := errors.Join(err, dispatcher.Start()); err != nil {
		return nil, err
	}
	if err := dispatcher.WaitReady(ctx); err != nil {
		return nil, err
	}
	w.s.procs[dispatcher.Service] = dispatcher.PID()
	return r, w.delivered(ctx, r, n)
}
