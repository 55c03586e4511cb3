// Package recorder feeds the delivery log from the journal. It is never on the path of a
// delivery: while the log store is away, entries wait in the journal and deliveries go on.
package recorder

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/journal"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// Store is all that the recorder needs of a log store. Apply is idempotent and does not depend
// on the order of the entries.
type Store interface {
	Apply(ctx context.Context, entries []*recordv1.JournalEntry) error
}

// Source gives the journal's messages, each until it is acked.
type Source interface {
	Consume(ctx context.Context, handle func(*stream.Msg)) error
}

// Deps is what a recorder works with.
type Deps struct {
	Source Source
	Store  Store
	Logger *slog.Logger
	Meter  metric.Meter
}

// Recorder copies the journal into the store.
type Recorder struct {
	deps    Deps
	queue   chan *stream.Msg
	entries metric.Int64Counter
}

// Bounds of one transaction. A message holds up to 64 entries. The more a transaction holds, the
// less it writes for each: the pages of an index whose keys are random are written once for all.
const (
	maxBatch = 256
	maxBytes = 8 << 20
)

// Pauses after a failed transaction.
const (
	minPause = 100 * time.Millisecond
	maxPause = 5 * time.Second
)

// New returns a recorder that has not started.
func New(deps Deps) (*Recorder, error) {
	entries, err := deps.Meter.Int64Counter("postrider.recorder.entries", metric.WithDescription("Journal entries recorded in the delivery log."))
	if err != nil {
		return nil, err
	}
	return &Recorder{deps: deps, queue: make(chan *stream.Msg, maxBatch), entries: entries}, nil
}

// Run records until ctx ends.
func (r *Recorder) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var pullErr error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		pullErr = r.deps.Source.Consume(ctx, func(m *stream.Msg) {
			select {
			case r.queue <- m:
			case <-ctx.Done():
			}
		})
	}()
	err := r.recordAll(ctx, ended)
	cancel()
	<-ended
	r.giveBack()
	return errors.Join(ignoreCancel(err), ignoreCancel(pullErr))
}

// giveBack returns what was taken and not begun, so that it need not wait for the ack wait to pass
// when this log is recorded again.
func (r *Recorder) giveBack() {
	for {
		select {
		case m := <-r.queue:
			_ = m.Nak(0) // a lost one comes again later
		default:
			return
		}
	}
}

// recordAll records batch after batch until pulling has ended or ctx has.
func (r *Recorder) recordAll(ctx context.Context, ended <-chan struct{}) error {
	for {
		batch := r.collect(ended)
		if len(batch) == 0 {
			return nil
		}
		if err := r.record(ctx, batch); err != nil {
			return err
		}
	}
}

// collect waits for a message and takes what else is there; nothing once pulling has ended.
func (r *Recorder) collect(ended <-chan struct{}) []*stream.Msg {
	var batch []*stream.Msg
	bytes := 0
	select {
	case m := <-r.queue:
		batch, bytes = append(batch, m), len(m.Data())
	case <-ended:
		return nil
	}
	for len(batch) < maxBatch && bytes < maxBytes {
		select {
		case m := <-r.queue:
			batch, bytes = append(batch, m), bytes+len(m.Data())
		default:
			return batch
		}
	}
	return batch
}

// record stores a batch and then acks it: a crash in between records it twice, which the store
// does not notice. It repeats until the store takes it or ctx ends.
func (r *Recorder) record(ctx context.Context, batch []*stream.Msg) error {
	var entries []*recordv1.JournalEntry
	for _, m := range batch {
		packed, err := journal.Decode(m)
		if err != nil {
			r.deps.Logger.ErrorContext(ctx, "journal message cannot be read", "sequence", m.Sequence(), "error", err)
			continue // acked with the others: no later try reads it either
		}
		entries = append(entries, packed.GetEntries()...)
	}
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		err := r.deps.Store.Apply(ctx, entries)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.deps.Logger.WarnContext(ctx, "log store refused entries, trying again", "entries", len(entries), "error", err)
		for _, m := range batch {
			if err := m.InProgress(); err != nil {
				r.deps.Logger.WarnContext(ctx, "journal message not kept in progress", "error", err)
			}
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
	r.entries.Add(ctx, int64(len(entries)))
	for _, m := range batch {
		if err := m.Ack(); err != nil {
			r.deps.Logger.WarnContext(ctx, "journal message not acked", "sequence", m.Sequence(), "error", err)
		}
	}
	return nil
}

func ignoreCancel(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
