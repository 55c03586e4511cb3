package logstore

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// A key and a trace are found in whichever run they were recorded, also in a log of before there were runs.
func TestAKeyAndATraceAreFoundInEveryRun(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log.db")
	s, err := OpenSQLite(t.Context(), path, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	s.set(s.Token(), 0)
	require.Empty(t, found(t, s, EventQuery{Key: "key-1"}), "of a log without events")

	const runs = 5
	ids := make([]string, runs)
	for n := range runs {
		ids[n] = string(postrider.NewEventID())
		require.NoError(t, s.Apply(t.Context(), []*recordv1.JournalEntry{{
			Time: timestamppb.Now(), AccountId: "acc_1", EventId: ids[n], EventType: "a.b",
			What: &recordv1.JournalEntry_Routed{Routed: &recordv1.Routed{
				AcceptTime: timestamppb.Now(),
				DedupKey:   fmt.Sprintf("key:key-%d", n%4), Traceparent: fmt.Sprintf("00-%032d-b7ad6b7169203331-01", 1+n%4),
			}},
		}}))
		_, err := s.write.ExecContext(t.Context(), `UPDATE events SET id = ? WHERE event_id = ?`, 7+n<<15, ids[n])
		require.NoError(t, err)
	}
	all := func() {
		t.Helper()
		for n := range 4 {
			want := ids[n : n+1]
			if n == 0 {
				want = []string{ids[4], ids[0]} // the latest first
			}
			require.Equal(t, want, found(t, s, EventQuery{Key: fmt.Sprintf("key-%d", n)}))
			require.Equal(t, want, found(t, s, EventQuery{TraceID: fmt.Sprintf("%032d", 1+n)}))
		}
		require.Empty(t, found(t, s, EventQuery{Key: "key-9"}))
	}
	all()
	_, err = s.write.ExecContext(t.Context(), `DELETE FROM events WHERE event_id = ?`, ids[1]) // a run may be empty
	require.NoError(t, err)
	require.Equal(t, ids[3:4], found(t, s, EventQuery{Key: "key-3"}))
	require.NoError(t, s.Close())

	old, err := openSQLiteDB(path, 1)
	require.NoError(t, err)
	_, err = sqliteSchema(t, old).DownTo(t.Context(), 8)
	require.NoError(t, err)
	require.NoError(t, old.Close())
	s, err = OpenSQLite(t.Context(), path, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	s.set(s.Token(), 0)
	require.Equal(t, []string{ids[4], ids[0]}, found(t, s, EventQuery{Key: "key-0"}))
	require.Equal(t, ids[3:4], found(t, s, EventQuery{TraceID: fmt.Sprintf("%032d", 4)}))
}

func found(t *testing.T, s *SQLite, q EventQuery) (ids []string) {
	t.Helper()
	q.Account, q.Limit = "acc_1", 10
	page, err := s.RecordedEvents(t.Context(), q)
	require.NoError(t, err)
	for _, e := range page {
		ids = append(ids, e.ID)
	}
	return ids
}
