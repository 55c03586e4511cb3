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
	"time"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/postrider/postrider/pkg/postrider"
)

//go:embed migrations/*/*.sql
var migrations embed.FS

// SQLite is a log store in a file. One process writes it; readers do not block the writer.
type SQLite struct {
	reader

	statements

	write *sql.DB // one connection
}

var _ Store = (*SQLite)(nil)

// OpenSQLite opens the file, making it if need be, and brings its schema up to date. The journal
// mode is WAL with synchronous=FULL: a commit waits for the disk, because the recorder acks the
// journal after it, and nobody records again what a power cut took.
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
	if err := s.statements.prepare(ctx, s.write); err != nil {
		return err
	}
	return s.Refresh(ctx)
}

func migrate(ctx context.Context, dialect goose.Dialect, db *sql.DB, dir string, log *slog.Logger, opts ...goose.ProviderOption) error {
	provider, err := schema(dialect, db, dir, log, opts...)
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	return err
}

// schema is what brings a database from any version of the schema to any other.
func schema(dialect goose.Dialect, db *sql.DB, dir string, log *slog.Logger, opts ...goose.ProviderOption) (*goose.Provider, error) {
	sub, err := fs.Sub(migrations, dir)
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(dialect, db, sub, append(opts, goose.WithSlog(log))...)
}

func openSQLiteDB(path string, conns int) (*sql.DB, error) {
	q := url.Values{"_pragma": {"journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(10000)", "cache_size(-16000)", "temp_store(MEMORY)", "wal_autocheckpoint(8000)"}}
	db, err := sql.Open("sqlite", "file:"+url.PathEscape(path)+"?"+q.Encode())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

// Kind names the store.
func (*SQLite) Kind() string { return "sqlite" }

// Close ends all connections.
func (s *SQLite) Close() error {
	var errs []error
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	return errors.Join(append(errs, s.write.Close())...)
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
