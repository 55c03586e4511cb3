package logstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

type statements struct {
	event, delivery, attempt *sql.Stmt
}

// upsertDelivery merges facts into a delivery's row as fact.merge merges two facts.
const upsertDelivery = `
INSERT INTO deliveries (delivery_id, account_id, event_id, event_type, webhook_id, replay_id,
    series, state, state_rank, state_time, reason, next_attempt_time, create_time,
    attempt_count, attempt_time, last_status_code, last_error_class, routed)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (delivery_id) DO UPDATE SET
    state = CASE WHEN newer THEN excluded.state ELSE state END,
    reason = CASE WHEN newer THEN excluded.reason ELSE reason END,
    next_attempt_time = CASE WHEN newer THEN excluded.next_attempt_time ELSE next_attempt_time END,
    state_time = CASE WHEN newer THEN excluded.state_time ELSE state_time END,
    state_rank = CASE WHEN newer THEN excluded.state_rank ELSE state_rank END,
    create_time = MIN(create_time, excluded.create_time),
    replay_id = CASE WHEN replay_id = '' THEN excluded.replay_id ELSE replay_id END,
    attempt_count = CASE WHEN excluded.series > series THEN excluded.attempt_count
        WHEN excluded.series = series THEN MAX(attempt_count, excluded.attempt_count) ELSE attempt_count END,
    series = MAX(series, excluded.series),
    routed = MAX(routed, excluded.routed),
    last_status_code = CASE WHEN excluded.attempt_time > attempt_time THEN excluded.last_status_code ELSE last_status_code END,
    last_error_class = CASE WHEN excluded.attempt_time > attempt_time THEN excluded.last_error_class ELSE last_error_class END,
    attempt_time = MAX(attempt_time, excluded.attempt_time)`

// newerFact holds if what is said counts against what is known: by series, then rank, then time. The
// state itself is last, so that of two at one instant the same one stands in every order.
const newerFact = `((excluded.series, excluded.state_rank, excluded.state_time, excluded.state) >= (series, state_rank, state_time, state))`

func prepareStatements(ctx context.Context, db *sql.DB) (s statements, err error) {
	for _, p := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&s.event, `INSERT INTO events (event_id, account_id, event_type, event_sequence, accept_time, route_time, matched_total, unmatched_total, unmatched)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (event_id) DO UPDATE SET
			matched_total = MAX(matched_total, excluded.matched_total), unmatched_total = excluded.unmatched_total,
			unmatched = CASE WHEN length(excluded.unmatched) > 0 THEN excluded.unmatched ELSE unmatched END`},
		{&s.delivery, strings.ReplaceAll(upsertDelivery, "newer", newerFact)},
		{&s.attempt, `INSERT INTO attempts (delivery_id, attempt_id, account_id, start_time, record)
			VALUES (?, ?, ?, ?, ?) ON CONFLICT (delivery_id, attempt_id) DO NOTHING`},
	} {
		if *p.stmt, err = db.PrepareContext(ctx, p.text); err != nil {
			return s, errors.Join(err, s.close())
		}
	}
	return s, nil
}

func (s *statements) close() error {
	var err error
	for _, stmt := range []*sql.Stmt{s.event, s.delivery, s.attempt} {
		if stmt != nil {
			err = errors.Join(err, stmt.Close())
		}
	}
	return err
}

// Apply merges journal entries into the log in one transaction. It is idempotent and does not
// depend on the order of the entries. Calls wait for one another: there is one connection that writes.
func (s *SQLite) Apply(ctx context.Context, entries []*recordv1.JournalEntry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	// The driver starts a goroutine for each statement of a context that can end.
	ctx = context.WithoutCancel(ctx)
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("record %d entries: %w", len(entries), err)
	}
	defer func() { _ = tx.Rollback() }() // a no-op after the commit
	a := applier{ctx: ctx, facts: make(map[string]*fact, len(entries)), st: statements{
		event:    tx.StmtContext(ctx, s.apply.event),
		delivery: tx.StmtContext(ctx, s.apply.delivery), attempt: tx.StmtContext(ctx, s.apply.attempt),
	}}
	for _, e := range entries {
		if err := a.entry(e); err != nil {
			return fmt.Errorf("record entry of event %s: %w", e.GetEventId(), err)
		}
	}
	if err := a.deliveries(); err != nil {
		return err
	}
	return tx.Commit()
}

// applier is one transaction. What several entries say of one delivery is merged before it is
// written: most deliveries are routed and delivered within one transaction.
type applier struct {
	ctx   context.Context //nolint:containedctx // lives as long as one transaction
	st    statements
	look  bool             // whether to gather facts only, and write nothing
	facts map[string]*fact // by delivery
	order []*fact          // in the order of arrival
}

// fact is what entries say of one delivery.
type fact struct {
	entry               *recordv1.JournalEntry // names account, event and event type
	deliveryID          string
	webhookID, replayID string
	routed              bool  // whether routing named it
	create              int64 // times are as stored
	series              int32
	state               postrider.DeliveryState
	stateTime           int64
	reason              string
	next                int64
	attempts            int32
	attemptTime         int64
	status              int32
	class               string
}

// merge adds another fact about the same delivery. Facts come twice and in any order: the latest
// series stands, because a redrive leads out of an end state; in it the state of the highest rank
// (end states absorb), and among equals the latest. The attempts of the latest series count; the
// attempt with the latest start gives the last status; the earliest time is the delivery's creation.
func (f *fact) merge(o *fact) {
	newer := cmp.Or(cmp.Compare(o.series, f.series), cmp.Compare(o.state.Rank(), f.state.Rank()),
		cmp.Compare(o.stateTime, f.stateTime), cmp.Compare(o.state, f.state)) >= 0
	if newer {
		f.state, f.stateTime, f.reason, f.next = o.state, o.stateTime, o.reason, o.next
	}
	switch {
	case o.series > f.series:
		f.series, f.attempts = o.series, o.attempts
	case o.series == f.series:
		f.attempts = max(f.attempts, o.attempts)
	}
	f.create = min(f.create, o.create)
	f.replayID = cmp.Or(f.replayID, o.replayID)
	f.routed = f.routed || o.routed
	if o.attemptTime > f.attemptTime {
		f.attemptTime, f.status, f.class = o.attemptTime, o.status, o.class
	}
}

func (a *applier) entry(e *recordv1.JournalEntry) error {
	f := fact{webhookID: e.GetWebhookId(), series: e.GetSeries()}
	switch what := e.GetWhat().(type) {
	case *recordv1.JournalEntry_Routed:
		return a.routed(e, what.Routed)
	case *recordv1.JournalEntry_Attempted:
		return a.attempted(e, what.Attempted)
	case *recordv1.JournalEntry_Waiting:
		f.state, f.reason, f.next = postrider.Waiting, what.Waiting.GetReason(), micros(what.Waiting.GetDueTime())
	case *recordv1.JournalEntry_Held:
		f.state, f.reason = postrider.Held, what.Held.GetReason()
	case *recordv1.JournalEntry_Released:
		f.state, f.reason = postrider.Pending, what.Released.GetReason()
	case *recordv1.JournalEntry_Dead:
		f.state, f.reason = postrider.Dead, what.Dead.GetCause()
	case *recordv1.JournalEntry_Cancelled:
		f.state, f.reason = postrider.Cancelled, what.Cancelled.GetReason()
	default:
		return nil // written by a later version; the fields that this one knows say nothing
	}
	a.add(e, e.GetDeliveryId(), &f)
	return nil
}

func (a *applier) routed(e *recordv1.JournalEntry, r *recordv1.Routed) error {
	unmatched, err := proto.Marshal(&recordv1.Routed{Unmatched: r.GetUnmatched()})
	if err != nil {
		return err
	}
	if r.GetReplayId() == "" && !a.look { // A replay makes deliveries, and says nothing of what routing found.
		if _, err := a.st.event.ExecContext(a.ctx, e.GetEventId(), e.GetAccountId(), e.GetEventType(), int64(r.GetEventSequence()), //nolint:gosec // a stream sequence
			micros(r.GetAcceptTime()), micros(e.GetTime()), r.GetMatchedTotal(), r.GetUnmatchedTotal(), unmatched); err != nil {
			return err
		}
	}
	for _, d := range r.GetDeliveries() {
		a.add(e, d.GetDeliveryId(), &fact{webhookID: d.GetWebhookId(), replayID: r.GetReplayId(), routed: true, state: postrider.Pending})
	}
	return nil
}

func (a *applier) attempted(e *recordv1.JournalEntry, at *recordv1.Attempted) error {
	if err := a.attempt(e, at); err != nil {
		return err
	}
	if at.GetTrigger() == TriggerTest {
		return nil // a test is an attempt without a delivery
	}
	state, series := postrider.DeliveryState(at.GetState()), e.GetSeries()
	switch {
	case state != "":
	case at.GetTrigger() == TriggerManual:
		series = 0 // It says nothing of the delivery: below whatever is said in any series.
	default:
		state = postrider.Pending
	}
	a.add(e, e.GetDeliveryId(), &fact{
		webhookID: e.GetWebhookId(), series: series, state: state, reason: at.GetReason(),
		next: micros(at.GetNextAttemptTime()), attempts: at.GetNumber(), attemptTime: micros(at.GetStartTime()),
		status: at.GetStatusCode(), class: at.GetErrorClass(),
	})
	return nil
}

// attempt writes the attempt itself.
func (a *applier) attempt(e *recordv1.JournalEntry, at *recordv1.Attempted) error {
	if a.look {
		return nil
	}
	record, err := proto.Marshal(at)
	if err != nil {
		return err
	}
	_, err = a.st.attempt.ExecContext(a.ctx, e.GetDeliveryId(), at.GetAttemptId(), e.GetAccountId(), micros(at.GetStartTime()), record)
	return err
}

// Triggers of attempts that are outside of the schedule.
const (
	TriggerTest   = "test"   // TestWebhook asked for it
	TriggerManual = "manual" // RetryDelivery asked for it
)

// add keeps what an entry says of a delivery until deliveries writes it.
func (a *applier) add(e *recordv1.JournalEntry, delivery string, f *fact) {
	f.entry, f.deliveryID = e, delivery
	f.create = micros(e.GetTime())
	f.stateTime = f.create
	if known := a.facts[delivery]; known != nil {
		known.merge(f)
		return
	}
	a.facts[delivery] = f
	a.order = append(a.order, f)
}

// deliveries writes what the entries said.
func (a *applier) deliveries() error {
	for _, f := range a.order {
		if _, err := a.st.delivery.ExecContext(a.ctx,
			f.deliveryID, f.entry.GetAccountId(), f.entry.GetEventId(), f.entry.GetEventType(), f.webhookID, f.replayID,
			f.series, string(f.state), f.state.Rank(), f.stateTime, f.reason, f.next, f.create,
			f.attempts, f.attemptTime, f.status, f.class, f.routed); err != nil {
			return fmt.Errorf("record delivery %s: %w", f.deliveryID, err)
		}
	}
	return nil
}

// micros is a time as stored: Unix microseconds, 0 for none.
func micros(t *timestamppb.Timestamp) int64 {
	if t == nil {
		return 0
	}
	return t.AsTime().UnixMicro()
}

func fromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}
