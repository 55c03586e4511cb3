package admission

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/oklog/ulid/v2"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"

	"github.com/postrider/postrider/services/ingest/internal/dedup"
)

// resolveBatch reads EVENTS for entries that cannot be answered without it. Several goroutines
// run it.
func (a *Admission) resolveBatch(ctx context.Context, entries []*entry) {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.PublishBudget)
	defer cancel()
	for _, e := range entries {
		if e.finished.Sequence != 0 {
			a.resolveDuplicate(ctx, e)
		} else {
			a.resolveTakeover(ctx, e)
		}
	}
}

// resolveDuplicate compares an event with the one that EVENTS holds under the same message id.
func (a *Admission) resolveDuplicate(ctx context.Context, e *entry) {
	sequence := e.finished.Sequence
	standing, err := a.events.Get(ctx, postrider.AccountID(e.event.GetAccountId()), sequence)
	if err == nil && (standing.GetAccountId() != e.event.GetAccountId() || standing.GetDedupKey() != e.event.GetDedupKey()) {
		err = errors.New("the stored event has another key")
	}
	if err != nil {
		a.answer(e, Verdict{Err: errUnreadable(err)})
		return
	}
	a.settle(e, standing, sequence)
}

// resolveTakeover looks for the event of a claim that is older than what EVENTS remembers message
// ids for. If it is there it was stored by the one who held the claim first; if it is not, nobody
// stored it, and the key is claimed anew: an id of long ago would not be found by its time.
func (a *Admission) resolveTakeover(ctx context.Context, e *entry) {
	standing, sequence, err := a.events.Find(ctx, postrider.AccountID(e.event.GetAccountId()), postrider.EventIDOf(e.result.Event))
	switch {
	case errors.Is(err, eventstream.ErrNotFound):
		e.end = endReclaim
		a.ends.add(e)
	case err != nil:
		a.answer(e, Verdict{Err: errUnreadable(err)})
	default:
		a.settle(e, standing, sequence)
	}
}

// settle finishes the claim for the event that is stored, and answers as it deserves: with its
// receipt if it is the same, else with a conflict.
func (a *Admission) settle(e *entry, standing *recordv1.Event, sequence uint64) {
	id, f, err := finishedBy(standing, sequence)
	if err != nil {
		a.answer(e, Verdict{Err: errUnreadable(err)})
		return
	}
	same := bytes.Equal(standing.GetFingerprint(), e.event.GetFingerprint())
	v := Verdict{Err: errConflict(postrider.EventIDOf(id))}
	if same {
		// An event under the id of a fresh claim was stored by this publish, whose first
		// acknowledgement was lost.
		own := id == e.result.Event && e.result.Outcome != dedup.TakenOver
		v = Verdict{Receipt: e.receipt(id, sequence, !own)}
	}
	if !e.keyed {
		a.answer(e, v)
		return
	}
	a.finish(e, f, v)
}

// finishedBy is the finished key that a stored event stands for.
func finishedBy(standing *recordv1.Event, sequence uint64) (ulid.ULID, dedup.Finished, error) {
	id, ok := postrider.EventID(standing.GetId()).ULID()
	if !ok {
		return id, dedup.Finished{}, fmt.Errorf("the stored event has the id %q", standing.GetId())
	}
	if n := len(standing.GetFingerprint()); n != len(dedup.Fingerprint{}) {
		return id, dedup.Finished{}, fmt.Errorf("the fingerprint of %s has %d bytes", standing.GetId(), n)
	}
	return id, dedup.Finished{Fingerprint: dedup.Fingerprint(standing.GetFingerprint()), Event: id, Sequence: sequence}, nil
}
