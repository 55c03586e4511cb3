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

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

//go:embed migrations/*.sql
var migrations embed.FS

// SQLite is a log store in a file. One process writes it; readers do not block the writer.
type SQLite struct {
	write *sql.DB // one connection
	read  *sql.DB
	apply statements
}

// OpenSQLite opens the file, making it if need be, and brings its schema up to date. The journal
// mode is WAL with synchronous=NORMAL: a power cut may lose the last transactions, never the
// file's consistency, and the recorder acks the journal only after a checkpointed commit, so what
// is lost is recorded again.
func OpenSQLite(ctx context.Context, path string, log *slog.Logger) (*SQLite, error) {
	write, err := openDB(path, 1)
	if err != nil {
		return nil, err
	}
	s := &SQLite{write: write}
	if err := s.prepare(ctx, path, log); err != nil {
		return nil, fmt.Errorf("open log store %s: %w", path, errors.Join(err, s.Close()))
	}
	return s, nil
}

func (s *SQLite) prepare(ctx context.Context, path string, log *slog.Logger) (err error) {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, s.write, dir, goose.WithSlog(log))
	if err != nil {
		return err
	}
	if _, err := provider.Up(ctx); err != nil {
		return err
	}
	if s.read, err = openDB(path, 4); err != nil {
		return err
	}
	s.apply, err = prepareStatements(ctx, s.write)
	return err
}

func openDB(path string, conns int) (*sql.DB, error) {
	q := url.Values{"_pragma": {"journal_mode(WAL)", "synchronous(NORMAL)", "busy_timeout(10000)", "cache_size(-16000)", "wal_autocheckpoint(8000)"}}
	db, err := sql.Open("sqlite", "file:"+url.PathEscape(path)+"?"+q.Encode())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

// Close ends all connections.
func (s *SQLite) Close() error {
	err := s.apply.close()
	if s.read != nil {
		err = errors.Join(err, s.read.Close())
	}
	return errors.Join(err, s.write.Close())
}
