package deliverystream

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/postrider/postrider/pkg/stream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// Bounds of a message.
const (
	maxPacked = 64
	// maxPackedBytes is where a message ends that holds more than one delivery. What a dispatcher asks for ahead
	// of its work is a number of messages.
	maxPackedBytes = 64 << 10
	// queueLength is how many deliveries wait for their message before Publish blocks.
	queueLength = 4096
)

// packer puts the deliveries of a shard into messages, one account's in each. A delivery is sent at once unless its
// account has sent as much as may be lately; those that come until it may again go together. So one alone waits for
// nothing, one account does not wait for another, and the more an account has, the more a message holds.
type packer struct {
	publisher *stream.Publisher
	prefix    string
	queue     chan item
	ended     chan struct{}

	// run's own
	packs map[string]*pack // by account
	fresh []string         // accounts of packs that were begun since the last look
	rates rates
	size  int // about what a message takes, in bytes

	mu      sync.RWMutex // held for reading while a delivery is queued
	started sync.Once
	closed  bool
}

type item struct {
	delivery *recordv1.Delivery
	done     func(error)
}

// pack is a message that is being filled.
type pack struct {
	data   []byte
	before *recordv1.Delivery
	id     string // of its first delivery
	dones  []func(error)
	due    time.Time // when it may be sent
}

// newPacker makes a packer; its goroutine starts on first use and ends with the client.
func newPacker(c *stream.Client, publisher *stream.Publisher, prefix string) *packer {
	p := &packer{
		publisher: publisher, prefix: prefix, queue: make(chan item, queueLength), ended: make(chan struct{}),
		packs: map[string]*pack{}, rates: newRates(),
	}
	c.CloseWith(p.close)
	return p
}

// publish queues a delivery. It blocks while the queue is full, until ctx ends; an error means that done will not be
// called. Done is called once, when the message that holds the delivery is stored or its fate is known otherwise.
func (p *packer) publish(ctx context.Context, d *recordv1.Delivery, done func(error)) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return stream.ErrClosed
	}
	p.started.Do(func() { go p.run() }) //nolint:contextcheck // the packer outlives the call
	select {
	case p.queue <- item{d, done}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close ends the packer when the publisher is closed: what is queued is not stored, and said to be so.
func (p *packer) close() {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		p.started.Do(func() { close(p.ended) })
		close(p.queue)
	}
	p.mu.Unlock()
	<-p.ended
}

func (p *packer) run() {
	defer close(p.ended)
	timer := time.NewTimer(gap)
	timer.Stop()
	var wake time.Time // when the timer fires; zero if it does not
	for open := true; open; {
		var next time.Time
		select {
		case it, ok := <-p.queue:
			if open = ok; ok {
				p.add(it)
				open = p.gather()
			}
			next = p.sendFresh(time.Now())
		case now := <-timer.C:
			wake = time.Time{}
			next = p.sendDue(now)
		}
		if !next.IsZero() && (wake.IsZero() || next.Before(wake)) {
			wake = next
			timer.Reset(time.Until(next))
		}
	}
	for account, k := range p.packs {
		p.send(account, k)
	}
}

// sendFresh sends what was begun since the last look and is due, and says when the first of the rest is.
func (p *packer) sendFresh(now time.Time) (next time.Time) {
	for _, account := range p.fresh {
		if k := p.packs[account]; k != nil {
			next = p.sendIfDue(account, k, now, next)
		}
	}
	p.fresh = p.fresh[:0]
	return next
}

// sendDue sends all that is due, and says when the first of the rest is.
func (p *packer) sendDue(now time.Time) (next time.Time) {
	for account, k := range p.packs {
		next = p.sendIfDue(account, k, now, next)
	}
	return next
}

func (p *packer) sendIfDue(account string, k *pack, now, next time.Time) time.Time {
	switch {
	case !k.due.After(now):
		p.send(account, k)
	case next.IsZero() || k.due.Before(next):
		return k.due
	}
	return next
}

// gather takes what is queued; it is false once the queue is closed.
func (p *packer) gather() (open bool) {
	for {
		select {
		case it, ok := <-p.queue:
			if !ok {
				return false
			}
			p.add(it)
		default:
			return true
		}
	}
}

// add puts a delivery into its account's message.
func (p *packer) add(it item) {
	account := it.delivery.GetAccountId()
	k := p.packs[account]
	if k == nil {
		k = &pack{data: make([]byte, 0, p.size), id: it.delivery.GetId(), due: p.rates.due(account)}
		p.packs[account] = k
		p.fresh = append(p.fresh, account)
	}
	size := len(k.data)
	data, err := appendDelivery(k.data, k.before, it.delivery)
	if err != nil {
		it.done(err)
		if k.before == nil {
			delete(p.packs, account)
		}
		return
	}
	if size > 0 && len(data) > maxPackedBytes {
		p.send(account, k)
		p.add(it)
		return
	}
	k.data, k.before, k.dones = data, it.delivery, append(k.dones, it.done)
	if len(k.dones) == maxPacked {
		p.send(account, k)
	}
}

// send publishes an account's message. A single delivery goes under its own id, so that one which is routed twice
// within the duplicate window is stored once. Of several no message can have that: another routing puts them together
// with others. Their message has an id that is its own, for a publisher that is not answered and repeats it; a
// delivery that is stored twice is met twice by the dispatcher, which knows what it has in its hands and what it has done.
func (p *packer) send(account string, k *pack) {
	delete(p.packs, account)
	p.rates.sent(account, time.Now())
	p.size = max(len(k.data), p.size-p.size/8)
	id := k.id
	if len(k.dones) > 1 {
		id = nuid.Next()
	}
	m := &nats.Msg{
		Subject: p.prefix + account + "." + strconv.Itoa(len(k.dones)), Data: k.data,
		Header: nats.Header{jetstream.MsgIDHeader: {id}},
	}
	finish := func(err error) {
		for _, done := range k.dones {
			done(err)
		}
	}
	// The window is the only bound on how long this blocks; the publisher gives every message up when its budget
	// ends, so it does end.
	if err := p.publisher.Publish(context.Background(), m, func(_ stream.Ack, err error) { finish(err) }); err != nil {
		finish(err)
	}
}
