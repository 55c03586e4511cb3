// Package pipeline takes the deliveries of the shards that are held, attempts them, and hands over
// what became of them. The order of a delivery's stations stands in attempt.go: check the webhook
// and the cancel mark, admit, prepare, begin, send, judge, settle. It owns messages that are taken
// and not acknowledged; losing them, with the process, makes JetStream give them again.
package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"

	"github.com/postrider/postrider/pkg/conf"
	"github.com/postrider/postrider/pkg/lag"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/services/dispatcher/internal/attempt"
	"github.com/postrider/postrider/services/dispatcher/internal/breaker"
	"github.com/postrider/postrider/services/dispatcher/internal/evidence"
	"github.com/postrider/postrider/services/dispatcher/internal/health"
	"github.com/postrider/postrider/services/dispatcher/internal/lane"
	"github.com/postrider/postrider/services/dispatcher/internal/meters"
	"github.com/postrider/postrider/services/dispatcher/internal/order"
	"github.com/postrider/postrider/services/dispatcher/internal/payload"
	"github.com/postrider/postrider/services/dispatcher/internal/quota"
	"github.com/postrider/postrider/services/dispatcher/internal/registry"
	"github.com/postrider/postrider/services/dispatcher/internal/settle"
)

// Config is how a pipeline works.
type Config struct {
	// Slots is how many first attempts are made at once. Default 1024.
	Slots int `conf:"slots" help:"first attempts at once"`
	// RetrySlots is how many retries are made at once. Default 512.
	RetrySlots int `conf:"retry-slots" help:"retries at once, so that a storm of them cannot hold up first attempts"`
	// MaxUnsettled is how many deliveries of one stream are taken and not settled. Default 1024.
	MaxUnsettled int `conf:"max-unsettled" help:"deliveries of one stream that are taken and not settled"`
	// InitialConcurrency is what a webhook begins with. Default 8.
	InitialConcurrency int `conf:"initial-concurrency" help:"attempts at once that a webhook begins with; success raises it"`
	// ParkAfter is the longest wait for a turn in memory. Default 1 s.
	ParkAfter time.Duration `conf:"park-after" help:"longest estimated wait for a webhook's turn in memory; what would wait longer is parked"`
	// SlowAfter is when a receiver that does not answer is taken for slow. Default 250 ms.
	SlowAfter time.Duration `conf:"slow-after" help:"time without any answer after which a receiver is taken for slow"`
	// HoldMax is how long a delivery waits for a paused or disabled webhook. Default 7 days.
	HoldMax time.Duration `conf:"hold-max" help:"how long a delivery is held for a paused or disabled webhook before it is a dead letter"`
	// ReportEvery is how often it is told that a webhook goes on to fail. Default 5 min.
	ReportEvery time.Duration `conf:"report-every" help:"how often the api service is told that a webhook goes on to fail"`
	// Ordering bounds what is known of an ordered webhook's lines.
	Ordering order.Limits `conf:"-"`
	// Breaker is the policy of the webhooks' breakers.
	Breaker breaker.Config `conf:"breaker"`
}

// Default returns the defaults.
func Default() Config {
	return Config{
		Slots: 1024, RetrySlots: 512, MaxUnsettled: 1024, InitialConcurrency: 8,
		ParkAfter: time.Second, SlowAfter: 250 * time.Millisecond, HoldMax: 7 * 24 * time.Hour,
		ReportEvery: 5 * time.Minute, Ordering: order.Default(), Breaker: breaker.Default(),
	}
}

// Validate says everything that is wrong.
func (c Config) Validate() error {
	return errors.Join(
		conf.Between("slots", c.Slots, 1, 1<<16),
		conf.Between("retry-slots", c.RetrySlots, 1, 1<<16),
		conf.Between("max-unsettled", c.MaxUnsettled, 1, 1<<20),
		conf.Between("initial-concurrency", c.InitialConcurrency, 1, 1024),
		conf.Positive("park-after", c.ParkAfter),
		conf.Positive("slow-after", c.SlowAfter),
		conf.Positive("hold-max", c.HoldMax),
		conf.Between("report-every", c.ReportEvery, 10*time.Millisecond, time.Hour),
	)
}

// mirror tells whether the registry is what the configuration's leader has.
type mirror interface {
	Fresh() bool
	WaitFresh(ctx context.Context) error
}

// deliveries gives the consumers of first attempts, and puts deliveries on the shard that is their home.
type deliveries interface {
	Consumer(ctx context.Context, shard int) (*stream.Consumer, error)
	Forward(ctx context.Context, d *recordv1.Delivery, from int, sequence uint64, done func(error)) error
	Again(ctx context.Context, d *recordv1.Delivery, done func(error)) error
	Layout() postrider.Layout
	Last(ctx context.Context, shard int) (uint64, error)
}

// retries gives the consumers of what is due, tells which records stand, and releases those whose turn in a
// line comes.
type retries interface {
	Due(ctx context.Context, shard int) (*stream.Consumer, error)
	GetAll(ctx context.Context, shard int, sequences []uint64) ([]*retrystream.Record, error)
	Release(ctx context.Context, r retrystream.Record, done func(error)) error
	IsDue(ctx context.Context, shard int, account postrider.AccountID, webhook postrider.WebhookID, delivery postrider.DeliveryID) (bool, error)
	ScanAll(ctx context.Context, shard int, account postrider.AccountID, webhook postrider.WebhookID, fn func(retrystream.Standing) error) error
	Last(ctx context.Context, account postrider.AccountID, webhook postrider.WebhookID, delivery postrider.DeliveryID) (*retrystream.Record, error)
}

// journalTail reads what a predecessor finished.
type journalTail interface {
	Tail(ctx context.Context, shard int, window time.Duration, fn func(*recordv1.JournalEntry) error) error
}

// pacer is told how late first attempts are. *pace.Meter is one.
type pacer interface {
	Took(stream, account string, stored, now time.Time)
	Waited(d time.Duration)
}

// Disabler has a webhook disabled by those who own the configuration. Disabled is false if the
// webhook was changed since the revision, and left as it is.
type Disabler interface {
	Disable(ctx context.Context, account, webhook, reason string, revision uint64) (disabled bool, err error)
}

// Deps are what a pipeline works with.
type Deps struct {
	Mirror     mirror
	Registry   *registry.Registry
	Maker      *attempt.Maker
	Payloads   *payload.Cache
	Settler    *settle.Settler
	Deliveries deliveries
	Retries    retries
	Events     routed
	Journal    journalTail
	Disabler   Disabler
	Reporter   health.Reporter // nil: nobody is told how attempts end
	// EventsMaxAge is how long EVENTS keeps what deliveries refer to.
	EventsMaxAge time.Duration
	Meters       *meters.Meters
	Pace         pacer
	Gauges       *stream.Gauges
	Logger       *slog.Logger
}

// Pipeline attempts the deliveries of the shards that it is given.
type Pipeline struct {
	cfg     Config
	deps    Deps
	first   *pool
	retries *pool
	quotas  *quotas
	gone    *goneQueue
	health  *health.Recorder
	lag     lag.Meter
	// memories of the shards that are not held.
	memories evidence.Shelf

	// ctx outlasts the shards: what is in flight is finished and recorded also when a shard is
	// given up. It ends when the process cannot wait any longer.
	ctx    context.Context //nolint:containedctx // the pipeline's own lifetime
	cancel context.CancelFunc

	// holding says which shards are held, by their number. It is replaced, never changed.
	holding atomic.Pointer[map[int]int]

	mu     sync.Mutex
	shards map[*shard]struct{}
}

// New returns a pipeline that has not started.
func New(cfg Config, deps Deps) *Pipeline {
	p := &Pipeline{cfg: cfg, deps: deps, shards: map[*shard]struct{}{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.first = newPool(cfg.Slots, p.work, deps.Pace.Waited)
	p.retries = newPool(cfg.RetrySlots, p.work, nil)
	p.quotas = newQuotas(p)
	p.gone = newGoneQueue(p)
	p.health = health.New(deps.Reporter, cfg.ReportEvery, time.Now, deps.Logger)
	return p
}

// Start begins the work that belongs to no shard.
func (p *Pipeline) Start() {
	p.lag.Start()
	p.gone.start()
	p.health.Start()
}

// Close ends what RunShard has not ended: attempts that are still in flight are cut off, and their
// deliveries given back. Call it after every RunShard was told to end; it does not wait for them.
func (p *Pipeline) Close() {
	p.cancel()
	p.gone.close()
	p.health.Close()
	p.lag.Stop()
}

// Wait waits for the workers. Call it after Close, when every RunShard has returned.
func (p *Pipeline) Wait() {
	p.first.close()
	p.retries.close()
}

// random is for jitter.
func random() float64 {
	return rand.Float64() //nolint:gosec // jitter is no secret
}

// InFlight is how many attempts are being made or wait for a slot.
func (p *Pipeline) InFlight() int64 { return p.first.load() + p.retries.load() }

// Slots is how many attempts can be made at once.
func (p *Pipeline) Slots() int64 { return int64(p.cfg.Slots + p.cfg.RetrySlots) }

// Unsettled is how many messages are taken and not settled.
func (p *Pipeline) Unsettled() int64 {
	var n int64
	p.each(func(s *shard) { n += int64(s.size()) })
	return n
}

// Shards is how many shards are being worked on.
func (p *Pipeline) Shards() int64 {
	var n int64
	p.each(func(*shard) { n++ })
	return n
}

// Lanes is how many webhooks have a lane, by the state of their breakers.
func (p *Pipeline) Lanes() map[breaker.State]int64 {
	lanes := map[breaker.State]int64{breaker.Closed: 0, breaker.HalfOpen: 0, breaker.Open: 0}
	p.each(func(s *shard) { s.lanes.count(lanes) })
	return lanes
}

// Lane shows how attempts pass to a webhook; false if its shard is not held here.
func (p *Pipeline) Lane(w *registry.Webhook, shardID int, now time.Time) (v lane.View, held bool) {
	var found *shard
	p.each(func(s *shard) {
		if s.id == shardID && s.ctx.Err() == nil {
			found = s
		}
	})
	if found == nil {
		return v, false
	}
	return found.lanes.view(w, now), true
}

// Ordering shows the lines of a webhook; false if its shard is not held here or it has none.
func (p *Pipeline) Ordering(webhook string, shardID int) (v order.View, ok bool) {
	p.each(func(s *shard) {
		if s.id == shardID && s.ctx.Err() == nil {
			v, ok = s.orders.view(webhook)
		}
	})
	return v, ok
}

// Lines is how many lines of ordered webhooks there are, and how many of them are blocked.
func (p *Pipeline) Lines() (blocked, lines int64) {
	p.each(func(s *shard) {
		b, n := s.orders.count()
		blocked, lines = blocked+int64(b), lines+int64(n)
	})
	return blocked, lines
}

// Account shows an account's own limits over all shards that are held here, and what is used of them;
// false if it has none.
func (p *Pipeline) Account(account string, now time.Time) (v quota.View, limited bool) {
	return p.quotas.view(account, now)
}

// held counts a shard in or out. The caller holds mu.
func (p *Pipeline) held(id, n int) {
	next := map[int]int{}
	if now := p.holding.Load(); now != nil {
		maps.Copy(next, *now)
	}
	next[id] += n
	p.holding.Store(&next)
}

// holds says whether a shard is held here.
func (p *Pipeline) holds(id int) bool {
	now := p.holding.Load()
	return now != nil && (*now)[id] > 0
}

func (p *Pipeline) each(fn func(*shard)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range p.shards {
		fn(s)
	}
}

// pressure is how much of the slots for first attempts, or for retries, is taken, as far as an account is
// concerned.
func (p *Pipeline) pressure(account string, retry bool) float64 {
	if retry {
		return p.retries.pressure(account)
	}
	return p.first.pressure(account)
}
