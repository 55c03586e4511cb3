package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"
)

// Publisher publishes asynchronously with a bounded window. It has one inbox and one goroutine,
// which start on first use.
//
// A slot of the window is taken in Publish and given back when the fate of its message is known.
// Replies find their slot by a token in the reply subject that is never used twice, so a late
// reply to a message that was given up can not be taken for an acknowledgement of another.
type Publisher struct {
	name    string
	nc      *nats.Conn
	tracer  trace.Tracer
	timeout time.Duration
	budget  time.Duration
	tick    time.Duration

	slots []slot
	free  chan uint32 // numbers of free slots; its length bounds what is in flight

	closed  atomic.Bool
	closing chan struct{}
	wake    chan struct{}
	armed   atomic.Bool // whether the sweep runs

	sent     atomic.Uint64 // sends in all
	answered uint64        // order of the latest send that was answered; run's own

	flush sync.Mutex // one Flush at a time

	start struct {
		sync.Mutex
		done   atomic.Bool
		prefix string
		sub    *nats.Subscription
		ended  chan struct{}
	}
	replies *mailbox
	streams map[string]string // names seen in acknowledgements, to share their memory
}

// slot is one message in flight.
type slot struct {
	mu         sync.Mutex
	generation uint64
	token      uint64 // 0 when the slot is free
	msg        *nats.Msg
	done       func(Ack, error)
	first      time.Time // when it was sent first
	sent       time.Time // when it was sent last
	retryAt    time.Time // when to send it again; zero while an answer is awaited
	order      uint64    // place of its last send among all sends
	sends      int
	unanswered int // sends whose outcome is not known
}

const (
	slotBits = 16 // of a token; the rest is the slot's generation
	maxTick  = 50 * time.Millisecond
	minTick  = 5 * time.Millisecond
	// maxPause bounds the pause before a message that was refused for now is sent again.
	maxPause = 500 * time.Millisecond
)

// NewPublisher makes a publisher with a window of its own; a window of 0 takes the configured
// one. The client closes it.
func (c *Client) NewPublisher(name string, window int) *Publisher {
	if window <= 0 {
		window = c.cfg.PublishWindow
	}
	window = min(window, maxWindow)
	p := &Publisher{
		name:    name,
		nc:      c.nc,
		tracer:  c.tracer,
		timeout: c.cfg.PublishTimeout,
		budget:  c.cfg.PublishBudget,
		tick:    min(max(c.cfg.PublishTimeout/40, minTick), maxTick),
		slots:   make([]slot, window),
		free:    make(chan uint32, window),
		closing: make(chan struct{}),
		wake:    make(chan struct{}, 1),
		replies: newMailbox(),
		streams: make(map[string]string),
	}
	for i := range p.slots {
		p.free <- uint32(i)
	}
	c.CloseWith(p.Close)
	return p
}

// Publish sends the message and returns; done is called when its fate is known. It blocks while
// the window is full, until ctx ends. An error means that nothing was sent and that done will
// not be called; otherwise done is called exactly once, on the publisher's goroutine and in order
// of publishing where nothing had to be repeated. It must not block. The message belongs to the
// publisher until then.
//
// A message whose acknowledgement does not come within the publish timeout is published again,
// with the same headers, until the budget ends. So a message needs an id or an expected sequence,
// or readers that can bear it twice.
func (p *Publisher) Publish(ctx context.Context, m *nats.Msg, done func(Ack, error)) error {
	if err := p.begin(); err != nil {
		return err
	}
	i, err := p.acquire(ctx)
	if err != nil {
		return err
	}
	done = p.traced(m, done)
	s := &p.slots[i]
	s.mu.Lock()
	// Close reads every slot after it set closed, so a message is either refused here or found
	// there.
	if p.closed.Load() {
		s.mu.Unlock()
		p.free <- i
		return ErrClosed
	}
	s.generation++
	token := s.generation<<slotBits | uint64(i)
	s.order = p.sent.Add(1)
	now := time.Now()
	s.token, s.msg, s.done = token, m, done
	s.first, s.sent, s.retryAt = now, now, time.Time{}
	s.sends, s.unanswered = 1, 1
	m.Reply = p.reply(token)
	s.mu.Unlock()

	p.arm()
	if err := p.nc.PublishMsg(m); err != nil {
		return p.sendFailed(i, token, err)
	}
	return nil
}

// PublishSync publishes and waits for the fate of the message. When ctx ends first, the error
// has ErrUnknown in its chain.
func (p *Publisher) PublishSync(ctx context.Context, m *nats.Msg) (Ack, error) {
	type outcome struct {
		ack Ack
		err error
	}
	fate := make(chan outcome, 1)
	if err := p.Publish(ctx, m, func(ack Ack, err error) { fate <- outcome{ack, err} }); err != nil {
		return Ack{}, err
	}
	select {
	case o := <-fate:
		return o.ack, o.err
	case <-ctx.Done():
		return Ack{}, fmt.Errorf("%w: %w", ErrUnknown, ctx.Err())
	}
}

// Name is the publisher's name.
func (p *Publisher) Name() string { return p.name }

// InFlight is the number of messages whose fate is not known yet.
func (p *Publisher) InFlight() int { return len(p.slots) - len(p.free) }

// Flush returns when nothing is in flight, or ctx ends. What is published meanwhile waits.
func (p *Publisher) Flush(ctx context.Context) error {
	p.flush.Lock()
	defer p.flush.Unlock()
	held := make([]uint32, 0, len(p.slots))
	defer func() {
		for _, i := range held {
			p.free <- i
		}
	}()
	for range p.slots {
		i, err := p.acquire(ctx)
		if err != nil {
			return err
		}
		held = append(held, i)
	}
	return nil
}

// Close reports what is in flight as ErrUnknown and ErrClosed, and returns when the publisher's
// goroutine has ended.
func (p *Publisher) Close() {
	if p.closed.CompareAndSwap(false, true) {
		close(p.closing)
	}
	p.start.Lock()
	ended := p.start.ended
	p.start.Unlock()
	if ended != nil {
		<-ended
	}
}

// begin subscribes the inbox and starts the goroutine, once.
func (p *Publisher) begin() error {
	if p.start.done.Load() {
		return nil
	}
	p.start.Lock()
	defer p.start.Unlock()
	if p.start.done.Load() {
		return nil
	}
	if p.closed.Load() {
		return ErrClosed
	}
	p.start.prefix = p.nc.NewInbox() + "."
	sub, err := p.replies.subscribe(p.nc, p.start.prefix+"*")
	if err != nil {
		return err
	}
	p.start.sub, p.start.ended = sub, make(chan struct{})
	go p.run()
	p.start.done.Store(true)
	return nil
}

// acquire takes a free slot.
func (p *Publisher) acquire(ctx context.Context) (uint32, error) {
	select {
	case i := <-p.free:
		return i, nil
	default:
	}
	select {
	case i := <-p.free:
		return i, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-p.closing:
		return 0, ErrClosed
	}
}

func (p *Publisher) reply(token uint64) string {
	var buf [64]byte
	b := append(buf[:0], p.start.prefix...)
	return string(strconv.AppendUint(b, token, 36))
}

// arm starts the sweep if it rests. The slot was taken before, so a sweep that goes to rest now
// sees it.
func (p *Publisher) arm() {
	if p.armed.Load() || !p.armed.CompareAndSwap(false, true) {
		return
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// sendFailed deals with a first send that the connection did not take. A fault of the message is
// the caller's; trouble of the connection is waited out.
func (p *Publisher) sendFailed(i uint32, token uint64, err error) error {
	s := &p.slots[i]
	s.mu.Lock()
	if s.token != token {
		s.mu.Unlock()
		return nil // done was called already, by Close.
	}
	if hopeless(err) && s.sends == 1 {
		s.clear()
		s.mu.Unlock()
		p.free <- i
		return sendError(err)
	}
	s.unanswered = max(s.unanswered-1, 0)
	s.retryAt = time.Now().Add(s.pause())
	s.mu.Unlock()
	return nil
}

// hopeless reports whether sending again cannot help.
func hopeless(err error) bool {
	return !errors.Is(err, nats.ErrReconnectBufExceeded) && !errors.Is(err, nats.ErrDisconnected) &&
		!errors.Is(err, nats.ErrTimeout)
}

func sendError(err error) error {
	switch {
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrConnectionDraining):
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return fmt.Errorf("%w: %w", ErrRefused, err)
}

// clear empties the slot; its mutex is held.
func (s *slot) clear() { s.token, s.msg, s.done = 0, nil, nil }

// pause grows with the number of sends.
func (s *slot) pause() time.Duration {
	return min(maxTick<<min(s.sends, 10), maxPause)
}

// run settles replies and sweeps for what was not answered.
func (p *Publisher) run() {
	defer close(p.start.ended)
	timer := time.NewTimer(p.tick)
	defer timer.Stop()
	reconnects := p.nc.Stats().Reconnects
	lastReply := time.Now()
	for {
		select {
		case <-p.replies.filled:
			for _, m := range p.replies.take() {
				p.settle(m)
			}
			lastReply = time.Now()
		case <-p.wake:
			timer.Reset(p.tick)
		case <-timer.C:
			if !p.replies.empty() {
				timer.Reset(p.tick) // the answers that are here come before any doubt
				continue
			}
			now := p.nc.Stats().Reconnects
			p.sweep(time.Now(), lastReply, now != reconnects)
			reconnects = now
			if p.rest() {
				continue
			}
			timer.Reset(p.tick)
		case <-p.closing:
			_ = p.start.sub.Unsubscribe()
			p.abandon()
			return
		}
	}
}

// rest reports whether the sweep may stop until arm.
func (p *Publisher) rest() bool {
	if p.InFlight() > 0 {
		return false
	}
	p.armed.Store(false)
	return p.InFlight() == 0 || !p.armed.CompareAndSwap(false, true)
}

// settle gives a reply to the message it answers.
func (p *Publisher) settle(m *nats.Msg) {
	if len(m.Subject) <= len(p.start.prefix) {
		return
	}
	token, err := strconv.ParseUint(m.Subject[len(p.start.prefix):], 36, 64)
	if err != nil {
		return
	}
	i := uint32(token & (1<<slotBits - 1))
	if int(i) >= len(p.slots) {
		return
	}
	ack, err := p.parse(m)
	s := &p.slots[i]
	s.mu.Lock()
	if s.token != token {
		s.mu.Unlock()
		return
	}
	if s.sends == 1 { // of several sends, which one is answered is not told
		p.answered = max(p.answered, s.order)
	}
	if err != nil {
		s.unanswered = max(s.unanswered-1, 0)
		if transient(err) {
			// This send stored nothing. Others of the same message may still be answered.
			s.retryAt = time.Now().Add(s.pause())
			s.mu.Unlock()
			return
		}
		err = s.judge(err)
	}
	p.finish(i, ack, err)
}

// judge says what a refusal means when the message was sent more than once: an earlier send may
// have been stored and its answer lost. The id settles it, except for an expected sequence, which
// a single server checks before the id.
func (s *slot) judge(err error) error {
	if s.unanswered == 0 {
		return err
	}
	if s.msg.Header.Get(jetstream.MsgIDHeader) != "" && !errors.Is(err, ErrWrongSequence) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnknown, err)
}

// finish calls done and gives the slot back. The slot's mutex is held, and released.
func (p *Publisher) finish(i uint32, ack Ack, err error) {
	s := &p.slots[i]
	done := s.done
	s.clear()
	s.mu.Unlock()
	done(ack, err)
	p.free <- i
}

// sweep ends what is over its budget, and sends again what waited too long for an answer, or
// what a lost connection may have swallowed.
func (p *Publisher) sweep(now, lastReply time.Time, reconnected bool) {
	connected := p.nc.IsConnected()
	// While answers come, a server that is behind with one message is behind with it, and to send
	// the message again would put it further behind. Only an answer to a later message shows that
	// the one to this is lost.
	silent := now.Sub(lastReply) >= p.timeout
	for n := range p.slots {
		i := uint32(n)
		s := &p.slots[i]
		s.mu.Lock()
		switch {
		case s.token == 0:
		case now.Sub(s.first) >= p.budget:
			err := ErrUnknown
			if s.unanswered == 0 {
				err = ErrUnavailable
			}
			p.finish(i, Ack{}, fmt.Errorf("%w after %s and %d tries", err, p.budget, s.sends))
			continue
		case !connected:
			// What is buffered by the connection now would only be doubled.
		case s.due(now, p.timeout, silent || p.answered > s.order) || reconnected && s.retryAt.IsZero():
			p.resend(i, now)
			continue
		}
		s.mu.Unlock()
	}
}

// due reports whether the message should be sent again. Each wait for an answer is twice as long as
// the one before.
func (s *slot) due(now time.Time, timeout time.Duration, lost bool) bool {
	if !s.retryAt.IsZero() {
		return !now.Before(s.retryAt)
	}
	return lost && now.Sub(s.sent) >= timeout<<min(s.sends-1, 8)
}

// resend publishes the slot's message again. The slot's mutex is held, and released.
func (p *Publisher) resend(i uint32, now time.Time) {
	s := &p.slots[i]
	m := s.msg
	s.sent, s.retryAt = now, time.Time{}
	s.sends++
	s.unanswered++
	s.order = p.sent.Add(1)
	s.mu.Unlock()
	err := p.nc.PublishMsg(m)
	if err == nil {
		return
	}
	s.mu.Lock()
	s.unanswered = max(s.unanswered-1, 0)
	if !hopeless(err) {
		s.retryAt = now.Add(s.pause())
		s.mu.Unlock()
		return
	}
	err = sendError(err)
	if s.unanswered > 0 {
		err = fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	p.finish(i, Ack{}, err)
}

// abandon reports everything in flight.
func (p *Publisher) abandon() {
	for n := range p.slots {
		i := uint32(n)
		s := &p.slots[i]
		s.mu.Lock()
		if s.token == 0 {
			s.mu.Unlock()
			continue
		}
		p.finish(i, Ack{}, fmt.Errorf("%w: %w", ErrUnknown, ErrClosed))
	}
}
