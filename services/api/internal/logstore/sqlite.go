package logstore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

//go:embed migrations/*/*.sql
var migrations embed.FS

// SQLite is a log store in a file. One process writes it; readers do not block the writer.
type SQLite struct {
	reader

	write                           *sql.DB // one connection
	event, delivery, attempt, aMove *sql.Stmt
}

var _ Store = (*SQLite)(nil)

// OpenSQLite opens the file, making it if need be, and brings its schema up to date. The journal
// mode is WAL with synchronous=NORMAL: a power cut may lose the last transactions, never the
// file's consistency, and the recorder acks the journal only after a checkpointed commit, so what
// is lost is recorded again.
func OpenSQLite(ctx context.Context, path string, log *slog.Logger) (*SQLite, error) {
	write, err := openSQLiteDB(path, 1)
	if err != nil {
		return nil, err
	}
	s := &SQLite{write: write, reader: reader{blind: true}}
	if err := s.prepare(ctx, path, log); err != nil {
		return nil, fmt.Errorf("open log store %s: %w", path, errors.Join(err, s.Close()))
	}
	return s, nil
}

func (s *SQLite) prepare(ctx context.Context, path string, log *slog.Logger) (err error) {
	if err := migrate(ctx, goose.DialectSQLite3, s.write, "migrations/sqlite", log); err != nil {
		return err
	}
	if s.db, err = openSQLiteDB(path, 4); err != nil {
		return err
	}
	if err := s.prepareStatements(ctx); err != nil {
		return err
	}
	return s.Refresh(ctx)
}

func migrate(ctx context.Context, dialect goose.Dialect, db *sql.DB, dir string, log *slog.Logger, opts ...goose.ProviderOption) error {
	sub, err := fs.Sub(migrations, dir)
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(dialect, db, sub, append(opts, goose.WithSlog(log))...)
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	return err
}

func openSQLiteDB(path string, conns int) (*sql.DB, error) {
	q := url.Values{"_pragma": {"journal_mode(WAL)", "synchronous(NORMAL)", "busy_timeout(10000)", "cache_size(-16000)", "wal_autocheckpoint(8000)"}}
	db, err := sql.Open("sqlite", "file:"+url.PathEscape(path)+"?"+q.Encode())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

// sqliteWords says what SQLite calls the functions of the common statements.
var sqliteWords = strings.NewReplacer("GREATEST(", "MAX(", "LEAST(", "MIN(")

func (s *SQLite) prepareStatements(ctx context.Context) (err error) {
	for _, p := range []struct {
		stmt                     **sql.Stmt
		table, columns, conflict string
	}{
		{&s.event, "events", eventInsert, "(event_id)" + eventMerge},
		{&s.delivery, "deliveries", deliveryInsert, "(delivery_id)" + deliveryMerge},
		{&s.attempt, "attempts", attemptInsert, "DO NOTHING"},
		{&s.aMove, "moves", moveInsert, "DO NOTHING"},
	} {
		n := strings.Count(p.columns, ",") + 1
		text := "INSERT INTO " + p.table + " (" + p.columns + ") VALUES " + placeholders(n) + " ON CONFLICT " + sqliteWords.Replace(p.conflict) //nolint:gosec // constants
		if *p.stmt, err = s.write.PrepareContext(ctx, text); err != nil {
			return err
		}
	}
	return nil
}

// Kind names the store.
func (*SQLite) Kind() string { return "sqlite" }

// Close ends all connections.
func (s *SQLite) Close() error {
	var errs []error
	for _, stmt := range []*sql.Stmt{s.event, s.delivery, s.attempt, s.aMove} {
		if stmt != nil {
			errs = append(errs, stmt.Close())
		}
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	return errors.Join(append(errs, s.write.Close())...)
}

// Apply writes row by row: there is no way to a local file that many rows would share. Calls wait for
// one another, as there is one connection that writes.
func (s *SQLite) Apply(ctx context.Context, entries []*recordv1.JournalEntry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	g, err := gather(entries)
	if err != nil {
		return fmt.Errorf("record %d entries: %w", len(entries), err)
	}
	// The driver starts a goroutine for each statement of a context that can end.
	err = s.transact(context.WithoutCancel(ctx), func(ctx context.Context, tx *sql.Tx) error {
		run := func(stmt *sql.Stmt) func(values []any) error {
			stmt = tx.StmtContext(ctx, stmt)
			return func(values []any) error {
				_, err := stmt.ExecContext(ctx, values...)
				return err
			}
		}
		return errors.Join(
			each(ordered(g.events), (*eventFact).values, run(s.event)),
			each(ordered(g.deliveries), (*fact).values, run(s.delivery)),
			each(pointers(g.attempts), (*attemptFact).values, run(s.attempt)),
			each(pointers(g.moves), (*moveFact).values, run(s.aMove)),
		)
	})
	return wrap(err, "record %d entries", len(entries))
}

func pointers[T any](list []T) []*T {
	out := make([]*T, len(list))
	for i := range list {
		out[i] = &list[i]
	}
	return out
}

// each writes rows one after the other, up to the first error.
func each[T any](rows []T, values func(T) []any, write func([]any) error) error {
	for _, row := range rows {
		if err := write(values(row)); err != nil {
			return err
		}
	}
	return nil
}

func (s *SQLite) transact(ctx context.Context, fn func(ctx context.Context, tx *sql.Tx) error) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := fn(ctx, tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// Refresh reads what the file says.
func (s *SQLite) Refresh(ctx context.Context) error { return s.refresh(ctx, s.write) }

// SetIncomplete writes it down.
func (s *SQLite) SetIncomplete(ctx context.Context, token string, place int64) error {
	return s.setIncomplete(ctx, s.write, token, place)
}

// Reset empties every table.
func (s *SQLite) Reset(ctx context.Context) error {
	err := s.transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
		for _, table := range []string{"moves", "attempts", "deliveries", "events", "ledger", "activity"} {
			if _, err := tx.ExecContext(ctx, "DELETE FROM "+table); err != nil { //nolint:gosec // a constant
				return err
			}
		}
		_, err := tx.ExecContext(ctx, `UPDATE log SET token = ?, incomplete = ?`, newToken(), unknownPlace)
		return err
	})
	if err != nil {
		return wrap(err, "drop the log")
	}
	return s.Refresh(ctx)
}

// Redact rewrites the attempts that have bodies.
func (s *SQLite) Redact(ctx context.Context, account postrider.AccountID, eventID string) (n int, err error) {
	err = s.transact(ctx, func(ctx context.Context, tx *sql.Tx) (err error) {
		n, err = s.redact(ctx, tx, account, eventID)
		return err
	})
	return n, wrap(err, "redact the attempts of %s", eventID)
}

// Expire deletes some of what has ended.
func (s *SQLite) Expire(ctx context.Context, account postrider.AccountID, before time.Time) (more bool, err error) {
	err = s.transact(ctx, func(ctx context.Context, tx *sql.Tx) (err error) {
		more, err = s.expire(ctx, tx, account, before)
		return err
	})
	return more, wrap(err, "expire the log of %s", account)
}

// Prune removes old tests: a file has no parts that could be dropped, and its counters stay few.
func (s *SQLite) Prune(ctx context.Context, before time.Time) error {
	if before.IsZero() {
		return nil
	}
	err := s.transact(ctx, func(ctx context.Context, tx *sql.Tx) error { return s.expireOldTests(ctx, tx, before) })
	return wrap(err, "expire tests")
}
