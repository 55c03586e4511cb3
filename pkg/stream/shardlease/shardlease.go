// Package shardlease owns the bucket `shards`: which dispatcher holds which shard. Members show
// that they live, divide the shards fairly among themselves, and each holds its share for as long
// as it can prove that it lives.
//
// It may lose everything in the bucket: the members write it again, and until then nobody works.
// Leases keep two holders of one shard rare and short; they are not what keeps deliveries from
// being lost (that is the streams' acknowledgements).
//
// # Why two do not hold one shard
//
// The bucket has a key member.<id> for each member, which the member renews every Renew by
// compare-and-set, and a key shard.<n> for each shard, whose value is the id of its holder. A
// holder's shards are good for as long as its member key is, so one write a second proves them all.
//
//  1. A holder works until Hold after it began its last renewal that was acknowledged, by its own
//     monotonic clock. A timer of its own ends the work, whatever else is stuck.
//  2. Another member takes a shard only when the holder's key is gone, as read from the bucket's
//     leader. The key goes away when its member leaves, after its work has ended, or when it is
//     fenced: deleted, at exactly the revision that the fencing member has seen unchanged for
//     Takeover, by its own monotonic clock. That renewal was stored before it was first seen, so
//     it was begun more than Takeover ago, and Hold is less.
//  3. A fenced member's next renewal fails, because its revision is gone, and an id is never used
//     again: it comes back as another member that holds nothing.
//
// A shard is taken by compare-and-set on its own key too, so of two who want it one gets it. What
// is left is what Hold cannot end: a process that is stopped and goes on later, and work that does
// not heed its context.
package shardlease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/bucket"
)

const (
	bucketName = "shards"
	// markerKept is how long the marker of a member that is gone stays.
	markerKept = time.Hour
)

// Config is the times of leases. Every member of a deployment must have the same.
type Config struct {
	// Renew is how often a member shows that it lives. Default 1 s.
	Renew time.Duration
	// Hold is how long a member works after it began its last renewal that was acknowledged. Default 4 s.
	Hold time.Duration
	// Takeover is how long a member must be seen unchanged before it is taken for dead. Default 5 s.
	Takeover time.Duration
}

// Default is the configuration of production.
func Default() Config {
	return Config{Renew: time.Second, Hold: 4 * time.Second, Takeover: 5 * time.Second}
}

// Validate reports every fault at once.
func (c Config) Validate() error {
	var faults []error
	if c.Renew <= 0 {
		faults = append(faults, fmt.Errorf("renew is %s: want more than 0", c.Renew))
	}
	if c.Hold < 2*c.Renew {
		faults = append(faults, fmt.Errorf("hold is %s: want at least twice renew, %s", c.Hold, 2*c.Renew))
	}
	if c.Takeover <= c.Hold {
		faults = append(faults, fmt.Errorf("takeover is %s: want more than hold, %s", c.Takeover, c.Hold))
	}
	return errors.Join(faults...)
}

// Causes of the contexts that onAcquire is given.
var (
	// ErrHandover says that the shard is to go to another member: drain it and return.
	ErrHandover = errors.New("the shard is handed over")
	// ErrLapsed says that the lease cannot be proven any more: another may hold the shard soon.
	ErrLapsed = errors.New("the lease of the shard lapsed")
)

// Leases holds a fair share of the shards for one member.
type Leases struct {
	client   *stream.Client
	instance string
	layout   func() postrider.Layout
	cfg      Config
	log      *slog.Logger

	mu      sync.Mutex
	running map[int]*holding
	proof   string    // the member id whose leases are proven
	until   time.Time // until then
}

// holding is a shard for which onAcquire runs.
type holding struct {
	cancel context.CancelCauseFunc
	ending bool // its context was cancelled
}

// New makes the member named instance, for people. Layout is how many shards there are, which may
// change. Those that are in use are divided by themselves, so that nobody has only such as are not.
func New(c *stream.Client, instance string, layout func() postrider.Layout, cfg Config, log *slog.Logger) (*Leases, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure shard leases: %w", err)
	}
	if n := layout().Shards; n < 1 || n > postrider.MaxShards {
		return nil, fmt.Errorf("configure shard leases: %d shards: want 1 to %d", n, postrider.MaxShards)
	}
	return &Leases{
		client: c, instance: instance, layout: layout, cfg: cfg, log: log,
		running: make(map[int]*holding),
	}, nil
}

// Held is the shards that are held now and not about to be given back, in ascending order.
func (l *Leases) Held() []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := []int{}
	for n, h := range l.running {
		if !h.ending {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// Run joins, and holds a fair share of the shards until ctx ends. For each shard that it gets it
// calls onAcquire in a goroutine of its own, with a context that ends as soon as the lease cannot
// be proven (cause ErrLapsed) or the shard is to be handed over (ErrHandover, or ctx's own cause).
// The shard is given back when onAcquire has returned, so the next holder finds it drained; an
// onAcquire that returns of its own accord gives the shard back too, and may get it again. Run
// returns when every onAcquire has returned. It is called once.
func (l *Leases) Run(ctx context.Context, onAcquire func(ctx context.Context, shard int)) error {
	b, err := l.open(ctx)
	if err != nil {
		return err
	}
	newMember(l, b, onAcquire).run(ctx)
	return nil
}

func spec() bucket.Spec { return bucket.Spec{Name: bucketName, Description: "postrider shard leases"} }

// Inspect says how the bucket of leases stands. It changes nothing.
func Inspect(ctx context.Context, c *stream.Client) (stream.Report, error) {
	return bucket.Inspect(ctx, c, spec())
}

// open makes the bucket if nobody has yet. A server that is away is waited for.
func (l *Leases) open(ctx context.Context) (*bucket.Bucket, error) {
	logged := false
	for {
		b, err := bucket.Ensure(ctx, l.client, spec())
		if err == nil {
			return b, nil
		}
		if !logged {
			logged = true
			l.log.WarnContext(ctx, "shard leases cannot be joined yet", "error", err)
		}
		t := time.NewTimer(l.cfg.Renew)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, fmt.Errorf("join shard leases: %w", err)
		}
	}
}
