package pipeline

import (
	"errors"
	"log/slog"
	"time"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/services/dispatcher/internal/attempt"
	"github.com/postrider/postrider/services/dispatcher/internal/breaker"
	"github.com/postrider/postrider/services/dispatcher/internal/evidence"
	"github.com/postrider/postrider/services/dispatcher/internal/health"
	"github.com/postrider/postrider/services/dispatcher/internal/lane"
	"github.com/postrider/postrider/services/dispatcher/internal/payload"
	"github.com/postrider/postrider/services/dispatcher/internal/quota"
	"github.com/postrider/postrider/services/dispatcher/internal/registry"
)

// unreadyPause is how long deliveries are parked whose webhook cannot be prepared.
const unreadyPause = time.Minute

// work is what a worker does with a job.
func (p *Pipeline) work(j *job) {
	if j.task != nil {
		j.task(j)
		return
	}
	j.shard.attempt(j)
}

// attempt takes a delivery through its last stations:
//
//	is it stale -> does its webhook still want it -> payload -> render and sign -> begin -> send ->
//	judge -> settle
//
// The webhook and the cancel mark are checked again, and last, because the job may have waited.
// Rendering and signing come before that check, so that nothing that takes time lies between it
// and the request. The timeout wraps the request alone, so that waiting for a slot is not counted.
func (s *shard) attempt(j *job) {
	if s.ctx.Err() != nil {
		s.unbegun(j)
		return
	}
	stale, known := s.superseded(j)
	if !known {
		s.unbegun(j)
		return
	}
	if stale {
		s.release(j)
		s.p.deps.Meters.Redelivered(s.p.ctx, foundSuperseded)
		j.stale = true
		s.settled(j)
		return
	}
	for {
		w, cancelled := s.p.deps.Registry.Find(j.delivery.GetWebhookId(), j.delivery.GetId(), registry.EventMark(j.delivery))
		if settle := s.obstacle(j, w, cancelled); settle != nil {
			s.release(j)
			settle()
			return
		}
		if s.try(j, w) {
			return
		}
	}
}

// unbegun gives back a delivery that has a place in its lane.
func (s *shard) unbegun(j *job) {
	s.release(j)
	s.giveBack(j)
}

// superseded says whether a message that came again, or that the server fired by itself, is
// stale: a record of its delivery stands that was written after it. Releasing and firing remove a
// record in the same step that makes the due message; but a server that was killed within that step
// keeps the record, and if it leads then, one that is older than the message proves nothing. Known
// is false if the lease ended before that could be told.
func (s *shard) superseded(j *job) (stale, known bool) {
	if j.msg.Deliveries() <= 1 && !j.fired {
		return false, true
	}
	for {
		standing, err := s.p.deps.Retries.Last(s.ctx, postrider.AccountID(j.delivery.GetAccountId()),
			postrider.WebhookID(j.delivery.GetWebhookId()), postrider.DeliveryID(j.delivery.GetId()))
		if err == nil && (j.source == evidence.Deliveries || standing.Shard != s.id || standing.Sequence > j.msg.Sequence()) {
			return true, true
		}
		if err == nil || errors.Is(err, retrystream.ErrGone) {
			if j.msg.Deliveries() > 1 {
				s.p.deps.Meters.Redelivered(s.p.ctx, foundNothing)
			}
			return false, true
		}
		if !s.pause(troublePause) {
			return false, false
		}
	}
}

// try makes the attempt, unless something changes on the way; then it is to be tried anew.
func (s *shard) try(j *job, w *registry.Webhook) (done bool) {
	in := &attempt.Input{
		Delivery: j.delivery, Webhook: w, Account: s.p.deps.Registry.Account(j.delivery.GetAccountId()),
		Number: j.delivery.GetProgress().GetAttempts() + 1, Trigger: attempt.TriggerSchedule,
	}
	var err error
	in.Data, err = s.p.deps.Payloads.Data(s.ctx, j.delivery)
	if errors.Is(err, payload.ErrMissing) {
		s.unsendable(j, in, s.p.deps.Maker.Fail(in, postrider.ClassGoneEvent, err.Error()))
		return true
	}
	if err != nil { // EVENTS is away.
		if !s.pause(troublePause) {
			s.unbegun(j)
			return true
		}
		return false
	}
	if now := time.Now(); overdue(j, w, now) {
		s.release(j)
		embed(j, in.Data)
		s.expire(j, now)
		return true
	}
	prepared, failed, err := s.p.deps.Maker.Prepare(j.trace, in)
	if err != nil {
		s.unready(j, w, err)
		return true
	}
	if failed != nil {
		s.unsendable(j, in, failed)
		return true
	}
	if !s.p.deps.Mirror.Fresh() {
		prepared.Discard()
		if !s.waitFresh() {
			s.unbegun(j)
			return true
		}
		return false
	}
	began, ok := s.p.deps.Registry.Begin(w, in.Account, j.delivery.GetId(), registry.EventMark(j.delivery))
	if !ok {
		prepared.Discard()
		return false
	}
	j.lane.Sending(time.Now())
	result := s.p.deps.Maker.Send(s.p.ctx, prepared, began)
	if result.Aborted { // The process ends, and the lane with it.
		s.giveBack(j)
		return true
	}
	s.judged(j, result)
	if result.Outcome == postrider.Succeeded {
		s.orders.succeeded(j)
	}
	s.saw(j, result)
	s.conclude(j, in, result)
	return true
}

// overdue says whether the webhook's schedule gave the delivery up while it waited, for its turn or
// parked. One that was held waited for its owner, and gets an attempt.
func overdue(j *job, w *registry.Webhook, now time.Time) bool {
	first := j.delivery.GetProgress().GetFirstAttemptTime()
	if first == nil || j.kind == recordv1.RetryKind_RETRY_KIND_HELD {
		return false
	}
	ready, err := w.Ready()
	return err == nil && ready.Schedule.Expired(first.AsTime(), now)
}

// judged tells the webhook's lane, and does what that sets free. It comes before anything is
// stored, so that the receiver's pace does not depend on the journal's.
func (s *shard) judged(j *job, r *attempt.Result) {
	res := lane.Result{
		Start: r.Start, Probe: j.probe, Succeeded: r.Outcome == postrider.Succeeded,
		Overloaded: r.Throttle || r.Class == postrider.ClassTimeout,
	}
	if r.Pause {
		res.PauseUntil = r.RetryAfter
	}
	var moves lane.Moves[*job]
	state, changed := j.lane.Done(time.Now(), res, &moves)
	if changed {
		s.p.deps.Meters.Breaker(s.p.ctx, state.String())
		if state == breaker.Open {
			s.p.deps.Logger.DebugContext(s.p.ctx, "breaker opened", slog.String("webhook", j.delivery.GetWebhookId()))
		}
	}
	s.move(&moves)
	j.stage = quota.Sent
	s.leaveQuota(j, r.End.Sub(r.Start))
}

// saw tells of an attempt what counts for disabling a webhook that fails for long. A receiver that
// is gone has a rule of its own, and a proxy's failure is none of the receiver's.
func (s *shard) saw(j *job, r *attempt.Result) {
	succeeded := r.Outcome == postrider.Succeeded
	if !succeeded && (r.Outcome != postrider.Retryable || r.Class == postrider.ClassProxy) {
		return
	}
	s.health.Saw(&health.Outcome{
		Account: j.delivery.GetAccountId(), Webhook: j.delivery.GetWebhookId(), Succeeded: succeeded,
		Start: r.Start, End: r.End, StatusCode: r.Record.GetStatusCode(), ErrorClass: string(r.Class),
	})
}

// unsendable concludes a delivery that can never be sent as it is. Nothing is learnt of the
// receiver.
func (s *shard) unsendable(j *job, in *attempt.Input, r *attempt.Result) {
	s.release(j)
	s.conclude(j, in, r)
}

// unready parks a delivery because of our own trouble with its webhook.
func (s *shard) unready(j *job, w *registry.Webhook, err error) {
	s.release(j)
	if w.Complain() {
		s.p.deps.Logger.ErrorContext(s.p.ctx, "webhook cannot be attempted",
			slog.String("webhook", w.Config.GetId()), slog.Uint64("revision", w.Revision), slog.Any("error", err))
	}
	s.park(j, time.Now().Add(unreadyPause), parkedUnready)
}
