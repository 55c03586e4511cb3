package pipeline

import (
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/services/dispatcher/internal/attempt"
	"github.com/postrider/postrider/services/dispatcher/internal/evidence"
	"github.com/postrider/postrider/services/dispatcher/internal/payload"
	"github.com/postrider/postrider/services/dispatcher/internal/registry"
	"github.com/postrider/postrider/services/dispatcher/internal/settle"
)

// heldFor is how far ahead a held record's own due time is. It only bounds the hold: whoever meets
// the record then asks the webhook's state again.
const heldFor = time.Hour

// settle stores what has become of the job, and acknowledges its message after that.
func (s *shard) settle(j *job, st settle.Settlement) {
	st.Shard = s.id
	if st.Retry != nil {
		if len(j.later) > 0 {
			st.Retry.ProtoReflect().SetUnknown(j.later)
		}
		st.Retry.Follows = 0
		if j.source == evidence.Due && s.home(j) {
			st.Retry.Follows = j.msg.Sequence()
		}
	}
	if j.span != nil {
		st.Trace = j.span.SpanContext()
	}
	if j.ordered.Load() {
		j.rest = st.Retry
		st.Placed = func(sequence uint64) { j.placed = sequence }
	}
	st.Done = func() { s.settled(j) }
	s.p.deps.Settler.Settle(st)
}

// settled ends a job of which everything is stored. The memory comes before the acknowledgement:
// if that is lost, the message comes again and is known.
func (s *shard) settled(j *job) {
	switch {
	case j.passed && j.parcel != nil: // Its message is not settled by that.
	case j.passed:
		s.memory.Pass(j.source, j.msg.Sequence())
	case j.parcel != nil:
		s.memory.SettlePart(j.delivery.GetId())
	default:
		s.memory.Settle(j.source, j.msg.Sequence(), j.delivery.GetId())
	}
	// A line learns of it before another message of the delivery can be taken in, and moves on when it can: the
	// record may be released at once.
	told := j.ordered.Load()
	if told {
		s.orders.settled(j)
	}
	s.ack(j)
	s.leave(j)
	if j.ordered.Load() {
		s.orders.left(j, told)
	}
}

// conclude settles a delivery after an attempt.
func (s *shard) conclude(j *job, in *attempt.Input, r *attempt.Result) {
	s.count(j, in, r)
	progress := j.progress()
	progress.Attempts = in.Number
	if progress.GetFirstAttemptTime() == nil {
		progress.FirstAttemptTime = r.Record.GetStartTime()
	}
	progress.LastAttemptTime = timestamppb.New(r.End)
	progress.LastStatusCode = r.Record.GetStatusCode()
	progress.LastErrorClass = r.Record.GetErrorClass()

	st := settle.Settlement{Entry: j.entry(r.End)}
	st.Entry.What = &recordv1.JournalEntry_Attempted{Attempted: r.Record}
	switch r.Outcome {
	case postrider.Succeeded:
		r.Record.State = string(postrider.Delivered)
		if j.source == evidence.Due {
			s.memory.Deliver(j.delivery.GetId())
		}
	case postrider.Gone:
		s.concludeGone(j, in, r, &st)
	case postrider.Permanent:
		s.bury(j, in.Data, r.Record, causePermanent, &st)
	case postrider.Retryable:
		s.concludeRetryable(j, in, r, &st)
	}
	s.settle(j, st)
}

func (s *shard) concludeRetryable(j *job, in *attempt.Input, r *attempt.Result, st *settle.Settlement) {
	due, ok := s.next(j, in.Webhook, r)
	if !ok {
		s.bury(j, in.Data, r.Record, causeExhausted, st)
		return
	}
	r.Record.State = string(postrider.Waiting)
	r.Record.Reason = string(r.Class)
	r.Record.NextAttemptTime = timestamppb.New(due)
	if s.outlives(j, due) {
		embed(j, in.Data)
	}
	st.Retry = &recordv1.Retry{
		Delivery: j.delivery, Kind: recordv1.RetryKind_RETRY_KIND_WAITING, DueTime: timestamppb.New(due), Reason: string(r.Class),
	}
}

// next is when the webhook's schedule wants the next attempt; ok is false once it is spent.
func (s *shard) next(j *job, w *registry.Webhook, r *attempt.Result) (due time.Time, ok bool) {
	ready, err := w.Ready()
	if err != nil {
		return time.Now().Add(unreadyPause), true // It was ready for the attempt.
	}
	progress := j.progress()
	return ready.Schedule.Next(int(progress.GetAttempts()), progress.GetFirstAttemptTime().AsTime(), r.End, r.RetryAfter, random)
}

// concludeGone holds the delivery: its receiver wants no more, and its owner decides. The webhook
// is held here at once, and disabled by those who own its configuration.
func (s *shard) concludeGone(j *job, in *attempt.Input, r *attempt.Result, st *settle.Settlement) {
	r.Record.State, r.Record.Reason = string(postrider.Held), registry.HeldGone
	if in.Webhook.MarkGone() {
		s.p.gone.push(in.Webhook)
	}
	embed(j, in.Data)
	st.Retry = heldRecord(j, in.Webhook, registry.HeldGone)
	s.p.deps.Meters.Held(s.p.ctx, registry.HeldGone)
}

func heldRecord(j *job, w *registry.Webhook, reason string) *recordv1.Retry {
	return &recordv1.Retry{
		Delivery: j.delivery, Kind: recordv1.RetryKind_RETRY_KIND_HELD, DueTime: timestamppb.New(time.Now().Add(heldFor)),
		WebhookRevision: w.Revision, Reason: reason,
	}
}

// bury makes a dead letter of the delivery.
func (s *shard) bury(j *job, data []byte, last *recordv1.Attempted, cause string, st *settle.Settlement) {
	s.p.deps.Meters.Dead(s.p.ctx, s.accountClass(j), cause)
	if last != nil {
		last.State, last.Reason = string(postrider.Dead), cause
	}
	embed(j, data)
	st.Retry, st.Dead = nil, deadLetter(j, last, cause)
}

func deadLetter(j *job, last *recordv1.Attempted, cause string) *recordv1.DeadLetter {
	letter := &recordv1.DeadLetter{Delivery: j.delivery, Cause: cause, Time: timestamppb.Now()}
	if last != nil {
		letter.LastAttempt = evidence.Trim(last)
	}
	return letter
}

// embed makes the delivery carry its payload.
func embed(j *job, data []byte) {
	if j.delivery.GetDataByReference() && data != nil {
		j.delivery.Data, j.delivery.DataByReference = data, false
	}
}

// outlives says whether a delivery that waits until due may wait longer than EVENTS keeps what it
// refers to. A tenth of that time is left for what may postpone it further.
func (s *shard) outlives(j *job, due time.Time) bool {
	if !j.delivery.GetDataByReference() {
		return false
	}
	age := s.p.deps.EventsMaxAge
	return due.After(j.delivery.GetAcceptTime().AsTime().Add(age - age/10))
}

// obstacle is what settles the delivery instead of an attempt, as far as the configuration goes;
// nil if nothing stands in the way.
func (s *shard) obstacle(j *job, w *registry.Webhook, cancelled bool) func() {
	if w == nil {
		return func() { s.cancel(j, cancelledByDelete) }
	}
	if cancelled {
		return func() { s.cancel(j, cancelledByRequest) }
	}
	if reason, held := w.Held(); held {
		return func() { s.hold(j, w, reason) }
	}
	return nil
}

// cancel ends a delivery without an attempt.
func (s *shard) cancel(j *job, reason string) {
	s.p.deps.Meters.Cancelled(s.p.ctx, reason)
	e := j.entry(time.Now())
	e.What = &recordv1.JournalEntry_Cancelled{Cancelled: &recordv1.Cancelled{Reason: reason}}
	s.settle(j, settle.Settlement{Entry: e})
}

// park writes a delivery that may not be attempted now to a record. It burns no attempt.
func (s *shard) park(j *job, until time.Time, reason string) {
	if s.outlives(j, until) {
		s.withPayload(j, func() { s.park(j, until, reason) })
		return
	}
	s.p.deps.Meters.Parked(s.p.ctx, reason)
	e := j.entry(time.Now())
	e.What = &recordv1.JournalEntry_Waiting{Waiting: &recordv1.Waiting{DueTime: timestamppb.New(until), Reason: reason}}
	s.settle(j, settle.Settlement{Entry: e, Retry: parkedRecord(j, until, reason)})
}

func parkedRecord(j *job, until time.Time, reason string) *recordv1.Retry {
	return &recordv1.Retry{
		Delivery: j.delivery, Kind: recordv1.RetryKind_RETRY_KIND_PARKED, DueTime: timestamppb.New(until), Reason: reason,
	}
}

// hold writes a delivery of a paused or disabled webhook to a held record, or makes a dead letter
// of one that has been held for as long as may be.
func (s *shard) hold(j *job, w *registry.Webhook, reason string) {
	if j.delivery.GetDataByReference() {
		s.withPayload(j, func() { s.hold(j, w, reason) })
		return
	}
	now := time.Now()
	if s.heldTooLong(j, w, now) {
		s.expire(j, now)
		return
	}
	st := settle.Settlement{Retry: heldRecord(j, w, reason)}
	if !j.heldStill(now) {
		s.p.deps.Meters.Held(s.p.ctx, reason)
		st.Entry = j.entry(now)
		st.Entry.What = &recordv1.JournalEntry_Held{Held: &recordv1.Held{Reason: reason}}
	}
	s.settle(j, st)
}

// heldTooLong reckons from when the webhook was paused, the event accepted, or the delivery routed,
// replayed or redriven, whichever is latest.
func (s *shard) heldTooLong(j *job, w *registry.Webhook, now time.Time) bool {
	since := j.delivery.GetAcceptTime().AsTime()
	if t := j.delivery.GetRouteTime(); t != nil && t.AsTime().After(since) {
		since = t.AsTime()
	}
	if t := w.Config.GetStateTime(); t != nil && t.AsTime().After(since) {
		since = t.AsTime()
	}
	return now.Sub(since) > s.p.cfg.HoldMax
}

func (s *shard) expire(j *job, now time.Time) {
	st := settle.Settlement{Entry: j.entry(now)}
	st.Entry.What = &recordv1.JournalEntry_Dead{Dead: &recordv1.Dead{Cause: causeExpired}}
	s.bury(j, nil, nil, causeExpired, &st)
	s.settle(j, st)
}

// withPayload has a worker put the payload into the delivery and then go on: fetching it may take
// time, which a puller does not have.
func (s *shard) withPayload(j *job, then func()) {
	j.task = func(j *job) {
		for {
			err := s.p.deps.Payloads.Embed(s.p.ctx, j.delivery)
			if err == nil {
				then()
				return
			}
			if errors.Is(err, payload.ErrMissing) {
				s.lost(j)
				return
			}
			if !s.pause(troublePause) {
				s.giveBack(j)
				return
			}
		}
	}
	s.start(j)
}

// lost makes a dead letter of a delivery whose payload outlived its retention.
func (s *shard) lost(j *job) {
	st := settle.Settlement{Entry: j.entry(time.Now())}
	st.Entry.What = &recordv1.JournalEntry_Dead{Dead: &recordv1.Dead{Cause: causePermanent}}
	j.progress().LastErrorClass = string(postrider.ClassGoneEvent)
	s.bury(j, nil, nil, causePermanent, &st)
	s.settle(j, st)
}

// finish does for a predecessor what it journalled and did not live to hand over. There was an
// attempt, or none was allowed; in either case none is made now.
func (s *shard) finish(j *job, left *evidence.Left) {
	if left.State != postrider.Waiting && j.delivery.GetDataByReference() {
		s.withPayload(j, func() { s.finish(j, left) })
		return
	}
	if a := left.Attempted; a != nil {
		progress := j.progress()
		progress.Attempts = a.GetNumber()
		if progress.GetFirstAttemptTime() == nil {
			progress.FirstAttemptTime = a.GetStartTime()
		}
		progress.LastAttemptTime = timestamppb.New(a.GetStartTime().AsTime().Add(time.Duration(a.GetDurationUs()) * time.Microsecond))
		progress.LastStatusCode, progress.LastErrorClass = a.GetStatusCode(), a.GetErrorClass()
	}
	var st settle.Settlement
	switch left.State {
	case postrider.Waiting:
		st.Retry = parkedRecord(j, left.Due, left.Reason)
		if left.Attempted != nil {
			st.Retry.Kind = recordv1.RetryKind_RETRY_KIND_WAITING
		}
	case postrider.Held:
		st.Retry = &recordv1.Retry{
			Delivery: j.delivery, Kind: recordv1.RetryKind_RETRY_KIND_HELD, DueTime: timestamppb.New(time.Now().Add(heldFor)),
			Reason: left.Reason,
		}
		if w := s.p.deps.Registry.Webhook(j.delivery.GetWebhookId()); w != nil {
			st.Retry.WebhookRevision = w.Revision
		}
	case postrider.Dead:
		st.Dead = deadLetter(j, left.Attempted, left.Reason)
	case postrider.Pending, postrider.Delivered, postrider.Cancelled:
	}
	s.settle(j, st)
}

func (s *shard) accountClass(j *job) string {
	return s.p.deps.Registry.Account(j.delivery.GetAccountId()).Class()
}

func (s *shard) count(j *job, in *attempt.Input, r *attempt.Result) {
	ctx, class, which := j.trace, s.accountClass(j), "retry" // the trace is the example of what is counted
	if in.Number == 1 {
		which = "first"
		if !j.retry() {
			s.p.deps.Meters.FirstDelay(ctx, class, r.Start.Sub(j.delivery.GetAcceptTime().AsTime()))
		}
	}
	s.p.deps.Meters.Attempt(ctx, class, r.Outcome, r.Class, which, r.End.Sub(r.Start))
	if r.Outcome == postrider.Succeeded {
		s.p.deps.Meters.Total(ctx, class, r.End.Sub(j.delivery.GetAcceptTime().AsTime()))
	}
}
