package system

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Verdict is what a receiver in Node says of one request.
type Verdict struct {
	Listening int             `json:"listening"`
	Status    int             `json:"status"`
	Error     string          `json:"error"`
	Event     string          `json:"event"`
	ID        string          `json:"id"`
	Body      json.RawMessage `json:"body"`
}

// NodeDir is where the receivers are, with their packages installed.
func NodeDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../node")
	require.NoError(t, err)
	_, err = os.Stat(filepath.Join(dir, "node_modules"))
	require.NoError(t, err, "run npm ci in test/node first, as make test/e2e does")
	return dir
}

// NodeReceiver starts a receiver of test/node, until the test ends, and returns its port and its
// verdicts. Env are further variables of its environment, as NAME=value.
func NodeReceiver(t *testing.T, script, secret string, env ...string) (port int, verdicts <-chan Verdict) {
	t.Helper()
	dir := NodeDir(t)
	node, err := exec.LookPath("node")
	require.NoError(t, err, "these tests run the systems' own JavaScript: install Node 20 or newer")
	cmd := exec.CommandContext(t.Context(), node, script)
	cmd.Dir, cmd.Env, cmd.Stderr = dir, append(append(os.Environ(), "WEBHOOK_SECRET="+secret), env...), os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := make(chan Verdict, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		scanner := bufio.NewScanner(out)
		scanner.Buffer(nil, 16<<20)
		for scanner.Scan() {
			var v Verdict
			if json.Unmarshal(scanner.Bytes(), &v) == nil && (v.Status != 0 || v.Listening != 0) {
				lines <- v
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
		_ = cmd.Wait()
	})
	return Next(t, lines).Listening, lines
}

// Next is the next verdict.
func Next(t *testing.T, verdicts <-chan Verdict) Verdict {
	t.Helper()
	select {
	case v := <-verdicts:
		return v
	case <-time.After(Patience):
		t.Fatal("the receiver said nothing")
		return Verdict{}
	}
}
