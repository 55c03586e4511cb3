//go:build integration

package logstore_test

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/services/api/internal/logstore"
	"github.com/postrider/postrider/test/fixture/pgtest"
)

func TestPostgreSQL(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, pgtest.Fast()...)
	run(t, func(t testing.TB) logstore.Store {
		t.Helper()
		return openPostgres(t, server.URL(t))
	})
}

func openPostgres(t testing.TB, url string) logstore.Store {
	t.Helper()
	s, err := logstore.OpenPostgres(t.Context(), url, 4, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	require.NoError(t, s.SetIncomplete(t.Context(), s.Token(), 0))
	return s
}
