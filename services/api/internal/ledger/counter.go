// Package ledger counts where every account's deliveries are, each term at its own source (ADR
// 0015), answers LedgerService and exports the terms as metrics. It keeps the last count and
// nothing else.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/services/api/internal/logstore"
)

// Terms is where an account's deliveries are. No term is computed from the others.
type Terms struct {
	Routed, Delivered, Dead, Cancelled, Waiting, Held, InFlight int64
}

// Difference is what does not add up: 0 when nothing moves and all is well.
func (t Terms) Difference() int64 {
	return t.Routed - t.Delivered - t.Dead - t.Cancelled - t.Waiting - t.Held - t.InFlight
}

// plus is the sum of both.
func (t Terms) plus(o Terms) Terms {
	return Terms{
		t.Routed + o.Routed, t.Delivered + o.Delivered, t.Dead + o.Dead, t.Cancelled + o.Cancelled,
		t.Waiting + o.Waiting, t.Held + o.Held, t.InFlight + o.InFlight,
	}
}

// Snapshot is one count.
type Snapshot struct {
	// Time when the count began.
	Time time.Time
	// Accounts that have deliveries.
	Accounts map[postrider.AccountID]Terms
	// Unrecorded messages of the journal, which the log's terms do not know yet.
	Unrecorded int64
	// Unrouted events.
	Unrouted int64
	// Took is how long the count took.
	Took time.Duration
}

// deliveryLog is all that is needed of the delivery log.
type deliveryLog interface {
	Ledger(ctx context.Context) (map[postrider.AccountID]logstore.Counts, error)
}

// recorded says how far the recorder is.
type recorded interface {
	Recorded(ctx context.Context, durable string) (floor uint64, pending int64, err error)
}

// routing says how far the routers are.
type routing interface {
	Routed(ctx context.Context) (eventstream.Routing, error)
}

// Sources is where the terms are.
type Sources struct {
	Streams  *stream.Client
	Log      deliveryLog
	Journal  recorded
	Recorder func() string // the name of the recorder's consumer
	Events   routing
	Now      func() time.Time
}

// How old a count may be that is given to another caller: sharedFor, or a multiple of the time
// that it took, so that counting takes a bounded share of the servers' time whoever asks.
const (
	sharedFor = 2 * time.Second
	share     = 20
)

// Counter counts. It is safe for concurrent use.
type Counter struct {
	sources Sources

	turn chan struct{} // held by the one that counts
	mu   sync.Mutex
	last *Snapshot
}

// NewCounter returns a counter.
func NewCounter(sources Sources) *Counter {
	return &Counter{sources: sources, turn: make(chan struct{}, 1)}
}

// Last is the last count, however old; nil before the first.
func (c *Counter) Last() *Snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// Count counts, or gives the last count if it is young.
func (c *Counter) Count(ctx context.Context) (*Snapshot, error) {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if last := c.Last(); last != nil && c.sources.Now().Sub(last.Time) < max(sharedFor, share*last.Took) {
		return last, nil
	}
	s, err := c.count(ctx)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = s
	return s, nil
}

func (c *Counter) count(ctx context.Context) (*Snapshot, error) {
	s := &Snapshot{Time: c.sources.Now(), Accounts: make(map[postrider.AccountID]Terms)}
	begun := time.Now()
	for shard := range c.sources.Streams.Layout().Streams {
		if err := c.countShard(ctx, shard, s); err != nil {
			return nil, fmt.Errorf("count shard %d: %w", shard, err)
		}
	}
	var err error
	if _, s.Unrecorded, err = c.sources.Journal.Recorded(ctx, c.sources.Recorder()); err != nil {
		return nil, fmt.Errorf("ask how far the recorder is: %w", err)
	}
	routing, err := c.sources.Events.Routed(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask how far routing is: %w", err)
	}
	s.Unrouted = routing.Pending
	log, err := c.sources.Log.Ledger(ctx)
	if err != nil {
		return nil, err
	}
	for account, n := range log {
		t := s.Accounts[account]
		t.Routed, t.Delivered, t.Dead, t.Cancelled = n.Routed, n.In[postrider.Delivered], n.In[postrider.Dead], n.In[postrider.Cancelled]
		s.Accounts[account] = t
	}
	s.Took = time.Since(begun)
	return s, nil
}

func (c *Counter) countShard(ctx context.Context, shard int, s *Snapshot) error {
	retries, err1 := retrystream.CountByAccount(ctx, c.sources.Streams, shard)
	deliveries, err2 := deliverystream.CountByAccount(ctx, c.sources.Streams, shard)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	for account, n := range retries {
		t := s.Accounts[account]
		t.Waiting, t.Held, t.InFlight = t.Waiting+n.Waiting, t.Held+n.Held, t.InFlight+n.Due
		s.Accounts[account] = t
	}
	for account, n := range deliveries {
		t := s.Accounts[account]
		t.InFlight += n
		s.Accounts[account] = t
	}
	return nil
}
