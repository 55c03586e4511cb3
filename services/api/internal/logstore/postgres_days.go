package logstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/postrider/postrider/pkg/postrider"
)

const day = 24 * time.Hour

// dayOf is the partition of an event and of all that belongs to it: the day that its id begins with,
// since 1970. Ids that say no day that could be meant are day 0's.
func dayOf(eventID string) int32 {
	t, ok := postrider.EventID(eventID).Time()
	if !ok || t.Year() < 2020 || t.Year() > 2200 {
		return 0
	}
	return int32(t.Unix() / int64(day/time.Second)) //nolint:gosec // days
}

// tables that have partitions, in the order in which they are written.
var tables = []string{"events", "deliveries", "attempts", "moves"}

// partition is the name of a table's partition of a day.
func partition(table string, d int32) string { return table + "_" + strconv.Itoa(int(d)) }

// advisory locks of this package.
const (
	lockPartitions = 0x706f7374_00000001 // who makes or drops partitions
	lockPrune      = 0x706f7374_00000002 // who keeps the log small
)

// days are the partitions that are known to be there.
type days struct {
	mu    sync.Mutex
	known map[int32]bool
}

func (d *days) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known = nil
}

func (d *days) has(n int32) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.known[n]
}

// make makes the partitions of days that are not known.
func (d *days) make(ctx context.Context, pool *pgxpool.Pool, wanted map[int32]bool) error {
	for n := range wanted {
		if d.has(n) {
			continue
		}
		if err := makePartitions(ctx, pool, n); err != nil {
			return fmt.Errorf("make the partitions of day %d: %w", n, err)
		}
		d.mu.Lock()
		if d.known == nil {
			d.known = make(map[int32]bool)
		}
		d.known[n] = true
		d.mu.Unlock()
	}
	return nil
}

// makePartitions makes a table beside and attaches it, which neither waits for those who read and
// write nor lets them wait.
func makePartitions(ctx context.Context, pool *pgxpool.Pool, n int32) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(lockPartitions)); err != nil {
			return err
		}
		for _, table := range tables {
			name := partition(table, n)
			var there bool
			if err := tx.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, name).Scan(&there); err != nil {
				return err
			}
			if there {
				continue
			}
			// Rows that are updated where they stand leave the indexes alone.
			for _, statement := range []string{
				`CREATE TABLE ` + name + ` (LIKE ` + table + ` INCLUDING ALL) WITH (fillfactor = 80)`,
				`ALTER TABLE ` + table + ` ATTACH PARTITION ` + name + ` FOR VALUES IN (` + strconv.Itoa(int(n)) + `)`,
			} {
				if _, err := tx.Exec(ctx, statement); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// Prune drops the days that have ended before the time and in which nothing is unfinished, and adds
// the ledger up. What others hold now is left for the next time.
func (p *Postgres) Prune(ctx context.Context, before time.Time) error {
	if err := p.compact(ctx); err != nil {
		return wrap(err, "add the ledger up")
	}
	if before.IsZero() {
		return nil
	}
	err := p.transact(ctx, func(ctx context.Context, tx *sql.Tx) error { return p.expireOldTests(ctx, tx, before) })
	if err != nil {
		return wrap(err, "expire tests")
	}
	old, err := p.oldDays(ctx, before)
	if err != nil {
		return wrap(err, "list old partitions")
	}
	for _, n := range old {
		if err := p.dropDay(ctx, n); err != nil && !heldByOthers(err) {
			return wrap(err, "drop day %d", n)
		}
	}
	return nil
}

// heldByOthers reports whether a lock was not to be had in time.
func heldByOthers(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pg.Code == "55P03" || pg.Code == "57014") // lock_not_available, query_canceled
}

// oldDays lists the partitioned days that have ended before a time, the oldest first.
func (p *Postgres) oldDays(ctx context.Context, before time.Time) ([]int32, error) {
	var old []int32
	limit := before.Unix() / int64(day/time.Second)
	err := p.query(ctx, `SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'deliveries'::regclass`, nil, func(row scanner) error {
		var name string
		if err := row.Scan(&name); err != nil {
			return err
		}
		n, err := strconv.ParseInt(strings.TrimPrefix(name, "deliveries_"), 10, 32)
		if err == nil && n > 0 && n < limit {
			old = append(old, int32(n))
		}
		return nil
	})
	slices.Sort(old)
	return old, err
}

// dropDay drops a day's partitions if nothing in them is unfinished. The ledger loses what they held
// in the same transaction.
func (p *Postgres) dropDay(ctx context.Context, n int32) error {
	deliveries := partition("deliveries", n)
	err := p.transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
		for _, statement := range []string{
			`SELECT pg_advisory_xact_lock(` + strconv.Itoa(lockPartitions) + `)`,
			`LOCK TABLE ` + deliveries + ` IN ACCESS EXCLUSIVE MODE`,
		} {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return err
			}
		}
		var unfinished bool
		err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM `+deliveries+` WHERE state IN ('pending', 'waiting', 'held') AND `+notDelivered+`)`).Scan(&unfinished)
		if err != nil || unfinished {
			return err
		}
		//nolint:gosec // a table of ours and a number
		_, err = tx.ExecContext(ctx, `INSERT INTO ledger
			SELECT account_id, state, -COUNT(*) FROM `+deliveries+` GROUP BY account_id, state
			UNION ALL SELECT account_id, 'routed', -SUM(routed) FROM `+deliveries+` GROUP BY account_id`)
		if err != nil {
			return err
		}
		for _, table := range tables {
			if _, err := tx.ExecContext(ctx, `DROP TABLE IF EXISTS `+partition(table, n)); err != nil {
				return err
			}
		}
		return nil
	})
	p.days.forget()
	return err
}

// tryLock makes a transaction the one that keeps the log small, until it ends; false if another one is.
func tryLock(ctx context.Context, tx *sql.Tx) (mine bool, err error) {
	err = tx.QueryRowContext(ctx, `SELECT pg_try_advisory_xact_lock($1)`, int64(lockPrune)).Scan(&mine)
	return mine, err
}

// compact adds the rows of the ledger up. One process does at a time.
func (p *Postgres) compact(ctx context.Context) error {
	return p.transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if mine, err := tryLock(ctx, tx); err != nil || !mine {
			return err
		}
		_, err := tx.ExecContext(ctx, `WITH gone AS (DELETE FROM activity WHERE NOT summed RETURNING account_id, webhook_id, minute, good, bucket, count)
			INSERT INTO activity SELECT account_id, webhook_id, minute, good, bucket, SUM(count), true FROM gone
			GROUP BY account_id, webhook_id, minute, good, bucket`)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `WITH gone AS (DELETE FROM ledger RETURNING account_id, term, count)
			INSERT INTO ledger SELECT account_id, term, SUM(count) FROM gone GROUP BY account_id, term HAVING SUM(count) <> 0`)
		return err
	})
}
