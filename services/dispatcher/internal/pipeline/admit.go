package pipeline

import (
	"errors"
	"log/slog"
	"time"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/services/dispatcher/internal/evidence"
	"github.com/postrider/postrider/services/dispatcher/internal/lane"
	"github.com/postrider/postrider/services/dispatcher/internal/registry"
)

// Reasons for ending or parking a delivery that no attempt gave.
const (
	cancelledByRequest = "request"
	cancelledByDelete  = "webhook_deleted"
	parkedUnready      = "configuration"
	causeExhausted     = "exhausted"
	causePermanent     = "permanent"
	causeExpired       = "expired"
)

// What was found about messages that came again, for the metric.
const (
	foundSettled    = "settled"
	foundLeft       = "left"
	foundInFlight   = "in_flight"
	foundSuperseded = "superseded"
	foundDelivered  = "delivered"
	foundNothing    = "nothing"
)

// twinPause is after how long a message is asked for again whose delivery is being worked on
// through another message.
const twinPause = 2 * time.Second

// lineTwinPause is that of a delivery in a line: its record may be released as soon as it is stored, and those behind
// it wait.
const lineTwinPause = 20 * time.Millisecond

// handle takes a message of a stream: it is settled at once, queued, or given to a worker. It waits only for
// what all deliveries wait for: room in memory, a fresh configuration, a journal that takes more.
func (s *shard) handle(source evidence.Source, from string, m *stream.Msg) {
	if !s.waitRoom(source) || !s.waitFresh() {
		s.nak(m, 0)
		return
	}
	if source == evidence.Due {
		s.handleDue(m)
		return
	}
	all, err := deliverystream.Decode(m)
	if m.Deliveries() == 1 {
		now := time.Now()
		for _, d := range all {
			s.p.deps.Pace.Took(from, d.GetAccountId(), m.Time(), now)
		}
	}
	switch {
	case err != nil || !complete(all):
		s.malformed(m, err)
	case len(all) == 1:
		s.take(&job{shard: s, source: source, msg: m, delivery: all[0], series: all[0].GetProgress().GetSeries()})
	default:
		s.takeParcel(m, all)
	}
	s.orders.met(m)
}

func (s *shard) handleDue(m *stream.Msg) {
	r, fired, err := retrystream.DecodeDue(m)
	if err != nil || !complete([]*recordv1.Delivery{r.GetDelivery()}) {
		s.malformed(m, err)
		return
	}
	s.take(&job{
		shard: s, source: evidence.Due, msg: m, delivery: r.GetDelivery(), series: r.GetDelivery().GetProgress().GetSeries(),
		kind: r.GetKind(), fired: fired, later: r.ProtoReflect().GetUnknown(), due: r,
	})
}

// complete says whether deliveries name what they are and whom they are for.
func complete(all []*recordv1.Delivery) bool {
	for _, d := range all {
		if d.GetId() == "" || d.GetWebhookId() == "" {
			return false
		}
	}
	return true
}

// take does what handle is for with a delivery that was read.
func (s *shard) take(j *job) {
	// It enters before it is asked what is known: another message of its delivery that is settled meanwhile was found in
	// hand, or is known.
	if other := s.enter(j); other != nil {
		s.twin(j, other)
		return
	}
	past := s.past(j)
	if s.settledBefore(j, past) {
		s.leave(j)
		return
	}
	j.begin(s.p.ctx)
	if left := s.left(j, past); left != nil {
		s.resume(j, left)
		return
	}
	if s.elsewhere(j) {
		s.pass(j)
		return
	}
	s.admit(j)
}

func (s *shard) nak(m *stream.Msg, delay time.Duration) {
	if err := m.Nak(delay); err != nil {
		s.p.deps.Logger.DebugContext(s.p.ctx, "message not given back", slog.Any("error", err))
	}
}

// ack ends a job's need of its message.
func (s *shard) ack(j *job) {
	if j.parcel != nil {
		s.parcelDone(j.parcel, j.index)
		return
	}
	s.ackMessage(j.msg)
}

func (s *shard) ackMessage(m *stream.Msg) {
	if err := m.Ack(); err != nil {
		s.p.deps.Meters.NotAcknowledged(s.p.ctx)
		s.p.deps.Logger.DebugContext(s.p.ctx, "message not acknowledged", slog.Any("error", err))
	}
}

func (s *shard) waitFresh() bool {
	return s.p.deps.Mirror.Fresh() || s.p.deps.Mirror.WaitFresh(s.ctx) == nil
}

// malformed ends a message that cannot be read. It never will be, so it must not come again.
func (s *shard) malformed(m *stream.Msg, err error) {
	s.p.deps.Meters.Malformed(s.p.ctx)
	s.p.deps.Logger.ErrorContext(s.p.ctx, "message cannot be decoded",
		slog.Int("shard", s.id), slog.Uint64("sequence", m.Sequence()), slog.Any("error", err))
	if err := m.Term("malformed"); err != nil {
		s.p.deps.Logger.DebugContext(s.p.ctx, "message not terminated", slog.Any("error", err))
	}
}

// settledBefore acknowledges a message of which everything is known to be stored: it came again
// because its acknowledgement did not get there, its event was routed again, or it was due and its
// delivery is delivered.
func (s *shard) settledBefore(j *job, past evidence.Past) bool {
	switch {
	case j.parcel == nil && j.msg.Deliveries() > 1 && s.memory.Settled(j.source, j.msg.Sequence()):
		s.p.deps.Meters.Redelivered(s.p.ctx, foundSettled)
	case j.source == evidence.Deliveries && s.memory.Begun(j.delivery.GetId()):
		s.p.deps.Meters.Redelivered(s.p.ctx, foundSettled)
	case j.source == evidence.Due && s.memory.Delivered(j.delivery.GetId()):
		s.p.deps.Meters.Redelivered(s.p.ctx, foundDelivered)
		s.orders.ended(j)
	case past.Ended || j.parcel != nil && s.memory.Delivered(j.delivery.GetId()):
		s.p.deps.Meters.Redelivered(s.p.ctx, foundDelivered)
		s.orders.ended(j)
	default:
		return false
	}
	s.ack(j)
	return true
}

// twin deals with a message whose delivery is being worked on. The same message, given again, is
// settled by the work on the first, and so is a repeat of the delivery's first; a due one has to wait for the end
// of that work, for it may be what follows.
func (s *shard) twin(j, other *job) {
	s.p.deps.Meters.Redelivered(s.p.ctx, foundInFlight)
	if same(j, other) && j.parcel != nil {
		s.parcels.remove(j.parcel) // The first is what is split, and acknowledged.
	}
	if j.source == evidence.Deliveries || same(j, other) {
		return
	}
	if other.ordered.Load() {
		s.nak(j.msg, lineTwinPause)
		return
	}
	s.nak(j.msg, twinPause)
}

// past is what predecessors journalled of a delivery that comes in a new message, because its event
// was routed again. A later series has left this one behind: it has ended too.
func (s *shard) past(j *job) evidence.Past {
	if j.source != evidence.Deliveries || j.parcel == nil && j.msg.Deliveries() > 1 {
		return evidence.Past{}
	}
	p, ok := s.memory.Past(j.delivery.GetId(), time.Now())
	if ok && p.Series > j.delivery.GetProgress().GetSeries() {
		return evidence.Past{Ended: true}
	}
	return p
}

func (s *shard) left(j *job, past evidence.Past) *evidence.Left {
	if j.parcel != nil || j.msg.Deliveries() <= 1 {
		return past.Left
	}
	return s.memory.Left(j.source, j.msg.Sequence(), time.Now())
}

// resume goes on with what a predecessor has left of a delivery. If that is known by the delivery and not by its message, it
// may have been handed over long ago: a message that others share is acknowledged late.
func (s *shard) resume(j *job, left *evidence.Left) {
	if j.source == evidence.Deliveries && (j.parcel != nil || j.msg.Deliveries() <= 1) {
		over, known := s.handedOver(j)
		if !known {
			s.giveBack(j)
			return
		}
		if over {
			s.p.deps.Meters.Redelivered(s.p.ctx, foundSuperseded)
			j.stale = true
			s.settled(j)
			return
		}
	}
	s.p.deps.Meters.Redelivered(s.p.ctx, foundLeft)
	s.orders.noteLeft(j)
	s.finish(j, left)
}

// handedOver says whether RETRIES has a delivery: its record, or its due message. A release makes the second in the step that
// removes the first, so they are looked for in that order. Known is false if the lease ended before that could be told.
func (s *shard) handedOver(j *job) (yes, known bool) {
	account, webhook := postrider.AccountID(j.delivery.GetAccountId()), postrider.WebhookID(j.delivery.GetWebhookId())
	for {
		_, err := s.p.deps.Retries.Last(s.ctx, account, webhook, postrider.DeliveryID(j.delivery.GetId()))
		if err == nil {
			return true, true
		}
		if errors.Is(err, retrystream.ErrGone) {
			if yes, err = s.p.deps.Retries.IsDue(s.ctx, s.id, account, webhook, postrider.DeliveryID(j.delivery.GetId())); err == nil {
				return yes, true
			}
		}
		if !s.pause(troublePause) {
			return false, false
		}
	}
}

// admit asks the webhook's configuration, its line if it is ordered, its account's limits and then its lane
// what becomes of the delivery. The account's come before the lane's: what they park has not touched those.
func (s *shard) admit(j *job) {
	w, cancelled := s.p.deps.Registry.Find(j.delivery.GetWebhookId(), j.delivery.GetId(), registry.EventMark(j.delivery))
	ordered := w != nil && w.Ordered() && s.orders.note(j, w)
	if settle := s.obstacle(j, w, cancelled); settle != nil {
		settle()
		return
	}
	if ordered {
		s.orders.turn(j)
		return
	}
	s.enterLane(j, w)
}

// offer goes on with a delivery that has the turn in its line. It may have waited for it.
func (s *shard) offer(j *job) {
	w, cancelled := s.p.deps.Registry.Find(j.delivery.GetWebhookId(), j.delivery.GetId(), registry.EventMark(j.delivery))
	if settle := s.obstacle(j, w, cancelled); settle != nil {
		settle()
		return
	}
	s.enterLane(j, w)
}

func (s *shard) enterLane(j *job, w *registry.Webhook) {
	now := time.Now()
	if !s.enterQuota(j, now) {
		return
	}
	j.lane = s.lane(w, now)
	decision, probe, parking := j.lane.Offer(now, j, j.retry())
	switch decision {
	case lane.Run:
		j.probe = probe
		s.run(j)
	case lane.Queued:
		s.lanes.watch(j.lane)
	case lane.Park:
		s.leaveQuota(j, 0)
		s.park(j, parking.Until, parking.Reason)
	}
}

// start gives the job to a worker of its own kind: a storm of retries cannot take the slots of first
// attempts.
func (s *shard) start(j *job) {
	if j.retry() {
		s.p.retries.push(j)
	} else {
		s.p.first.push(j)
	}
}

// move does what a lane set free.
func (s *shard) move(m *lane.Moves[*job]) {
	for _, ticket := range m.Run {
		ticket.Job.probe = ticket.Probe
		ticket.Job.shard.run(ticket.Job)
	}
	for _, p := range m.Park {
		p.Job.shard.leaveQuota(p.Job, 0)
		p.Job.shard.park(p.Job, p.Until, p.Reason)
	}
	m.Reset()
}

// release gives a job's place in its lane back.
func (s *shard) release(j *job) {
	var moves lane.Moves[*job]
	j.lane.Release(time.Now(), j.probe, &moves)
	s.move(&moves)
	s.leaveQuota(j, 0)
}
