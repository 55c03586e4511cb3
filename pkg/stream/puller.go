package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// errDeleted says that the durable is gone.
var errDeleted = errors.New("consumer was deleted")

const (
	pullExpires   = 30 * time.Second
	pullHeartbeat = 5 * time.Second
	// pullSilence is how long a pull request may stay without a message or a heartbeat.
	pullSilence = 2*pullHeartbeat + time.Second
	pullTick    = time.Second
	checkWait   = 2 * time.Second
	// drainWait bounds how long an ending run waits for the server to stop sending.
	drainWait = 2 * time.Second
)

// puller is one run of a Consumer: its reader asks for messages and queues them, its caller's
// goroutine handles them.
type puller struct {
	con     *Consumer
	subject string // of pull requests
	inbox   string
	arrived *mailbox
	more    chan struct{} // the queue ran low
	filled  chan struct{} // the handler waits and there is something

	mu          sync.Mutex
	queue       ring
	outstanding int // asked for and neither here nor expired
	asked       bool
	idle        bool
}

func newPuller(c *Consumer) *puller {
	return &puller{
		con:     c,
		subject: "$JS.API.CONSUMER.MSG.NEXT." + c.stream + "." + c.durable,
		inbox:   c.c.nc.NewInbox(),
		arrived: newMailbox(),
		more:    make(chan struct{}, 1),
		filled:  make(chan struct{}, 1),
		queue:   newRing(2 * c.batch),
	}
}

// run handles messages until ctx ends or the durable is gone.
func (p *puller) run(ctx context.Context, handle func(*Msg)) error {
	sub, err := p.arrived.subscribe(p.con.c.nc, p.inbox)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var reader sync.WaitGroup
	reader.Go(func() { cancel(p.read(ctx)) })
	p.handle(ctx, handle)
	cancel(nil)
	reader.Wait()
	err = context.Cause(ctx)
	if errors.Is(err, errDeleted) {
		_ = sub.Unsubscribe()
		return err
	}
	p.giveBack(sub)
	return err
}

// handle gives what is queued to fn, one by one.
func (p *puller) handle(ctx context.Context, fn func(*Msg)) {
	for ctx.Err() == nil {
		if m := p.pop(); m != nil {
			fn(m)
			continue
		}
		select {
		case <-p.filled:
		case <-ctx.Done():
			return
		}
	}
}

// pop takes the next message, or nil if there is none, and asks for more in time.
func (p *puller) pop() *Msg {
	p.mu.Lock()
	m := p.queue.pop()
	p.idle = m == nil
	ask := !p.asked && p.low()
	if ask {
		p.asked = true
	}
	p.mu.Unlock()
	if ask {
		signal(p.more)
	}
	return m
}

// low reports whether half the batch is used up; the mutex is held.
func (p *puller) low() bool { return p.outstanding+p.queue.len() <= p.con.batch/2 }

// push queues a message that arrived.
func (p *puller) push(m *Msg) {
	p.mu.Lock()
	p.outstanding = max(p.outstanding-1, 0)
	p.queue.push(m)
	wake := p.idle
	p.idle = false
	p.mu.Unlock()
	if wake {
		signal(p.filled)
	}
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// read asks for messages and sorts what arrives, until ctx ends or the durable is gone.
func (p *puller) read(ctx context.Context) error {
	nc := p.con.c.nc
	status := nc.StatusChanged(nats.CONNECTED)
	defer nc.RemoveStatusListener(status)
	tick := time.NewTicker(pullTick)
	defer tick.Stop()
	heard := time.Now()
	suspect := false // whether the durable may be gone, or its leader away
	progress := heard
	p.ask()
	for {
		select {
		case <-p.arrived.filled:
			heard = time.Now()
			trouble, err := p.sortAll(heard)
			if err != nil {
				return err
			}
			suspect = suspect || trouble
		case <-p.more:
			if !suspect {
				p.ask()
			}
		case <-status:
			// What was asked for on the old connection is lost with its inbox.
			heard, suspect = time.Now(), false
			p.forget()
			p.ask()
		case now := <-tick.C:
			if now.Sub(progress) >= AckWait/4 {
				progress = now
				p.keep(now)
			}
			if !nc.IsConnected() || !suspect && !p.silent(now.Sub(heard)) {
				continue
			}
			gone, err := p.check(ctx)
			if gone {
				return errDeleted
			}
			if suspect = err != nil; suspect {
				p.con.report(err)
				continue
			}
			heard = time.Now()
			p.forget()
			p.ask()
		case <-ctx.Done():
			return nil
		}
	}
}

// silent reports whether an answer to a pull request is overdue.
func (p *puller) silent(since time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.outstanding > 0 && since > pullSilence
}

// check asks whether the durable is there.
func (p *puller) check(ctx context.Context) (gone bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, checkWait)
	defer cancel()
	ok, err := p.con.exists(ctx)
	if err != nil {
		return false, fmt.Errorf("look for consumer %s of %s: %w", p.con.durable, p.con.stream, err)
	}
	return !ok, nil
}

// ask requests what the batch has room for, if the queue is low.
func (p *puller) ask() {
	p.mu.Lock()
	p.asked = false
	n := 0
	if p.low() {
		n = p.con.batch - p.outstanding - p.queue.len()
		p.outstanding += n
	}
	p.mu.Unlock()
	if n <= 0 {
		return
	}
	body := fmt.Appendf(nil, `{"expires":%d,"batch":%d,"idle_heartbeat":%d}`, pullExpires, n, pullHeartbeat)
	if err := p.con.c.nc.PublishRequest(p.subject, p.inbox, body); err != nil {
		// The connection is away; its return asks again.
		p.forget()
	}
}

// forget writes off what was asked for.
func (p *puller) forget() {
	p.mu.Lock()
	p.outstanding = 0
	p.mu.Unlock()
}

// expired subtracts what a request that ended left unserved, and asks again.
func (p *puller) expired(n int) {
	p.mu.Lock()
	p.outstanding = max(p.outstanding-n, 0)
	p.mu.Unlock()
	p.ask()
}

// sortAll sorts everything that arrived.
func (p *puller) sortAll(now time.Time) (trouble bool, err error) {
	for _, raw := range p.arrived.take() {
		doubt, lost := p.sort(raw, now)
		trouble, err = trouble || doubt, errors.Join(err, lost)
	}
	return trouble, err
}

// sort queues a message, or reads what the server says about a request. Trouble means that the
// durable should be looked for before the next request.
func (p *puller) sort(raw *nats.Msg, now time.Time) (trouble bool, err error) {
	if len(raw.Data) > 0 || len(raw.Header) == 0 || raw.Header.Get("Status") == "" {
		if m, ok := newMsg(p.con, raw); ok {
			m.touched = now
			p.push(m)
		}
		return false, nil
	}
	description := raw.Header.Get("Description")
	switch status := raw.Header.Get("Status"); status {
	case "100": // heartbeat
		return false, nil
	case "404", "408": // no messages, expired
		p.expired(pendingOf(raw))
		return false, nil
	case "409":
		switch {
		case strings.EqualFold(description, "Consumer Deleted"):
			return false, errDeleted
		case raw.Header.Get("Nats-Pending-Messages") != "": // batch completed, size exceeded
			p.expired(pendingOf(raw))
			return false, nil
		}
		// A leader that steps down, a server that shuts down: its requests are gone with it.
		p.forget()
		return true, nil
	default: // 503 nobody listens, 400 malformed, 412 too old a server
		p.con.report(fmt.Errorf("pull from %s of %s: %s %s", p.con.durable, p.con.stream, status, description))
		p.forget()
		return true, nil
	}
}

func pendingOf(raw *nats.Msg) int {
	n, err := strconv.Atoi(raw.Header.Get("Nats-Pending-Messages"))
	if err != nil {
		return 0
	}
	return n
}

// keep tells the server that what waits in the queue is not forgotten. Without it a handler that
// is blocked for longer than the ack wait would see its own queue again.
func (p *puller) keep(now time.Time) {
	p.mu.Lock()
	old := p.queue.older(now.Add(-AckWait / 4))
	for _, m := range old {
		m.touched = now
	}
	p.mu.Unlock()
	for _, m := range old {
		_ = m.InProgress() // a lost sign costs a redelivery
	}
}

// giveBack returns what was not handled, so that it need not wait for the ack wait to pass. What the
// server sent before it learned that we are going is given back too: the subscription is drained,
// not dropped.
func (p *puller) giveBack(sub *nats.Subscription) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for m := p.queue.pop(); m != nil; m = p.queue.pop() {
		_ = m.Nak(0)
	}
	drained := make(chan struct{})
	// The client calls the handler again when the end of the drain and Unsubscribe meet.
	var once sync.Once
	sub.SetClosedHandler(func(string) { once.Do(func() { close(drained) }) })
	if err := sub.Drain(); err != nil {
		_ = sub.Unsubscribe()
		return
	}
	// Without a connection there is nothing to wait for, and nobody to give it to.
	late := time.NewTimer(drainWait)
	defer late.Stop()
	for {
		select {
		case <-p.arrived.filled:
			p.refuse()
		case <-drained:
			p.refuse()
			return
		case <-late.C:
			_ = sub.Unsubscribe()
			return
		}
	}
}

// refuse gives back what arrived.
func (p *puller) refuse() {
	for _, raw := range p.arrived.take() {
		if m, ok := newMsg(p.con, raw); ok {
			_ = m.Nak(0)
		}
	}
}
