// Package fanout turns an event into its deliveries. It owns nothing durable: the event is acked
// only when every delivery and the routed journal entries are stored, so a crash repeats the
// routing of the events that were not acked, to the same delivery ids, by which dispatchers know
// the repeats (ADR 0030).
package fanout

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/pkg/match"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/services/router/internal/index"
)

// Deliveries stores deliveries; done is called once, when the store answered.
type Deliveries interface {
	Publish(ctx context.Context, d *recordv1.Delivery, done func(error)) error
}

// Journal stores journal entries; done is called once, when the store answered.
type Journal interface {
	Write(ctx context.Context, shard int, e *recordv1.JournalEntry, done func(error)) error
}

// Delays stores deliveries that must not be attempted yet. It returns when all are stored.
type Delays interface {
	Delay(ctx context.Context, retries []*recordv1.Retry) error
}

// Message is an event as the stream gave it.
type Message interface {
	Data() []byte
	Sequence() uint64
	Ack() error
	Nak(delay time.Duration) error
	Term(reason string) error
	InProgress() error
	Begin(ctx context.Context, w stream.Work) (context.Context, trace.Span)
}

// Matcher knows which webhooks want an event.
type Matcher interface {
	Match(account postrider.AccountID, a *match.Attributes, into *index.Result)
}

// Config bounds the work.
type Config struct {
	// EmbedLimit is the largest payload that a delivery carries itself, in bytes. Above it the
	// delivery refers to the event. Default 4096.
	EmbedLimit int
	// Heartbeat is how often events whose deliveries are not all stored are kept from being
	// redelivered. Default 10 s; must be well below the consumer's ack wait.
	Heartbeat time.Duration
	// Pause is the first pause before what is missing is sent again; it doubles up to 2 s.
	// Default 100 ms.
	Pause time.Duration
}

// Deps is what fan-out works with.
type Deps struct {
	Index      Matcher
	Deliveries Deliveries
	Journal    Journal
	Delays     Delays
	Logger     *slog.Logger
	Meter      metric.Meter
	Class      func(account string) string // of service, for metrics
	Now        func() time.Time
}

// Fanout routes events. Handle is for any goroutine; completions come from others.
type Fanout struct {
	cfg     Config
	deps    Deps
	metrics *metrics
	results sync.Pool // of *index.Result, for Handle

	work   context.Context //nolint:containedctx // the life of the flights, which outlive Handle's own context on purpose
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	flights map[*flight]struct{}
	idle    chan struct{} // closed when there are no flights, made anew when there are
	repeats chan *flight

	delaySlots chan struct{}
}

// New returns a Fanout that has not started.
func New(cfg Config, deps Deps) (*Fanout, error) {
	m, err := newMetrics(deps.Meter)
	if err != nil {
		return nil, err
	}
	idle := make(chan struct{})
	close(idle)
	return &Fanout{
		cfg: cfg, deps: deps, metrics: m,
		results: sync.Pool{New: func() any { return new(index.Result) }},
		flights: make(map[*flight]struct{}), idle: idle,
		cancel:     func() {}, // until Start has something to end
		repeats:    make(chan *flight, maxFlights),
		delaySlots: make(chan struct{}, maxDelayCalls),
	}, nil
}

// maxFlights is above what the consumer may have unacked, so that handing a flight to the
// repeater never blocks.
const maxFlights = 1 << 15

// Start begins to keep unfinished events alive and to repeat what is missing.
func (f *Fanout) Start(ctx context.Context) {
	f.work, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
	f.wg.Go(f.heartbeat)
	f.wg.Go(f.repeat)
}

// Stop waits until the events in flight are stored and acked, or ctx ends; those that are left
// then are handed back to the stream at once. It may be called without Start.
func (f *Fanout) Stop(ctx context.Context) error {
	var err error
	select {
	case <-f.drained():
	case <-ctx.Done():
		err = ctx.Err()
	}
	f.cancel()
	f.wg.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	for fl := range f.flights {
		err = errors.Join(err, fl.msg.Nak(0))
	}
	return err
}

func (f *Fanout) drained() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.idle
}

// Handle routes one event: all of its deliveries and journal entries are sent, and when the
// last of them is stored the event is acked. It blocks while the stores' windows are full, which
// stops pulling.
//
// Deliveries and the routed entry before the ack of the event: a crash in between routes it
// again, to the same delivery ids. The other order loses deliveries.
func (f *Fanout) Handle(msg Message) {
	ev := &recordv1.Event{}
	if err := proto.Unmarshal(msg.Data(), ev); err != nil {
		f.deps.Logger.ErrorContext(f.work, "event cannot be read", "sequence", msg.Sequence(), "error", err)
		if err := msg.Term("not an event record"); err != nil {
			f.deps.Logger.WarnContext(f.work, "malformed event not terminated", "error", err)
		}
		return
	}
	ctx, span := msg.Begin(f.work, stream.Work{Accepted: ev.GetTraceparent(), Account: ev.GetAccountId(), Event: ev.GetId()})
	now := f.deps.Now()
	result, _ := f.results.Get().(*index.Result)
	f.deps.Index.Match(postrider.AccountID(ev.GetAccountId()), Attributes(ev), result)
	fl := &flight{fanout: f, msg: msg, ctx: ctx, span: span, parts: f.plan(ev, result, msg.Sequence(), now)}
	f.metrics.routed(ctx, f.deps.Class(ev.GetAccountId()), len(result.Matched), now.Sub(ev.GetAcceptTime().AsTime()))
	f.results.Put(result)
	f.track(fl)
	fl.send()
}

func (f *Fanout) track(fl *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.flights) == 0 {
		f.idle = make(chan struct{})
	}
	fl.started = f.deps.Now()
	f.flights[fl] = struct{}{}
}

// finish acks an event whose parts are all stored.
func (f *Fanout) finish(fl *flight) {
	if fl.span != nil {
		fl.span.End()
	}
	if err := fl.msg.Ack(); err != nil && !errors.Is(err, context.Canceled) {
		f.deps.Logger.WarnContext(f.work, "event not acked", "sequence", fl.msg.Sequence(), "error", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.flights, fl)
	if len(f.flights) == 0 {
		close(f.idle)
	}
}

// heartbeat keeps events in flight from being redelivered whole while a store is slow or away.
func (f *Fanout) heartbeat() {
	ticker := time.NewTicker(f.cfg.Heartbeat)
	defer ticker.Stop()
	for {
		select {
		case <-f.work.Done():
			return
		case <-ticker.C:
		}
		for _, fl := range f.olderThan(f.cfg.Heartbeat) {
			if err := fl.msg.InProgress(); err != nil {
				f.deps.Logger.WarnContext(f.work, "event not kept in progress", "sequence", fl.msg.Sequence(), "error", err)
			}
		}
	}
}

func (f *Fanout) olderThan(age time.Duration) []*flight {
	now := f.deps.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	var old []*flight
	for fl := range f.flights {
		if now.Sub(fl.started) >= age {
			old = append(old, fl)
		}
	}
	return old
}

// repeat sends again what a store refused, and nothing else, with a pause that grows while
// refusals go on.
func (f *Fanout) repeat() {
	pause := f.cfg.Pause
	last := f.deps.Now()
	for {
		select {
		case <-f.work.Done():
			return
		case fl := <-f.repeats:
			if f.deps.Now().Sub(last) > 4*maxPause {
				pause = f.cfg.Pause
			}
			timer := time.NewTimer(pause)
			select {
			case <-f.work.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
			pause, last = min(2*pause, maxPause), f.deps.Now()
			f.metrics.repeated(f.work)
			fl.send()
			for drained := false; !drained; { // one pause for all that wait
				select {
				case next := <-f.repeats:
					next.send()
				default:
					drained = true
				}
			}
		}
	}
}

const maxPause = 2 * time.Second

// Attributes is what patterns, scopes and filters see of a stored event.
func Attributes(ev *recordv1.Event) *match.Attributes {
	return &match.Attributes{
		ID: ev.GetId(), Type: ev.GetType(), Source: ev.GetSource(), Time: ev.GetTime().AsTime(),
		Labels: ev.GetLabels(), Data: ev.GetData, ContentType: ev.GetContentType(),
	}
}

// asMessage pins that the stream's messages are what Handle takes.
var _ Message = (*stream.Msg)(nil)
