package logstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// Inspection is how a log stands that nobody has opened here.
type Inspection struct {
	// Kind is "sqlite" or "postgresql".
	Kind string
	// Missing says that there is no log yet: the first api makes it. All below is zero then.
	Missing bool
	// Schema is the version of the log's schema, Wanted that of this program.
	Schema, Wanted int64
	// Token and Incomplete are as in Store.
	Token      string
	Incomplete int64
}

// InspectSQLite looks at a file. It changes nothing.
func InspectSQLite(ctx context.Context, path string) (Inspection, error) {
	i := Inspection{Kind: "sqlite"}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		i.Missing = true
		return i, nil
	}
	db, err := sql.Open("sqlite", "file:"+url.PathEscape(path)+"?mode=ro&_pragma=busy_timeout(2000)")
	if err != nil {
		return i, fmt.Errorf("inspect log store %s: %w", path, err)
	}
	defer func() { _ = db.Close() }() // it was only read
	err = i.read(ctx, db, `SELECT count(*) FROM sqlite_master WHERE name = 'goose_db_version'`, "migrations/sqlite")
	return i, wrap(err, "inspect log store %s", path)
}

// InspectPostgres looks at a database. It changes nothing: the server would refuse it. Its errors hold
// no password.
func InspectPostgres(ctx context.Context, rawURL string) (Inspection, error) {
	i := Inspection{Kind: "postgresql"}
	cfg, err := pgx.ParseConfig(rawURL)
	if err != nil {
		return i, errors.New("log-url is not a URL of PostgreSQL") // the error repeats the URL
	}
	cfg.ConnectTimeout = queryTimeout
	cfg.RuntimeParams["default_transaction_read_only"] = "on"
	cfg.RuntimeParams["application_name"] = "postrider doctor"
	db := stdlib.OpenDB(*cfg)
	defer func() { _ = db.Close() }() // it was only read
	err = i.read(ctx, db, `SELECT count(*) FROM information_schema.tables WHERE table_name = 'goose_db_version'`, "migrations/postgres")
	return i, wrap(err, "inspect log store")
}

// read asks for the schema's version and the log's state. The first query counts the tables of versions.
func (i *Inspection) read(ctx context.Context, db *sql.DB, tables, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	var err error
	if i.Wanted, err = newest(dir); err != nil {
		return err
	}
	var n int
	if err := db.QueryRowContext(ctx, tables).Scan(&n); err != nil {
		return err
	}
	if n == 0 {
		i.Missing = true
		return nil
	}
	if err := db.QueryRowContext(ctx, `SELECT max(version_id) FROM goose_db_version`).Scan(&i.Schema); err != nil {
		return err
	}
	err = db.QueryRowContext(ctx, `SELECT token, incomplete FROM log`).Scan(&i.Token, &i.Incomplete)
	if errors.Is(err, sql.ErrNoRows) {
		return errNoMeta
	}
	return err
}

// newest is the version of the last migration in a folder.
func newest(dir string) (version int64, err error) {
	files, err := fs.ReadDir(migrations, dir)
	for _, f := range files {
		number, _, _ := strings.Cut(f.Name(), "_")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read the number of migration %s: %w", f.Name(), err)
		}
		version = max(version, n)
	}
	return version, err
}
