//go:build logbench

package bench

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/test/fixture/pgtest"
)

// What make bench/log asks for.
var (
	attempts = flag.Int("attempts", 100_000, "attempts that the log is given")
	rate     = flag.Int("rate", 5000, "attempts a second that it is given")
)

// TestMain lets this program be the receiver in a process of its own.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "receiver" {
		if err := ServeReceiver(context.Background(), os.Stdin, os.Stdout); err != nil {
			panic(err)
		}
		return
	}
	m.Run()
}

// store is where the log is.
type store struct {
	env map[string]string    // of the api
	cpu func() time.Duration // of a server of its own
	pg  *pgtest.Server       // nil for a file
}

func sqliteStore(testing.TB) store {
	return store{cpu: func() time.Duration { return 0 }}
}

func postgresStore(b testing.TB) store {
	b.Helper()
	server := pgtest.Start(b, "shared_buffers=256MB", "max_wal_size=2GB")
	return store{
		pg: server, cpu: func() time.Duration { return server.CPU(b) },
		env: map[string]string{"POSTRIDER_API_LOG_URL": server.URL(b), "POSTRIDER_API_LOG_FILE": ""},
	}
}

// running is the separate processes with their log in a store, until the benchmark ends.
func running(b *testing.B, at store) *system {
	b.Helper()
	bin, err := filepath.Abs("../../bin")
	require.NoError(b, err)
	s, err := start(b.Context(), separate, &Options{Bin: bin, Shards: 4, env: map[string]map[string]string{"api": at.env}}, b.TempDir())
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, s.stop()) })
	return s
}
