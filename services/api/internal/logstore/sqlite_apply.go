package logstore

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// statements are what Apply writes with, on the connection that writes.
type statements struct {
	event, eventMany, known, insertDelivery, insertMany, updateDelivery, createdBefore, early, addEarly, updateWithEarly, attempt, move, ledger, activity *sql.Stmt
}

// knownMany is how many deliveries are looked up at once.
const knownMany = 64

// many is how many rows one statement writes, of those that are written the most: to begin one takes as long as to
// write a row with it.
const many = 16

// mergedColumns is what of a delivery's row a fact may change. The rest is set once, so that an update
// touches no index but those of states and outcomes.
const mergedColumns = `replay_id, series, state, state_rank, state_time, reason, next_attempt_time, attempt_count,
    attempt_time, last_status_code, last_error_class, last_outcome, routed`

// sqliteDelivery is the columns of a delivery's row.
const sqliteDelivery = deliveryInsert + `, early_ids, early`

// sqliteWords says what SQLite calls the functions of the common statements.
var sqliteWords = strings.NewReplacer("GREATEST(", "MAX(", "LEAST(", "MIN(")

func (st *statements) prepare(ctx context.Context, db *sql.DB) (err error) {
	// What fails ends the transaction: SQLite would else keep a copy of each page that a statement of many rows
	// changes, so that it could take back that statement alone.
	inserts := func(rows int, table, columns, conflict string) string {
		text := "INSERT OR ROLLBACK INTO " + table + " (" + columns + ") VALUES " + strings.Repeat(placeholders(strings.Count(columns, ",")+1)+", ", rows)
		text = strings.TrimSuffix(text, ", ")
		if conflict != "" {
			text += " ON CONFLICT " + conflict
		}
		return text
	}
	insert := func(table, columns, conflict string) string { return inserts(1, table, columns, conflict) }
	const eventConflict = "(account_key, event_key, event_id)"
	for _, p := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&st.event, insert("events", eventInsert, eventConflict+sqliteWords.Replace(eventMerge))},
		{&st.eventMany, inserts(many, "events", eventInsert, eventConflict+" DO NOTHING")},
		{&st.known, `SELECT delivery_id, create_time, early_ids, ` + mergedColumns + ` FROM deliveries WHERE delivery_id IN ` + placeholders(knownMany)},
		{&st.insertDelivery, insert("deliveries", sqliteDelivery, "")},
		{&st.insertMany, inserts(many, "deliveries", sqliteDelivery, "")},
		{&st.updateDelivery, `UPDATE deliveries SET ` + strings.ReplaceAll(mergedColumns, ",", " = ?,") + ` = ? WHERE delivery_id = ?`},
		{&st.createdBefore, `UPDATE deliveries SET create_time = ? WHERE delivery_id = ?`},
		{&st.early, `SELECT early FROM deliveries WHERE delivery_id = ?`},
		{&st.addEarly, `UPDATE deliveries SET early_ids = ?, early = ? WHERE delivery_id = ?`},
		{&st.updateWithEarly, `UPDATE deliveries SET early_ids = ?, early = ?, ` + strings.ReplaceAll(mergedColumns, ",", " = ?,") + ` = ? WHERE delivery_id = ?`},
		{&st.attempt, insert("attempts", attemptInsert, "DO NOTHING")},
		{&st.move, insert("moves", moveInsert, "DO NOTHING")},
		{&st.ledger, insert("ledger", "account_id, term, count", "DO UPDATE SET count = count + excluded.count")},
		{&st.activity, insert("activity", "account_id, webhook_id, minute, good, bucket, count", "DO UPDATE SET count = count + excluded.count")},
	} {
		if *p.stmt, err = db.PrepareContext(ctx, p.text); err != nil {
			return fmt.Errorf("prepare %q: %w", p.text, err)
		}
	}
	return nil
}

// Apply records entries that are read already.
func (s *SQLite) Apply(ctx context.Context, entries []*recordv1.JournalEntry) error {
	b, err := batchOf(entries)
	if err != nil {
		return fmt.Errorf("record %d entries: %w", len(entries), err)
	}
	return s.Record(ctx, b)
}

// Record writes row by row: there is no way to a local file that many rows would share. Calls wait for
// one another, as there is one connection that writes.
func (s *SQLite) Record(ctx context.Context, b *Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	// The driver starts a goroutine for each statement of a context that can end.
	err := s.transact(context.WithoutCancel(ctx), func(ctx context.Context, tx *sql.Tx) error {
		a := &applying{
			ctx: ctx, tx: tx, to: &s.statements, bound: make(map[*sql.Stmt]*sql.Stmt),
			ledger: make(map[ledgerTerm]int64), activity: make(map[activityCell]int64),
		}
		for g := b.facts; g != nil; g = g.more {
			if err := a.write(g); err != nil {
				return err
			}
		}
		return a.count()
	})
	return wrap(err, "record %d entries", b.entries)
}

// ledgerTerm and activityCell name rows of counters.
type (
	ledgerTerm   struct{ account, term string }
	activityCell struct {
		account, webhook string
		minute           int64
		good, bucket     int
	}
)

// applying is one transaction that writes facts, and what they change of the counters.
type applying struct {
	ctx      context.Context //nolint:containedctx // of the transaction, which is one call
	tx       *sql.Tx
	to       *statements
	bound    map[*sql.Stmt]*sql.Stmt // to the transaction
	ledger   map[ledgerTerm]int64
	activity map[activityCell]int64
}

func (a *applying) bind(stmt *sql.Stmt) *sql.Stmt {
	if a.bound[stmt] == nil {
		a.bound[stmt] = a.tx.StmtContext(a.ctx, stmt)
	}
	return a.bound[stmt]
}

func (a *applying) exec(stmt *sql.Stmt, values ...any) (rows int64, err error) {
	result, err := a.bind(stmt).ExecContext(a.ctx, values...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func (a *applying) write(g *facts) error {
	g.sortAttempts()
	events := rows{one: a.to.event, many: a.to.eventMany, merged: true}
	for _, f := range ordered(g.events) {
		if err := a.insert(&events, f.values()); err != nil {
			return err
		}
	}
	if err := a.flush(&events); err != nil {
		return err
	}
	for part := range slices.Chunk(g.orderedDeliveries(), knownMany) {
		if err := a.deliveries(part); err != nil {
			return err
		}
	}
	for i := range g.attempts {
		if err := a.attempt(&g.attempts[i]); err != nil {
			return err
		}
	}
	for i := range g.moves {
		if _, err := a.exec(a.to.move, g.moves[i].values()...); err != nil {
			return err
		}
	}
	return nil
}

// deliveries merges some facts into their rows.
func (a *applying) deliveries(list []*fact) error {
	known, err := a.known(list)
	if err != nil {
		return err
	}
	anew := rows{one: a.to.insertDelivery, many: a.to.insertMany}
	for _, f := range list {
		row := known[f.deliveryID]
		if row == nil {
			err = a.insert(&anew, append(f.values(), f.earlyValues()...))
			a.began(f.early)
			a.ledger[ledgerTerm{f.account, string(f.state)}]++
			a.ledger[ledgerTerm{f.account, routedTerm}] += int64(f.routed)
		} else {
			err = a.update(row, f)
		}
		if err != nil {
			return err
		}
	}
	return a.flush(&anew)
}

// rows are those that are to be written with the next statement.
type rows struct {
	one, many *sql.Stmt
	merged    bool // one merges into a row that is there, and many leaves that row as it is
	values    []any
	width     int
}

// insert writes a row with others, when there are enough.
func (a *applying) insert(r *rows, values []any) error {
	r.values, r.width = append(r.values, values...), len(values)
	if len(r.values) < many*r.width {
		return nil
	}
	added, err := a.exec(r.many, r.values...)
	if err != nil {
		return err
	}
	if r.merged && added < many {
		return a.flush(r) // Merging a row into itself changes nothing.
	}
	r.values = r.values[:0]
	return nil
}

// flush writes the rows that are left.
func (a *applying) flush(r *rows) error {
	for ; len(r.values) > 0; r.values = r.values[r.width:] {
		if _, err := a.exec(r.one, r.values[:r.width]...); err != nil {
			return err
		}
	}
	return nil
}

// known reads the rows of some deliveries, at most knownMany, as facts without what never changes.
func (a *applying) known(list []*fact) (map[string]*fact, error) {
	ids := make([]any, knownMany)
	for i := range ids {
		ids[i] = list[min(i, len(list)-1)].deliveryID // the last one again and again, so that one statement does
	}
	rows, err := a.bind(a.to.known).QueryContext(a.ctx, ids...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // Err tells what went wrong
	found := make(map[string]*fact)
	for rows.Next() {
		var f fact
		var rank int
		err := rows.Scan(&f.deliveryID, &f.create, &f.earlyIDs, &f.replayID, &f.series, &f.state, &rank, &f.stateTime, &f.reason, &f.next, &f.attempts,
			&f.attemptTime, &f.status, &f.class, &f.outcome, &f.routed)
		if err != nil {
			return nil, err
		}
		found[f.deliveryID] = &f
	}
	return found, rows.Err()
}

// update merges a fact into a row, with one statement if it can: each one writes the whole row anew.
func (a *applying) update(row, f *fact) error {
	early, err := a.newEarly(row, f.early)
	if err != nil {
		return err
	}
	merged := *row
	merged.merge(f)
	merged.early = nil
	if merged.create != row.create {
		if _, err := a.exec(a.to.createdBefore, merged.create, f.deliveryID); err != nil {
			return err
		}
	}
	was := *row
	was.create = merged.create
	if merged == was {
		if early == nil {
			return nil
		}
		_, err := a.exec(a.to.addEarly, append(early, f.deliveryID)...)
		return err
	}
	a.ledger[ledgerTerm{f.account, string(row.state)}]--
	a.ledger[ledgerTerm{f.account, string(merged.state)}]++
	a.ledger[ledgerTerm{f.account, routedTerm}] += int64(merged.routed - row.routed)
	statement := a.to.updateDelivery
	if early != nil {
		statement = a.to.updateWithEarly
	}
	_, err = a.exec(statement, append(early, merged.replayID, merged.series, string(merged.state), merged.state.Rank(), merged.stateTime,
		merged.reason, merged.next, merged.attempts, merged.attemptTime, merged.status, merged.class, merged.outcome, merged.routed, f.deliveryID)...)
	return err
}

// attempt writes an attempt, and counts one that was not there.
func (a *applying) attempt(f *attemptFact) error {
	added, err := a.exec(a.to.attempt, f.values()...)
	if err == nil && added > 0 {
		a.began(f)
	}
	return err
}

// newEarly is what a row's early_ids and early are to be with an early attempt that it lacks, which it
// counts; nil if there is none.
func (a *applying) newEarly(row *fact, f *attemptFact) ([]any, error) {
	if f == nil || strings.Contains(row.earlyIDs, earlyID(f.id)) {
		return nil, nil
	}
	frames := f.frame()
	if row.earlyIDs != "" {
		var has []byte
		if err := a.bind(a.to.early).QueryRowContext(a.ctx, row.deliveryID).Scan(&has); err != nil {
			return nil, err
		}
		frames = append(has, frames...)
	}
	a.began(f)
	return []any{row.earlyIDs + earlyID(f.id), frames}, nil
}

// began counts an attempt that was not recorded before; nil is none.
func (a *applying) began(f *attemptFact) {
	if f == nil || f.bucket == notCounted {
		return
	}
	cell := activityCell{f.account, f.webhook, f.start / time.Minute.Microseconds(), f.good, f.bucket}
	a.activity[cell]++
	cell.webhook = ""
	a.activity[cell]++
}

// count writes what changed of the counters.
func (a *applying) count() error {
	for term, n := range a.ledger {
		if n == 0 {
			continue
		}
		if _, err := a.exec(a.to.ledger, term.account, term.term, n); err != nil {
			return err
		}
	}
	for cell, n := range a.activity {
		if _, err := a.exec(a.to.activity, cell.account, cell.webhook, cell.minute, cell.good, cell.bucket, n); err != nil {
			return err
		}
	}
	return nil
}
