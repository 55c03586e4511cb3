package logstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/oklog/ulid/v2"
	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// reader is what both stores have in common: how they are asked.
type reader struct {
	state

	db     *sql.DB
	dollar bool // placeholders are $1, $2, ...
	// blind says that the planner knows no numbers, and would walk through the whole account in order
	// of time for any query, because that sorts as well. A plus hides a column from it then, so that
	// it takes the index that finds the least.
	blind bool
}

// bind gives a query the store's own placeholders.
func (r *reader) bind(query string) string {
	if !r.dollar {
		return query
	}
	var b strings.Builder
	b.Grow(len(query) + 16)
	n := 0
	for part := range strings.SplitSeq(query, "?") {
		if n > 0 {
			b.WriteByte('$')
			b.WriteString(strconv.Itoa(n))
		}
		b.WriteString(part)
		n++
	}
	return b.String()
}

// query gives every row to fn, if the log answers at all.
func (r *reader) query(ctx context.Context, query string, args []any, fn func(scanner) error) error {
	if r.Incomplete() != 0 {
		return ErrRebuilding
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	rows, err := r.db.QueryContext(ctx, r.bind(query), args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // Err tells what went wrong
	for rows.Next() {
		if err := fn(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// one is query for a row that is the only one; ErrNotFound if there is none.
func (r *reader) one(ctx context.Context, query string, args []any, fn func(scanner) error) error {
	found := false
	err := r.query(ctx, query, args, func(row scanner) error {
		found = true
		return fn(row)
	})
	if err == nil && !found {
		return ErrNotFound
	}
	return err
}

type scanner interface{ Scan(dest ...any) error }

const deliveryColumns = `delivery_id, replay_id, account_id, event_id, event_type, webhook_id,
	series, state, state_time, reason, next_attempt_time, create_time, attempt_count, last_status_code, last_error_class, last_outcome`

// A list of deliveries is selectDeliveries, a condition, and one of the orders.
const (
	selectDeliveries = `SELECT ` + deliveryColumns + ` FROM deliveries WHERE `
	newestFirst      = ` ORDER BY create_time DESC, delivery_id DESC LIMIT ?`
	oldestFirst      = ` ORDER BY create_time, delivery_id LIMIT ?`
)

// order is the one of the query.
func (q *Query) order() string {
	if q.OldestFirst {
		return oldestFirst
	}
	return newestFirst
}

func (r *reader) Delivery(ctx context.Context, account postrider.AccountID, id string) (d *Delivery, err error) {
	err = r.one(ctx, selectDeliveries+`delivery_id = ? AND account_id = ?`, []any{id, string(account)}, func(row scanner) error {
		d, err = scanDelivery(row)
		return err
	})
	return d, wrap(err, "read delivery %s", id)
}

func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}

func (r *reader) Deliveries(ctx context.Context, q Query) ([]*Delivery, error) {
	where, args := q.where(r.blind)
	var page []*Delivery
	err := r.query(ctx, selectDeliveries+where+q.order(), append(args, q.Limit), func(row scanner) error {
		d, err := scanDelivery(row)
		page = append(page, d)
		return err
	})
	return page, wrap(err, "list deliveries")
}

// Literal conditions of the partial indexes: a planner does not see through a placeholder.
const (
	notDelivered = `state <> 'delivered'`
	failed       = `last_outcome <> '' AND last_outcome <> 'succeeded'`
	unusual      = `last_status_code NOT IN (0, 200)`
)

// told is a condition that tells rows apart which share a number: a planner that took it for another one that finds
// would expect far fewer rows than there are.
func told(column string) string { return "CASE WHEN " + column + " = ? THEN true ELSE false END" }

// rare reports whether the query asks for what few deliveries are, for which there are indexes of an account's own.
func (q *Query) rare() bool {
	return q.State != "" && q.State != postrider.Delivered || q.Outcome != "" && q.Outcome != postrider.Succeeded ||
		q.StatusCode != 0 && q.StatusCode != http.StatusOK
}

// where is the condition of a query with a placeholder for each value. Of the numbers that find, each implies those
// of an account, and so the planner is shown the one that finds the least.
func (q *Query) where(blind bool) (condition string, args []any) {
	var conditions []string
	add := func(set bool, condition string, values ...any) {
		if set {
			conditions = append(conditions, condition)
			args = append(args, values...)
		}
	}
	account, narrow, rare := string(q.Account), q.EventID != "" || q.CallID != "", q.rare()
	if rare && !narrow && (!blind || q.WebhookID == "") {
		add(true, "account_id = ?", account)
	} else {
		add(!narrow && !rare && q.WebhookID == "" && q.EventType == "", "account_key = ?", textKey(account))
		add(true, told("account_id"), account)
	}
	add(q.EventID != "", "event_key = ? AND "+told("event_id"), eventKey(q.EventID), q.EventID)
	add(q.WebhookID != "" && !narrow, "webhook_key = ?", textKey(q.WebhookID))
	add(q.WebhookID != "", told("webhook_id"), q.WebhookID)
	add(q.EventType != "" && !narrow && !rare && (!blind || q.WebhookID == ""), "type_key = ?", textKey(account, q.EventType))
	add(q.EventType != "", told("event_type"), q.EventType)
	if q.CallID != "" {
		call, _ := uuid.Parse(q.CallID) // what is no UUID is the zero one's, and no delivery has that
		add(true, "delivery_id = ?", string(postrider.DeliveryIDOf(call)))
	}
	add(q.State != "", "state = ?", string(q.State))
	add(q.State != "" && q.State != postrider.Delivered, notDelivered)
	add(q.Outcome != "", "last_outcome = ?", string(q.Outcome))
	add(q.StatusCode != 0, "last_status_code = ?", q.StatusCode)
	add(q.StatusCode != 0 && q.StatusCode != http.StatusOK, unusual)
	add(q.Outcome != "" && q.Outcome != postrider.Succeeded, failed)
	add(!q.Start.IsZero(), "create_time >= ?", q.Start.UnixMicro())
	add(!q.End.IsZero(), "create_time < ?", q.End.UnixMicro())
	beyond := "create_time <= ? AND (create_time, delivery_id) < (?, ?)"
	if q.OldestFirst {
		beyond = "create_time >= ? AND (create_time, delivery_id) > (?, ?)"
	}
	add(q.After.ID != "", beyond, q.After.CreateTime.UnixMicro(), q.After.CreateTime.UnixMicro(), q.After.ID)
	return strings.Join(conditions, " AND "), args
}

func scanDelivery(row scanner) (*Delivery, error) {
	var d Delivery
	var stateTime, next, created int64
	err := row.Scan(&d.ID, &d.ReplayID, &d.Account, &d.EventID, &d.EventType, &d.WebhookID,
		&d.Series, &d.State, &stateTime, &d.Reason, &next, &created, &d.AttemptCount, &d.LastStatusCode, &d.LastErrorClass, &d.LastOutcome)
	if err != nil {
		return nil, err
	}
	d.CallID = postrider.DeliveryID(d.ID).UUID().String()
	d.StateTime, d.NextAttemptTime, d.CreateTime = fromMicros(stateTime), fromMicros(next), fromMicros(created)
	return &d, nil
}

const selectAttempts = `SELECT record FROM attempts WHERE delivery_id = ? AND account_id = ?
	ORDER BY start_time, attempt_id LIMIT ? OFFSET ?`

func (r *reader) Attempts(ctx context.Context, account postrider.AccountID, deliveryID string, skip, limit int) ([]*Attempt, error) {
	early, err := r.earlyOf(ctx, account, deliveryID)
	if err != nil {
		return nil, fmt.Errorf("list attempts of %s: %w", deliveryID, err)
	}
	list, err := mergeAttempts(early, skip, limit, func(skip, limit int) (list []*recordv1.Attempted, err error) {
		err = r.query(ctx, selectAttempts, []any{deliveryID, string(account), limit, skip}, func(row scanner) error {
			var raw []byte
			if err := row.Scan(&raw); err != nil {
				return err
			}
			at := &recordv1.Attempted{}
			list = append(list, at)
			return proto.Unmarshal(raw, at)
		})
		return list, err
	})
	page := make([]*Attempt, len(list))
	for i, at := range list {
		page[i] = &Attempt{DeliveryID: deliveryID, Record: at}
	}
	return page, wrap(err, "list attempts of %s", deliveryID)
}

const selectOwner = `SELECT delivery_id, start_time FROM attempts WHERE attempt_id = ? AND account_id = ? LIMIT 1`

func (r *reader) AttemptOwner(ctx context.Context, account postrider.AccountID, attemptID string) (deliveryID string, start time.Time, err error) {
	err = r.one(ctx, selectOwner, []any{attemptID, string(account)}, func(row scanner) error {
		var us int64
		err := row.Scan(&deliveryID, &us)
		start = fromMicros(us)
		return err
	})
	if errors.Is(err, ErrNotFound) {
		deliveryID, start, err = r.earlyOwner(ctx, account, attemptID)
	}
	return deliveryID, start, wrap(err, "find attempt %s", attemptID)
}

const selectMoves = `SELECT move_time, state, reason, series, next_attempt_time FROM moves
	WHERE delivery_id = ? AND account_id = ? ORDER BY move_time, series, state LIMIT ?`

func (r *reader) Moves(ctx context.Context, account postrider.AccountID, deliveryID string, limit int) ([]*Move, error) {
	var list []*Move
	err := r.query(ctx, selectMoves, []any{deliveryID, string(account), limit}, func(row scanner) error {
		var m Move
		var at, next int64
		err := row.Scan(&at, &m.State, &m.Reason, &m.Series, &next)
		m.Time, m.NextAttemptTime = fromMicros(at), fromMicros(next)
		list = append(list, &m)
		return err
	})
	return list, wrap(err, "list moves of %s", deliveryID)
}

const (
	eventColumns = `event_id, account_id, event_type, event_sequence, accept_time, route_time, matched_total,
		unmatched_total, unmatched, trace_id, expunge_time`
	selectEvent = `SELECT ` + eventColumns + ` FROM events WHERE account_key = ? AND event_key = ? AND event_id = ? AND account_id = ?`
)

func (r *reader) Event(ctx context.Context, account postrider.AccountID, id string) (e *Event, err error) {
	err = r.one(ctx, selectEvent, []any{textKey(string(account)), eventKey(id), id, string(account)}, func(row scanner) error {
		e, err = scanEvent(row)
		return err
	})
	return e, wrap(err, "read event %s", id)
}

func (r *reader) RecordedEvents(ctx context.Context, q EventQuery) ([]*Event, error) {
	query, args := q.text(r.blind)
	var page []*Event
	err := r.query(ctx, query, args, func(row scanner) error {
		e, err := scanEvent(row)
		page = append(page, e)
		return err
	})
	return page, wrap(err, "list events")
}

// text is the query with a placeholder for each value. Ids of events begin with the time of acceptance,
// and so they are what events are ordered and bounded by.
func (q *EventQuery) text(blind bool) (query string, args []any) {
	account, by := string(q.Account), q.index()
	with, from, conditions := "", "events", []string{told("account_id")}
	args = []any{account}
	if blind && by != "" {
		from += " INDEXED BY " + by
		if q.Key != "" || q.TraceID != "" {
			with, from = sqliteRuns, "runs CROSS JOIN "+from
			conditions = append(conditions, "id >> 15 = run")
		}
	}
	add := func(set bool, condition string, value any) {
		if set {
			conditions, args = append(conditions, condition), append(args, value)
		}
	}
	add(by == "" || by == "events_unmatched", "account_key = ?", textKey(account))
	add(by == "events_by_type", "type_key = ?", textKey(account, q.EventType))
	add(q.EventType != "", told("event_type"), q.EventType)
	add(q.Key != "", "given_key <> '' AND given_hash = ?", longKey(account, q.Key))
	add(q.Key != "", told("given_key"), q.Key)
	add(q.TraceID != "", "trace_id <> '' AND trace_hash = ?", longKey(account, q.TraceID))
	add(q.TraceID != "", told("trace_id"), q.TraceID)
	if q.Unmatched {
		conditions = append(conditions, "matched_total = 0")
	}
	bound := func(set bool, than, id string) {
		add(set, "event_key "+than[:1]+"= ?", eventKey(id)) // others may share the number
		add(set, "event_id "+than+" ?", id)
	}
	bound(!q.Start.IsZero(), ">=", firstEvent(q.Start))
	bound(!q.End.IsZero(), "<", firstEvent(q.End))
	bound(q.Before != "", "<", q.Before)
	query = with + `SELECT ` + eventColumns + ` FROM ` + from + ` WHERE ` + strings.Join(conditions, " AND ") + ` ORDER BY event_key DESC, event_id DESC LIMIT ?`
	return query, append(args, q.Limit)
}

// sqliteRuns are the runs that SQLite's indexes of hashes are ordered by. A hash is looked for in each, of which a log of
// ten million events has three hundred.
const sqliteRuns = `WITH RECURSIVE runs(run, last) AS (
	SELECT (SELECT min(id) FROM events) >> 15, (SELECT max(id) FROM events) >> 15
	UNION ALL SELECT run + 1, last FROM runs WHERE run < last) `

// index is the one that finds the least; empty if that is the table itself.
func (q *EventQuery) index() string {
	switch {
	case q.Key != "":
		return "events_by_key"
	case q.TraceID != "":
		return "events_by_trace"
	case q.Unmatched:
		return "events_unmatched"
	case q.EventType != "":
		return "events_by_type"
	default:
		return ""
	}
}

// firstEvent is the least id of an event that was accepted at or after a time, by the millisecond.
func firstEvent(t time.Time) string {
	var u ulid.ULID
	_ = u.SetTime(min(ulid.Timestamp(t), ulid.MaxTime())) // a time that is too large is not given
	return string(postrider.EventIDOf(u))
}

func scanEvent(row scanner) (*Event, error) {
	var e Event
	var sequence, accept, route, expunge int64
	var raw []byte
	err := row.Scan(&e.ID, &e.Account, &e.Type, &sequence, &accept, &route, &e.Matched, &e.UnmatchedMany, &raw, &e.TraceID, &expunge)
	if err != nil {
		return nil, err
	}
	e.Sequence = uint64(sequence) //nolint:gosec // a stream sequence
	e.AcceptTime, e.RouteTime, e.ExpungeTime = fromMicros(accept), fromMicros(route), fromMicros(expunge)
	e.Routed = &recordv1.Routed{}
	return &e, proto.Unmarshal(raw, e.Routed)
}

var errNoMeta = errors.New("the log has no token")
