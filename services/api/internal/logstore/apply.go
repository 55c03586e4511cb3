package logstore

import (
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
	event, unmatched, delivery, attempt *sql.Stmt
}

// upsertDelivery merges one fact into a delivery's row. Facts come twice and in any order: the
// state of the highest rank stands (end states absorb), and among equals the latest; the attempt
// with the latest start gives the last status; the earliest time is the delivery's creation.
const upsertDelivery = `
INSERT INTO deliveries (delivery_id, account_id, event_id, event_type, webhook_id, call_id, replay_id,
    state, state_rank, state_time, reason, next_attempt_time, create_time,
    attempt_count, attempt_time, last_status_code, last_error_class)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (delivery_id) DO UPDATE SET
    state = CASE WHEN newer THEN excluded.state ELSE state END,
    reason = CASE WHEN newer THEN excluded.reason ELSE reason END,
    next_attempt_time = CASE WHEN newer THEN excluded.next_attempt_time ELSE next_attempt_time END,
    state_time = CASE WHEN newer THEN excluded.state_time ELSE state_time END,
    state_rank = MAX(state_rank, excluded.state_rank),
    create_time = MIN(create_time, excluded.create_time),
    replay_id = CASE WHEN replay_id = '' THEN excluded.replay_id ELSE replay_id END,
    attempt_count = MAX(attempt_count, excluded.attempt_count),
    last_status_code = CASE WHEN excluded.attempt_time > attempt_time THEN excluded.last_status_code ELSE last_status_code END,
    last_error_class = CASE WHEN excluded.attempt_time > attempt_time THEN excluded.last_error_class ELSE last_error_class END,
    attempt_time = MAX(attempt_time, excluded.attempt_time)`

const newerFact = `(excluded.state_rank > state_rank OR (excluded.state_rank = state_rank AND excluded.state_time >= state_time))`

func prepareStatements(ctx context.Context, db *sql.DB) (s statements, err error) {
	for _, p := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&s.event, `INSERT INTO events (event_id, account_id, event_type, event_sequence, accept_time, route_time, matched_total, unmatched_total)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (event_id) DO UPDATE SET
			matched_total = MAX(matched_total, excluded.matched_total), unmatched_total = excluded.unmatched_total`},
		{&s.unmatched, `INSERT INTO unmatched (event_id, webhook_id, reason, detail) VALUES (?, ?, ?, ?)
			ON CONFLICT (event_id, webhook_id) DO NOTHING`},
		{&s.delivery, strings.ReplaceAll(upsertDelivery, "newer", newerFact)},
		{&s.attempt, `INSERT INTO attempts (attempt_id, delivery_id, account_id, number, start_time, next_attempt_time, record)
			VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (attempt_id) DO NOTHING`},
	} {
		if *p.stmt, err = db.PrepareContext(ctx, p.text); err != nil {
			return s, errors.Join(err, s.close())
		}
	}
	return s, nil
}

func (s *statements) close() error {
	var err error
	for _, stmt := range []*sql.Stmt{s.event, s.unmatched, s.delivery, s.attempt} {
		if stmt != nil {
			err = errors.Join(err, stmt.Close())
		}
	}
	return err
}

// Apply merges journal entries into the log in one transaction. It is idempotent and does not
// depend on the order of the entries. Only one goroutine may apply at a time.
func (s *SQLite) Apply(ctx context.Context, entries []*recordv1.JournalEntry) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("record %d entries: %w", len(entries), err)
	}
	defer func() { _ = tx.Rollback() }() // a no-op after the commit
	a := applier{ctx: ctx, st: statements{
		event: tx.StmtContext(ctx, s.apply.event), unmatched: tx.StmtContext(ctx, s.apply.unmatched),
		delivery: tx.StmtContext(ctx, s.apply.delivery), attempt: tx.StmtContext(ctx, s.apply.attempt),
	}}
	for _, e := range entries {
		if err := a.entry(e); err != nil {
			return fmt.Errorf("record entry of event %s: %w", e.GetEventId(), err)
		}
	}
	return tx.Commit()
}

type applier struct {
	ctx context.Context //nolint:containedctx // lives as long as one transaction
	st  statements
}

// fact is what one entry says of one delivery.
type fact struct {
	deliveryID, webhookID, replayID string
	state                           postrider.DeliveryState
	reason                          string
	next                            *timestamppb.Timestamp
	attempts                        int32
	attemptTime                     *timestamppb.Timestamp
	status                          int32
	class                           string
}

func (a *applier) entry(e *recordv1.JournalEntry) error {
	f := fact{deliveryID: e.GetDeliveryId(), webhookID: e.GetWebhookId()}
	switch what := e.GetWhat().(type) {
	case *recordv1.JournalEntry_Routed:
		return a.routed(e, what.Routed)
	case *recordv1.JournalEntry_Attempted:
		return a.attempted(e, what.Attempted)
	case *recordv1.JournalEntry_Waiting:
		f.state, f.reason, f.next = postrider.Waiting, what.Waiting.GetReason(), what.Waiting.GetDueTime()
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
	return a.merge(e, f)
}

func (a *applier) routed(e *recordv1.JournalEntry, r *recordv1.Routed) error {
	if _, err := a.st.event.ExecContext(a.ctx, e.GetEventId(), e.GetAccountId(), e.GetEventType(), int64(r.GetEventSequence()), //nolint:gosec // a stream sequence
		micros(r.GetAcceptTime()), micros(e.GetTime()), r.GetMatchedTotal(), r.GetUnmatchedTotal()); err != nil {
		return err
	}
	for _, u := range r.GetUnmatched() {
		if _, err := a.st.unmatched.ExecContext(a.ctx, e.GetEventId(), u.GetWebhookId(), u.GetReason(), u.GetDetail()); err != nil {
			return err
		}
	}
	for _, d := range r.GetDeliveries() {
		f := fact{deliveryID: d.GetDeliveryId(), webhookID: d.GetWebhookId(), replayID: r.GetReplayId(), state: postrider.Pending}
		if err := a.merge(e, f); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) attempted(e *recordv1.JournalEntry, at *recordv1.Attempted) error {
	record, err := proto.Marshal(at)
	if err != nil {
		return err
	}
	if _, err := a.st.attempt.ExecContext(a.ctx, at.GetAttemptId(), e.GetDeliveryId(), e.GetAccountId(), at.GetNumber(),
		micros(at.GetStartTime()), micros(at.GetNextAttemptTime()), record); err != nil {
		return err
	}
	if at.GetTrigger() == TriggerTest {
		return nil // a test is an attempt without a delivery
	}
	state := postrider.DeliveryState(at.GetState())
	if state == "" {
		state = postrider.Pending
	}
	return a.merge(e, fact{
		deliveryID: e.GetDeliveryId(), webhookID: e.GetWebhookId(), state: state, reason: at.GetReason(),
		next: at.GetNextAttemptTime(), attempts: at.GetNumber(), attemptTime: at.GetStartTime(),
		status: at.GetStatusCode(), class: at.GetErrorClass(),
	})
}

// TriggerTest marks attempts that TestWebhook asked for.
const TriggerTest = "test"

func (a *applier) merge(e *recordv1.JournalEntry, f fact) error {
	_, err := a.st.delivery.ExecContext(a.ctx,
		f.deliveryID, e.GetAccountId(), e.GetEventId(), e.GetEventType(), f.webhookID,
		postrider.DeliveryID(f.deliveryID).UUID().String(), f.replayID,
		string(f.state), f.state.Rank(), micros(e.GetTime()), f.reason, micros(f.next), micros(e.GetTime()),
		f.attempts, micros(f.attemptTime), f.status, f.class)
	return err
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
