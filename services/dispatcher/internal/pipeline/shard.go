package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"

	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/services/dispatcher/internal/evidence"
	"github.com/postrider/postrider/services/dispatcher/internal/health"
	"github.com/postrider/postrider/services/dispatcher/internal/lane"
	"github.com/postrider/postrider/services/dispatcher/internal/registry"
)

// Times of a shard's chores.
const (
	// tailWindow is how much of the journal's end is read at take-over: an acknowledgement follows
	// its entry within milliseconds, and the store of the acknowledgement within a second.
	tailWindow = 30 * time.Second
	// tickEvery is how often lanes with a queue are looked at.
	tickEvery = 10 * time.Millisecond
	// beatEvery is how often messages are looked at that may need a sign of progress.
	beatEvery = 2 * time.Second
	// sweepEvery and laneIdle are when lanes that are not used any more are dropped.
	sweepEvery = time.Minute
	laneIdle   = 10 * time.Minute
	// tidyEvery is how often acknowledged messages are looked for that the server has kept.
	tidyEvery = 30 * time.Second
	// troublePause is the wait between tries while a stream is away.
	troublePause = 250 * time.Millisecond
)

// shard is one held shard.
type shard struct {
	p      *Pipeline
	id     int
	ctx    context.Context //nolint:containedctx // the shard's own lifetime: its lease
	memory *evidence.Memory
	taken  time.Time // when the shard was taken
	read   time.Time // when the journal's end was read; the puller's of deliveries
	lanes  laneSet
	orders orders
	health *health.Watch

	parcels parcels

	mu        sync.Mutex
	room      sync.Cond
	jobs      map[string]*job // unsettled, by delivery
	unsettled [2]int          // by source
	head      *job            // of the list of unsettled messages, the longest untouched first
	tail      *job
	empty     chan struct{} // closed when nothing is unsettled and the shard waits for that
}

// RunShard works on a shard until ctx ends; then it gives back what was not begun, and returns
// when everything that was begun is stored, or when the pipeline is closed.
func (p *Pipeline) RunShard(ctx context.Context, id int) {
	s := &shard{p: p, id: id, ctx: ctx, memory: p.memories.Take(id, time.Now()), taken: time.Now(), jobs: map[string]*job{}}
	defer func() { p.memories.Put(id, s.memory, time.Now()) }()
	s.room.L = &s.mu
	s.lanes.init(s)
	s.orders.init(s)
	s.health = p.health.Open()
	defer s.health.Close()
	log := p.deps.Logger.With(slog.Int("shard", id))
	if err := s.remember(); err != nil {
		log.DebugContext(ctx, "shard given up before its journal was read", slog.Any("error", err))
		return
	}
	log.InfoContext(ctx, "shard taken")
	p.mu.Lock()
	p.shards[s] = struct{}{}
	p.held(id, 1)
	p.mu.Unlock()
	s.work() //nolint:contextcheck // it works by s.ctx, which is ctx
	p.mu.Lock()
	delete(p.shards, s)
	p.held(id, -1)
	p.mu.Unlock()
	ctx = context.WithoutCancel(ctx)
	if n := s.size(); n > 0 {
		p.deps.Meters.Unfinished(ctx, n)
		log.WarnContext(ctx, "shard given up with unsettled deliveries", slog.Int("unsettled", n))
		return
	}
	log.InfoContext(ctx, "shard given up")
}

// remember reads the end of the journal, before anything is pulled: what a predecessor finished
// and did not get to acknowledge must not be POSTed again.
func (s *shard) remember() error {
	for {
		s.read = time.Now()
		err := s.p.deps.Journal.Tail(s.ctx, s.id, tailWindow, func(e *recordv1.JournalEntry) error {
			s.memory.Load(e, time.Now())
			return nil
		})
		if err == nil {
			return nil
		}
		if !s.pause(troublePause) {
			return fmt.Errorf("read the journal's tail: %w", err)
		}
	}
}

func (s *shard) work() {
	stopWaiters := context.AfterFunc(s.ctx, s.wakeWaiters)
	defer stopWaiters()
	ended := make(chan struct{})
	var pulls, chores sync.WaitGroup
	pulls.Go(func() {
		s.pull("deliveries", evidence.Deliveries, func() (*stream.Consumer, error) { return s.p.deps.Deliveries.Consumer(s.ctx, s.id) })
	})
	pulls.Go(func() {
		s.pull("due", evidence.Due, func() (*stream.Consumer, error) { return s.p.deps.Retries.Due(s.ctx, s.id) })
	})
	chores.Go(func() { s.lanes.run(ended) })
	chores.Go(func() { s.beat(ended) })
	pulls.Go(s.orders.run)
	pulls.Go(s.splitParcels)
	pulls.Wait() // They end with the lease.
	for _, j := range s.orders.drain() {
		s.giveBack(j)
	}
	for _, j := range s.lanes.drain() {
		s.giveBack(j)
	}
	for _, j := range s.p.quotas.drain(s) {
		s.unbegun(j)
	}
	// What is in flight is finished and recorded although the lease is over: its message stays in
	// progress, so that the next holder is not given it meanwhile.
	select {
	case <-s.whenEmpty():
	case <-s.p.ctx.Done():
	}
	close(ended)
	chores.Wait()
}

// pull consumes a stream until the lease ends.
func (s *shard) pull(name string, source evidence.Source, open func() (*stream.Consumer, error)) {
	for s.ctx.Err() == nil {
		consumer, err := open()
		if err == nil {
			watched, end := context.WithCancel(s.ctx)
			var watching sync.WaitGroup
			watching.Go(func() { s.p.deps.Gauges.Watch(watched, consumer, strconv.Itoa(s.id)) })
			watching.Go(func() { s.tidy(watched, consumer) })
			err = consumer.WithTrouble(s.trouble(name)).Consume(s.ctx, func(m *stream.Msg) { s.handle(source, consumer.Stream(), m) })
			end()
			watching.Wait()
		}
		if err != nil && s.ctx.Err() == nil {
			s.p.deps.Logger.WarnContext(s.ctx, "consumer is away",
				slog.Int("shard", s.id), slog.String("stream", name), slog.Any("error", err))
			s.pause(time.Second)
		}
	}
}

// tidy removes what was acknowledged while the server's disk was full, and would count as in flight
// for ever.
func (s *shard) tidy(ctx context.Context, consumer *stream.Consumer) {
	ticker := time.NewTicker(tidyEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		removed, err := consumer.RemoveAcked(ctx)
		log := s.p.deps.Logger.With(slog.Int("shard", s.id), slog.String("stream", consumer.Stream()))
		switch {
		case err != nil && ctx.Err() == nil:
			log.DebugContext(ctx, "acknowledged messages not looked for", slog.Any("error", err))
		case removed > 0:
			log.WarnContext(ctx, "acknowledged messages removed that the server had kept", slog.Int64("messages", removed))
		}
	}
}

// trouble logs what a consumer survived.
func (s *shard) trouble(name string) func(error) {
	return func(err error) {
		s.p.deps.Logger.WarnContext(s.ctx, "consumer had trouble",
			slog.Int("shard", s.id), slog.String("stream", name), slog.Any("error", err))
	}
}

// pause waits; it reports false if the lease ended first.
func (s *shard) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.ctx.Done():
		return false
	}
}

// waitRoom waits until another message of the source may be taken. Whoever is slow is parked long
// before this holds anyone up; here a fast receiver's backlog meets its bound.
func (s *shard) waitRoom(source evidence.Source) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.unsettled[source] >= s.p.cfg.MaxUnsettled {
		if s.ctx.Err() != nil {
			return false
		}
		s.room.Wait()
	}
	return s.ctx.Err() == nil
}

func (s *shard) wakeWaiters() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.room.Broadcast()
}

// enter makes the job one of the unsettled. If another of the same delivery is there, other is it. A repeat from the
// stream of deliveries ends with that one: what is to become of its delivery is what becomes of the other.
func (s *shard) enter(j *job) (other *job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if other := s.jobs[j.delivery.GetId()]; other != nil {
		if j.source == evidence.Deliveries && !same(j, other) {
			other.twins = append(other.twins, j)
		}
		return other
	}
	s.jobs[j.delivery.GetId()] = j
	s.unsettled[j.source]++
	j.touched = time.Now()
	s.append(j)
	return nil
}

// same says whether two jobs are of one message, given twice.
func same(a, b *job) bool { return a.source == b.source && a.msg.Sequence() == b.msg.Sequence() }

// leave ends what enter began, and with it the need of repeats.
func (s *shard) leave(j *job) {
	s.remove(j)
	for _, twin := range j.twins {
		s.ack(twin)
	}
}

// leaveBehind ends what enter began for a delivery that was given back. Its repeats are too: one of them may be
// what holds it now.
func (s *shard) leaveBehind(j *job) {
	s.remove(j)
	for _, twin := range j.twins {
		if twin.parcel != nil {
			s.lose(twin)
		} else {
			s.nak(twin.msg, 0)
		}
	}
}

func (s *shard) remove(j *job) {
	j.end()
	s.leaveQuota(j, 0)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.jobs, j.delivery.GetId())
	s.unlink(j)
	if s.unsettled[j.source]--; s.unsettled[j.source] == s.p.cfg.MaxUnsettled-1 {
		s.room.Broadcast()
	}
	if s.empty != nil && len(s.jobs) == 0 {
		close(s.empty)
		s.empty = nil
	}
}

func (s *shard) whenEmpty() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	empty := make(chan struct{})
	if len(s.jobs) == 0 {
		close(empty)
	} else {
		s.empty = empty
	}
	return empty
}

func (s *shard) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.jobs)
}

// crowding is how much of the room for unsettled messages is taken.
func (s *shard) crowding() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return float64(max(s.unsettled[0], s.unsettled[1])) / float64(s.p.cfg.MaxUnsettled)
}

// giveBack returns a delivery that was not begun, so that another can have it at once.
func (s *shard) giveBack(j *job) {
	switch {
	case j.parcel == nil:
		s.nak(j.msg, 0)
	case j.parcel.needed(j.index):
		s.sendBack(j)
		return
	}
	s.leaveBehind(j)
}

// append and unlink keep the list of unsettled messages.
func (s *shard) append(j *job) {
	j.prev, j.next = s.tail, nil
	if s.tail != nil {
		s.tail.next = j
	} else {
		s.head = j
	}
	s.tail = j
}

func (s *shard) unlink(j *job) {
	if j.prev != nil {
		j.prev.next = j.next
	} else {
		s.head = j.next
	}
	if j.next != nil {
		j.next.prev = j.prev
	} else {
		s.tail = j.prev
	}
	j.prev, j.next = nil, nil
}

// beat keeps what is queued, in flight or not stored yet from being given to another.
func (s *shard) beat(ended <-chan struct{}) {
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			for _, m := range s.untouched(now) {
				if err := m.InProgress(); err != nil {
					s.p.deps.Logger.DebugContext(s.p.ctx, "no sign of progress sent", slog.Any("error", err))
				}
			}
		case <-ended:
			return
		}
	}
}

// untouched is the messages of which the server has not heard for a third of its patience.
func (s *shard) untouched(now time.Time) []*stream.Msg {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*stream.Msg
	for j := s.head; j != nil && now.Sub(j.touched) > stream.AckWait/3; j = s.head {
		if len(out) == 0 || out[len(out)-1] != j.msg { // Those of a parcel follow one another.
			out = append(out, j.msg)
		}
		for _, twin := range j.twins {
			out = append(out, twin.msg)
		}
		s.unlink(j)
		j.touched = now
		s.append(j)
	}
	return out
}

// lane is the webhook's lane, told of its present configuration.
func (s *shard) lane(w *registry.Webhook, now time.Time) *lane.Lane[*job] { return s.lanes.get(w, now) }
