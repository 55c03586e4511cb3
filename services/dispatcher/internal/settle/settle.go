// Package settle stores what has become of a delivery: the journal's entry, then the record or
// the dead letter, and then says that the delivery's message may be acknowledged. An outcome stays
// here until it is stored, however long the stores are away: it owns what has been obtained and is
// not stored, and may lose it only with the process, which costs one POST each.
package settle

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"

	"github.com/postrider/postrider/services/dispatcher/internal/fifo"
	"github.com/postrider/postrider/services/dispatcher/internal/meters"
)

// Settlement is what is to be stored about one delivery. Entry comes first, if there is one; then
// Retry or Dead, if there is either.
type Settlement struct {
	// Shard whose journal the entry belongs to.
	Shard int
	// Entry for the journal. It belongs to the settler from then on.
	Entry *recordv1.JournalEntry
	// Retry is the record to hand over.
	Retry *recordv1.Retry
	// Dead is the dead letter to store.
	Dead *recordv1.DeadLetter
	// Trace is the span of the work on the delivery, if it is recorded.
	Trace trace.SpanContext
	// Placed, if it is set, is told the sequence of the record that stands for the delivery, before Done. It
	// must not block.
	Placed func(sequence uint64)
	// Done is called once, when everything is stored. It must not block.
	Done func()
}

// journalWriter is all that the settler needs of the journal. *journal.Writer is one.
type journalWriter interface {
	Write(ctx context.Context, shard int, e *recordv1.JournalEntry, done func(error)) error
}

// deadLetters is all that the settler needs of DEADLETTERS. *deadletterstream.Stream is one.
type deadLetters interface {
	Publish(ctx context.Context, l *recordv1.DeadLetter, done func(error)) error
}

// Deps are what a settler stores to.
type Deps struct {
	Journal     journalWriter
	Scheduler   scheduler
	Records     records
	DeadLetters deadLetters
	Meters      *meters.Meters
	Tracer      trace.Tracer
	Logger      *slog.Logger
}

// Times of repeated tries.
const (
	firstPause  = 100 * time.Millisecond
	longestWait = 2 * time.Second
	// callTimeout bounds one call of the scheduler.
	callTimeout = 3 * time.Second
	// shortestPause and longestPause bound how long the scheduler is not asked after it failed.
	shortestPause = time.Second
	longestPause  = 15 * time.Second
)

// workers is how many batches of records, and how many dead letters, are stored at a time.
const workers = 4

// Settler is safe for concurrent use.
type Settler struct {
	deps    Deps
	records *fifo.Queue[*pending]
	letters *fifo.Queue[*pending]

	ctx    context.Context //nolint:containedctx // the settler's own lifetime, which outlasts every caller's
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu             sync.Mutex
	storing        int
	empty          chan struct{} // closed when storing is 0 and Drain waits
	schedulerUntil time.Time     // it is not asked before
	schedulerPause time.Duration // the last one
	logged         map[string]time.Time
}

// pending is a settlement on its way.
type pending struct {
	Settlement
	size  int // of the record
	tries int
}

// New returns a settler that has not started.
func New(deps Deps) *Settler {
	s := &Settler{
		deps:    deps,
		records: fifo.New[*pending](),
		letters: fifo.New[*pending](),
		logged:  map[string]time.Time{},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Start begins to store.
func (s *Settler) Start() {
	for range workers {
		s.wg.Go(s.handOver)
		s.wg.Go(s.bury)
	}
}

// Settle stores the settlement, for as long as it takes. It blocks while the journal's queue is
// full, which is backpressure for those who make attempts.
func (s *Settler) Settle(st Settlement) {
	s.mu.Lock()
	s.storing++
	s.mu.Unlock()
	s.journal(&pending{Settlement: st})
}

// Storing is how many outcomes are obtained and not stored yet.
func (s *Settler) Storing() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.storing
}

// Drain waits until everything is stored, or ctx ends.
func (s *Settler) Drain(ctx context.Context) error {
	s.mu.Lock()
	if s.storing == 0 {
		s.mu.Unlock()
		return nil
	}
	if s.empty == nil {
		s.empty = make(chan struct{})
	}
	empty := s.empty
	s.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close ends the settler; what is not stored is given up.
func (s *Settler) Close() {
	s.cancel()
	s.records.Close()
	s.letters.Close()
	s.wg.Wait()
}

// journal comes first: once the entry is stored, a process that takes over knows that there was an
// attempt, and finishes the hand-over instead of making it again. The other order can show a
// delivery whose attempts nobody journalled.
func (s *Settler) journal(p *pending) {
	if p.Entry == nil {
		s.hand(p)
		return
	}
	err := s.deps.Journal.Write(s.ctx, p.Shard, p.Entry, func(err error) {
		if err != nil {
			s.again(p, "journal", err, s.journalLater)
			return
		}
		p.Entry, p.tries = nil, 0
		s.hand(p)
	})
	if err != nil {
		s.again(p, "journal", err, s.journalLater)
	}
}

// journalLater writes the entry on a goroutine that may block.
func (s *Settler) journalLater(p *pending) { s.letters.Push(p) }

func (s *Settler) hand(p *pending) {
	switch {
	case p.Retry != nil:
		s.records.Push(p)
	case p.Dead != nil:
		s.letters.Push(p)
	default:
		s.done(p)
	}
}

func (s *Settler) done(p *pending) {
	p.Done()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.storing--
	if s.storing == 0 && s.empty != nil {
		close(s.empty)
		s.empty = nil
	}
}

// bury stores dead letters, and the journal's entries that could not be stored at first: both may
// block, which callbacks must not.
func (s *Settler) bury() {
	for p, ok := s.letters.Pop(); ok; p, ok = s.letters.Pop() {
		if p.Entry != nil {
			s.journal(p)
			continue
		}
		err := s.deps.DeadLetters.Publish(s.ctx, p.Dead, func(err error) {
			if err != nil {
				s.again(p, "dead_letters", err, s.hand)
				return
			}
			s.done(p)
		})
		if err != nil {
			s.again(p, "dead_letters", err, s.hand)
		}
	}
}

// again repeats a step after a pause, for ever: the outcome is in no store yet.
func (s *Settler) again(p *pending, what string, err error, step func(*pending)) {
	if s.ctx.Err() != nil {
		return
	}
	pause := min(firstPause<<min(p.tries, 10), longestWait)
	p.tries++
	s.deps.Meters.Repeated(s.ctx, what)
	s.logOnce(what, err)
	time.AfterFunc(pause, func() { step(p) })
}

// logOnce says what is away, not for each outcome that waits for it.
func (s *Settler) logOnce(what string, err error) {
	const interval = 10 * time.Second
	s.mu.Lock()
	quiet := time.Since(s.logged[what]) < interval
	if !quiet {
		s.logged[what] = time.Now()
	}
	waiting := s.storing
	s.mu.Unlock()
	if !quiet && !errors.Is(err, context.Canceled) {
		s.deps.Logger.WarnContext(s.ctx, "outcomes wait to be stored",
			slog.String("store", what), slog.Int("waiting", waiting), slog.Any("error", err))
	}
}
