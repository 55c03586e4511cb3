package logstore

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/postrider/postrider/pkg/postrider"
)

// redact rewrites the attempts of an event that have bodies.
func (r *reader) redact(ctx context.Context, tx *sql.Tx, account postrider.AccountID, eventID string) (int, error) {
	type change struct {
		id, delivery string
		record       []byte
	}
	var changes []change
	early, err := r.redactEarly(ctx, tx, account, eventID) // first, in the order in which tables are written
	if err != nil {
		return 0, err
	}
	err = eachRow(ctx, tx, r.bind(`SELECT attempt_id, delivery_id, record FROM attempts WHERE account_id = ?
		AND delivery_id IN (SELECT delivery_id FROM deliveries WHERE event_key = ? AND event_id = ? AND account_id = ?)`),
		[]any{string(account), eventKey(eventID), eventID, string(account)}, func(row scanner) error {
			var c change
			if err := row.Scan(&c.id, &c.delivery, &c.record); err != nil {
				return err
			}
			var err error
			if c.record, err = redacted(c.record); err == nil && c.record != nil {
				changes = append(changes, c)
			}
			return err
		})
	if err != nil {
		return 0, err
	}
	for _, c := range changes {
		if _, err := tx.ExecContext(ctx, r.bind(`UPDATE attempts SET record = ? WHERE attempt_id = ? AND delivery_id = ?`), c.record, c.id, c.delivery); err != nil {
			return 0, err
		}
	}
	return len(changes) + early, nil
}

func eachRow(ctx context.Context, tx *sql.Tx, query string, args []any, fn func(scanner) error) error {
	rows, err := tx.QueryContext(ctx, query, args...)
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

// expirePage is how many events one transaction expires.
const expirePage = 500

// Statements that expire what belongs to a list of events. An event goes when no delivery of it is left; attempts
// and moves go with their delivery.
var expireStatements = []string{
	`DELETE FROM attempts WHERE delivery_id IN (SELECT delivery_id FROM deliveries WHERE event_key IN KEYS AND event_id IN LIST)`,
	`DELETE FROM moves WHERE delivery_id IN (SELECT delivery_id FROM deliveries WHERE event_key IN KEYS AND event_id IN LIST)`,
	`DELETE FROM deliveries WHERE event_key IN KEYS AND event_id IN LIST`,
}

const (
	expireEvents = `DELETE FROM events WHERE account_key = ? AND event_key IN KEYS AND account_id = ? AND event_id IN LIST`
	// Of an event that shares its number with another, the id says whether it is one of them.
	selectExpired = `SELECT event_id FROM events WHERE account_key = ? AND event_key <= ? AND CASE WHEN account_id = ? THEN event_id < ? ELSE false END
		AND NOT EXISTS (SELECT 1 FROM deliveries WHERE deliveries.event_key = events.event_key AND deliveries.event_id = events.event_id
			AND state IN ('pending', 'waiting', 'held'))
		ORDER BY event_key, event_id LIMIT ?`
	// Tests have attempts without a delivery. Ids of attempts begin with their time.
	expireTests = `DELETE FROM attempts WHERE attempt_id IN (SELECT attempt_id FROM attempts WHERE attempt_id < ?
		AND NOT EXISTS (SELECT 1 FROM deliveries WHERE deliveries.delivery_id = attempts.delivery_id) LIMIT ?)`
	expireActivity = `DELETE FROM activity WHERE account_id = ? AND minute < ?`
)

// expire deletes some events of the account that were accepted before a time, and what belongs to them.
func (r *reader) expire(ctx context.Context, tx *sql.Tx, account postrider.AccountID, before time.Time) (more bool, err error) {
	var ids []any
	var keys []int64
	key, first := textKey(string(account)), firstEvent(before)
	err = eachRow(ctx, tx, r.bind(selectExpired), []any{key, eventKey(first), string(account), first, expirePage}, func(row scanner) error {
		var id string
		err := row.Scan(&id)
		ids, keys = append(ids, id), append(keys, eventKey(id))
		return err
	})
	if err != nil {
		return false, err
	}
	if len(ids) == 0 {
		_, err := tx.ExecContext(ctx, r.bind(expireActivity), string(account), minute(before))
		return false, err
	}
	run := func(statement string, args []any) error {
		_, err := tx.ExecContext(ctx, r.bind(strings.NewReplacer("LIST", placeholders(len(ids)), "KEYS", keyList(keys)).Replace(statement)), args...)
		return err
	}
	for _, statement := range expireStatements {
		if err := run(statement, ids); err != nil {
			return false, err
		}
	}
	if err := run(expireEvents, append([]any{key, string(account)}, ids...)); err != nil {
		return false, err
	}
	return len(ids) == expirePage, nil
}

// expireOldTests deletes some attempts of tests that began before a time.
func (r *reader) expireOldTests(ctx context.Context, tx *sql.Tx, before time.Time) error {
	_, err := tx.ExecContext(ctx, r.bind(expireTests), firstAttempt(before), expirePage)
	return err
}

// firstAttempt is the least id of an attempt that began at or after a time.
func firstAttempt(t time.Time) string {
	var u ulid.ULID
	_ = u.SetTime(min(ulid.Timestamp(t), ulid.MaxTime())) // a time that is too large is not given
	return "att_" + u.String()
}
