// Package reshard empties the shards that webhooks have left, after the number of shards was changed: it
// releases every record that stands where its webhook is not at home any more, whenever it is due, and the
// dispatcher that meets it puts it on its home. What waits for a first attempt moves without it. When
// nothing is left it says so to the topology. It keeps nothing.
package reshard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/services/scheduler/internal/retryset"
)

// records is all that is needed of RETRIES.
type records interface {
	Layout() postrider.Layout
	ScanIndex(ctx context.Context, shard int, fn func(retrystream.Entry) error) error
	GetAll(ctx context.Context, shard int, sequences []uint64) ([]*retrystream.Record, error)
	Move(ctx context.Context, r retrystream.Record, done func(error)) error
}

// topology is all that is needed of the topology.
type topology interface {
	Settle(ctx context.Context, looked postrider.Layout) error
}

// index is all that is needed of the index.
type index interface {
	Drop(ctx context.Context, members ...retryset.Member) error
	TryLock(ctx context.Context, name string, ttl time.Duration) (lock retryset.Lock, ok bool, err error)
}

// Deps is what a Mover works with.
type Deps struct {
	Records  records
	Topology topology
	Index    index
	// Astray is how many deliveries and due deliveries of a shard have another home.
	Astray func(ctx context.Context, shard int, l postrider.Layout) (uint64, error)
	Logger *slog.Logger
}

const (
	// lookEvery is how often the layout is looked at, and the least time between two passes.
	lookEvery = 2 * time.Second
	// lockFor keeps other replicas off while one moves. Nothing rests on it: of two that move a record,
	// one succeeds.
	lockFor = time.Minute
	// chunk is how many records are read and released together.
	chunk = 256
	// callTimeout bounds a call of the index.
	callTimeout = 5 * time.Second
	// quiet is how many passes in a row have to find nothing: a process that has not learned of the
	// change yet may still put something where it does not belong.
	quiet = 2
)

// Mover is one replica's.
type Mover struct{ deps Deps }

// New returns a mover. Run runs it.
func New(deps Deps) *Mover { return &Mover{deps: deps} }

// Run moves after each change, until ctx ends.
func (m *Mover) Run(ctx context.Context) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	var looked postrider.Layout
	empty := 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		layout := m.deps.Records.Layout()
		if layout != looked {
			looked, empty = layout, 0
		}
		if layout.Before == 0 {
			continue
		}
		left, ok, err := m.turn(ctx, layout)
		switch {
		case err != nil && ctx.Err() == nil:
			m.deps.Logger.WarnContext(ctx, "shards that webhooks have left are not empty yet", slog.Any("error", err))
			empty = 0
		case !ok: // another replica is at it
		case left > 0:
			empty = 0
		default:
			empty++
		}
		if empty >= quiet {
			if err := m.deps.Topology.Settle(ctx, layout); err != nil && ctx.Err() == nil {
				m.deps.Logger.WarnContext(ctx, "the change of the number of shards is not finished yet", slog.Any("error", err))
			}
		}
	}
}

// turn is one pass, unless another replica is at it. Without the index there is no lock, and it is done
// without.
func (m *Mover) turn(ctx context.Context, l postrider.Layout) (left uint64, ok bool, err error) {
	call, end := context.WithTimeout(ctx, callTimeout)
	defer end()
	lock, ok, err := m.deps.Index.TryLock(call, "reshard", lockFor)
	switch {
	case err != nil:
		m.deps.Logger.DebugContext(ctx, "records are moved without a lock", slog.Any("error", err))
	case !ok:
		return 0, false, nil
	default:
		defer func() {
			call, end := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer end()
			_ = lock.Release(call) // it ends by itself
		}()
	}
	left, err = m.pass(ctx, l)
	return left, true, err
}

// pass moves the records that are astray, and counts everything that is.
func (m *Mover) pass(ctx context.Context, l postrider.Layout) (left uint64, err error) {
	for shard := range l.Streams {
		astray, err := m.deps.Astray(ctx, shard, l)
		if err != nil {
			return left, fmt.Errorf("shard %d: %w", shard, err)
		}
		left += astray
		var found []uint64
		flush := func() error {
			err := m.move(ctx, shard, found)
			found = found[:0]
			return err
		}
		err = m.deps.Records.ScanIndex(ctx, shard, func(e retrystream.Entry) error {
			if l.Home(e.Webhook) == shard {
				return nil
			}
			left++
			if found = append(found, e.Sequence); len(found) < chunk {
				return nil
			}
			return flush()
		})
		if err = errors.Join(err, flush()); err != nil {
			return left, fmt.Errorf("shard %d: %w", shard, err)
		}
	}
	return left, nil
}

// move releases records, and drops their members of the index: those of the records that take their
// place are added by whoever stores these.
func (m *Mover) move(ctx context.Context, shard int, sequences []uint64) error {
	if len(sequences) == 0 {
		return nil
	}
	found, err := m.deps.Records.GetAll(ctx, shard, sequences)
	if err != nil {
		return err
	}
	errs := make([]error, len(found))
	members := make([]retryset.Member, 0, len(found))
	var pending sync.WaitGroup
	for i, rec := range found {
		if rec == nil {
			continue // released, replaced or fired meanwhile
		}
		members = append(members, retryset.Member{Shard: shard, Sequence: rec.Sequence})
		pending.Add(1)
		err := m.deps.Records.Move(ctx, *rec, func(err error) {
			if !errors.Is(err, retrystream.ErrGone) {
				errs[i] = err
			}
			pending.Done()
		})
		if err != nil {
			errs[i] = err
			pending.Done()
		}
	}
	pending.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	call, end := context.WithTimeout(ctx, callTimeout)
	defer end()
	if err := m.deps.Index.Drop(call, members...); err != nil {
		m.deps.Logger.DebugContext(ctx, "moved retries stay in the index until they are due", slog.Any("error", err))
	}
	return nil
}
