// Package sweep compares the records with the index and with the webhooks, slowly, and heals
// what is lost in part: records that no member names, records of paused webhooks that are not
// held, held records of active webhooks, records of cancelled deliveries. It keeps nothing and removes nothing itself.
package sweep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/services/scheduler/internal/cancel"
	"github.com/postrider/postrider/services/scheduler/internal/hold"
	"github.com/postrider/postrider/services/scheduler/internal/retryset"
	"github.com/postrider/postrider/services/scheduler/internal/webhooks"
)

// records is all that is needed of RETRIES.
type records interface {
	ScanIndex(ctx context.Context, shard int, fn func(retrystream.Entry) error) error
	GetAll(ctx context.Context, shard int, sequences []uint64) ([]*retrystream.Record, error)
	Layout() postrider.Layout
}

// index is all that is needed of the index.
type index interface {
	Add(ctx context.Context, entries ...retryset.Entry) error
	Missing(ctx context.Context, members []retryset.Member) ([]retryset.Member, error)
	Count(ctx context.Context) (int64, error)
	TryLock(ctx context.Context, name string, ttl time.Duration) (lock retryset.Lock, ok bool, err error)
}

// checker looks at webhooks.
type checker interface {
	Check(id postrider.WebhookID)
}

// marks says which deliveries are cancelled.
type marks interface {
	Has(delivery string) bool
}

// canceller ends deliveries that are marked.
type canceller interface {
	Marked(ctx context.Context, account postrider.AccountID, webhook postrider.WebhookID, delivery postrider.DeliveryID, reason string) (int64, error)
}

// Config says how often to sweep.
type Config struct {
	// Interval is the time between two passes.
	Interval time.Duration
}

// Deps is what a Sweeper works with.
type Deps struct {
	Records  records
	Index    index
	Hold     checker
	Cancel   canceller
	Marks    marks
	Registry *webhooks.Registry
	// Wake is told of retries that were put back. It must not block.
	Wake    func(due time.Time)
	Metrics *Metrics
	Logger  *slog.Logger
	Now     func() time.Time
}

const (
	// batch is how many records are compared in one round trip.
	batch = 1024
	// callTimeout bounds a call of the index.
	callTimeout = 5 * time.Second
	// share is how many times as long as a pass the rest after it is, at least.
	share = 20
)

// Sweeper compares.
type Sweeper struct {
	cfg  Config
	deps Deps
}

// New returns a sweeper. Run runs it.
func New(cfg Config, deps Deps) *Sweeper { return &Sweeper{cfg: cfg, deps: deps} }

// Run sweeps until the context ends, first after one interval: the rebuild at the start shows
// every record to Look.
func (s *Sweeper) Run(ctx context.Context) error {
	timer := time.NewTimer(s.cfg.Interval)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		begun := time.Now()
		if err := s.turn(ctx); err != nil && ctx.Err() == nil {
			s.deps.Logger.WarnContext(ctx, "sweep of the retries not finished", "error", err)
		}
		// A pass takes a bounded share of the time, however much waits; jitter spreads replicas.
		rest := max(s.cfg.Interval, share*time.Since(begun))
		timer.Reset(rest + rand.N(rest/10+1)) //nolint:gosec // jitter needs no secrecy
	}
}

// turn is one pass, unless another replica had one a moment ago. Without Redis the records are
// compared with the webhooks alone.
func (s *Sweeper) turn(ctx context.Context) error {
	call, end := context.WithTimeout(ctx, callTimeout)
	defer end()
	// The lock is not released: it keeps the other replicas from sweeping in the same interval.
	_, ok, err := s.deps.Index.TryLock(call, "sweep", s.cfg.Interval/2)
	if err == nil && !ok {
		return nil
	}
	return s.Pass(ctx)
}

// Pass compares everything once.
func (s *Sweeper) Pass(ctx context.Context) error {
	begun := time.Now()
	var total int64
	var errs []error
	for shard := range s.deps.Records.Layout().Streams {
		p := &pass{Sweeper: s, shard: shard, look: make(map[postrider.WebhookID]bool)}
		err := s.deps.Records.ScanIndex(ctx, shard, func(e retrystream.Entry) error { return p.entry(ctx, e) })
		if err == nil {
			err = p.compare(ctx)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("sweep shard %d: %w", shard, err))
		}
		for id := range p.look {
			s.deps.Hold.Check(id)
		}
		total += p.indexed
	}
	s.deps.Metrics.ended(ctx, time.Since(begun))
	if len(errs) == 0 {
		s.compared(ctx, total)
	}
	return errors.Join(errs...)
}

// compared shows what the pass found. Members beyond the records are harmless, each is dropped when
// it is due, but many of them would tell of a mistake.
func (s *Sweeper) compared(ctx context.Context, waiting int64) {
	call, end := context.WithTimeout(ctx, callTimeout)
	defer end()
	if n, err := s.deps.Index.Count(call); err == nil {
		s.deps.Metrics.compared(ctx, n, waiting, s.deps.Now())
	}
}

// pass is the comparison of one shard.
type pass struct {
	*Sweeper

	shard   int
	pending []retryset.Entry
	look    map[postrider.WebhookID]bool
	indexed int64 // records that belong into the index
	blind   bool  // whether the index did not answer in this pass
}

// Look has a record's webhook looked at if the record is not as its webhook's state wants it. It
// may be called concurrently.
func (s *Sweeper) Look(e retrystream.Entry) {
	if s.amiss(e) {
		s.deps.Hold.Check(e.Webhook)
	}
}

// amiss reports whether a record is held for an active webhook, waits for one that is not, or
// is there at all for one that was deleted.
func (s *Sweeper) amiss(e retrystream.Entry) bool {
	w, known := s.deps.Registry.Lookup(e.Webhook)
	switch {
	case !known:
		return false // created or deleted a moment ago: the dispatcher knows which
	case w.State == postrider.WebhookDeleted:
		return true
	case w.Active():
		return e.Kind == recordv1.RetryKind_RETRY_KIND_HELD
	default:
		return hold.Holdable(e.Kind, e.Due, s.deps.Now())
	}
}

// entry takes one record.
func (p *pass) entry(ctx context.Context, e retrystream.Entry) error {
	if p.deps.Marks.Has(string(e.Delivery)) {
		// A dispatcher stored it without a scheduler, after a cancel had looked for it.
		_, err := p.deps.Cancel.Marked(ctx, e.Account, e.Webhook, e.Delivery, cancel.Requested)
		return err
	}
	if p.amiss(e) {
		p.look[e.Webhook] = true
	}
	if e.Kind == recordv1.RetryKind_RETRY_KIND_HELD {
		return nil
	}
	p.indexed++
	p.pending = append(p.pending, retryset.Entry{Member: retryset.Member{Shard: p.shard, Sequence: e.Sequence}, Due: e.Due.Add(retryset.Tick)})
	if len(p.pending) < batch {
		return nil
	}
	return p.compare(ctx)
}

// compare puts back what is pending and missing.
func (p *pass) compare(ctx context.Context) error {
	entries := p.pending
	p.pending = p.pending[:0]
	if len(entries) == 0 || p.blind {
		return nil
	}
	call, end := context.WithTimeout(ctx, callTimeout)
	defer end()
	members := make([]retryset.Member, 0, len(entries))
	dues := make(map[retryset.Member]time.Time, len(entries))
	for _, e := range entries {
		members = append(members, e.Member)
		dues[e.Member] = e.Due
	}
	missing, err := p.deps.Index.Missing(call, members)
	if err != nil {
		// The index is away. When it is back it is rebuilt, or the next pass compares. The webhooks
		// are looked at all the same.
		p.blind = true
		return nil
	}
	if len(missing) == 0 {
		return nil
	}
	back, err := p.still(ctx, missing, dues)
	if err != nil || len(back) == 0 {
		return err
	}
	if err := p.deps.Index.Add(call, back...); err != nil {
		p.blind = true
		return nil
	}
	p.deps.Metrics.healed(ctx, len(back))
	for _, e := range back {
		p.deps.Wake(e.Due)
	}
	return nil
}

// still returns those of the missing whose records stand: the others were released between the
// two looks.
func (p *pass) still(ctx context.Context, missing []retryset.Member, dues map[retryset.Member]time.Time) ([]retryset.Entry, error) {
	sequences := make([]uint64, 0, len(missing))
	for _, m := range missing {
		sequences = append(sequences, m.Sequence)
	}
	found, err := p.deps.Records.GetAll(ctx, p.shard, sequences)
	if err != nil {
		return nil, fmt.Errorf("read records that are not indexed: %w", err)
	}
	back := make([]retryset.Entry, 0, len(missing))
	for i, rec := range found {
		if rec != nil {
			back = append(back, retryset.Entry{Member: missing[i], Due: dues[missing[i]]})
		}
	}
	return back, nil
}
