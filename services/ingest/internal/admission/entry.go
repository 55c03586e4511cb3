package admission

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/services/ingest/internal/dedup"
)

// Request asks to accept one event. What it refers to must not change until there is a verdict.
type Request struct {
	// Account that the event is for; the caller has the right to publish for it.
	Account postrider.AccountID
	// Event as the producer gave it.
	Event *postriderv1.EventInput
	// IdempotencyKey, if any.
	IdempotencyKey string
	// Traceparent of the acceptance, valid or empty.
	Traceparent string
	// FieldPrefix stands before the names of the event's own fields in errors: "event." over gRPC.
	FieldPrefix string
}

// dedupKey is the request's deduplication key in full, empty if it has none. The prefixes keep an
// idempotency key and an id apart; NUL cannot stand in an id.
func (r *Request) dedupKey() string {
	switch {
	case r.IdempotencyKey != "":
		return "key:" + r.IdempotencyKey
	case r.Event.GetId() != "":
		return "id:" + r.Event.GetSource() + "\x00" + r.Event.GetId()
	}
	return ""
}

// entry is one event on its way. One goroutine at a time works on it; queues hand it on.
type entry struct {
	event  *recordv1.Event
	keyed  bool
	claim  dedup.Claim
	result dedup.Result // of the last claim
	tries  int          // how often the key was pending
	began  time.Time
	weight int64
	class  string      // of the account
	gone   atomic.Bool // nobody waits for the verdict any more
	done   func(Verdict)

	// What ends has to do, and the verdict that follows.
	end      ending
	finished dedup.Finished
	verdict  Verdict
}

// ending is what becomes of an entry's claim.
type ending int

const (
	endFinish  ending = iota + 1 // its event is stored
	endRelease                   // nothing was stored
	endReclaim                   // nothing was stored by an earlier holder either: begin anew
)

// overhead is what an event in flight takes beside its data, roughly.
const overhead = 1 << 10

// take checks a request and makes an entry of it. A request that breaks a rule is answered at
// once, before any store hears of it, and gives nil.
func (a *Admission) take(req *Request, done func(Verdict)) *entry {
	now := time.Now()
	warnings, window, err := a.check(req, now)
	if err == nil {
		// After the rules, so that what breaks them counts for nobody's share; before the claim, so
		// that what is refused leaves its key as it was.
		if wait, ok := a.gate.Take(req.Account, now); !ok {
			err = errShare(wait)
		}
	}
	if err != nil {
		a.metrics.verdict(a.dir.Class(req.Account), req.Traceparent, now, Verdict{Err: err})
		done(Verdict{Err: err})
		return nil
	}
	contentType := req.Event.GetContentType()
	if contentType == "" {
		contentType = DefaultContentType
	}
	e := &entry{began: now, done: done, class: a.dir.Class(req.Account), weight: int64(len(req.Event.GetData())) + overhead}
	body := fingerprint(req.Event, contentType)
	key := req.dedupKey()
	e.event = &recordv1.Event{
		AccountId: string(req.Account), Type: req.Event.GetType(), Source: req.Event.GetSource(), GivenId: req.Event.GetId(),
		Time: req.Event.GetTime(), Labels: req.Event.GetLabels(), ContentType: contentType,
		OrderingKey: req.Event.GetOrderingKey(), DeliverAt: req.Event.GetDeliverAt(), DedupKey: key,
		Fingerprint: body[:], Traceparent: req.Traceparent, Extensions: req.Event.GetExtensions(),
		Warnings: warnings, Data: req.Event.GetData(),
	}
	e.keyed = key != ""
	e.claim = dedup.Claim{Account: req.Account, Fingerprint: body, Event: ulid.Make(), Window: window}
	if e.keyed {
		e.claim.Key, e.claim.Token = dedup.KeyOf(req.Account, key), dedup.NewToken()
	}
	e.result = dedup.Result{Outcome: dedup.Claimed, Event: e.claim.Event}
	return e
}

// check says what is wrong with a request, or what its receipt has to warn of and how long its
// key lasts.
func (a *Admission) check(req *Request, now time.Time) (warnings []string, window time.Duration, err error) {
	c := checker{prefix: req.FieldPrefix}
	if len(c.check(req, &a.cfg, now)) > 0 {
		return nil, 0, c.fault()
	}
	account, ok := a.dir.look(req.Account, req.Event.GetType())
	if !ok {
		if !a.dir.fresh() {
			return nil, 0, errStale()
		}
		return nil, 0, errAccount(req.Account)
	}
	if !account.known {
		switch account.policy {
		case postriderv1.UnknownTypePolicy_UNKNOWN_TYPE_POLICY_REJECT:
			return nil, 0, errUnknownType(req.Event.GetType())
		case postriderv1.UnknownTypePolicy_UNKNOWN_TYPE_POLICY_WARN:
			warnings = []string{fmt.Sprintf("the event type %q is not in the account's catalogue", req.Event.GetType())}
		case postriderv1.UnknownTypePolicy_UNKNOWN_TYPE_POLICY_UNSPECIFIED, postriderv1.UnknownTypePolicy_UNKNOWN_TYPE_POLICY_ALLOW:
		}
	}
	if account.strict {
		if err := checkStable(req); err != nil {
			return nil, 0, err
		}
	}
	if account.schema != nil {
		broken, err := account.schema.hold(req)
		if err != nil {
			return nil, 0, err
		}
		warnings = append(warnings, broken...)
	}
	return warnings, account.window, nil
}

// submit sends entries on their way: those with a key together to the queue of claims, the others
// straight to EVENTS. It blocks while there is no room. Room is taken for a whole part at once and
// the part then moves on, so two batches never wait for room that the other one holds.
func (a *Admission) submit(ctx context.Context, entries ...*entry) {
	for len(entries) > 0 {
		n, weight := 1, entries[0].weight
		for n < len(entries) && weight+entries[n].weight <= a.cfg.MaxInFlightBytes/4 {
			weight += entries[n].weight
			n++
		}
		part := entries[:n]
		entries = entries[n:]
		if err := a.acquire(ctx, weight); err != nil {
			for _, e := range part {
				a.refuse(e, err)
			}
			continue
		}
		a.start(ctx, part)
	}
}

// acquire takes room, and waits for it no longer than EVENTS is tried.
func (a *Admission) acquire(ctx context.Context, weight int64) error {
	if a.room.TryAcquire(weight) {
		return nil
	}
	a.pressed.Add(1)
	defer a.pressed.Add(-1)
	bounded, cancel := context.WithTimeout(ctx, a.cfg.PublishBudget)
	defer cancel()
	err := a.room.Acquire(bounded, weight)
	if err != nil && ctx.Err() == nil {
		return errOverloaded()
	}
	if err != nil {
		return fmt.Errorf("wait for room: %w", ctx.Err())
	}
	return nil
}

// start counts entries in and begins with them.
func (a *Admission) start(ctx context.Context, entries []*entry) {
	keyed := make([]*entry, 0, len(entries))
	var plain []*entry
	for _, e := range entries {
		switch {
		case !a.enter(e):
			a.room.Release(e.weight)
			a.refuse(e, errStopping())
		case e.keyed:
			keyed = append(keyed, e)
		default:
			plain = append(plain, e)
		}
	}
	a.claimKeys(keyed...)
	if len(plain) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, a.sendWithin())
	defer cancel()
	for _, e := range plain {
		a.publish(ctx, e)
	}
}

// claimKeys has the keys of entries claimed, those of each segment together.
func (a *Admission) claimKeys(entries ...*entry) {
	for len(entries) > 0 {
		segment, n := a.segment(entries[0]), 1
		for n < len(entries) && a.segment(entries[n]) == segment {
			n++
		}
		a.claims[segment].add(entries[:n]...)
		entries = entries[n:]
	}
}

// segment is that of the entry's account.
func (a *Admission) segment(e *entry) int { return postrider.SegmentOf(e.claim.Account, len(a.claims)) }

// refuse answers an entry that was not counted in.
func (a *Admission) refuse(e *entry, err error) {
	v := Verdict{Err: err}
	a.metrics.verdict(e.class, e.event.GetTraceparent(), e.began, v)
	e.done(v)
}

// answer gives an entry its verdict and its room back.
func (a *Admission) answer(e *entry, v Verdict) {
	a.metrics.verdict(e.class, e.event.GetTraceparent(), e.began, v)
	a.room.Release(e.weight)
	a.leave(e)
	e.done(v)
}

// receipt says that the event with the id is stored at the sequence.
func (e *entry) receipt(id ulid.ULID, sequence uint64, duplicate bool) *postriderv1.Receipt {
	r := &postriderv1.Receipt{
		EventId: string(postrider.EventIDOf(id)), Sequence: sequence, Duplicate: duplicate,
		AcceptTime: acceptTime(id), Warnings: e.event.GetWarnings(),
	}
	r.DedupWindow = e.window()
	return r
}

// window is how far back the check for duplicates could look.
func (e *entry) window() postriderv1.DedupWindow {
	switch {
	case !e.keyed:
		return postriderv1.DedupWindow_DEDUP_WINDOW_NONE
	case e.result.Degraded:
		return postriderv1.DedupWindow_DEDUP_WINDOW_DEGRADED
	default:
		return postriderv1.DedupWindow_DEDUP_WINDOW_FULL
	}
}

// acceptTime is when an event counts as accepted: when its id was chosen. Whoever takes a claim
// over stores the same time with the same id.
func acceptTime(id ulid.ULID) *timestamppb.Timestamp { return timestamppb.New(ulid.Time(id.Time())) }
