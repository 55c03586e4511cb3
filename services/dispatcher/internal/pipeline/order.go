package pipeline

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/services/dispatcher/internal/order"
	"github.com/postrider/postrider/services/dispatcher/internal/registry"
)

// parkedOrdering is the reason of deliveries that are parked because an earlier one of their line has not
// ended, or may be missing.
const parkedOrdering = "ordering"

// Bounds of what waits in memory for its turn in a line.
const (
	// aheadMost is how many of its line may be before a delivery that waits in memory.
	aheadMost = 256
	// waitingShare is the part of a stream's room that may wait for turns, so that lines that stand do not
	// take the room of other webhooks.
	waitingShare = 4
	// headsShown is how many blocked lines a webhook shows.
	headsShown = 20
)

// orders is the ordered webhooks of a shard: a gate before their lanes (ADR 0026). A delivery of a line gets
// the turn when three things hold:
//
//   - Of all deliveries of its line that are known to have not ended it is the one of the earliest event, and
//     no other has the turn. Which have not ended is the book's: the streams were read once, after
//     what a predecessor had in its hands was settled, and everything since then has passed through here.
//   - Routers had routed every event before its own, at a time T: routers acknowledge an event after its
//     deliveries are stored, but they do so in any order.
//   - Everything that the shard's stream of deliveries held after T has come here, or is acknowledged.
//
// A book is for one shard's lifetime: who holds the shard next reads the streams again.
type orders struct {
	s    *shard
	come order.Seen // of the stream of deliveries

	used atomic.Bool // there was an ordered webhook; before that nobody takes the lock
	wake chan struct{}

	mu       sync.Mutex
	books    map[string]*book // by webhook
	waiting  []*job           // for their turn, the longest first; some have got it since
	waits    int              // how many of them have not
	releases []release
	opens    map[*eventstream.Segment]uint64 // the last event up to which everything has come
	begun    uint64                          // polls of the horizon that began
	done     uint64                          // the last of them that ended
	scanning bool
}

// book is the lines of one webhook, and what is to be done about them.
type book struct {
	*order.Book[*job]

	account postrider.AccountID
	webhook postrider.WebhookID
	segment *eventstream.Segment
	// scan asks for a scan: not before the poll after which it may be read, nor before the time.
	scan   bool
	poll   uint64
	from   time.Time
	moving bool // what waits for it may be on another shard
	used   time.Time
}

// release is a record to be released because its turn comes, or because it has none any more.
type release struct {
	b        *book // nil if its webhook is not ordered any more
	delivery string
	sequence uint64
}

func (o *orders) init(s *shard) {
	o.s = s
	o.wake = make(chan struct{}, 1)
	o.books = map[string]*book{}
	o.opens = map[*eventstream.Segment]uint64{}
}

// ring has the chores looked at.
func (o *orders) ring() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// met says that a message of the stream of deliveries was taken in. It comes after what it holds was noted.
func (o *orders) met(m *stream.Msg) { o.come.See(m.Sequence()) }

// note enters a delivery into its line, before anything is decided about it: one that is to be held, or is
// left to be handed over, has its place too. It reports whether it has one.
func (o *orders) note(j *job, w *registry.Webhook) bool {
	keyed, ordered := w.Line(j.delivery, j.series)
	if !ordered {
		return false
	}
	j.ordered.Store(true)
	o.mu.Lock()
	defer o.mu.Unlock()
	b := o.books[w.Config.GetId()]
	if b == nil {
		b = o.open(j, keyed)
	}
	o.look(b, keyed)
	b.used = time.Now()
	b.Note(entryOf(j, order.InHand))
	return true
}

// noteLeft is note of a delivery of which a predecessor has left something to be done.
func (o *orders) noteLeft(j *job) {
	if w := o.s.p.deps.Registry.Webhook(j.delivery.GetWebhookId()); w != nil {
		o.note(j, w)
	}
}

// open makes the webhook's book. The caller holds mu.
func (o *orders) open(j *job, keyed bool) *book {
	id := j.delivery.GetWebhookId()
	account := postrider.AccountID(j.delivery.GetAccountId())
	b := &book{
		Book: order.New[*job](o.s.p.cfg.Ordering, keyed), account: account, webhook: postrider.WebhookID(id),
		segment: o.s.p.deps.Events.Of(account),
	}
	o.books[id] = b
	o.again(b)
	o.used.Store(true)
	o.ring()
	return b
}

// again has the streams read before the webhook's lines move on: after a poll that begins from now on, so that
// whatever was forwarded to this shard, or written for a predecessor, has come. The caller holds mu.
func (o *orders) again(b *book) {
	b.Forget()
	b.scan, b.poll = true, o.begun+1
}

// look follows what has changed about a webhook since its book was made. The caller holds mu.
func (o *orders) look(b *book, keyed bool) {
	if b.Keyed() != keyed {
		b.SetKeyed(keyed)
		o.again(b)
	}
	moving := len(o.s.p.deps.Deliveries.Layout().Homes(b.webhook)) > 1
	if moving != b.moving {
		b.moving = moving
		o.again(b)
	}
}

func entryOf(j *job, state order.State) order.Entry[*job] {
	d := j.delivery
	e := order.Entry[*job]{
		ID: d.GetId(), EventID: d.GetEventId(), Event: d.GetEventSequence(), Key: d.GetOrderingKey(), State: state,
		Tried: d.GetProgress().GetAttempts() > 0, At: time.Now(),
	}
	if t := d.GetProgress().GetFirstAttemptTime(); t != nil {
		e.Since = t.AsTime()
	}
	return e
}

// rested says where a record has left a delivery.
func rested(e *order.Entry[*job], r *recordv1.Retry, sequence uint64) {
	e.State, e.Sequence, e.Reason = order.Resting, sequence, r.GetReason()
	if r.GetKind() == recordv1.RetryKind_RETRY_KIND_PARKED && r.GetReason() == parkedOrdering {
		e.State = order.Parked
	}
	if r.GetKind() != recordv1.RetryKind_RETRY_KIND_HELD {
		e.Due = r.GetDueTime().AsTime()
	}
	if e.Since.IsZero() {
		e.Since = e.At
	}
}

// turn lets a delivery on to its lane if it has the turn; else it waits here for it, or is parked. It does not
// wait here if it would hardly get it soon.
func (o *orders) turn(j *job) {
	o.mu.Lock()
	b := o.books[j.delivery.GetWebhookId()]
	if b == nil {
		o.mu.Unlock()
		o.free(j)
		return
	}
	known := b.Get(j.delivery.GetId()) != nil
	ahead, blocked := b.Ahead(j.delivery.GetId())
	if !known || blocked || ahead > aheadMost || ahead > 0 && o.waits >= o.room() {
		b.Note(entryOf(j, order.InHand))
		o.mu.Unlock()
		o.s.park(j, parkedUntil(), parkedOrdering)
		return
	}
	e := entryOf(j, order.Waiting)
	e.Job = j
	j.waits, j.since = true, e.At
	b.Note(e)
	o.waiting = append(o.waiting, j)
	o.waits++
	m := o.advance(b)
	o.mu.Unlock()
	o.move(m)
	o.ring()
}

// free lets a delivery go whose webhook is not ordered any more, or not this shard's.
func (o *orders) free(j *job) {
	if o.s.elsewhere(j) {
		o.s.pass(j)
		return
	}
	o.s.offer(j)
}

func (o *orders) room() int { return max(o.s.p.cfg.MaxUnsettled/waitingShare, 1) }

// parkedUntil is far ahead, like the time of what is held: whoever keeps the line has the record released when
// its turn comes, and one that was forgotten comes by itself. Not all at once.
func parkedUntil() time.Time {
	return time.Now().Add(heldFor + time.Duration(random()*float64(heldFor/10)))
}

// advance gives turns. The caller holds mu, and then calls move without it.
func (o *orders) advance(b *book) order.Moves[*job] {
	var m order.Moves[*job]
	b.Advance(o.opens[b.segment], o.room()-o.waits, time.Now(), &m)
	for _, j := range m.Run {
		j.waits = false
		o.waits--
	}
	for _, e := range m.Release {
		o.releases = append(o.releases, release{b, e.ID, e.Sequence})
	}
	if len(m.Release) > 0 || b.Gated() {
		o.ring()
	}
	if b.Dry() && !b.scan {
		b.scan, b.poll, b.from = true, 0, time.Time{}
		o.ring()
	}
	return m
}

func (o *orders) move(m order.Moves[*job]) {
	for _, j := range m.Run {
		o.s.offer(j)
	}
}

// succeeded ends a delivery's turn when its receiver has taken it, before that is stored: a crash now repeats
// it, after later ones perhaps, but nobody gets a later one first.
func (o *orders) succeeded(j *job) {
	if j.ordered.Load() {
		o.change(j, func(b *book) { b.Remove(j.delivery.GetId()) })
	}
}

// settled says what has become of a delivery, when it is stored. It comes before the job leaves the unsettled,
// so that no other message of the delivery has been taken in; left follows.
func (o *orders) settled(j *job) {
	o.tell(j, func(b *book) { o.outcome(b, j) })
}

// outcome notes what has become of a delivery. The caller holds mu.
func (o *orders) outcome(b *book, j *job) {
	switch {
	case j.rest != nil && !j.passed:
		e := entryOf(j, order.Resting)
		rested(&e, j.rest, j.placed)
		b.Note(e)
	case j.stale: // a record stands that somebody else has written
		b.Note(entryOf(j, order.Resting))
		o.suspect(b)
	default:
		b.Remove(j.delivery.GetId())
	}
}

// left lets the line of a job that has left move. A scan that began just before it left found it in hand, although
// what has become of it was told already, or was not, because its webhook was not ordered then. In the second case the
// streams tell, and until they are read it holds up its line.
func (o *orders) left(j *job, told bool) {
	o.change(j, func(b *book) {
		if e := b.Get(j.delivery.GetId()); e == nil || e.State != order.InHand || e.Job != j {
			return
		}
		if told {
			o.outcome(b, j)
			return
		}
		b.Note(entryOf(j, order.Resting))
		o.suspect(b)
	})
}

// ended says that a delivery is known to have ended, though a message of it came.
func (o *orders) ended(j *job) {
	if o.used.Load() {
		o.change(j, func(b *book) { b.Remove(j.delivery.GetId()) })
	}
}

// change changes the webhook's lines, and lets them move.
func (o *orders) change(j *job, fn func(b *book)) {
	o.mu.Lock()
	b := o.books[j.delivery.GetWebhookId()]
	if b == nil {
		o.mu.Unlock()
		return
	}
	fn(b)
	m := o.advance(b)
	o.mu.Unlock()
	o.move(m)
}

// tell changes the webhook's lines.
func (o *orders) tell(j *job, fn func(b *book)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if b := o.books[j.delivery.GetWebhookId()]; b != nil {
		fn(b)
		return
	}
	if j.rest != nil && parkedForTurn(j.rest) && o.s.ctx.Err() == nil {
		// It was parked while its webhook ceased to be ordered: nobody else looks for it.
		o.releases = append(o.releases, release{nil, j.delivery.GetId(), j.placed})
		o.ring()
	}
}

// suspectPause is the shortest time between two scans of a webhook for something that does not fit.
const suspectPause = time.Second

// suspect has the streams read again, because the book does not say what they do. The caller holds mu.
func (o *orders) suspect(b *book) {
	if !b.scan {
		b.scan, b.poll = true, 0
	}
}

// drain takes out what waits for its turn, when the lease has ended.
func (o *orders) drain() []*job {
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []*job
	for _, j := range o.waiting {
		if j.waits {
			j.waits = false
			out = append(out, j)
		}
	}
	o.waiting, o.waits = nil, 0
	o.books = map[string]*book{}
	return out
}

// view shows the webhook's lines; false if it has none here.
func (o *orders) view(webhook string) (v order.View, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	b := o.books[webhook]
	if b == nil {
		return v, false
	}
	return b.View(headsShown), true
}

// count is how many lines there are, and how many of them are blocked.
func (o *orders) count() (blocked, lines int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, b := range o.books {
		n, all := b.Blocked()
		blocked, lines = blocked+n, lines+all
	}
	return blocked, lines
}

// routed is all that the gate needs of EVENTS. *eventstream.Stream is one.
type routed interface {
	Of(account postrider.AccountID) *eventstream.Segment
}

// horizon reads how far routers are with the segments.
func horizon(ctx context.Context, segments map[*eventstream.Segment]uint64) error {
	for seg := range segments {
		floor, _, err := seg.Routed(ctx)
		if err != nil {
			return err
		}
		segments[seg] = floor + 1
	}
	return nil
}
