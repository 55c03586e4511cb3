package pipeline

import (
	"log/slog"
	"math/bits"
	"sync"
	"time"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"

	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/services/dispatcher/internal/evidence"
)

// splitAfter is how long the deliveries of a message may share it once some of them are settled. Those that are not
// get a message each then: a receiver that hangs keeps nothing of the others' from being acknowledged.
const splitAfter = 2 * time.Second

// parcel is a message of several deliveries. It is acknowledged when each of them is settled, or stored in a message
// of its own. Until then a crash makes all of them come again; those that were settled are known by the journal.
type parcel struct {
	msg   *stream.Msg
	taken time.Time

	mu    sync.Mutex
	open  uint64 // a bit for each delivery that still needs the message
	began bool   // one of them needs it no more
	split bool   // the rest are being stored in messages of their own
	lost  bool   // one could not be given back, so that all must come again
}

func newParcel(m *stream.Msg, n int, now time.Time) *parcel {
	return &parcel{msg: m, taken: now, open: 1<<n - 1}
}

// done says that a delivery needs the message no more. It reports whether that was the last one, and the message is to
// be acknowledged, or asked for again.
func (p *parcel) done(index int) (last, again bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open&(1<<index) == 0 {
		return false, false
	}
	p.open &^= 1 << index
	p.began = true
	return p.open == 0, p.lost
}

// lose is done for a delivery that is in no other message.
func (p *parcel) lose(index int) (last bool) {
	p.mu.Lock()
	p.lost = true
	p.mu.Unlock()
	last, _ = p.done(index)
	return last
}

// needed says whether a delivery still needs the message.
func (p *parcel) needed(index int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open&(1<<index) != 0
}

// toSplit is the deliveries that are to be stored in messages of their own, now or never; none if there is no need.
func (p *parcel) toSplit(now time.Time) (open uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.split || !p.began || p.lost || p.open == 0 || now.Sub(p.taken) < splitAfter {
		return 0
	}
	p.split = true
	return p.open
}

// unsplit lets the rest be tried again.
func (p *parcel) unsplit() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.split = false
}

// takeParcel takes a message of several deliveries. If the lease ends on the way, those that were not taken in are
// given back.
func (s *shard) takeParcel(m *stream.Msg, all []*recordv1.Delivery) {
	s.refresh(m)
	p := newParcel(m, len(all), time.Now())
	s.parcels.add(p)
	for i, d := range all {
		j := &job{shard: s, source: evidence.Deliveries, msg: m, parcel: p, index: i, delivery: d, series: d.GetProgress().GetSeries()}
		if i > 0 && (!s.waitRoom(evidence.Deliveries) || !s.waitFresh()) {
			if s.enter(j) == nil {
				s.giveBack(j)
			}
			continue
		}
		s.take(j)
	}
}

// refresh reads the journal's end again, if a message comes a second time that was stored before the shard was taken: who
// held the shard then may have settled a part of it since the journal was read, and died before the rest.
func (s *shard) refresh(m *stream.Msg) {
	if m.Deliveries() <= 1 || m.Time().After(s.taken.Add(tailWindow)) || time.Since(s.read) < time.Second {
		return
	}
	if err := s.remember(); err != nil {
		s.p.deps.Logger.DebugContext(s.ctx, "shard given up before its journal was read again", slog.Any("error", err))
	}
}

// parcelDone ends a delivery's need of its message.
func (s *shard) parcelDone(p *parcel, index int) {
	last, again := p.done(index)
	if !last {
		return
	}
	s.parcels.remove(p)
	if again {
		s.nak(p.msg, 0)
		return
	}
	s.ackMessage(p.msg)
}

// sendBack gives back a delivery whose message others need, or have been settled in: it is stored in a message of
// its own. If that is refused, because the stream is full or away, the message comes again whole: nobody else takes from
// the shard, and makes room in it, before all that was not begun is given back.
func (s *shard) sendBack(j *job) {
	j.passed, j.task = true, s.storeAnew
	s.start(j)
}

func (s *shard) storeAnew(j *job) {
	err := s.p.deps.Deliveries.Again(s.p.ctx, j.delivery, func(err error) { s.forwarded(j, err) })
	if err != nil {
		s.forwarded(j, err)
	}
}

// abandon leaves a delivery that could not be sent back to the message that it came in.
func (s *shard) abandon(j *job) {
	s.lose(j)
	s.leaveBehind(j)
}

// lose has a job's message come again, when no other delivery needs it any more.
func (s *shard) lose(j *job) {
	if j.parcel.lose(j.index) {
		s.parcels.remove(j.parcel)
		s.nak(j.msg, 0)
	}
}

// parcels are a shard's messages of several deliveries that are not acknowledged.
type parcels struct {
	mu  sync.Mutex
	all map[*parcel]struct{}
}

func (l *parcels) add(p *parcel) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = map[*parcel]struct{}{}
	}
	l.all[p] = struct{}{}
}

func (l *parcels) remove(p *parcel) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, p)
}

// toSplit is the parcels that are to be split, and which of their deliveries.
func (l *parcels) toSplit(now time.Time) map[*parcel]uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found map[*parcel]uint64
	for p := range l.all {
		if open := p.toSplit(now); open != 0 {
			if found == nil {
				found = map[*parcel]uint64{}
			}
			found[p] = open
		}
	}
	return found
}

// splitParcels gives slow deliveries messages of their own, while the shard is held: at its end they are waited for.
func (s *shard) splitParcels() {
	ticker := time.NewTicker(splitAfter / 4)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			for p, open := range s.parcels.toSplit(now) {
				s.split(p, open)
			}
		case <-s.ctx.Done():
			return
		}
	}
}

// split stores each of some deliveries in a message of its own. It comes here as well and finds its delivery in hand;
// from then on that is what the delivery's end acknowledges. What is stored is as it came: the delivery in
// hand may be changing.
func (s *shard) split(p *parcel, open uint64) {
	all, err := deliverystream.Decode(p.msg)
	if err != nil {
		return // It was read before.
	}
	for ; open != 0; open &= open - 1 {
		index := bits.TrailingZeros64(open)
		err := s.p.deps.Deliveries.Again(s.ctx, all[index], func(err error) {
			if err != nil {
				p.unsplit()
				return
			}
			s.parcelDone(p, index)
		})
		if err != nil {
			p.unsplit()
			return
		}
	}
}
