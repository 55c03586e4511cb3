package cli

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/test/fixture/natstest"
)

// events makes the stream EVENTS.
func events(t *testing.T, server *natstest.Server) {
	t.Helper()
	c, err := stream.New(server.NC(t), stream.Default())
	require.NoError(t, err)
	defer c.Close()
	_, err = eventstream.Ensure(t.Context(), c, eventstream.Default())
	require.NoError(t, err)
}

// The command's own connection is what is tested here: its name, its inbox and its flags.
func TestBackupAndRestoreByCommand(t *testing.T) {
	t.Parallel()
	full, empty := natstest.Start(t), natstest.Start(t)
	events(t, full)
	s := &shell{}
	dir := filepath.Join(t.TempDir(), "backup")
	names := func(m map[string]any) (out []any) {
		for _, stream := range list(t, m, "streams") {
			out = append(out, stream["name"])
		}
		return out
	}
	taken := names(s.json(t, "backup", dir, "--nats-url", full.URL))
	require.Contains(t, taken, "EVENTS")
	s.fails(t, 1, "new folder", "backup", dir, "--nats-url", full.URL)
	require.Equal(t, taken, names(s.json(t, "restore", dir, "--nats-url", empty.URL)))
	s.fails(t, 1, "already", "restore", dir, "--nats-url", empty.URL)
}
