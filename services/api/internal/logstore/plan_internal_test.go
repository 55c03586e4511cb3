package logstore

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestACommitWaitsForTheDisk(t *testing.T) {
	t.Parallel()
	s, err := OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "log.db"), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	var synchronous int
	require.NoError(t, s.write.QueryRowContext(t.Context(), `PRAGMA synchronous`).Scan(&synchronous))
	require.Equal(t, 2, synchronous, "FULL")
}

// No query may walk through a whole account where an index finds less.
func TestQueriesUseTheirIndex(t *testing.T) {
	t.Parallel()
	s, err := OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "log.db"), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	s.set(s.Token(), 0)
	defer func() { require.NoError(t, s.Close()) }()
	for name, c := range map[string]struct {
		query Query
		want  string
	}{
		"all":                         {Query{}, "deliveries_by_time (account_key=?)"},
		"a later page":                {Query{After: Cursor{CreateTime: time.UnixMicro(5), ID: "dlv_1"}}, "deliveries_by_time (account_key=? AND create_time<?)"},
		"by state":                    {Query{State: "dead"}, "deliveries_by_state (account_id=? AND state=?)"},
		"by a state that most are in": {Query{State: "delivered"}, "deliveries_by_time (account_key=?)"},
		"the oldest of a state":       {Query{State: "waiting", OldestFirst: true}, "deliveries_by_state (account_id=? AND state=?)"},
		"by type":                     {Query{EventType: "a.b"}, "deliveries_by_type (type_key=?)"},
		"by status":                   {Query{StatusCode: 500}, "deliveries_by_status (account_id=? AND last_status_code=?)"},
		"by a status of success":      {Query{StatusCode: 204}, "deliveries_by_status (account_id=? AND last_status_code=?)"},
		"by a status that most have":  {Query{StatusCode: 200}, "deliveries_by_time (account_key=?)"},
		"by outcome":                  {Query{Outcome: "gone"}, "deliveries_by_outcome (account_id=? AND last_outcome=?)"},
		"by type and state":           {Query{EventType: "a.b", State: "dead"}, "(account_id=? AND "},
		"by event":                    {Query{EventID: "evt_1"}, "deliveries_by_event (event_key=?)"},
		"by webhook":                  {Query{WebhookID: "wh_1"}, "deliveries_by_webhook (webhook_key=?)"},
		"by event and webhook":        {Query{EventID: "evt_1", WebhookID: "wh_1"}, "deliveries_by_event (event_key=?)"},
		"by call id":                  {Query{CallID: "1de6b22c-2fef-861f-be73-8dbad5c52c32"}, "sqlite_autoindex_deliveries_1 (delivery_id=?)"},
	} {
		c.query.Account, c.query.Limit = "acc_1", 10
		where, args := c.query.where(true)
		requirePlan(t, s, name, selectDeliveries+where+c.query.order(), append(args, c.query.Limit), c.want)
	}
	for name, c := range map[string]struct {
		text string
		args []any
		want string
	}{
		"an event":       {selectEvent, []any{1, 1, "evt_1", "acc_1"}, "events_by_account (account_key=? AND event_key=? AND event_id=?)"},
		"known events":   {selectKnown + `(VALUES (1, 1, 'acc_1', 'evt_1'), (2, 2, 'acc_2', 'evt_2'))`, nil, "events_by_account (account_key=? AND event_key=?"},
		"attempts":       {selectAttempts, []any{"dlv_1", "acc_1", 1, 1}, "(delivery_id=?)"},
		"early attempts": {selectEarly, []any{"dlv_1", "acc_1"}, "(delivery_id=?)"},
		"an early one":   {selectEarlyOwner, []any{1, "acc_1", 1, 2, "%att_1%"}, "deliveries_by_time (account_key=? AND create_time>? AND create_time<?)"},
		"an attempt":     {selectOwner, []any{"att_1", "acc_1"}, "attempts_by_id (attempt_id=?)"},
		"moves":          {selectMoves, []any{"dlv_1", "acc_1", 1}, "PRIMARY KEY (delivery_id=?)"},
		"unfinished":     {selectUnfinished, []any{"", "", 0, "", 1}, "deliveries_by_state ("},
		"expired events": {selectExpired, []any{1, 1, "acc_1", "evt_1", 1}, "events_by_account (account_key=? AND event_key<?)"},
	} {
		requirePlan(t, s, name, c.text, c.args, c.want)
	}
	for name, c := range map[string]struct {
		query EventQuery
		want  string
	}{
		"events":                     {EventQuery{}, "events_by_account (account_key=?)"},
		"events by type":             {EventQuery{EventType: "a"}, "events_by_type (type_key=?)"},
		"events by key":              {EventQuery{Key: "a"}, "events_by_key (<expr>=? AND given_hash=?)"},
		"events by trace":            {EventQuery{TraceID: "a"}, "events_by_trace (<expr>=? AND trace_hash=?)"},
		"unmatched events":           {EventQuery{Unmatched: true}, "events_unmatched (account_key=?)"},
		"unmatched events of a type": {EventQuery{Unmatched: true, EventType: "a"}, "events_unmatched (account_key=?)"},
	} {
		c.query.Account, c.query.Limit = "acc_1", 10
		query, args := c.query.text(true)
		requirePlan(t, s, name, query, args, c.want)
	}
}

func requirePlan(t *testing.T, s *SQLite, name, query string, args []any, want string) {
	t.Helper()
	rows, err := s.db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
	require.NoError(t, err, name)
	defer func() { require.NoError(t, rows.Close()) }()
	var steps []string
	for rows.Next() {
		var id, parent, unused int
		var step string
		require.NoError(t, rows.Scan(&id, &parent, &unused, &step), name)
		steps = append(steps, step)
	}
	require.NoError(t, rows.Err(), name)
	require.Contains(t, strings.Join(steps, "\n"), want, name)
}
