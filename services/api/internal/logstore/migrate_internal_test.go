package logstore

import (
	"database/sql"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// A file that an earlier version wrote is begun anew under another token, so that the journal fills it again.
func TestAFileOfAnEarlierSchemaIsBegunAnew(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log.db")
	old, err := openSQLiteDB(path, 1)
	require.NoError(t, err)
	provider := sqliteSchema(t, old)
	_, err = provider.UpTo(t.Context(), 7)
	require.NoError(t, err)
	for _, statement := range []string{
		`INSERT INTO events VALUES ('acc_1', 'evt_1', 'a.b', 7, 1, 2, 1, 0, x'', 'order-1', '', 0)`,
		`INSERT INTO deliveries (delivery_id, account_id, event_id, event_type, webhook_id, state, state_rank, state_time, create_time, routed)
			VALUES ('dlv_1', 'acc_1', 'evt_1', 'a.b', 'wh_1', 'pending', 0, 1, 1, 1)`,
		`INSERT INTO attempts (delivery_id, attempt_id, account_id, start_time, record, webhook_id, good, bucket)
			VALUES ('dlv_1', 'att_1', 'acc_1', 60000000, x'', 'wh_1', 1, 3)`,
		`INSERT INTO ledger VALUES ('acc_1', 'pending', 1)`,
		`INSERT INTO activity VALUES ('acc_1', 'wh_1', 1, 1, 3, 1)`,
		`UPDATE log SET token = 'old', incomplete = 0`,
	} {
		_, err := old.ExecContext(t.Context(), statement)
		require.NoError(t, err, statement)
	}
	require.NoError(t, old.Close())

	s, err := OpenSQLite(t.Context(), path, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	require.NotEqual(t, "old", s.Token())
	require.NotEmpty(t, s.Token())
	require.EqualValues(t, unknownPlace, s.Incomplete(), "it does not answer")
	requireNoRows(t, s)
	b := recorded(t, s)

	// And back, for who has to.
	was := s.Token()
	_, err = sqliteSchema(t, s.write).DownTo(t.Context(), 5)
	require.NoError(t, err)
	require.NoError(t, s.Refresh(t.Context()))
	require.NotEqual(t, was, s.Token())
	require.EqualValues(t, unknownPlace, s.Incomplete())
	requireNoRows(t, s)
	_, err = sqliteSchema(t, s.write).Up(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Record(t.Context(), b))
}

// recorded records a delivery with its attempt, and returns what it recorded.
func recorded(t *testing.T, s Store) *Batch {
	t.Helper()
	when := timestamppb.Now()
	b, err := batchOf([]*recordv1.JournalEntry{{
		Time: when, CreateTime: when, AccountId: "acc_1", EventId: string(postrider.NewEventID()), DeliveryId: "dlv_1", WebhookId: "wh_1", EventType: "a.b",
		What: &recordv1.JournalEntry_Attempted{Attempted: &recordv1.Attempted{
			AttemptId: string(postrider.NewAttemptID()), Number: 1, Trigger: TriggerSchedule, StartTime: when, State: string(postrider.Delivered),
		}},
	}})
	require.NoError(t, err)
	require.NoError(t, s.Record(t.Context(), b))
	return b
}

func requireNoRows(t *testing.T, s *SQLite) {
	t.Helper()
	for _, table := range []string{"events", "deliveries", "attempts", "moves", "ledger", "activity"} {
		var n int
		require.NoError(t, s.write.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM "+table).Scan(&n))
		require.Zero(t, n, table)
	}
}

func sqliteSchema(t *testing.T, db *sql.DB) *goose.Provider {
	t.Helper()
	provider, err := schema(goose.DialectSQLite3, db, "migrations/sqlite", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return provider
}
