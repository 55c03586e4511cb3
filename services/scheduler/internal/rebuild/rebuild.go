// Package rebuild fills the index from the records, in the background while new retries flow.
// It keeps nothing. Until it is done, what the index lost is late by the grace at most, because
// a record that nobody releases fires by itself.
package rebuild

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/services/scheduler/internal/retryset"
)

// records is all that is needed of RETRIES.
type records interface {
	ScanToFill(ctx context.Context, shard int, fn func(retrystream.Entry) error) error
	Layout() postrider.Layout
}

// index is all that is needed of the index.
type index interface {
	BeginRebuild(ctx context.Context) (*retryset.Rebuild, error)
	Refill(ctx context.Context, r *retryset.Rebuild, entries []retryset.Entry) error
	EndRebuild(ctx context.Context, r *retryset.Rebuild) (retryset.Slots, error)
	AbandonRebuild(ctx context.Context, r *retryset.Rebuild) error
}

// Deps is what a Rebuilder works with.
type Deps struct {
	Records records
	Index   index
	Metrics *Metrics
	Logger  *slog.Logger
	// Look is shown every record that is read, by several goroutines: what changed while no
	// scheduler ran is found by the rebuild at the start.
	Look func(e retrystream.Entry)
	// Refilled is told after each pass that ended, so that what has become due meanwhile is
	// claimed at once. It must not block.
	Refilled func()
}

const (
	// batch is how many entries are added in one round trip.
	batch = 4096
	// callTimeout bounds a call of the index.
	callTimeout = 5 * time.Second
	// maxShards is how many shards are read at once.
	maxShards = 4
	// keepAlive is how often a rebuild shows that it goes on.
	keepAlive = 3 * time.Second
	// pause is the least time between the starts of two passes, so that an index that is lost
	// again and again, or that another replica is rebuilding, does not keep this one busy.
	pause = 250 * time.Millisecond
	// maxPause is how far the pause grows while passes fail.
	maxPause = 10 * time.Second
)

// Rebuilder rebuilds the index when it is told that it is lost.
type Rebuilder struct {
	deps Deps
	lost chan struct{}
}

// New returns a rebuilder. Run runs it.
func New(deps Deps) *Rebuilder {
	return &Rebuilder{deps: deps, lost: make(chan struct{}, 1)}
}

// Lost says that the index lost its contents. It never blocks; saying it again while a pass
// runs asks for another look afterwards.
func (r *Rebuilder) Lost() {
	select {
	case r.lost <- struct{}{}:
	default:
	}
}

// Run rebuilds on demand until the context ends.
func (r *Rebuilder) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	wait := pause
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.lost:
		}
		if err := r.pass(ctx); err != nil && ctx.Err() == nil {
			r.deps.Metrics.failed(ctx)
			r.deps.Logger.WarnContext(ctx, "retry index not rebuilt yet", "error", err)
			wait = min(2*wait, maxPause)
		} else {
			wait = pause
		}
		timer.Reset(wait)
	}
}

// pass rebuilds the slots that are lost and that no other replica is at.
//
// The slots are locked, and their generation chosen, before the first record is read: a record
// stored after that was, or will be, indexed by whoever stored it, into the slot as it is now.
func (r *Rebuilder) pass(ctx context.Context) error {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	build, err := r.deps.Index.BeginRebuild(call)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if build.Slots == 0 {
		return nil
	}
	begun := time.Now()
	r.deps.Metrics.begin(ctx)
	r.deps.Logger.InfoContext(ctx, "rebuilding the retry index", "slots", build.Slots.Count())
	n, err := r.fill(ctx, build)
	if err == nil {
		err = r.end(ctx, build)
	} else {
		r.abandon(ctx, build)
	}
	r.deps.Metrics.end(ctx, time.Since(begun), err)
	if err != nil {
		return err
	}
	r.deps.Refilled()
	r.deps.Logger.InfoContext(ctx, "retry index rebuilt", "retries", n, "took", time.Since(begun))
	return nil
}

// fill reads the records and adds them, both at once.
func (r *Rebuilder) fill(ctx context.Context, build *retryset.Rebuild) (int64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	full := make(chan []retryset.Entry, 2)
	added := make(chan error, 1)
	go func() {
		err := r.add(ctx, build, full)
		cancel(err) // stops the reader, if it is not the reader that ended
		added <- err
	}()

	n, read := r.read(ctx, build, full)
	close(full)
	return n, errors.Join(<-added, read)
}

// read sends every record of the build that waits for a due time, several shards at once.
func (r *Rebuilder) read(ctx context.Context, build *retryset.Rebuild, full chan<- []retryset.Entry) (int64, error) {
	var n atomic.Int64
	var readers sync.WaitGroup
	slots := make(chan struct{}, maxShards)
	errs := make([]error, r.deps.Records.Layout().Streams)
	for shard := range errs {
		slots <- struct{}{}
		readers.Go(func() {
			defer func() { <-slots }()
			errs[shard] = r.readShard(ctx, shard, build, func(entries []retryset.Entry) error {
				select {
				case full <- entries:
					r.deps.Metrics.progress(ctx, n.Add(int64(len(entries))))
					return nil
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			})
		})
	}
	readers.Wait()
	return n.Load(), errors.Join(errs...)
}

// readShard sends the records of one shard.
func (r *Rebuilder) readShard(ctx context.Context, shard int, build *retryset.Rebuild, send func([]retryset.Entry) error) error {
	entries := make([]retryset.Entry, 0, batch)
	err := r.deps.Records.ScanToFill(ctx, shard, func(e retrystream.Entry) error {
		r.deps.Look(e)
		entry := retryset.Entry{Member: retryset.Member{Shard: shard, Sequence: e.Sequence}, Due: e.Due.Add(retryset.Tick)}
		if e.Kind == recordv1.RetryKind_RETRY_KIND_HELD || !build.Covers(entry.Member) {
			return nil // waits for its webhook, not for a time; or another replica's to fill
		}
		entries = append(entries, entry)
		if len(entries) < batch {
			return nil
		}
		full := entries
		entries = make([]retryset.Entry, 0, batch)
		return send(full)
	})
	if err == nil {
		err = send(entries)
	}
	if err != nil {
		return fmt.Errorf("read the records of shard %d: %w", shard, err)
	}
	return nil
}

// add adds what the reader sends until it ends. While it sends nothing, because it reads records
// that need no index, the rebuild is kept alive.
func (r *Rebuilder) add(ctx context.Context, build *retryset.Rebuild, full <-chan []retryset.Entry) error {
	alive := time.NewTicker(keepAlive)
	defer alive.Stop()
	for {
		var entries []retryset.Entry
		select {
		case list, more := <-full:
			if !more {
				return nil
			}
			entries = list
		case <-alive.C:
		}
		if err := r.refill(ctx, build, entries); err != nil {
			return err
		}
	}
}

func (r *Rebuilder) refill(ctx context.Context, build *retryset.Rebuild, entries []retryset.Entry) error {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return r.deps.Index.Refill(call, build, entries)
}

func (r *Rebuilder) end(ctx context.Context, build *retryset.Rebuild) error {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	left, err := r.deps.Index.EndRebuild(call, build)
	if err != nil {
		return fmt.Errorf("end: %w", err)
	}
	if left != 0 {
		r.Lost()
		return fmt.Errorf("%d of %d slots: %w", left.Count(), build.Slots.Count(), retryset.ErrEpochLost)
	}
	return nil
}

// abandon frees the slots for the next pass, also when this process is stopped.
func (r *Rebuilder) abandon(ctx context.Context, build *retryset.Rebuild) {
	r.Lost()
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := r.deps.Index.AbandonRebuild(call, build); err != nil {
		r.deps.Logger.DebugContext(ctx, "a rebuild's locks end by themselves", "error", err)
	}
}
