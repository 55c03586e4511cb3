// Package recorder feeds the delivery log from the journal. It is never on the path of a
// delivery: while the log store is away, entries wait in the journal and deliveries go on.
package recorder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/services/api/internal/logstore"
)

// Store is all that the recorder needs of a log store.
type Store interface {
	Record(ctx context.Context, b *logstore.Batch) error
	Token() string
	Refresh(ctx context.Context) error
	Incomplete() int64
	SetIncomplete(ctx context.Context, token string, place int64) error
	Reset(ctx context.Context) error
}

// Journal is all that the recorder needs of the journal. *journal.Journal is one.
type Journal interface {
	Consumer(ctx context.Context, durable string) (*stream.Consumer, error)
	Recorded(ctx context.Context, durable string) (floor uint64, pending int64, err error)
	Last(ctx context.Context) (uint64, error)
	Oldest(ctx context.Context, after uint64) (time.Time, error)
	Forget(ctx context.Context, durable string) error
}

// Deps is what a recorder works with.
type Deps struct {
	Journal Journal
	Store   Store
	// Name is what the names of the journal's consumers begin with.
	Name   string
	Logger *slog.Logger
	Meter  metric.Meter
	Now    func() time.Time
	// Yield has it rest on a machine that is short of processor time; see pace.go.
	Yield bool
	// Load is how this process stands against its machine; nil measures it.
	Load func() Load
	// Watch shows how far a consumer is, until ctx ends; nil shows nothing.
	Watch func(ctx context.Context, c *stream.Consumer)
}

// Recorder copies the journal into the store.
type Recorder struct {
	deps    Deps
	entries metric.Int64Counter
	lag     metric.Float64Gauge
	pending metric.Int64Gauge
	busyAt  int // see the constant
	doomed  int // how often the log was seen about to be dropped, of late
}

const (
	// aboutToDrop is Incomplete of a log that somebody drops within seconds.
	aboutToDrop = -2
	// dropWithin is how often a log is seen so before it is taken for one whose dropper has died.
	dropWithin = 30
)

// Bounds of one transaction. A message holds up to 64 entries, and few where many shards are busy, as each
// writes its own. The more a transaction holds, the less it writes for each: the pages of an index
// whose keys are random are written once for all.
const (
	maxBatch = 1024
	maxBytes = 8 << 20
)

// Pauses after a failed transaction.
const (
	minPause = 100 * time.Millisecond
	maxPause = 5 * time.Second
)

// errReset says that the log was dropped.
var errReset = errors.New("the delivery log was dropped")

// watchEvery is how often the log is asked whether it was dropped, and how far it is.
const watchEvery = time.Second

// New returns a recorder that has not started.
func New(deps Deps) (*Recorder, error) {
	r := &Recorder{deps: deps, busyAt: busyAt}
	var err1, err2, err3 error
	r.entries, err1 = deps.Meter.Int64Counter("postrider.recorder.entries", metric.WithDescription("Journal entries recorded in the delivery log."))
	r.lag, err2 = deps.Meter.Float64Gauge("postrider.recorder.lag", metric.WithUnit("s"), metric.WithDescription("Age of the oldest message of the journal that the delivery log has not recorded; 0 if there is none."))
	r.pending, err3 = deps.Meter.Int64Gauge("postrider.recorder.pending", metric.WithDescription("Messages of the journal that the delivery log has not recorded."))
	return r, errors.Join(err1, err2, err3)
}

// Durable is the name of the journal's consumer that fills the log as it is now.
func (r *Recorder) Durable() string { return DurableOf(r.deps.Name, r.deps.Store.Token()) }

// DurableOf is the name of the journal's consumer that fills the log with a token.
func DurableOf(name, token string) string {
	if token == "" {
		return name // of a log that was begun before logs had tokens
	}
	return name + "_" + token
}

// Prepare makes the consumer, and lets the log answer if it has all that the journal holds.
func (r *Recorder) Prepare(ctx context.Context) error {
	if _, err := r.deps.Journal.Consumer(ctx, r.Durable()); err != nil {
		return fmt.Errorf("open consumer of the journal: %w", err)
	}
	if err := r.complete(ctx); err != nil {
		return fmt.Errorf("look whether the log is complete: %w", err)
	}
	return nil
}

// Run records until ctx ends. When the log was dropped it begins anew, with the consumer of the log's
// new token. What the old one's still gives meanwhile is recorded in the new log: it is true, and
// comes again.
func (r *Recorder) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		token := r.deps.Store.Token()
		err := r.fill(ctx, token)
		if !errors.Is(err, errReset) {
			return ignoreCancel(err)
		}
		r.deps.Logger.InfoContext(ctx, "the delivery log was dropped, and is built again")
		if err := r.deps.Journal.Forget(ctx, DurableOf(r.deps.Name, token)); err != nil {
			r.deps.Logger.WarnContext(ctx, "consumer of the dropped log not deleted; it goes by itself", "error", err)
		}
	}
	return nil
}

// fill records with the consumer of one token, until ctx ends, or ErrReset.
func (r *Recorder) fill(ctx context.Context, token string) error {
	source, err := r.deps.Journal.Consumer(ctx, DurableOf(r.deps.Name, token))
	if err != nil {
		return fmt.Errorf("open consumer of the journal: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	f := &filling{Recorder: r, queue: make(chan *stream.Msg, maxBatch), pace: newPace()}
	if r.deps.Yield {
		f.pace = newYielding(r.deps.Load)
	}
	f.pace.busyAt = r.busyAt
	defer f.pace.close()
	var pullErr error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		pullErr = source.Consume(ctx, func(m *stream.Msg) {
			select {
			case f.queue <- m:
			case <-ctx.Done():
				_ = m.Nak(0) // a lost one comes again later
			}
		})
	}()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		f.watch(ctx, token, cancel)
	}()
	if r.deps.Watch != nil {
		shown := make(chan struct{})
		go func() {
			defer close(shown)
			r.deps.Watch(ctx, source)
		}()
		defer func() { <-shown }()
	}
	err = f.recordAll(ctx, ended)
	cancel(err)
	<-ended
	<-watched
	f.giveBack()
	if errors.Is(context.Cause(ctx), errReset) {
		return errReset
	}
	return errors.Join(err, pullErr)
}

// watch looks whether the log was dropped by another process, and how far it is.
func (r *filling) watch(ctx context.Context, token string, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := r.deps.Store.Refresh(ctx)
		if err == nil && r.deps.Store.Token() != token {
			cancel(errReset)
			return
		}
		if err == nil {
			err = r.complete(ctx)
		}
		// How far it is matters most while the store is away.
		if err = errors.Join(err, r.measure(ctx)); err != nil && ctx.Err() == nil {
			r.deps.Logger.WarnContext(ctx, "the delivery log's state is not known", "error", err)
		}
	}
}

// complete lets a log answer that has recorded what the journal held when it was begun.
func (r *Recorder) complete(ctx context.Context) error {
	token, place := r.deps.Store.Token(), r.deps.Store.Incomplete()
	if place != aboutToDrop {
		r.doomed = 0
	}
	if place == 0 {
		return nil
	}
	if place == aboutToDrop {
		if r.doomed++; r.doomed < dropWithin {
			return nil
		}
	}
	floor, pending, err := r.deps.Journal.Recorded(ctx, DurableOf(r.deps.Name, token))
	if err != nil {
		return err
	}
	if place < 0 {
		last, err := r.deps.Journal.Last(ctx)
		if err != nil {
			return err
		}
		place = int64(last) //nolint:gosec // a stream sequence
		if err := r.deps.Store.SetIncomplete(ctx, token, place); err != nil {
			return err
		}
	}
	// A journal whose last messages have expired has nothing pending, and no floor up there.
	if pending > 0 && floor < uint64(place) { //nolint:gosec // not negative
		return nil
	}
	return r.deps.Store.SetIncomplete(ctx, token, 0)
}

// Status is how far the recorder is.
type Status struct {
	// Recorded is the place in the journal up to which everything is recorded.
	Recorded uint64
	// Last place in the journal.
	Last uint64
	// Pending messages.
	Pending int64
	// Oldest is when the oldest of them was stored; zero if there is none.
	Oldest time.Time
}

// Status asks the journal.
func (r *Recorder) Status(ctx context.Context) (s Status, err error) {
	if s.Recorded, s.Pending, err = r.deps.Journal.Recorded(ctx, r.Durable()); err != nil {
		return s, err
	}
	if s.Last, err = r.deps.Journal.Last(ctx); err != nil || s.Pending == 0 {
		return s, err
	}
	s.Oldest, err = r.deps.Journal.Oldest(ctx, s.Recorded)
	return s, err
}

func (r *filling) measure(ctx context.Context) error {
	s, err := r.Status(ctx)
	if err != nil {
		return err
	}
	lag := 0.0
	if !s.Oldest.IsZero() {
		lag = max(0, r.deps.Now().Sub(s.Oldest).Seconds())
	}
	r.lag.Record(ctx, lag)
	r.pending.Record(ctx, s.Pending)
	if r.pace.age(time.Duration(lag * float64(time.Second))) {
		r.deps.Logger.InfoContext(ctx, "the delivery log is far behind, or no longer is; while it is, it is recorded whatever else waits for the processor",
			"behind_seconds", int(lag), "hurries", r.pace.hurry.Load())
	}
	return nil
}

// Rebuild drops the log; whoever runs on it then fills it again from the journal's beginning. First
// the log is told to answer no more, and time is given for every process to learn that: between the
// two an empty log could be taken for the truth. After a crash before the drop the log is as it was,
// and answers again within a minute.
func (r *Recorder) Rebuild(ctx context.Context) (messages int64, err error) {
	if err := r.deps.Store.SetIncomplete(ctx, r.deps.Store.Token(), aboutToDrop); err != nil {
		return 0, err
	}
	timer := time.NewTimer(2 * watchEvery)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if err := r.deps.Store.Reset(ctx); err != nil {
		return 0, err
	}
	if _, err := r.deps.Journal.Consumer(ctx, r.Durable()); err != nil {
		return 0, fmt.Errorf("open consumer of the journal: %w", err)
	}
	_, pending, err := r.deps.Journal.Recorded(ctx, r.Durable())
	return pending, err
}

// filling is the recording with one consumer.
type filling struct {
	*Recorder

	queue chan *stream.Msg
	pace  *pace
}

// giveBack returns what was taken and not begun, so that it need not wait for the ack wait to pass
// when this log is recorded again.
func (r *filling) giveBack() {
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
func (r *filling) recordAll(ctx context.Context, ended <-chan struct{}) error {
	for ctx.Err() == nil { // what is left when it has ended is given back, not begun
		batch := r.collect(ended)
		if len(batch) == 0 {
			return nil
		}
		if err := r.record(ctx, batch); err != nil {
			return err
		}
		r.rest(ctx, ended)
	}
	return nil
}

// rest leaves the processor to others if the pace says so. It has nothing in hand meanwhile that a stop
// would not give back, and a stop ends it.
func (r *filling) rest(ctx context.Context, ended <-chan struct{}) {
	if r.pace.rest <= 0 {
		return
	}
	began := time.Now()
	timer := time.NewTimer(r.pace.rest)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ended:
	case <-ctx.Done():
	}
	r.pace.rested(time.Since(began))
}

// collect waits for a message and takes what else is there, or comes while it is to gather; nothing
// once pulling has ended.
func (r *filling) collect(ended <-chan struct{}) []*stream.Msg {
	var batch []*stream.Msg
	bytes := 0
	select {
	case m := <-r.queue:
		batch, bytes = append(batch, m), len(m.Data())
	case <-ended:
		return nil
	}
	enough := time.NewTimer(r.pace.wait(time.Now()))
	defer enough.Stop()
	for len(batch) < r.pace.most() && bytes < maxBytes {
		m := r.next(enough.C, ended)
		if m == nil {
			break
		}
		batch, bytes = append(batch, m), bytes+len(m.Data())
	}
	return batch
}

// next is a message that is there, or comes before it is enough; nil if none does.
func (r *filling) next(enough <-chan time.Time, ended <-chan struct{}) *stream.Msg {
	select {
	case m := <-r.queue:
		return m
	default:
	}
	select {
	case m := <-r.queue:
		return m
	case <-enough:
	case <-ended:
	}
	return nil
}

// record stores a batch and then acks it: a crash in between records it twice, which the store
// does not notice. It repeats until the store takes it or ctx ends.
func (r *filling) record(ctx context.Context, batch []*stream.Msg) error {
	r.pace.begin()
	said := logstore.NewBatch()
	for _, m := range batch {
		if err := said.Add(m.Data()); err != nil {
			// Acked with the others: no later try reads it either.
			r.deps.Logger.ErrorContext(ctx, "journal message cannot be read", "sequence", m.Sequence(), "error", err)
		}
	}
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		err := r.deps.Store.Record(ctx, said)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.deps.Logger.WarnContext(ctx, "log store refused entries, trying again", "entries", said.Entries(), "error", err)
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
	r.entries.Add(ctx, int64(said.Entries()))
	r.pace.recorded(said.Entries(), time.Now())
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
