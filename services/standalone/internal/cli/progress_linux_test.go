package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/postrider/postrider/test/fixture/natstest"
	"github.com/postrider/postrider/test/fixture/receivertest"
)

// terminal is a real one: what the program writes to it is what somebody would see, as bytes.
type terminal struct {
	program *os.File
	seen    *buffer
	done    chan struct{}
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	control, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	fd := int(control.Fd())
	require.NoError(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: 72, Row: 20}))
	side, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	term := &terminal{program: side, seen: &buffer{}, done: make(chan struct{})}
	go func() {
		defer close(term.done)
		part := make([]byte, 4<<10)
		for {
			n, err := control.Read(part)
			_, _ = term.seen.Write(part[:n])
			if err != nil {
				return // the program's side is closed
			}
		}
	}()
	t.Cleanup(func() {
		_ = side.Close()
		<-term.done
		require.NoError(t, control.Close())
	})
	return term
}

// on runs the program with its error stream on the terminal, and returns what it printed and what was seen.
func (s *shell) on(t *testing.T, args ...string) (out, seen string) {
	t.Helper()
	term := newTerminal(t)
	var printed bytes.Buffer
	lookup := func(name string) (string, bool) { v, ok := s.env[name]; return v, ok }
	code := Run(t.Context(), args, lookup, Streams{In: strings.NewReader(""), Out: &printed, Err: term.program})
	require.NoError(t, term.program.Close())
	<-term.done
	require.Equal(t, exitOK, code, "%v: %s", args, term.seen)
	return printed.String(), term.seen.String()
}

func TestLongWorkIsFollowedOnATerminal(t *testing.T) {
	t.Parallel()
	s := running(t)
	s.webhook(t, receivertest.New(t).URL, "--events", "*")
	s.ok(t, "publish", "order.paid")
	require.Eventually(t, func() bool { return strings.Contains(s.ok(t, "deliveries", "list"), "delivered") }, patience, waitTick)

	out, seen := s.on(t, "deliveries", "replay", "--since", "-1h", "--wait", "-o", "json")
	require.Contains(t, out, `"REPLAY_STATE_SUCCEEDED"`)
	require.NotContains(t, out, "\x1b", "the output stays what was asked for")
	require.Regexp(t, `\d+%  replay rpl_\w+: \d of 1`, seen)
	require.True(t, strings.HasSuffix(seen, eraseLine), "%q", seen)

	out, seen = s.on(t, "reconcile")
	require.Contains(t, out, "imbalances")
	require.Contains(t, seen, "reading the streams")
	require.Contains(t, seen, "comparing the journal: ")
	require.True(t, strings.HasSuffix(seen, eraseLine), "%q", seen)

	out, seen = s.on(t, "recorder", "rebuild", "--wait")
	require.Regexp(t, `^the log was built again from \d+ messages`, out)
	require.NotContains(t, seen, "\n")
	require.Contains(t, s.ok(t, "deliveries", "list"), "delivered", "it answers again")

	file := filepath.Join(t.TempDir(), "events.jsonl")
	write(t, file, strings.Repeat(`{"type":"a.b"}`+"\n", 20))
	out, seen = s.on(t, "publish", "--file", file, "--quiet")
	require.Empty(t, out)
	require.Regexp(t, `\d+%  publishing: \d+ B of 300 B \(\d+ stored\)`, seen)
	require.Contains(t, seen, eraseLine+"20 stored, 0 of them duplicates; 0 refused", "the line is gone before the sum")

	plain := s.run(t, "reconcile")
	require.Contains(t, plain.err, "reading the streams\n")
	require.NotContains(t, plain.err, "\x1b")
}

func TestABackupIsFollowedOnATerminal(t *testing.T) {
	t.Parallel()
	full, empty := natstest.Start(t), natstest.Start(t)
	events(t, full)
	s := &shell{}
	dir := t.TempDir() + "/backup"
	_, seen := s.on(t, "backup", dir, "--nats-url", full.URL)
	require.Regexp(t, `taking streams: 1 of \d+ \(EVENTS, 0 B in all\)`, seen)
	_, seen = s.on(t, "restore", dir, "--nats-url", empty.URL)
	require.Regexp(t, `restoring: 0 B of [\d.]+ (Ki)?B \(EVENTS, 1 of `, seen)

	dumb := s.with("TERM", "dumb")
	_, seen = dumb.on(t, "backup", dir+"2", "--nats-url", full.URL)
	require.NotContains(t, seen, "\x1b")
}
