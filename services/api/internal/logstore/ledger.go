package logstore

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// Counts is how many deliveries of an account the log has.
type Counts struct {
	// Routed were named by an entry of routing.
	Routed int64
	// In each state.
	In map[postrider.DeliveryState]int64
}

// Ledger counts the log's deliveries by account. It reads counters that were kept with the rows.
func (s *SQLite) Ledger(ctx context.Context) (map[postrider.AccountID]Counts, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT account_id, term, count FROM ledger`)
	if err != nil {
		return nil, fmt.Errorf("count deliveries: %w", err)
	}
	defer func() { _ = rows.Close() }()
	ledger := make(map[postrider.AccountID]Counts)
	for rows.Next() {
		var account, term string
		var n int64
		if err := rows.Scan(&account, &term, &n); err != nil {
			return nil, fmt.Errorf("count deliveries: %w", err)
		}
		c := ledger[postrider.AccountID(account)]
		if c.In == nil {
			c.In = make(map[postrider.DeliveryState]int64)
		}
		if term == "routed" {
			c.Routed = n
		} else {
			c.In[postrider.DeliveryState(term)] = n
		}
		ledger[postrider.AccountID(account)] = c
	}
	return ledger, rows.Err()
}

// Standing is where the log sees a delivery.
type Standing struct {
	ID, Account, Event, Webhook string
	Series                      int32
	State                       postrider.DeliveryState
	StateTime                   time.Time
	Attempts                    int
	Routed                      bool

	stateTime int64
}

const standingColumns = `delivery_id, account_id, event_id, webhook_id, series, state, state_time, attempt_count, routed`

// maxIDs is how many ids one query may name.
const maxIDs = 500

// Standings reads where the log sees deliveries; those that it does not know are left out.
func (s *SQLite) Standings(ctx context.Context, ids []string) (map[string]*Standing, error) {
	found := make(map[string]*Standing, len(ids))
	err := s.byIDs(ctx, `SELECT `+standingColumns+` FROM deliveries WHERE delivery_id IN `, ids, func(rows *sql.Rows) error {
		st, err := scanStanding(rows)
		if err == nil {
			found[st.ID] = st
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look %d deliveries up: %w", len(ids), err)
	}
	return found, nil
}

// Events says which of the events the log knows.
func (s *SQLite) Events(ctx context.Context, ids []string) (map[string]bool, error) {
	found := make(map[string]bool, len(ids))
	err := s.byIDs(ctx, `SELECT event_id FROM events WHERE event_id IN `, ids, func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		found[id] = true
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look %d events up: %w", len(ids), err)
	}
	return found, nil
}

// byIDs runs a query that ends in IN, for some ids at a time.
func (s *SQLite) byIDs(ctx context.Context, query string, ids []string, fn func(*sql.Rows) error) error {
	for at := 0; at < len(ids); at += maxIDs {
		part := ids[at:min(at+maxIDs, len(ids))]
		args := make([]any, len(part))
		for i, id := range part {
			args[i] = id
		}
		err := s.each(ctx, query+`(?`+strings.Repeat(`, ?`, len(part)-1)+`)`, args, fn)
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *SQLite) each(ctx context.Context, query string, args []any, fn func(*sql.Rows) error) error {
	rows, err := s.read.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := fn(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Unfinished gives every delivery that has not ended to fn, and those that died at or after a time.
// It reads page after page, so that it holds no transaction open for long; what is written
// meanwhile may be seen or not.
func (s *SQLite) Unfinished(ctx context.Context, diedSince time.Time, fn func(*Standing) error) error {
	const page = 4096
	var last, upTo int64
	if err := s.read.QueryRowContext(ctx, `SELECT COALESCE(MAX(rowid), 0) FROM deliveries`).Scan(&upTo); err != nil {
		return fmt.Errorf("walk deliveries: %w", err)
	}
	for last < upTo {
		end := last + page
		err := s.each(ctx, `SELECT `+standingColumns+` FROM deliveries WHERE rowid > ? AND rowid <= ?
			AND (state IN ('pending', 'waiting', 'held') OR state = 'dead' AND state_time >= ?)`, []any{last, end, diedSince.UnixMicro()}, func(rows *sql.Rows) error {
			st, err := scanStanding(rows)
			if err != nil {
				return err
			}
			return fn(st)
		})
		if err != nil {
			return fmt.Errorf("walk deliveries: %w", err)
		}
		last = end
	}
	return nil
}

func scanStanding(rows *sql.Rows) (*Standing, error) {
	var st Standing
	err := rows.Scan(&st.ID, &st.Account, &st.Event, &st.Webhook, &st.Series, &st.State, &st.stateTime, &st.Attempts, &st.Routed)
	st.StateTime = fromMicros(st.stateTime)
	return &st, err
}

// Unrecorded names the deliveries and events of which the entries say what the log does not know.
func (s *SQLite) Unrecorded(ctx context.Context, entries []*recordv1.JournalEntry) (deliveries, events []Standing, err error) {
	a := applier{ctx: ctx, look: true, facts: make(map[string]*fact, len(entries))}
	byEvent := make(map[string]*recordv1.JournalEntry)
	for _, e := range entries {
		if err := a.entry(e); err != nil {
			return nil, nil, err
		}
		if e.GetRouted() != nil && e.GetRouted().GetReplayId() == "" {
			byEvent[e.GetEventId()] = e
		}
	}
	rows, err := s.Standings(ctx, keys(a.facts))
	if err != nil {
		return nil, nil, err
	}
	for _, f := range a.order {
		if row := rows[f.deliveryID]; !f.within(row) {
			st := Standing{ID: f.deliveryID, Account: f.entry.GetAccountId(), Event: f.entry.GetEventId(), Webhook: f.webhookID}
			deliveries = append(deliveries, st)
		}
	}
	known, err := s.Events(ctx, keys(byEvent))
	if err != nil {
		return nil, nil, err
	}
	for id, e := range byEvent {
		if !known[id] {
			events = append(events, Standing{Event: id, Account: e.GetAccountId()})
		}
	}
	return deliveries, events, nil
}

// within reports whether the row holds the fact, or what came after it.
func (f *fact) within(row *Standing) bool {
	if row == nil || f.routed && !row.Routed {
		return false
	}
	return cmp.Or(cmp.Compare(row.Series, f.series), cmp.Compare(row.State.Rank(), f.state.Rank()),
		cmp.Compare(row.stateTime, f.stateTime), cmp.Compare(row.State, f.state)) >= 0
}

func keys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	return out
}
