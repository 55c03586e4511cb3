package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"

	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/services/dispatcher/internal/order"
)

const (
	// pollEvery is the shortest time between two looks at how far the routers are. All lines of the shard
	// share them, and there are none while no delivery waits for that.
	pollEvery = 20 * time.Millisecond
	// lookEvery is the shortest time between two looks at what is to be done.
	lookEvery = 3 * time.Millisecond
	// checkEvery is how often lines are looked at that do not move.
	checkEvery = time.Second
	// comingLate is after how long a delivery is looked for that was released and did not come.
	comingLate = 5 * time.Second
	// checkMost is how many records are looked at in one go whether they still stand.
	checkMost = 512
	// releaseMost is how many records are released in one go.
	releaseMost = 256
)

// chores is the work of a shard's lines that waits for somebody. It is one goroutine's.
type chores struct {
	o     *orders
	first *stream.Consumer // of the deliveries
	due   *stream.Consumer
	taken *places // what a predecessor may have in its hands; nil once that is settled
	// pending is the look at the horizon that was begun and waits for its deliveries to come.
	pending  map[*eventstream.Segment]uint64
	last     uint64 // delivery that must have come
	floor    uint64 // of the consumer of deliveries, as it was read last
	number   uint64 // of the look
	polled   time.Time
	checked  time.Time
	scans    chan struct{} // a scan has ended
	dissolve []*book
}

// places is how far the consumers were when the shard was taken.
type places struct{ deliveries, due uint64 }

// run does the chores until the lease has ended.
func (o *orders) run() {
	c := &chores{o: o, scans: make(chan struct{}, 1)}
	defer c.wait()
	if !c.begin() {
		return
	}
	timer := time.NewTimer(checkEvery)
	defer timer.Stop()
	var last time.Time
	for {
		select {
		case <-o.wake:
			// One look serves all that ring within a moment.
			if pause := time.Until(last.Add(lookEvery)); pause > 0 {
				timer.Reset(pause)
				continue
			}
		case <-timer.C:
		case <-c.scans:
			o.mu.Lock()
			o.scanning = false
			o.mu.Unlock()
		case <-o.s.ctx.Done():
			return
		}
		next := checkEvery
		last = time.Now()
		if o.used.Load() && c.step(last) {
			next = pollEvery
		}
		timer.Reset(next)
	}
}

// begin reads how far the consumers were, at the latest when the first messages were pulled: what was given
// out before that is a predecessor's, and it may still be about to store what became of it.
func (c *chores) begin() bool {
	s := c.o.s
	for {
		err := c.open(s.ctx)
		if err == nil {
			return true
		}
		c.trouble("consumers not asked", err)
		if !s.pause(time.Second) {
			return false
		}
	}
}

func (c *chores) open(ctx context.Context) (err error) {
	s := c.o.s
	if c.first, err = s.p.deps.Deliveries.Consumer(ctx, s.id); err != nil {
		return err
	}
	if c.due, err = s.p.deps.Retries.Due(ctx, s.id); err != nil {
		return err
	}
	first, err1 := c.first.Info(ctx)
	due, err2 := c.due.Info(ctx)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	c.taken = &places{first.Delivered, due.Delivered}
	return nil
}

// wait waits for a scan that is under way: it ends with the lease.
func (c *chores) wait() {
	c.o.mu.Lock()
	scanning := c.o.scanning
	c.o.mu.Unlock()
	if scanning {
		<-c.scans
	}
}

// step does what is to be done now. It reports whether there will be more soon.
func (c *chores) step(now time.Time) (soon bool) {
	soon = c.release()
	c.overdue(now)
	if now.Sub(c.checked) >= checkEvery {
		c.checked = now
		c.check(now)
	}
	if c.poll(now) {
		soon = true
	}
	if c.scan(now) {
		soon = true
	}
	c.o.mu.Lock()
	defer c.o.mu.Unlock()
	return soon || c.o.waits > 0
}

func (c *chores) trouble(what string, err error) {
	if s := c.o.s; s.ctx.Err() == nil {
		s.p.deps.Logger.DebugContext(s.ctx, "lines of ordered webhooks wait",
			slog.String("why", what), slog.Int("shard", s.id), slog.Any("error", err))
	}
}

// overdue parks what has waited for its turn in memory for too long: it takes room that others need.
func (c *chores) overdue(now time.Time) {
	o := c.o
	var park []*job
	o.mu.Lock()
	for len(o.waiting) > 0 {
		j := o.waiting[0]
		if j.waits {
			if now.Sub(j.since) < o.s.p.cfg.ParkAfter {
				break
			}
			j.waits = false
			o.waits--
			if b := o.books[j.delivery.GetWebhookId()]; b != nil {
				b.Note(entryOf(j, order.InHand))
			}
			park = append(park, j)
		}
		o.waiting[0] = nil
		o.waiting = o.waiting[1:]
	}
	o.mu.Unlock()
	for _, j := range park {
		o.s.park(j, parkedUntil(), parkedOrdering)
	}
}

// poll looks how far the routers are, if a line waits for that.
func (c *chores) poll(now time.Time) (soon bool) {
	o := c.o
	if c.pending == nil {
		wanted := map[*eventstream.Segment]uint64{}
		o.mu.Lock()
		for _, b := range o.books {
			if b.Gated() || b.scan && b.poll > o.done && !b.moving {
				wanted[b.segment] = 0
			}
		}
		if len(wanted) == 0 {
			o.mu.Unlock()
			return false
		}
		if now.Sub(c.polled) < pollEvery {
			o.mu.Unlock()
			return true
		}
		o.begun++
		c.number = o.begun
		o.mu.Unlock()
		c.polled = now
		// The order of the two reads is the argument: what was routed when the floor was read was stored
		// before that, so the stream's end covers it.
		if err := horizon(o.s.ctx, wanted); err != nil {
			c.trouble("routers not asked", err)
			return true
		}
		last, err := o.s.p.deps.Deliveries.Last(o.s.ctx, o.s.id)
		if err != nil {
			c.trouble("end of deliveries not read", err)
			return true
		}
		o.come.Reset(last)
		c.pending, c.last = wanted, last
	}
	if !c.come(c.last) {
		return true
	}
	var moves []order.Moves[*job]
	o.mu.Lock()
	o.done = c.number
	for seg, open := range c.pending {
		o.opens[seg] = max(o.opens[seg], open)
	}
	c.pending = nil
	for _, b := range o.books {
		moves = append(moves, o.advance(b))
	}
	o.mu.Unlock()
	for _, m := range moves {
		o.move(m)
	}
	return false
}

// come says whether every delivery up to a place of the stream has come, or needs not to.
func (c *chores) come(place uint64) bool {
	o := c.o
	if o.come.All(place, c.floor) {
		return true
	}
	info, err := c.first.Info(o.s.ctx)
	if err != nil {
		c.trouble("consumer not asked", err)
		return false
	}
	c.floor = floorOf(info)
	return o.come.All(place, c.floor)
}

// check looks at what does not move, and at webhooks whose configuration has changed.
func (c *chores) check(now time.Time) {
	o := c.o
	var standing []*order.Entry[*job]
	var whose []*book
	o.mu.Lock()
	for id, b := range o.books {
		w := o.s.p.deps.Registry.Webhook(id)
		if w == nil {
			delete(o.books, id) // whoever deleted it sees to what waits
			continue
		}
		if !w.Ordered() || o.s.p.deps.Deliveries.Layout().Home(b.webhook) != o.s.id {
			delete(o.books, id)
			c.dissolve = append(c.dissolve, b)
			continue
		}
		o.look(b, w.Keyed())
		if b.Empty() && now.Sub(b.used) > laneIdle {
			delete(o.books, id)
			continue
		}
		if b.Stuck(now.Add(-comingLate)) {
			o.suspect(b)
		}
		before := len(standing)
		standing = b.Resting(standing, checkMost)
		for range len(standing) - before {
			whose = append(whose, b)
		}
	}
	sequences := make([]uint64, len(standing))
	for i, e := range standing {
		sequences[i] = e.Sequence
	}
	o.mu.Unlock()
	c.standing(sequences, whose)
	c.dissolved()
}

// standing looks whether the records stand that lines wait for. One may have been cancelled, held or replaced
// by those who own it.
func (c *chores) standing(sequences []uint64, whose []*book) {
	if len(sequences) == 0 {
		return
	}
	o := c.o
	found, err := o.s.p.deps.Retries.GetAll(o.s.ctx, o.s.id, sequences)
	if err != nil {
		c.trouble("records not looked at", err)
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, rec := range found {
		if rec == nil {
			o.suspect(whose[i])
		}
	}
}

// dissolved lets go what waits for webhooks that are not ordered any more.
func (c *chores) dissolved() {
	o := c.o
	var free []*job
	o.mu.Lock()
	for _, j := range o.waiting {
		if j.waits && o.books[j.delivery.GetWebhookId()] == nil {
			j.waits = false
			o.waits--
			free = append(free, j)
		}
	}
	o.mu.Unlock()
	for _, j := range free {
		o.free(j)
	}
	var left []*book
	for _, b := range c.dissolve {
		err := o.s.p.deps.Retries.ScanAll(o.s.ctx, o.s.id, b.account, b.webhook, func(st retrystream.Standing) error {
			if !st.Due && parkedForTurn(st.Retry) {
				c.let(retrystream.Record{Shard: o.s.id, Sequence: st.Sequence, Retry: st.Retry}, func(error) {})
			}
			return nil
		})
		if err != nil {
			c.trouble("records of a webhook that is not ordered any more not released", err)
			left = append(left, b)
		}
	}
	c.dissolve = left
}

func parkedForTurn(r *recordv1.Retry) bool {
	return r.GetKind() == recordv1.RetryKind_RETRY_KIND_PARKED && r.GetReason() == parkedOrdering
}

// let releases a record.
func (c *chores) let(rec retrystream.Record, done func(error)) {
	if err := c.o.s.p.deps.Retries.Release(c.o.s.ctx, rec, done); err != nil {
		done(err)
	}
}

// release has the records released whose turn comes. Their index members are dropped when they are due.
func (c *chores) release() (more bool) {
	o := c.o
	o.mu.Lock()
	batch := o.releases
	if len(batch) > releaseMost {
		batch, more = batch[:releaseMost:releaseMost], true
	}
	o.releases = o.releases[len(batch):]
	o.mu.Unlock()
	if len(batch) == 0 {
		return false
	}
	sequences := make([]uint64, 0, len(batch))
	batch = slices.DeleteFunc(slices.Clone(batch), func(r release) bool {
		if r.sequence == 0 {
			o.released(r, retrystream.ErrGone) // nobody told us where it stands
			return true
		}
		sequences = append(sequences, r.sequence)
		return false
	})
	found, err := o.s.p.deps.Retries.GetAll(o.s.ctx, o.s.id, sequences)
	for i, r := range batch {
		switch {
		case err != nil:
			o.released(r, err)
		case found[i] == nil || found[i].Retry.GetDelivery().GetId() != r.delivery:
			o.released(r, retrystream.ErrGone)
		default:
			c.let(*found[i], func(err error) { o.released(r, err) })
		}
	}
	return more
}

// released takes the result of a release. One that is gone was released, held or cancelled by others; of one
// that failed it is not known. The streams tell.
func (o *orders) released(r release, err error) {
	if err == nil || r.b == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.suspect(r.b)
	if !errors.Is(err, retrystream.ErrGone) {
		r.b.from = time.Now().Add(suspectPause)
	}
	o.ring()
}
