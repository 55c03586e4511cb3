//go:build integration

package logstore

import (
	"log/slog"
	"testing"

	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/test/fixture/pgtest"
)

// A database that an earlier version wrote, partitions and all, is begun anew under another token.
func TestADatabaseOfAnEarlierSchemaIsBegunAnew(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, pgtest.Fast()...)
	s, err := OpenPostgres(t.Context(), server.URL(t), 2, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	b := recorded(t, s)
	provider, err := schema(goose.DialectPostgres, s.db, "migrations/postgres", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	for _, move := range []func() error{
		func() error { _, err := provider.DownTo(t.Context(), 3); return err },
		func() error { _, err := provider.Up(t.Context()); return err },
	} {
		was := s.Token()
		require.NoError(t, s.SetIncomplete(t.Context(), was, 0))
		require.NoError(t, move())
		require.NoError(t, s.Refresh(t.Context()))
		require.NotEqual(t, was, s.Token())
		require.EqualValues(t, unknownPlace, s.Incomplete())
		for _, table := range append([]string{"ledger", "activity"}, tables...) {
			var n int
			require.NoError(t, s.db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM "+table).Scan(&n))
			require.Zero(t, n, table)
		}
	}
	require.NoError(t, s.Record(t.Context(), b))
}
