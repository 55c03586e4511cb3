package logstore

import (
	"database/sql"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/postrider"
)

// A file that an earlier version wrote is read and written by this one, its counters included.
func TestAFileOfAnEarlierSchemaIsCarriedOver(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log.db")
	old, err := openSQLiteDB(path, 1)
	require.NoError(t, err)
	provider := sqliteSchema(t, old)
	_, err = provider.UpTo(t.Context(), 5)
	require.NoError(t, err)
	for _, statement := range []string{
		`INSERT INTO events VALUES ('evt_1', 'acc_1', 'a.b', 7, 1, 2, 1, 0, x'', 'order-1', '', 0)`,
		`INSERT INTO deliveries (delivery_id, account_id, event_id, event_type, webhook_id, state, state_rank, state_time, create_time, routed)
			VALUES ('dlv_1', 'acc_1', 'evt_1', 'a.b', 'wh_1', 'pending', 0, 1, 1, 1)`,
		`UPDATE deliveries SET state = 'delivered', state_rank = 4`,
		`INSERT INTO attempts (delivery_id, attempt_id, account_id, start_time, record, webhook_id, good, bucket)
			VALUES ('dlv_1', 'att_1', 'acc_1', 60000000, x'', 'wh_1', 1, 3)`,
	} {
		_, err := old.ExecContext(t.Context(), statement)
		require.NoError(t, err, statement)
	}
	require.NoError(t, old.Close())

	s, err := OpenSQLite(t.Context(), path, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	s.set(s.Token(), 0)
	e, err := s.Event(t.Context(), "acc_1", "evt_1")
	require.NoError(t, err)
	require.EqualValues(t, 7, e.Sequence)
	byKey, err := s.RecordedEvents(t.Context(), EventQuery{Account: "acc_1", Key: "order-1", Limit: 2})
	require.NoError(t, err)
	require.Len(t, byKey, 1)
	ledger, err := s.Ledger(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, ledger["acc_1"].In[postrider.Delivered])
	require.EqualValues(t, 1, ledger["acc_1"].Routed)
	counts, err := s.Activity(t.Context(), ActivityQuery{Account: "acc_1", Start: fromMicros(60000000), End: fromMicros(120000000), Minutes: 1})
	require.NoError(t, err)
	require.Equal(t, []ActivityCount{{Good: true, Bucket: 3, Count: 1}}, counts)

	// And back, for who has to.
	_, err = sqliteSchema(t, s.write).DownTo(t.Context(), 5)
	require.NoError(t, err)
	_, err = s.write.ExecContext(t.Context(), `UPDATE deliveries SET state = 'dead'`)
	require.NoError(t, err)
	ledger, err = s.Ledger(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, ledger["acc_1"].In[postrider.Dead], "its triggers count again")
	require.Zero(t, ledger["acc_1"].In[postrider.Delivered])
}

func sqliteSchema(t *testing.T, db *sql.DB) *goose.Provider {
	t.Helper()
	provider, err := schema(goose.DialectSQLite3, db, "migrations/sqlite", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return provider
}
