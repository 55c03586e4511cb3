package logstore

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// Most deliveries have one attempt, a moment after they were made. Such an attempt is early: it is kept in its
// delivery's row, where it costs no row and no index of its own, and is found by the time that its id begins with.
// Whether an attempt is early is said by its entry alone, so that it has one place however often it comes.
// Two early attempts of one delivery happen: a dispatcher that died had made the first.
const (
	// earlyWithin is how long after its delivery was made an early attempt's id is at most.
	earlyWithin = time.Second
	// earlySlack is how much earlier than its attempt says a delivery may have been made: an event that was routed
	// twice keeps the first time.
	earlySlack = time.Minute
	// earlyBytes is the most that a row carries for it: what reads rows need not pass over large bodies.
	earlyBytes = 1536
	// earlyNumber is that of the attempt which the schedule makes first.
	earlyNumber = 1
)

// early reports whether the attempt is kept with its delivery.
func (a *trying) early(e *entry) bool {
	if e.create == 0 || e.series != 0 || a.number != earlyNumber || a.trigger != TriggerSchedule || len(e.body) > earlyBytes {
		return false
	}
	begun, ok := attemptTime(a.id)
	return ok && begun+time.Millisecond.Microseconds() > e.create && begun <= e.create+earlyWithin.Microseconds()
}

// attemptTime is the time that an attempt's id begins with, as stored; false if it has none.
func attemptTime(id string) (us int64, ok bool) {
	s, ok := strings.CutPrefix(id, "att_")
	if !ok {
		return 0, false
	}
	u, err := ulid.ParseStrict(s)
	return ulid.Time(u.Time()).UnixMicro(), err == nil
}

// A row lists the ids of its early attempts, each with a space behind it, and their records one after another, each
// as a field of a message.
const earlyField = 1

func earlyID(id string) string { return id + " " }

func (f *attemptFact) frame() []byte {
	b := make([]byte, 0, len(f.record)+4)
	return protowire.AppendBytes(protowire.AppendTag(b, earlyField, protowire.BytesType), f.record)
}

// earlyRecords reads the early attempts of a row, in the order of their starts.
func earlyRecords(raw []byte) ([]*recordv1.Attempted, error) {
	var list []*recordv1.Attempted
	err := eachField(raw, func(f *field) error {
		at := &recordv1.Attempted{}
		list = append(list, at)
		return proto.Unmarshal(f.bytes, at)
	})
	slices.SortFunc(list, compareAttempts)
	return list, err
}

// compareAttempts orders as the table of attempts is read.
func compareAttempts(a, b *recordv1.Attempted) int {
	return cmp.Or(a.GetStartTime().AsTime().Compare(b.GetStartTime().AsTime()), cmp.Compare(a.GetAttemptId(), b.GetAttemptId()))
}

const selectEarly = `SELECT early FROM deliveries WHERE delivery_id = ? AND account_id = ?`

// earlyOf reads the early attempts of a delivery; none if there is no such delivery.
func (r *reader) earlyOf(ctx context.Context, account postrider.AccountID, deliveryID string) (list []*recordv1.Attempted, err error) {
	err = r.query(ctx, selectEarly, []any{deliveryID, string(account)}, func(row scanner) error {
		var raw []byte
		if err := row.Scan(&raw); err != nil {
			return err
		}
		list, err = earlyRecords(raw)
		return err
	})
	return list, err
}

const selectEarlyOwner = `SELECT delivery_id, early FROM deliveries
	WHERE account_key = ? AND account_id = ? AND create_time >= ? AND create_time <= ? AND early_ids LIKE ?`

// earlyOwner finds the delivery that an early attempt belongs to.
func (r *reader) earlyOwner(ctx context.Context, account postrider.AccountID, id string) (deliveryID string, start time.Time, err error) {
	begun, ok := attemptTime(id)
	if !ok {
		return "", start, ErrNotFound
	}
	for _, within := range []time.Duration{earlyWithin, earlyWithin + earlySlack} {
		args := []any{textKey(string(account)), string(account), begun - within.Microseconds(), begun + time.Millisecond.Microseconds() - 1, "%" + id + "%"}
		err = r.query(ctx, selectEarlyOwner, args, func(row scanner) error {
			var owner string
			var raw []byte
			if err := row.Scan(&owner, &raw); err != nil {
				return err
			}
			list, err := earlyRecords(raw)
			for _, at := range list {
				if at.GetAttemptId() == id { // LIKE takes more
					deliveryID, start = owner, at.GetStartTime().AsTime()
				}
			}
			return err
		})
		if err != nil || deliveryID != "" {
			return deliveryID, start, err
		}
	}
	return "", start, ErrNotFound
}

// mergeAttempts is the page that a list of attempts has after the first skip, at most limit of them. Those that are
// early are given, in their order; table reads the others, beginning after some.
func mergeAttempts(early []*recordv1.Attempted, skip, limit int, table func(skip, limit int) ([]*recordv1.Attempted, error)) ([]*recordv1.Attempted, error) {
	from := max(0, skip-len(early))
	list, err := table(from, limit+len(early))
	if err != nil {
		return nil, err
	}
	before := 0 // early ones that are before all that was read, if something is
	if from > 0 {
		if len(list) == 0 {
			return nil, nil
		}
		for before < len(early) && compareAttempts(early[before], list[0]) < 0 {
			before++
		}
	}
	list = append(list, early[before:]...)
	slices.SortFunc(list, compareAttempts)
	list = list[min(len(list), skip-from-before):]
	return list[:min(len(list), limit)], nil
}

// redactEarly takes the recorded bodies of an event's early attempts away, and says how many had some.
func (r *reader) redactEarly(ctx context.Context, tx *sql.Tx, account postrider.AccountID, eventID string) (n int, err error) {
	query := `SELECT delivery_id, early FROM deliveries WHERE event_key = ? AND event_id = ? AND account_id = ? AND early_ids <> ''`
	if r.dollar {
		query += ` ORDER BY delivery_id FOR UPDATE` // another process may add one just now, and writes in this order
	}
	changed := make(map[string][]byte)
	err = eachRow(ctx, tx, r.bind(query), []any{eventKey(eventID), eventID, string(account)}, func(row scanner) error {
		var id string
		var raw, without []byte
		if err := row.Scan(&id, &raw); err != nil {
			return err
		}
		had := 0
		err := eachField(raw, func(f *field) error {
			record, err := redacted(f.bytes)
			if record != nil {
				had++
			} else {
				record = f.bytes
			}
			without = append(without, (&attemptFact{record: record}).frame()...)
			return err
		})
		if n += had; had > 0 {
			changed[id] = without
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	for id, raw := range changed {
		if _, err := tx.ExecContext(ctx, r.bind(`UPDATE deliveries SET early = ? WHERE delivery_id = ? AND event_id = ?`), raw, id, eventID); err != nil {
			return 0, err
		}
	}
	return n, nil
}
