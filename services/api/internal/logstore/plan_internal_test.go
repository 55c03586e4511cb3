package logstore

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// No query may walk through a whole account where an index finds less.
func TestQueriesUseTheirIndex(t *testing.T) {
	t.Parallel()
	s, err := OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "log.db"), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	for name, c := range map[string]struct {
		query Query
		want  string
	}{
		"all":                  {Query{}, "deliveries_by_time (account_id=?)"},
		"by state":             {Query{State: "dead"}, "deliveries_by_time (account_id=?)"},
		"by event":             {Query{EventID: "evt_1"}, "deliveries_by_event (event_id=?)"},
		"by webhook":           {Query{WebhookID: "wh_1"}, "deliveries_by_webhook (webhook_id=?)"},
		"by event and webhook": {Query{EventID: "evt_1", WebhookID: "wh_1"}, "deliveries_by_event (event_id=?)"},
		"by call id":           {Query{CallID: "1de6b22c-2fef-861f-be73-8dbad5c52c32"}, "sqlite_autoindex_deliveries_1 (delivery_id>? AND delivery_id<?)"},
	} {
		c.query.Account, c.query.Limit = "acc_1", 10
		where, args := c.query.where()
		var id, parent, unused int
		var plan string
		row := s.read.QueryRowContext(t.Context(), "EXPLAIN QUERY PLAN "+selectDeliveries+where+newestFirst, append(args, c.query.Limit)...)
		require.NoError(t, row.Scan(&id, &parent, &unused, &plan), name)
		require.Contains(t, plan, c.want, name)
	}
}
