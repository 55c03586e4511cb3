package logstore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"sync"
)

// state is what a process knows of the log as a whole.
type state struct {
	mu         sync.Mutex
	token      string
	incomplete int64
}

func (s *state) Token() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.token
}

func (s *state) Incomplete() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.incomplete
}

func (s *state) set(token string, incomplete int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token, s.incomplete = token, incomplete
}

// unknownPlace is Incomplete of a log that was just made.
const unknownPlace = -1

func newToken() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// refresh reads the log's state with a database that sees what is committed.
func (r *reader) refresh(ctx context.Context, db *sql.DB) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	var token string
	var incomplete int64
	err := db.QueryRowContext(ctx, `SELECT token, incomplete FROM log`).Scan(&token, &incomplete)
	if errors.Is(err, sql.ErrNoRows) {
		err = errNoMeta
	}
	if err != nil {
		return wrap(err, "read the log's state")
	}
	r.set(token, incomplete)
	return nil
}

// setIncomplete writes the log's state with a database that writes.
func (r *reader) setIncomplete(ctx context.Context, db *sql.DB, token string, place int64) error {
	if _, err := db.ExecContext(ctx, r.bind(`UPDATE log SET incomplete = ? WHERE token = ?`), place, token); err != nil {
		return wrap(err, "write the log's state")
	}
	return r.refresh(ctx, db)
}
