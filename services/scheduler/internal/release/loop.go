// Package release makes waiting retries due on time: it claims members of the index, reads
// their records and releases them, with any number of replicas and without a leader. It keeps
// nothing but what it is at work on. What it may lose is punctuality: a member whose release
// does not end comes back when its lease ends, and a record that nobody releases fires by
// itself.
package release

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/services/scheduler/internal/retryset"
	"github.com/postrider/postrider/services/scheduler/internal/webhooks"
)

// index is all that is needed of the index.
type index interface {
	Claim(ctx context.Context, now time.Time, lease time.Duration, limit int) (retryset.Claimed, error)
	Drop(ctx context.Context, members ...retryset.Member) error
	Move(ctx context.Context, entries ...retryset.Entry) error
}

// records is all that is needed of RETRIES.
type records interface {
	GetAll(ctx context.Context, shard int, sequences []uint64) ([]*retrystream.Record, error)
	Release(ctx context.Context, r retrystream.Record, done func(error)) error
	Layout() postrider.Layout
}

// holder holds records of inactive webhooks.
type holder interface {
	HoldRecords(ctx context.Context, w webhooks.Webhook, list []retrystream.Record) (int, error)
}

// canceller ends records of deleted webhooks.
type canceller interface {
	Records(ctx context.Context, list []retrystream.Record, reason string) (int64, error)
}

// Config says how often and how much at once.
type Config struct {
	// Lease is how long a claimed retry is left to the replica that claimed it.
	Lease time.Duration
	// Poll is the longest time between two claims. Another replica's retries that are due
	// sooner than that are late by no more.
	Poll time.Duration
	// MaxInFlight bounds the retries that are claimed and not settled.
	MaxInFlight int
	// Readers is how many groups of records are read at once.
	Readers int
}

// Deps is what a Loop works with.
type Deps struct {
	Index    index
	Records  records
	Hold     holder
	Cancel   canceller
	Registry *webhooks.Registry
	// Lost is told when a claim found that the index lost its contents. It must not block.
	Lost    func()
	Metrics *Metrics
	Logger  *slog.Logger
	Now     func() time.Time
}

const (
	// group is how many records are read in one go.
	group = 128
	// settleBatch is how many outcomes are written to the index in one go.
	settleBatch = 512
	// callTimeout bounds a call of the index.
	callTimeout = 2 * time.Second
	// again is how long a retry rests whose release failed for a passing reason.
	again = time.Second
	// maxPause is the longest pause between claims while the index is away.
	maxPause = 2 * time.Second
)

// Loop claims and releases.
type Loop struct {
	cfg  Config
	deps Deps

	jobs     chan []retryset.Member
	outcomes chan outcome // as large as MaxInFlight, so that no callback ever blocks on it
	freed    chan struct{}
	wake     chan struct{}

	pending  sync.WaitGroup // claimed and not settled
	inFlight atomic.Int64
	planned  atomic.Int64 // Unix milliseconds of the next claim
	failing  atomic.Bool  // whether the last release failed, so that it is logged once
}

// outcome is what became of a claimed member: dropped from the index, or due again.
type outcome struct {
	member retryset.Member
	due    time.Time // zero: drop it
}

// New returns a loop. Run runs it.
func New(cfg Config, deps Deps) *Loop {
	return &Loop{
		cfg:      cfg,
		deps:     deps,
		jobs:     make(chan []retryset.Member),
		outcomes: make(chan outcome, cfg.MaxInFlight),
		freed:    make(chan struct{}, 1),
		wake:     make(chan struct{}, 1),
	}
}

// Wake tells the loop of a retry that this process indexed, so that one that is due before the
// next claim is not late.
func (l *Loop) Wake(due time.Time) {
	if due.UnixMilli() < l.planned.Load() {
		signal(l.wake)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run claims until the context ends, and returns when everything that it claimed is settled.
func (l *Loop) Run(ctx context.Context) error {
	// What is claimed is brought to its end when the loop is stopped: an outcome that is not
	// written down costs the member's lease.
	settling := context.WithoutCancel(ctx)
	var readers, settler sync.WaitGroup
	for range l.cfg.Readers {
		readers.Go(func() {
			for members := range l.jobs {
				l.handle(ctx, members)
			}
		})
	}
	settler.Go(func() { l.settle(settling) })

	l.claim(ctx)

	close(l.jobs)
	readers.Wait()
	l.pending.Wait()
	close(l.outcomes)
	settler.Wait()
	return nil
}

// claim claims what is due, as much as there is room for, and sleeps until more is.
func (l *Loop) claim(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var pause time.Duration
	least := int64(max(l.cfg.MaxInFlight/8, 1))
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-l.wake:
		}
		free := int64(l.cfg.MaxInFlight) - l.inFlight.Load()
		for free < least {
			select {
			case <-ctx.Done():
				return
			case <-l.freed:
			}
			free = int64(l.cfg.MaxInFlight) - l.inFlight.Load()
		}
		l.planned.Store(math.MaxInt64) // what is indexed from here on may be missed by this claim
		got, err := l.claimOnce(ctx, int(free))
		l.hand(ctx, got.Members)

		wait := l.wait(got)
		switch {
		case err == nil:
			pause = 0
		case errors.Is(err, context.Canceled) && ctx.Err() != nil:
			return
		default:
			pause = min(max(2*pause, l.cfg.Poll), maxPause)
			wait = pause
		}
		l.planned.Store(l.deps.Now().Add(wait).UnixMilli())
		timer.Reset(wait)
	}
}

// claimOnce is one claim. The error is nil if only the epoch was lost, which Lost is told.
func (l *Loop) claimOnce(ctx context.Context, limit int) (retryset.Claimed, error) {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	now := l.deps.Now()
	got, err := l.deps.Index.Claim(call, now, l.cfg.Lease, limit)
	l.deps.Metrics.vanished(ctx, got.Vanished)
	if errors.Is(err, retryset.ErrEpochLost) {
		l.deps.Lost()
	}
	if err != nil && !errors.Is(err, retryset.ErrEpochLost) {
		l.deps.Metrics.claimFailed(ctx, err, l.deps.Logger)
		if len(got.Members) == 0 && got.Next.IsZero() {
			return got, err
		}
		return got, nil // a part of the index is away; the rest goes on
	}
	l.deps.Metrics.claimed(ctx, now, got.Next, l.deps.Logger)
	return got, nil
}

// wait is how long to sleep after a claim.
func (l *Loop) wait(got retryset.Claimed) time.Duration {
	if got.Next.IsZero() {
		return l.cfg.Poll
	}
	wait := got.Next.Sub(l.deps.Now())
	if wait <= 0 && len(got.Members) == 0 {
		return l.cfg.Poll // what is due cannot be claimed; looking at once would spin
	}
	return min(max(wait, 0), l.cfg.Poll)
}

// hand gives claimed members to the readers, by shard and in groups.
func (l *Loop) hand(ctx context.Context, members []retryset.Member) {
	l.pending.Add(len(members))
	l.inFlight.Add(int64(len(members)))
	shards := make(map[int][]retryset.Member)
	for _, m := range members {
		shards[m.Shard] = append(shards[m.Shard], m)
		if len(shards[m.Shard]) == group {
			l.give(ctx, shards[m.Shard])
			delete(shards, m.Shard)
		}
	}
	for _, list := range shards {
		l.give(ctx, list)
	}
}

func (l *Loop) give(ctx context.Context, list []retryset.Member) {
	select {
	case l.jobs <- list:
	case <-ctx.Done():
		l.giveBack(list, l.deps.Now())
	}
}

// giveBack makes claimed members due again, or drops them if due is zero.
func (l *Loop) giveBack(list []retryset.Member, due time.Time) {
	for _, m := range list {
		l.outcomes <- outcome{member: m, due: due}
	}
}

// settle writes outcomes to the index, many at a time. An outcome that cannot be written is
// given up: the member comes back when its lease ends, and finds its record gone.
func (l *Loop) settle(ctx context.Context) {
	batch := make([]outcome, 0, settleBatch)
	for first := range l.outcomes {
		batch = l.gather(append(batch[:0], first))
		l.write(ctx, batch)
		l.inFlight.Add(-int64(len(batch)))
		l.pending.Add(-len(batch))
		signal(l.freed)
	}
}

// gather adds the outcomes that are there already.
func (l *Loop) gather(batch []outcome) []outcome {
	for len(batch) < settleBatch {
		select {
		case o, ok := <-l.outcomes:
			if !ok {
				return batch
			}
			batch = append(batch, o)
		default:
			return batch
		}
	}
	return batch
}

func (l *Loop) write(ctx context.Context, batch []outcome) {
	drops := make([]retryset.Member, 0, len(batch))
	var moves []retryset.Entry
	for _, o := range batch {
		if o.due.IsZero() {
			drops = append(drops, o.member)
		} else {
			moves = append(moves, retryset.Entry{Member: o.member, Due: o.due})
		}
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if len(drops) > 0 {
		if err := l.deps.Index.Drop(ctx, drops...); err != nil {
			l.deps.Metrics.unsettled(ctx, len(drops))
		}
	}
	if len(moves) > 0 {
		if err := l.deps.Index.Move(ctx, moves...); err != nil {
			l.deps.Metrics.unsettled(ctx, len(moves))
		}
	}
}
