// Package admission accepts events: it checks them, claims their deduplication key, publishes
// them to EVENTS and answers when the record has acknowledged them, never before.
//
// The accept order. Claim the key -> publish to EVENTS -> on the acknowledgement, finish the claim
// by compare-and-set on its token -> answer. A crash
//
//   - after the claim leaves a pending key. Nothing, or an event that nobody was told of, is
//     stored. Whoever publishes the key next takes the claim over when its time has passed, goes
//     on under the same event id and message id, and finds what is stored.
//   - after the publish leaves the same.
//   - after the finish leaves an event whose producer was not answered; its repeat gets the receipt.
//
// Only a refusal that proves that nothing was stored gives a claim up; after a timeout it stays.
// What EVENTS calls a duplicate is read and compared before it is answered for: no receipt vouches
// for a body that was not stored.
//
// The package owns nothing that is stored. It may lose what is in flight, whose producers then
// have no answer and repeat.
package admission

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/postrider/postrider/pkg/conf"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/telemetry"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/services/ingest/internal/dedup"
	"github.com/postrider/postrider/services/ingest/internal/fair"
)

// Config is what admission may take in.
type Config struct {
	// MaxDataBytes bounds an event's data. Defaults to 1 MiB.
	MaxDataBytes int
	// MaxInFlightBytes bounds what is being accepted at one time, all producers together.
	// Defaults to 256 MiB.
	MaxInFlightBytes int64
	// MaxDelay bounds deliver_at. Defaults to 30 days.
	MaxDelay time.Duration
	// Takeover is how long the holder of a deduplication key may be silent. Defaults to 15 s.
	Takeover time.Duration
	// PublishBudget is how long EVENTS is tried, as configured for its publisher.
	PublishBudget time.Duration
	// MsgIDWindow is how long EVENTS itself remembers message ids.
	MsgIDWindow time.Duration
	// Segments is how many EVENTS is in. Defaults to 1.
	Segments int
	// PollMin and PollMax bound the pauses between two looks at a key that somebody else holds.
	// They default to 5 ms and 250 ms.
	PollMin, PollMax time.Duration
}

// Default returns the defaults.
func Default() Config {
	return Config{
		MaxDataBytes: 1 << 20, MaxInFlightBytes: 256 << 20, MaxDelay: 30 * 24 * time.Hour,
		Takeover: 15 * time.Second, PublishBudget: 8 * time.Second, MsgIDWindow: 2 * time.Minute, Segments: 1,
		PollMin: 5 * time.Millisecond, PollMax: 250 * time.Millisecond,
	}
}

// margin is how long an event waits at most to be handed to EVENTS after its claim, in the tightest
// configuration, and how long before a takeover its fate is known.
const margin = time.Second

// Validate returns every fault. A claim must outlive its publish, and EVENTS must remember a
// message id for longer than a claim can be held by one who is silent: else a takeover could store
// an event twice.
func (c Config) Validate() error {
	return errors.Join(
		conf.Between("max-data-bytes", c.MaxDataBytes, 1, 16<<20),
		conf.Rule(c.MaxInFlightBytes >= 4*int64(c.MaxDataBytes), "max-in-flight-bytes", "must be at least four times max-data-bytes"),
		conf.Positive("max-delay", c.MaxDelay),
		conf.Positive("publish-budget", c.PublishBudget),
		conf.Rule(c.PublishBudget+2*margin <= c.Takeover, "takeover", "must be above the publish budget by at least 2s"),
		conf.Rule(c.Takeover < c.MsgIDWindow, "takeover", "must be below the window of message ids"),
		conf.Between("segments", c.Segments, 1, postrider.MaxSegments),
		conf.Rule(c.PollMin > 0 && c.PollMin <= c.PollMax, "poll", "must be positive pauses"),
	)
}

// events is all that admission needs of EVENTS.
type events interface {
	Publish(ctx context.Context, ev *recordv1.Event, done func(eventstream.Stored, error)) error
	Get(ctx context.Context, account postrider.AccountID, sequence uint64) (*recordv1.Event, error)
	Find(ctx context.Context, account postrider.AccountID, id postrider.EventID) (*recordv1.Event, uint64, error)
}

// Deps is what admission works with.
type Deps struct {
	Events    events
	Index     dedup.Index
	Directory *Directory
	Gate      *fair.Gate
	Logger    *slog.Logger
	Telemetry *telemetry.Telemetry
}

// Admission accepts events. Its methods may be called from any goroutine between Start and Stop.
type Admission struct {
	cfg     Config
	events  events
	index   dedup.Index
	dir     *Directory
	gate    *fair.Gate
	log     *slog.Logger
	metrics *metrics
	seams   seams

	room    *semaphore.Weighted // bytes in flight
	pressed atomic.Int64        // calls that wait for room
	claims  []*queue[*entry]    // want their key, by segment: one that takes nothing more keeps no other waiting
	waits   *waits              // want it again later
	doubts  *queue[*entry]      // EVENTS has to be read before they can be answered
	ends    *queue[*entry]      // their claim has to be finished or released

	work   sync.WaitGroup
	cancel context.CancelFunc

	mu       sync.Mutex
	closed   bool
	inFlight int           // entries that were taken in and have no verdict
	bytes    int64         // their bytes
	drained  chan struct{} // closed once nothing is taken in any more and nothing is in flight
}

// New returns an admission that has not started.
func New(cfg Config, deps Deps) (*Admission, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("admission: %w", err)
	}
	if deps.Events == nil || deps.Index == nil || deps.Directory == nil || deps.Gate == nil || deps.Logger == nil || deps.Telemetry == nil {
		return nil, errors.New("admission: events, index, directory, gate, logger and telemetry are required")
	}
	a := &Admission{
		cfg: cfg, events: deps.Events, index: deps.Index, dir: deps.Directory, gate: deps.Gate, log: deps.Logger,
		room: semaphore.NewWeighted(cfg.MaxInFlightBytes), drained: make(chan struct{}),
	}
	for range cfg.Segments {
		a.claims = append(a.claims, newQueue(a.abandon))
	}
	a.doubts, a.ends = newQueue(a.abandon), newQueue(a.abandon)
	a.waits = newWaits(a.abandon)
	var err error
	if a.metrics, err = newMetrics(deps.Telemetry, a); err != nil {
		return nil, fmt.Errorf("admission: %w", err)
	}
	return a, nil
}

// Readers of EVENTS, and how many entries one pipeline of the index carries.
const (
	doubtWorkers = 4
	indexBatch   = 1024
)

// Start begins the work and returns.
func (a *Admission) Start(ctx context.Context) error {
	ctx, a.cancel = context.WithCancel(context.WithoutCancel(ctx))
	for _, claims := range a.claims {
		a.work.Go(func() { claims.run(ctx, indexBatch, a.claimBatch) })
	}
	a.work.Go(func() { a.ends.run(ctx, indexBatch, a.endBatch) })
	a.work.Go(func() { a.waits.run(ctx, a.claimKeys) })
	for range doubtWorkers {
		a.work.Go(func() { a.doubts.run(ctx, 1, a.resolveBatch) })
	}
	return nil
}

// Stop takes nothing more in, waits until everything in flight is answered or ctx ends, and then
// ends the work. What has no answer by then ends as a crash would end it.
func (a *Admission) Stop(ctx context.Context) error {
	a.mu.Lock()
	first := !a.closed
	a.closed = true
	if first && a.inFlight == 0 {
		close(a.drained)
	}
	a.mu.Unlock()
	if a.cancel == nil {
		return nil
	}
	var err error
	select {
	case <-a.drained:
	case <-ctx.Done():
		err = fmt.Errorf("events were still being accepted: %w", ctx.Err())
	}
	a.cancel()
	a.work.Wait()
	for _, claims := range a.claims {
		claims.shut()
	}
	a.waits.shut()
	a.doubts.shut()
	a.ends.shut()
	return err
}

// abandon answers an entry that nobody works on any more.
func (a *Admission) abandon(e *entry) { a.answer(e, Verdict{Err: errStopping()}) }

// enter counts an entry in; ok is false once Stop was called.
func (a *Admission) enter(e *entry) (ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	a.inFlight++
	a.bytes += e.weight
	return true
}

// leave counts an entry out.
func (a *Admission) leave(e *entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.inFlight--
	a.bytes -= e.weight
	if a.closed && a.inFlight == 0 {
		close(a.drained)
	}
}

// Accept accepts one event and waits for its verdict. If ctx ends first, the event may be stored
// all the same.
func (a *Admission) Accept(ctx context.Context, req *Request) (*postriderv1.Receipt, error) {
	verdict := make(chan Verdict, 1)
	e := a.take(req, func(v Verdict) { verdict <- v })
	if e == nil {
		v := <-verdict
		return nil, v.Err
	}
	a.submit(ctx, e)
	select {
	case v := <-verdict:
		return v.Receipt, v.Err
	case <-ctx.Done():
		e.gone.Store(true)
		return nil, fmt.Errorf("accept event: %w", ctx.Err())
	}
}

// AcceptAll accepts each event on its own and returns their verdicts in the same order. Their
// keys are claimed together, and they are published side by side.
func (a *Admission) AcceptAll(ctx context.Context, reqs []*Request) []Verdict {
	verdicts := make([]Verdict, len(reqs))
	var waiting sync.WaitGroup
	waiting.Add(len(reqs))
	entries := make([]*entry, 0, len(reqs))
	for i, req := range reqs {
		e := a.take(req, func(v Verdict) {
			verdicts[i] = v
			waiting.Done()
		})
		if e != nil {
			entries = append(entries, e)
		}
	}
	a.submit(ctx, entries...)
	waiting.Wait() // bounded: every entry has time limits of its own
	return verdicts
}

// Submit accepts one event without waiting: done is called with its verdict exactly once, on any
// goroutine and perhaps before Submit returns, and must not block. Submit itself blocks while too
// much is in flight, until ctx ends.
func (a *Admission) Submit(ctx context.Context, req *Request, done func(Verdict)) {
	if e := a.take(req, done); e != nil {
		a.submit(ctx, e)
	}
}
