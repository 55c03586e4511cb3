// Package reconcile walks the record, the journal, the delivery log and the retry index, and names
// every id that does not balance. It works on a system that runs: what does not balance at first is
// looked at again, and named only if each look finds the same with the same evidence (ADR 0015). It
// owns nothing; a repair fills indexes, and has records made again of what no store holds any more.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/deadletterstream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/logstore"
)

// ErrRecorderBehind says that the log did not catch up with the journal, so that nothing can be
// said of what it lacks.
var ErrRecorderBehind = errors.New("the recorder does not catch up with the journal")

// journal is all that is needed of JOURNAL. *journal.Journal is one.
type journal interface {
	Walk(ctx context.Context, fn func(sequence uint64, entries []*recordv1.JournalEntry) error) error
	Read(ctx context.Context, sequences []uint64) ([]*recordv1.JournalEntry, error)
	Last(ctx context.Context) (uint64, error)
	Recorded(ctx context.Context, durable string) (floor uint64, pending int64, err error)
}

// events is all that is needed of EVENTS. *eventstream.Stream is one.
type events interface {
	Routed(ctx context.Context) (eventstream.Routing, error)
	Walk(ctx context.Context, r eventstream.Routing, fn func(place uint64, ev *recordv1.Event) error) error
	Find(ctx context.Context, account postrider.AccountID, id postrider.EventID) (*recordv1.Event, uint64, error)
}

// letters is all that is needed of DEADLETTERS. *deadletterstream.Stream is one.
type letters interface {
	Walk(ctx context.Context, fn func(deadletterstream.Item) error) error
	MaxAge() time.Duration
}

// deliveryLog is all that is needed of the delivery log. logstore.Store is one.
type deliveryLog interface {
	Delivery(ctx context.Context, account postrider.AccountID, id string) (*logstore.Delivery, error)
	Standings(ctx context.Context, ids []string) (map[string]*logstore.Standing, error)
	Unfinished(ctx context.Context, diedSince time.Time, fn func(*logstore.Standing) error) error
	Events(ctx context.Context, owners map[string]string) (map[string]bool, error)
	Unrecorded(ctx context.Context, entries []*recordv1.JournalEntry) (deliveries, events []logstore.Standing, err error)
	Apply(ctx context.Context, entries []*recordv1.JournalEntry) error
}

// scheduler is all that is needed of the scheduler, which owns the records and their index.
type scheduler interface {
	ScheduleRetry(ctx context.Context, in *schedulerv1.ScheduleRetryRequest, opts ...grpc.CallOption) (*schedulerv1.ScheduleRetryResponse, error)
	CompareIndex(ctx context.Context, in *schedulerv1.CompareIndexRequest, opts ...grpc.CallOption) (*schedulerv1.CompareIndexResponse, error)
}

// Config says how long to wait.
type Config struct {
	// Settle is how long after the first look the last one begins at the earliest: longer than a
	// dead process's messages wait for another.
	Settle time.Duration
	// CatchUp is how long the recorder may take to record what the journal holds.
	CatchUp time.Duration
}

// Default settles for the ack wait and a margin.
func Default() Config {
	return Config{Settle: stream.AckWait + 5*time.Second, CatchUp: 2 * time.Minute}
}

// Deps is what a Reconciler works with.
type Deps struct {
	Streams   *stream.Client
	Events    events
	Journal   journal
	Recorder  func() string // the name of the recorder's consumer
	Letters   letters
	Log       deliveryLog
	Scheduler scheduler
	Now       func() time.Time
}

// Reconciler reconciles.
type Reconciler struct {
	cfg  Config
	deps Deps
}

// New returns a reconciler.
func New(cfg Config, deps Deps) *Reconciler { return &Reconciler{cfg: cfg, deps: deps} }

// Run looks three times, each time only at what did not balance the time before, repairs if asked,
// and tells named of everything that does not balance. It tells progress how far it is, unless that
// is nil. An error of either ends it.
func (r *Reconciler) Run(
	ctx context.Context, repair bool, named func(*postriderv1.Imbalance) error, progress func(*postriderv1.ReconcileProgress) error,
) (*postriderv1.ReconcileSummary, error) {
	run := &run{
		Reconciler: r, summary: &postriderv1.ReconcileSummary{IndexCompared: true}, diedSince: r.diedSince(),
		progress: teller{tell: progress, now: r.deps.Now},
	}
	begun := time.Now()
	suspects, err := run.first(ctx)
	if err != nil {
		return nil, fmt.Errorf("first look: %w", err)
	}
	run.summary.Suspects = int64(len(suspects))
	if suspects, err = run.again(ctx, suspects); err != nil {
		return nil, fmt.Errorf("second look: %w", err)
	}
	if len(suspects) > 0 {
		if err := run.progress.show(settling, 0, int64(len(suspects))); err != nil {
			return nil, err
		}
		if err := wait(ctx, r.cfg.Settle-time.Since(begun)); err != nil {
			return nil, err
		}
		if suspects, err = run.again(ctx, suspects); err != nil {
			return nil, fmt.Errorf("third look: %w", err)
		}
	}
	suspects.explain()
	if repair {
		if err := run.progress.show(repairing, 0, int64(len(suspects))); err != nil {
			return nil, err
		}
		if err := run.repair(ctx, suspects); err != nil {
			return nil, fmt.Errorf("repair: %w", err)
		}
	}
	return run.summary, run.tell(suspects, named)
}

// expiryMargin is how long before its retention ends a dead letter is not missed any more.
const expiryMargin = 10 * time.Minute

// diedSince is when the oldest delivery died whose dead letter must be there still.
func (r *Reconciler) diedSince() time.Time {
	age := r.deps.Letters.MaxAge()
	if age <= 0 {
		return time.Time{}
	}
	return r.deps.Now().Add(expiryMargin - age)
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run is one reconciliation.
type run struct {
	*Reconciler

	summary   *postriderv1.ReconcileSummary
	diedSince time.Time
	progress  teller
}

// look is what the streams showed at one time, and up to where the log knows all about it.
type look struct {
	seen   map[string]*sight
	passed eventstream.Routing // how far it was
	upTo   uint64              // every message of the journal up to it is recorded
	counts [4]int64
}

// look reads the streams and then waits until the log knows what had been journalled by then. The
// order is the argument: what had left the streams when they were read had been journalled before,
// so that the log, read after this, shows its end.
func (r *run) look(ctx context.Context, keep func(delivery string) bool) (*look, error) {
	l := &look{seen: make(map[string]*sight)}
	if err := r.streams(ctx, l, keep); err != nil {
		return nil, err
	}
	var err error
	if l.passed, err = r.deps.Events.Routed(ctx); err != nil {
		return nil, err
	}
	if l.upTo, err = r.deps.Journal.Last(ctx); err != nil {
		return nil, err
	}
	return l, r.recorded(ctx, l.upTo)
}

// recorded waits until the log holds the journal up to a sequence.
func (r *run) recorded(ctx context.Context, upTo uint64) error {
	const pause = 20 * time.Millisecond
	begun := time.Now()
	for {
		floor, _, err := r.deps.Journal.Recorded(ctx, r.deps.Recorder())
		if err != nil {
			return err
		}
		if floor >= upTo {
			return nil
		}
		if err := r.progress.show(recording, int64(floor), int64(upTo)); err != nil { //nolint:gosec // places in a stream
			return err
		}
		if time.Since(begun) > r.cfg.CatchUp {
			return fmt.Errorf("%w: it has recorded up to %d of %d", ErrRecorderBehind, floor, upTo)
		}
		if err := wait(ctx, pause); err != nil {
			return err
		}
	}
}

// tell gives what is left to the caller.
func (r *run) tell(suspects findings, named func(*postriderv1.Imbalance) error) error {
	for _, f := range suspects.sorted() {
		if f.repaired {
			r.summary.Repaired++
		} else {
			r.summary.Imbalances++
		}
		if err := named(f.shown()); err != nil {
			return err
		}
	}
	return nil
}
