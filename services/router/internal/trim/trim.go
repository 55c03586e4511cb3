// Package trim makes room in EVENTS before it is full, so that producers are refused for unfinished
// work only. It removes the oldest events, of those that are routed and that no delivery refers to:
// they would go by their age anyway. Each segment is looked at by itself. It decides nothing else, and
// keeps nothing.
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
	"github.com/postrider/postrider/pkg/stream"
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

// walker gives every delivery that a kind of stream holds to fn, or an error.
type walker func(ctx context.Context, fn func(*recordv1.Delivery)) error

// Deps is what a Trimmer works with.
type Deps struct {
	Events *eventstream.Stream
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
	complained map[*eventstream.Segment]time.Time
}

// New returns a trimmer that looks every so often.
func New(interval time.Duration, deps Deps) (*Trimmer, error) {
	removed, err := deps.Meter.Int64Counter("postrider.router.events.trimmed",
		metric.WithDescription("Events that were removed before their age, to make room for new ones."))
	if err != nil {
		return nil, err
	}
	return &Trimmer{interval: interval, deps: deps, removed: removed, complained: make(map[*eventstream.Segment]time.Time)}, nil
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

// full is a segment that is nearly full, with the lowest sequence of an event that is not routed or that
// a delivery refers to.
type full struct {
	usage  eventstream.Usage
	oldest uint64
}

// look trims the segments of EVENTS that are nearly full.
func (t *Trimmer) look(ctx context.Context) error {
	nearly := make(map[*eventstream.Segment]*full)
	for _, seg := range t.deps.Events.Segments() {
		u, err := seg.Usage(ctx)
		if err != nil {
			return err
		}
		if u.MaxBytes > 0 && u.Messages > 0 && float64(u.Bytes) >= high*float64(u.MaxBytes) {
			nearly[seg] = &full{usage: u}
		}
	}
	if len(nearly) == 0 {
		return nil
	}
	if err := t.needed(ctx, nearly); err != nil {
		return fmt.Errorf("look for the oldest event that is needed: %w", err)
	}
	var errs []error
	for seg, f := range nearly {
		errs = append(errs, t.trim(ctx, seg, f))
	}
	return errors.Join(errs...)
}

// trim removes what is not needed of a segment, if it has to.
func (t *Trimmer) trim(ctx context.Context, seg *eventstream.Segment, f *full) error {
	u := f.usage
	// Events are taken to be of one size: if they are not, another look is near.
	surplus := (float64(u.Bytes) - low*float64(u.MaxBytes)) / float64(u.Bytes)
	below := min(f.oldest, u.FirstSequence+uint64(surplus*float64(u.LastSequence-u.FirstSequence+1))+1)
	if below <= u.FirstSequence {
		t.complain(ctx, seg, f)
		return nil
	}
	if err := seg.Trim(ctx, below); err != nil {
		return err
	}
	t.removed.Add(ctx, int64(below-u.FirstSequence)) //nolint:gosec // far below 1<<63
	t.deps.Logger.InfoContext(ctx, "EVENTS was nearly full: events removed that are finished with",
		"stream", seg.Name(), "from", u.FirstSequence, "below", below, "bytes", u.Bytes, "max_bytes", u.MaxBytes)
	return nil
}

// needed finds out what each of the segments needs, by one walk for all of them. A delivery refers into
// the segment of its account.
func (t *Trimmer) needed(ctx context.Context, nearly map[*eventstream.Segment]*full) error {
	ctx, cancel := context.WithTimeout(ctx, walkTimeout)
	defer cancel()
	before, err := t.settled(ctx)
	if err != nil {
		return err
	}
	for seg, f := range nearly {
		floor, _, err := seg.Routed(ctx)
		if err != nil && !errors.Is(err, stream.ErrNotFound) { // one that no router has worked on needs everything
			return err
		}
		f.oldest = floor + 1
	}
	meet := func(d *recordv1.Delivery) {
		if !d.GetDataByReference() {
			return
		}
		if f := nearly[t.deps.Events.Of(postrider.AccountID(d.GetAccountId()))]; f != nil {
			f.oldest = min(f.oldest, d.GetEventSequence())
		}
	}
	// In this order: see the package's comment.
	if err := t.deps.Deliveries(ctx, meet); err != nil {
		return err
	}
	if err := t.deps.Retries(ctx, meet); err != nil {
		return err
	}
	if after, err := t.settled(ctx); err != nil || after != before {
		return errors.Join(err, errUnsettled)
	}
	return nil
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

func (t *Trimmer) complain(ctx context.Context, seg *eventstream.Segment, f *full) {
	if time.Since(t.complained[seg]) < complainEvery {
		return
	}
	t.complained[seg] = time.Now()
	t.deps.Logger.WarnContext(ctx, "EVENTS is nearly full of unfinished work", "error",
		errors.New("its oldest event is not routed, or a delivery still refers to it"),
		"stream", seg.Name(), "oldest_needed", f.oldest, "bytes", f.usage.Bytes, "max_bytes", f.usage.MaxBytes)
}
