package admission

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/services/ingest/internal/dedup"
)

// seams are where tests let a process die: an entry for which one returns true is dropped there,
// and nobody hears of it again.
type seams struct {
	afterClaim   func() bool
	afterPublish func() bool
	beforeFinish func() bool
}

func dies(seam func() bool) bool { return seam != nil && seam() }

// sendWithin is how long after its claim an event may be handed to EVENTS, so that its fate is
// known before the claim can be taken over.
func (a *Admission) sendWithin() time.Duration {
	return a.cfg.Takeover - a.cfg.PublishBudget - margin
}

// holdLimit is how long a publish waits for others who hold its key: long enough for one silent
// holder to be taken over and for another one to come to an end.
func (a *Admission) holdLimit() time.Duration { return a.cfg.Takeover + 2*a.cfg.PublishBudget }

// claimBatch claims the keys of all entries in one call and sends each one on. They are of one segment,
// and one goroutine runs it for each. It blocks while the segment takes nothing more, so that no claims
// are made that could not be used.
func (a *Admission) claimBatch(ctx context.Context, entries []*entry) {
	entries = a.stillWanted(entries, time.Now())
	if len(entries) == 0 {
		return
	}
	send, cancel := context.WithTimeout(ctx, a.sendWithin())
	defer cancel()
	claims, results := make([]dedup.Claim, len(entries)), make([]dedup.Result, len(entries))
	for i, e := range entries {
		claims[i] = e.claim
	}
	a.index.Claim(ctx, claims, results)
	for i, e := range entries {
		e.result = results[i]
		a.metrics.claim(e.result.Outcome)
		if dies(a.seams.afterClaim) {
			continue
		}
		a.claimed(send, e)
	}
}

// claimed goes on with an entry after its claim was answered.
func (a *Admission) claimed(ctx context.Context, e *entry) {
	switch e.result.Outcome {
	case dedup.Claimed, dedup.Blind:
		a.publish(ctx, e)
	case dedup.TakenOver:
		// EVENTS itself tells a repeat while it remembers the message id. Before that time is
		// over the event is published again; afterwards it has to be looked for first.
		if e.result.Age+a.cfg.PublishBudget+a.cfg.Takeover < a.cfg.MsgIDWindow {
			a.publish(ctx, e)
			return
		}
		a.doubts.add(e)
	case dedup.Duplicate:
		a.answer(e, Verdict{Receipt: e.receipt(e.result.Event, e.result.Sequence, true)})
	case dedup.Conflict:
		a.answer(e, Verdict{Err: errConflict(postrider.EventIDOf(e.result.Event))})
	case dedup.Pending:
		e.claim.Again = true
		a.waits.add(e, time.Now().Add(a.pollPause(e.tries)))
		e.tries++
	}
}

// pollPause doubles with each look, and is spread so that those who wait do not look together.
func (a *Admission) pollPause(tries int) time.Duration {
	pause := min(a.cfg.PollMin<<min(tries, 16), a.cfg.PollMax)
	return pause/2 + rand.N(pause) //nolint:gosec // spreads load, keeps no secret
}

// stillWanted answers the entries that have waited too long or that nobody waits for: none of them
// holds its key.
func (a *Admission) stillWanted(entries []*entry, now time.Time) []*entry {
	wanted := entries[:0]
	for _, e := range entries {
		waited := now.Sub(e.began)
		switch {
		case e.gone.Load():
			a.answer(e, Verdict{Err: context.Canceled})
		case e.tries == 0 && waited > a.cfg.PublishBudget:
			a.answer(e, Verdict{Err: errOverloaded()})
		case waited > a.holdLimit():
			a.answer(e, Verdict{Err: errKeyHeld()})
		default:
			wanted = append(wanted, e)
		}
	}
	return wanted
}

// publish hands an entry to EVENTS. It blocks while too much is on the way there, until ctx ends.
func (a *Admission) publish(ctx context.Context, e *entry) {
	e.event.Id = string(postrider.EventIDOf(e.result.Event))
	e.event.AcceptTime = acceptTime(e.result.Event)
	e.event.DedupWindow = e.window()
	if e.event.GetTime() == nil {
		e.event.Time = e.event.GetAcceptTime()
	}
	err := a.events.Publish(ctx, e.event, func(stored eventstream.Stored, err error) { a.published(e, stored, err) })
	if err != nil { // it was not sent
		a.notStored(e, err)
	}
}

// published goes on with an entry whose fate in EVENTS is known. It runs on the publisher's
// goroutine and does not block.
func (a *Admission) published(e *entry, stored eventstream.Stored, err error) {
	switch {
	case dies(a.seams.afterPublish):
	case err != nil && stream.NotStored(err):
		a.notStored(e, err)
	case err != nil:
		a.answer(e, Verdict{Err: errPublish(err)}) // the claim stays
	case stored.Duplicate:
		e.finished.Sequence = stored.Sequence
		a.doubts.add(e)
	case e.keyed:
		a.finish(e, dedup.Finished{Fingerprint: e.claim.Fingerprint, Event: e.result.Event, Sequence: stored.Sequence},
			Verdict{Receipt: e.receipt(e.result.Event, stored.Sequence, false)})
	default:
		a.answer(e, Verdict{Receipt: e.receipt(e.result.Event, stored.Sequence, false)})
	}
}

// notStored ends an entry that this publish did not store. The claim is given up, unless it was
// taken over: then the one before may have stored the event, and the claim keeps its id.
func (a *Admission) notStored(e *entry, err error) {
	e.verdict = Verdict{Err: errPublish(err)}
	if !e.keyed || e.result.Outcome == dedup.TakenOver {
		a.answer(e, e.verdict)
		return
	}
	e.end = endRelease
	a.ends.add(e)
}

// finish has the claim finished and then gives the verdict.
func (a *Admission) finish(e *entry, f dedup.Finished, v Verdict) {
	f.Key, f.Account, f.Token, f.Window = e.claim.Key, e.claim.Account, e.claim.Token, e.claim.Window
	e.end, e.finished, e.verdict = endFinish, f, v
	a.ends.add(e)
}

// endBatch finishes and releases the claims of all entries, each kind in one call, and then
// answers. One goroutine runs it.
func (a *Admission) endBatch(ctx context.Context, entries []*entry) {
	finished := make([]dedup.Finished, 0, len(entries))
	var released []dedup.Released
	alive := entries[:0]
	for _, e := range entries {
		if dies(a.seams.beforeFinish) {
			continue
		}
		alive = append(alive, e)
		if e.end == endFinish {
			finished = append(finished, e.finished)
		} else {
			released = append(released, dedup.Released{Key: e.claim.Key, Token: e.claim.Token})
		}
	}
	// The events are stored, or not, whatever becomes of their claims: a claim that stays is taken
	// over by whoever comes next.
	finishErr := a.index.Finish(ctx, finished)
	releaseErr := a.index.Release(ctx, released)
	if finishErr != nil || releaseErr != nil {
		a.metrics.endFailed(len(finished) + len(released))
		a.log.DebugContext(ctx, "claims were not ended", slog.Any("finish", finishErr), slog.Any("release", releaseErr))
	}
	for _, e := range alive {
		a.ended(e, finishErr)
	}
}

// ended answers an entry whose claim has ended, or begins anew.
func (a *Admission) ended(e *entry, finishErr error) {
	if e.end == endReclaim {
		e.claim.Token, e.claim.Again = dedup.NewToken(), true
		a.claimKeys(e)
		return
	}
	if e.end == endFinish && finishErr != nil && e.verdict.Receipt != nil {
		e.verdict.Receipt.DedupWindow = postriderv1.DedupWindow_DEDUP_WINDOW_DEGRADED
	}
	a.answer(e, e.verdict)
}
