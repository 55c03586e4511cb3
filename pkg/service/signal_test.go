package service_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/service"
)

// childVariable makes the test binary behave as a program that runs a group.
const childVariable = "SERVICE_TEST_CHILD"

// TestChild is that program, when another test starts it: it says what it does on its output.
func TestChild(t *testing.T) {
	mode := os.Getenv(childVariable)
	if mode == "" {
		return // nobody asked for a program
	}
	var g service.Group
	g.Add(announced{&diary{}, func() { say("started") }}, service.Func("part", nil, func(ctx context.Context) error {
		say("stopping")
		if mode == "stuck" {
			<-ctx.Done()
		}
		return nil
	}))
	log := slog.New(slog.DiscardHandler)
	ctx, end := service.UntilSignal(t.Context(), log)
	defer end()
	err := service.Run(ctx, log, time.Minute, &g)
	say(fmt.Sprintf("ended %v", err))
}

// say writes a line that the parent waits for.
func say(line string) { _, _ = io.WriteString(os.Stdout, line+"\n") }

// child starts the program and returns it with its output.
func child(t *testing.T, mode string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), childVariable+"="+mode)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(out)
	await(t, lines, "started")
	return cmd, lines
}

// await reads the program's output until the line comes.
func await(t *testing.T, lines *bufio.Scanner, want string) {
	t.Helper()
	for lines.Scan() {
		if lines.Text() == want {
			return
		}
	}
	t.Fatalf("the program ended without saying %q: %v", want, lines.Err())
}

// The first signal stops the group in order and the program succeeds.
func TestSignalStops(t *testing.T) {
	t.Parallel()
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		cmd, lines := child(t, "plain")
		require.NoError(t, cmd.Process.Signal(sig))
		await(t, lines, "stopping")
		await(t, lines, "ended <nil>")
		require.NoError(t, cmd.Wait())
	}
}

// The second signal ends the program at once, whatever is still stopping.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	cmd, lines := child(t, "stuck")
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	await(t, lines, "stopping")
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	var exit *exec.ExitError
	require.ErrorAs(t, cmd.Wait(), &exit)
	status, ok := exit.Sys().(syscall.WaitStatus)
	require.True(t, ok)
	require.Equal(t, syscall.SIGTERM, status.Signal())
}
