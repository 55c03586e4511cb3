// Package payload fetches the data of events that deliveries only refer to. It is a cache: an
// event's deliveries come close together, so the first fetch serves them all. Losing it costs
// fetching again.
package payload

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/eventstream"
)

// ErrMissing says that the event's data is not kept any more.
var ErrMissing = errors.New("the event's data outlived its retention")

// events is all that the cache needs of EVENTS. *eventstream.Stream is one.
type events interface {
	Get(ctx context.Context, account postrider.AccountID, sequence uint64) (*recordv1.Event, error)
	Find(ctx context.Context, account postrider.AccountID, id postrider.EventID) (*recordv1.Event, uint64, error)
}

// shards is how many parts the cache has, each with a lock of its own.
const shards = 16

// Cache is a bounded LRU of payloads by their place in EVENTS. It is safe for concurrent use.
type Cache struct {
	events events
	parts  [shards]part
}

type part struct {
	mu       sync.Mutex
	limit    int
	size     int
	items    map[place]*list.Element
	order    list.List // of *item, the least recently used last
	inFlight map[place]*call
}

// place is where an event is in EVENTS: a sequence means nothing without the account.
type place struct {
	account  postrider.AccountID
	sequence uint64
}

type item struct {
	place place
	event string
	data  []byte
}

// cost is what the item takes of the cache, with about what keeping it costs.
func (i *item) cost() int { return len(i.data) + 256 }

// call is a fetch that others wait for.
type call struct {
	done chan struct{}
	item *item
	err  error
}

// New returns a cache of at most so many bytes of data.
func New(source events, bytes int) *Cache {
	c := &Cache{events: source}
	for i := range c.parts {
		c.parts[i].limit = bytes / shards
		c.parts[i].items = map[place]*list.Element{}
		c.parts[i].inFlight = map[place]*call{}
	}
	return c
}

// Data is the payload of a delivery: its own, or its event's. It must not be changed.
func (c *Cache) Data(ctx context.Context, d *recordv1.Delivery) ([]byte, error) {
	if !d.GetDataByReference() {
		return d.GetData(), nil
	}
	it, err := c.at(ctx, place{postrider.AccountID(d.GetAccountId()), d.GetEventSequence()})
	if err == nil && it.event == d.GetEventId() {
		return it.data, nil
	}
	if err != nil {
		if errors.Is(err, eventstream.ErrNotFound) {
			return nil, ErrMissing
		}
		return nil, fmt.Errorf("fetch event %s: %w", d.GetEventId(), err)
	}
	// Another event stands there: EVENTS was restored, and its sequences mean something else now.
	ev, _, err := c.events.Find(ctx, postrider.AccountID(d.GetAccountId()), postrider.EventID(d.GetEventId()))
	if errors.Is(err, eventstream.ErrNotFound) {
		return nil, ErrMissing
	}
	if err != nil {
		return nil, fmt.Errorf("find event %s: %w", d.GetEventId(), err)
	}
	return ev.GetData(), nil
}

// Embed puts the payload into a delivery that may outlive its event.
func (c *Cache) Embed(ctx context.Context, d *recordv1.Delivery) error {
	if !d.GetDataByReference() {
		return nil
	}
	data, err := c.Data(ctx, d)
	if err != nil {
		return err
	}
	d.Data, d.DataByReference = data, false
	return nil
}

// at is the event at a place; many who ask at once cause one fetch.
func (c *Cache) at(ctx context.Context, at place) (*item, error) {
	p := &c.parts[at.sequence%shards]
	for {
		it, running, mine := p.look(at)
		if it != nil {
			return it, nil
		}
		if mine {
			p.finish(running, at, c.fetch(ctx, at))
			return running.item, running.err
		}
		select {
		case <-running.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		// A fetch that ended with its own caller's context says nothing to the others.
		if errors.Is(running.err, context.Canceled) || errors.Is(running.err, context.DeadlineExceeded) {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			continue
		}
		return running.item, running.err
	}
}

type fetched struct {
	item *item
	err  error
}

func (c *Cache) fetch(ctx context.Context, at place) fetched {
	ev, err := c.events.Get(ctx, at.account, at.sequence)
	if err != nil {
		return fetched{err: err}
	}
	return fetched{item: &item{place: at, event: ev.GetId(), data: ev.GetData()}}
}

// look finds the item, or the fetch to wait for, or makes the caller the one who fetches.
func (p *part) look(at place) (it *item, running *call, mine bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e, ok := p.items[at]; ok {
		p.order.MoveToFront(e)
		it, _ := e.Value.(*item)
		return it, nil, false
	}
	if running, ok := p.inFlight[at]; ok {
		return nil, running, false
	}
	running = &call{done: make(chan struct{})}
	p.inFlight[at] = running
	return nil, running, true
}

func (p *part) finish(running *call, at place, f fetched) {
	running.item, running.err = f.item, f.err
	p.mu.Lock()
	delete(p.inFlight, at)
	if f.err == nil && f.item.cost() <= p.limit {
		p.items[at] = p.order.PushFront(f.item)
		p.size += f.item.cost()
		for p.size > p.limit {
			p.evict()
		}
	}
	p.mu.Unlock()
	close(running.done)
}

func (p *part) evict() {
	last, _ := p.order.Remove(p.order.Back()).(*item)
	delete(p.items, last.place)
	p.size -= last.cost()
}
