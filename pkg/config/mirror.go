package config

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/bucket"
)

// errStopped says that a mirror was stopped.
var errStopped = errors.New("the configuration mirror is stopped")

// eventQueue is how many messages and answers wait for a mirror's loop.
const eventQueue = 256

// logEvery is how often a trouble that goes on is logged.
const logEvery = 30 * time.Second

// Mirror keeps a process's view of the configuration up to date and knows whether it is.
type Mirror struct {
	client *stream.Client
	nc     *nats.Conn
	log    *slog.Logger
	sinks  []sink
	member string
	zero   time.Time // of the mirror's monotonic clock

	until      atomic.Int64 // fresh until then, in nanoseconds after zero
	registered atomic.Int64 // the registration counts until then

	waiting atomic.Int32 // in WaitFresh

	mu      sync.Mutex
	started bool
	stopped chan struct{} // closed by Stop
	ended   chan struct{} // closed when all goroutines have ended
	cancel  context.CancelFunc
	renewed chan struct{} // closed when the mirror becomes fresh, and replaced
	watches []*watch
}

// watch is one bucket that a mirror follows.
type watch struct {
	bucket   *bucket.Bucket
	follower *bucket.Follower
	wake     chan struct{} // asks for a question at once
	pos      atomic.Uint64 // view.pos, for questions
	applied  atomic.Uint64 // view.applied, for Revision
	contact  atomic.Int64  // view.contact, for questions

	// Of the loop alone.
	view  *view
	asked time.Duration // the gap that a question was last wanted for
}

// NewMirror makes a mirror of the buckets that h has handlers for. Instance names the process for
// people, such as "router-7f9c"; two mirrors may have the same.
func NewMirror(c *stream.Client, instance string, h Handlers, log *slog.Logger) *Mirror {
	sinks := h.sinks()
	return &Mirror{
		client: c, nc: c.JetStream().Conn(), log: log, sinks: sinks,
		member: memberKey(instance, sinks), zero: time.Now(),
		stopped: make(chan struct{}), ended: make(chan struct{}), renewed: make(chan struct{}),
	}
}

// Name is for logs of the mirror's life cycle.
func (m *Mirror) Name() string { return "configuration mirror" }

// now is the mirror's clock.
func (m *Mirror) now() time.Duration { return time.Since(m.zero) }

// Fresh reports whether work may begin on what the handlers were given. Ask right before
// beginning: the answer is good for the moment.
func (m *Mirror) Fresh() bool { return int64(m.now()) < m.until.Load() }

// WaitFresh returns when the mirror is fresh, or ctx ends, or the mirror stops.
func (m *Mirror) WaitFresh(ctx context.Context) error {
	if m.Fresh() {
		return nil
	}
	// Counted before Fresh is asked again, and refresh looks at the count after it renewed: one of
	// the two sees the other.
	m.waiting.Add(1)
	defer m.waiting.Add(-1)
	for {
		m.mu.Lock()
		renewed, watches := m.renewed, m.watches
		m.mu.Unlock()
		if m.Fresh() {
			return nil
		}
		for _, w := range watches {
			w.ask()
		}
		select {
		case <-renewed:
		case <-ctx.Done():
			return fmt.Errorf("wait for fresh configuration: %w", context.Cause(ctx))
		case <-m.stopped:
			return fmt.Errorf("wait for fresh configuration: %w", errStopped)
		}
	}
}

// Revision is the revision of a watched bucket up to which the handlers were given everything; 0
// for a bucket that is not watched.
func (m *Mirror) Revision(name string) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range m.watches {
		if w.bucket.Name() == name {
			return w.applied.Load()
		}
	}
	return 0
}

// Start registers the mirror, loads every watched bucket and returns when the mirror is fresh for
// the first time. If ctx ends before, the mirror is stopped. A mirror starts once.
func (m *Mirror) Start(ctx context.Context) error {
	watches, members, err := m.open(ctx)
	if err != nil {
		return err
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	m.mu.Lock()
	if m.started {
		m.mu.Unlock()
		cancel()
		return errors.New("start configuration mirror: it was started or stopped before")
	}
	m.started, m.watches, m.cancel = true, watches, cancel
	m.mu.Unlock()

	events := make(chan event, eventQueue)
	var wg sync.WaitGroup
	wg.Go(func() { m.register(run, members) })
	for _, w := range watches {
		w.connect(run, m, events)
		wg.Go(func() { w.follower.Run(run) })
		wg.Go(func() { m.question(run, w, events) })
	}
	wg.Go(func() { m.loop(run, events) })
	go func() {
		wg.Wait()
		close(m.ended)
	}()
	if err := m.WaitFresh(ctx); err != nil {
		stop, done := context.WithTimeout(context.WithoutCancel(ctx), unregisterTimeout)
		defer done()
		return errors.Join(fmt.Errorf("start configuration mirror: %w", err), m.Stop(stop))
	}
	return nil
}

// open makes the buckets if nobody has yet: services start in any order.
func (m *Mirror) open(ctx context.Context) ([]*watch, *bucket.Bucket, error) {
	if len(m.sinks) == 0 {
		return nil, nil, errors.New("start configuration mirror: it has no handlers")
	}
	members, err := bucket.Ensure(ctx, m.client, spec(bucketMembers))
	if err != nil {
		return nil, nil, fmt.Errorf("start configuration mirror: %w", err)
	}
	watches := make([]*watch, 0, len(m.sinks))
	for _, s := range m.sinks {
		b, err := bucket.Ensure(ctx, m.client, spec(s.bucket))
		if err != nil {
			return nil, nil, fmt.Errorf("start configuration mirror: %w", err)
		}
		w := &watch{bucket: b, wake: make(chan struct{}, 1)}
		w.view = newView(s, func(key string, err error) {
			m.log.ErrorContext(ctx, "configuration record cannot be used", "bucket", s.bucket, "key", key, "error", err)
		})
		watches = append(watches, w)
	}
	return watches, members, nil
}

// Stop ends the mirror and removes its registration. It may be called twice, and without Start.
func (m *Mirror) Stop(ctx context.Context) error {
	m.mu.Lock()
	started, cancel := m.started, m.cancel
	m.started = true // a mirror that was stopped does not start
	select {
	case <-m.stopped:
	default:
		close(m.stopped)
	}
	m.mu.Unlock()
	if !started || cancel == nil {
		return nil
	}
	cancel()
	select {
	case <-m.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop configuration mirror: %w", context.Cause(ctx))
	}
}

// event is what reaches the loop: one of a scan's begin, a message, an answer.
type event struct {
	watch   *watch
	begin   bool
	renewed bool
	message *bucket.Entry
	answer  *answer
}

// connect makes the follower, whose callbacks hand everything to the loop.
func (w *watch) connect(ctx context.Context, m *Mirror, events chan<- event) {
	send := func(e event) {
		select {
		case events <- e:
		case <-ctx.Done():
		}
	}
	var logged time.Time // of the follower's goroutine
	w.follower = w.bucket.NewFollower(
		func(renewed bool) { send(event{watch: w, begin: true, renewed: renewed}) },
		func(e bucket.Entry) { send(event{watch: w, message: &e}) },
		func(err error) {
			if time.Since(logged) < logEvery {
				return
			}
			logged = time.Now()
			m.log.WarnContext(ctx, "configuration is followed anew", "bucket", w.bucket.Name(), "error", err)
		},
	)
}

// ask wants a question to be asked at once.
func (w *watch) ask() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// loop owns the views. It gives messages to the handlers, and says how far they are.
func (m *Mirror) loop(ctx context.Context, events <-chan event) {
	// After the last handler has returned, and before the registration is removed: see register.
	defer m.until.Store(0)
	announce := time.NewTicker(announceEvery)
	defer announce.Stop()
	changed := false
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			changed = m.take(e) || changed
			if len(events) > 0 {
				continue // what follows is already here
			}
			m.askTorn()
			if changed {
				m.announce()
				changed = false
			}
		case <-announce.C:
			m.announce()
			changed = false
		}
	}
}

// take brings one event into its view; true if that is further than it was.
func (m *Mirror) take(e event) (further bool) {
	w, v := e.watch, e.watch.view
	applied := v.applied
	switch {
	case e.begin:
		v.begin(m.now(), e.renewed)
	case e.message != nil:
		v.message(m.now(), *e.message)
	case e.answer != nil:
		if v.answer(*e.answer) {
			m.log.Warn("configuration bucket is another one", "bucket", w.bucket.Name())
			w.follower.Rescan(true)
		}
	}
	w.pos.Store(v.pos)
	w.applied.Store(v.applied)
	w.contact.Store(int64(v.contact))
	m.refresh()
	return v.applied != applied
}

// askTorn asks for the views that have seen a gap since they were asked for: only the answer to a
// new question makes them whole again.
func (m *Mirror) askTorn() {
	for _, w := range m.watches {
		if v := w.view; v.gap != w.asked {
			w.asked = v.gap
			w.ask()
		}
	}
}

// refresh makes the mirror as fresh as its stalest view.
func (m *Mirror) refresh() {
	until := time.Duration(math.MaxInt64)
	for _, w := range m.watches {
		until = min(until, w.view.until)
	}
	m.until.Store(int64(until))
	if until <= m.now() || m.waiting.Load() == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.renewed)
	m.renewed = make(chan struct{})
}
