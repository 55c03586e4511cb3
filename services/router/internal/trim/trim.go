// Package trim makes room in EVENTS before it is full, so that producers are refused for unfinished
// work only. It removes the oldest events, of those that are routed and that no delivery refers to:
// they would go by their age anyway. It decides nothing else, and keeps nothing.
//
// Why nothing is removed that is needed: a delivery refers to its event from routing on. Events above
// the routers' floor are left alone. A delivery of one below it is in DELIVERIES or moves on to
// RETRIES, whose record is stored before DELIVERIES is acknowledged, so what the first walk misses
// the second meets. Within RETRIES things move to the end only, and the second walk ends when it has
// caught up with the end. While the number of shards changes, deliveries move from shard to shard, and
// nothing is removed. Dead letters, what is held, delayed, replayed or redriven carry their
// payloads and refer to nothing.
package trim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

const (
	// high is the share of its limit at which EVENTS is trimmed, and low what is aimed for then.
	high, low = 0.90, 0.80
	// walkTimeout bounds the search for the oldest reference, which may wait for a pause in RETRIES.
	walkTimeout = time.Minute
	// complainEvery is how often it is said that nothing can be removed.
	complainEvery = 5 * time.Minute
)

// events is all that is needed of EVENTS. *eventstream.Stream is one.
type events interface {
	Usage(ctx context.Context) (eventstream.Usage, error)
	Routed(ctx context.Context) (floor uint64, pending int64, err error)
	Trim(ctx context.Context, below uint64) error
}

// walker gives every delivery that a kind of stream holds to fn, or an error.
type walker func(ctx context.Context, fn func(*recordv1.Delivery)) error

// Deps is what a Trimmer works with.
type Deps struct {
	Events events
	// Deliveries and Retries give every delivery of all shards, in the second case until the walk
	// has caught up with the streams.
	Deliveries, Retries walker
	// Layout is into how many shards deliveries are split, as stored.
	Layout func(ctx context.Context) (postrider.Layout, error)
	Logger *slog.Logger
	Meter  metric.Meter
}

// Trimmer keeps EVENTS below its limit. Any number may run side by side.
type Trimmer struct {
	interval   time.Duration
	deps       Deps
	removed    metric.Int64Counter
	complained time.Time
}

// New returns a trimmer that looks every so often.
func New(interval time.Duration, deps Deps) (*Trimmer, error) {
	removed, err := deps.Meter.Int64Counter("postrider.router.events.trimmed",
		metric.WithDescription("Events that were removed before their age, to make room for new ones."))
	if err != nil {
		return nil, err
	}
	return &Trimmer{interval: interval, deps: deps, removed: removed}, nil
}

// Run looks until ctx ends. Replicas look at different times, so that mostly one does the work.
func (t *Trimmer) Run(ctx context.Context) {
	timer := time.NewTimer(jitter(t.interval))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if err := t.look(ctx); err != nil && ctx.Err() == nil {
			t.deps.Logger.WarnContext(ctx, "EVENTS not trimmed", "error", err)
		}
		timer.Reset(t.interval/2 + jitter(t.interval))
	}
}

func jitter(d time.Duration) time.Duration { return rand.N(d) } //nolint:gosec // no secret

// look trims EVENTS if it is nearly full.
func (t *Trimmer) look(ctx context.Context) error {
	u, err := t.deps.Events.Usage(ctx)
	if err != nil {
		return err
	}
	if u.MaxBytes <= 0 || u.Messages == 0 || float64(u.Bytes) < high*float64(u.MaxBytes) {
		return nil
	}
	oldest, err := t.needed(ctx)
	if err != nil {
		return fmt.Errorf("look for the oldest event that is needed: %w", err)
	}
	// Events are taken to be of one size: if they are not, another look is near.
	surplus := (float64(u.Bytes) - low*float64(u.MaxBytes)) / float64(u.Bytes)
	below := min(oldest, u.FirstSequence+uint64(surplus*float64(u.LastSequence-u.FirstSequence+1))+1)
	if below <= u.FirstSequence {
		t.complain(ctx, u, oldest)
		return nil
	}
	if err := t.deps.Events.Trim(ctx, below); err != nil {
		return err
	}
	t.removed.Add(ctx, int64(below-u.FirstSequence)) //nolint:gosec // far below 1<<63
	t.deps.Logger.InfoContext(ctx, "EVENTS was nearly full: events removed that are finished with",
		"from", u.FirstSequence, "below", below, "bytes", u.Bytes, "max_bytes", u.MaxBytes)
	return nil
}

// needed is the lowest sequence of an event that is not routed or that a delivery refers to.
func (t *Trimmer) needed(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, walkTimeout)
	defer cancel()
	before, err := t.settled(ctx)
	if err != nil {
		return 0, err
	}
	floor, _, err := t.deps.Events.Routed(ctx)
	if err != nil {
		return 0, err
	}
	oldest := floor + 1
	meet := func(d *recordv1.Delivery) {
		if d.GetDataByReference() {
			oldest = min(oldest, d.GetEventSequence())
		}
	}
	// In this order: see the package's comment.
	if err := t.deps.Deliveries(ctx, meet); err != nil {
		return 0, err
	}
	if err := t.deps.Retries(ctx, meet); err != nil {
		return 0, err
	}
	if after, err := t.settled(ctx); err != nil || after != before {
		return 0, errors.Join(err, errUnsettled)
	}
	return oldest, nil
}

// errUnsettled says that deliveries may be on their way from shard to shard, where a walk of one shard
// after the other can miss them.
var errUnsettled = errors.New("the number of shards is being changed")

// settled is into how many shards deliveries are split; an error while that changes.
func (t *Trimmer) settled(ctx context.Context) (postrider.Layout, error) {
	layout, err := t.deps.Layout(ctx)
	if err == nil && layout.Before != 0 {
		err = errUnsettled
	}
	return layout, err
}

func (t *Trimmer) complain(ctx context.Context, u eventstream.Usage, oldest uint64) {
	if time.Since(t.complained) < complainEvery {
		return
	}
	t.complained = time.Now()
	t.deps.Logger.WarnContext(ctx, "EVENTS is nearly full of unfinished work", "error",
		errors.New("its oldest event is not routed, or a delivery still refers to it"), "oldest_needed", oldest, "bytes", u.Bytes, "max_bytes", u.MaxBytes)
}
