package logstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// Bounds of what one statement may take.
const (
	applyTimeout    = 60 * time.Second
	maintainTimeout = 5 * time.Minute
	// lockTimeout is how long work that nobody waits for waits for others: behind it would wait all
	// that come after.
	lockTimeout = 2 * time.Second
)

// Postgres is a log store in a PostgreSQL database, which any number of processes write and read.
type Postgres struct {
	reader

	pool *pgxpool.Pool
	days days
}

var _ Store = (*Postgres)(nil)

// ValidURL reports whether OpenPostgres takes the URL; an empty one is no fault.
func ValidURL(raw string) bool {
	if raw == "" {
		return true
	}
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return false
	}
	_, err = pgxpool.ParseConfig(raw)
	return err == nil
}

// refreshTLS makes a connection with the certificates and CAs that the URL's files hold now. While
// they cannot be read, what was read at start stands.
func refreshTLS(conn *pgx.ConnConfig, rawURL string) error {
	fresh, err := pgx.ParseConfig(rawURL)
	if err == nil {
		conn.TLSConfig, conn.Fallbacks = fresh.TLSConfig, fresh.Fallbacks
	}
	return nil
}

// OpenPostgres connects to a database and brings its schema up to date. Processes that do so at once
// wait for each other.
func OpenPostgres(ctx context.Context, rawURL string, connections int, log *slog.Logger) (*Postgres, error) {
	cfg, err := pgxpool.ParseConfig(rawURL)
	if err != nil {
		return nil, errors.New("open log store: log-url is not a URL of PostgreSQL") // the error repeats the URL
	}
	cfg.MaxConns = int32(connections) //nolint:gosec // a few
	cfg.ConnConfig.ConnectTimeout = queryTimeout
	cfg.ConnConfig.RuntimeParams["statement_timeout"] = milliseconds(queryTimeout)
	cfg.ConnConfig.RuntimeParams["application_name"] = "postrider"
	// Queries differ by which filters are set, and each plan depends on the values: they are planned
	// each time, while the statements of Apply are prepared once.
	cfg.ConnConfig.RuntimeParams["plan_cache_mode"] = "force_custom_plan"
	cfg.BeforeConnect = func(_ context.Context, conn *pgx.ConnConfig) error { return refreshTLS(conn, rawURL) }
	cfg.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		sendArrays(conn.TypeMap())
		return nil
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open log store: %w", err)
	}
	p := &Postgres{pool: pool, reader: reader{db: stdlib.OpenDBFromPool(pool), dollar: true}}
	if err := p.prepare(ctx, log); err != nil {
		return nil, fmt.Errorf("open log store %s: %w", cfg.ConnConfig.Host, errors.Join(err, p.Close()))
	}
	return p, nil
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

func (p *Postgres) prepare(ctx context.Context, log *slog.Logger) error {
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return err
	}
	if err := migrate(ctx, goose.DialectPostgres, p.db, "migrations/postgres", log, goose.WithSessionLocker(locker)); err != nil {
		return err
	}
	return p.Refresh(ctx)
}

// Kind names the store.
func (*Postgres) Kind() string { return "postgresql" }

// Close ends all connections.
func (p *Postgres) Close() error {
	err := p.db.Close()
	p.pool.Close()
	return err
}

// upsert is a statement that writes many rows: its parameters are columns.
func upsert(table, columns, types, conflict string) string {
	kinds := strings.Fields(types)
	params := make([]string, 0, len(kinds)+1)
	for i, kind := range append([]string{"int"}, kinds...) {
		params = append(params, "$"+strconv.Itoa(i+1)+"::"+kind+"[]")
	}
	return "INSERT INTO " + table + " (event_day, " + columns + ") SELECT * FROM unnest(" + strings.Join(params, ", ") + ") ON CONFLICT " + conflict
}

var (
	upsertEvents = upsert("events", eventInsert, "int int bigint bigint bigint text text text bigint bigint bigint int int bytea text text bigint",
		"(account_key, event_key, event_id, event_day)"+eventMerge)
	upsertDeliveries = upsert("deliveries", deliveryInsert+`, early_ids, early, early_start, early_good, early_bucket`,
		"int int int bigint text text text text text text int text int bigint text bigint bigint int bigint int text text int text bytea bigint int int",
		"(delivery_id, event_day)"+deliveryMerge+earlyMerge)
	insertAttempts = upsert("attempts", attemptInsert, "text text text bigint bytea text int int", "DO NOTHING")
	insertMoves    = upsert("moves", moveInsert, "text text bigint int text text bigint", "DO NOTHING")
)

// durableCommit has the commit wait for the disk also where the server's settings do not: the journal is
// acknowledged then, and what was expunged is said to be; a crash of the server would forget both.
const durableCommit = `SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'`

// Apply records entries that are read already.
func (p *Postgres) Apply(ctx context.Context, entries []*recordv1.JournalEntry) error {
	b, err := batchOf(entries)
	if err != nil {
		return fmt.Errorf("record %d entries: %w", len(entries), err)
	}
	return p.Record(ctx, b)
}

// Record writes all rows of a table with one statement, in the order of their keys and the tables in
// one order: those who write at once may wait for each other, and never in a circle.
func (p *Postgres) Record(ctx context.Context, b *Batch) error {
	parts := []*columns{b.facts.columns()}
	for g := b.facts.more; g != nil; g = g.more {
		parts = append(parts, g.columns())
	}
	if err := p.days.make(ctx, p.pool, parts[0].days); err != nil { // the others are of deliveries that are in it
		return fmt.Errorf("record %d entries: %w", b.entries, err)
	}
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	// The batch is one transaction by itself: it is sent at once and ends with one Sync.
	batch := &pgx.Batch{}
	batch.Queue("SET LOCAL statement_timeout = " + milliseconds(applyTimeout))
	batch.Queue(durableCommit)
	for _, rows := range parts {
		for _, q := range []struct {
			text    string
			columns []any
		}{
			{upsertEvents, rows.events},
			{upsertDeliveries, rows.deliveries},
			{insertAttempts, rows.attempts},
			{insertMoves, rows.moves},
		} {
			if len(q.columns) > 0 {
				batch.Queue(q.text, q.columns...)
			}
		}
	}
	err := pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error { return tx.SendBatch(ctx, batch).Close() })
	if err != nil {
		p.days.forget() // a partition may have been dropped
	}
	return wrap(err, "record %d entries", b.entries)
}

// Refresh reads what the database says.
func (p *Postgres) Refresh(ctx context.Context) error { return p.refresh(ctx, p.db) }

// SetIncomplete writes it down.
func (p *Postgres) SetIncomplete(ctx context.Context, token string, place int64) error {
	return p.setIncomplete(ctx, p.db, token, place)
}

// transact runs work that nobody waits for.
func (p *Postgres) transact(ctx context.Context, fn func(ctx context.Context, tx *sql.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, maintainTimeout)
	defer cancel()
	tx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, durableCommit); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	for name, bound := range map[string]time.Duration{"statement_timeout": maintainTimeout, "lock_timeout": lockTimeout} {
		if _, err := tx.ExecContext(ctx, "SET LOCAL "+name+" = "+milliseconds(bound)); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	if err := fn(ctx, tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// Reset empties every table.
func (p *Postgres) Reset(ctx context.Context) error {
	err := p.transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `SET LOCAL lock_timeout = `+milliseconds(applyTimeout)); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE log SET token = $1, incomplete = $2`, newToken(), unknownPlace); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `TRUNCATE events, deliveries, attempts, moves, ledger, activity`)
		return err
	})
	if err != nil {
		return wrap(err, "drop the log")
	}
	return p.Refresh(ctx)
}

// Redact rewrites the attempts that have bodies.
func (p *Postgres) Redact(ctx context.Context, account postrider.AccountID, eventID string) (n int, err error) {
	err = p.transact(ctx, func(ctx context.Context, tx *sql.Tx) (err error) {
		n, err = p.redact(ctx, tx, account, eventID)
		return err
	})
	return n, wrap(err, "redact the attempts of %s", eventID)
}

// Expire deletes some of what has ended, unless another process does so just now.
func (p *Postgres) Expire(ctx context.Context, account postrider.AccountID, before time.Time) (more bool, err error) {
	err = p.transact(ctx, func(ctx context.Context, tx *sql.Tx) (err error) {
		if mine, err := tryLock(ctx, tx); err != nil || !mine {
			return err
		}
		more, err = p.expire(ctx, tx, account, before)
		return err
	})
	return more, wrap(err, "expire the log of %s", account)
}
