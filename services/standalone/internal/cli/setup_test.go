package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/postrider/postrider/services/standalone"
	"github.com/postrider/postrider/test/fixture/logtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long tests wait for what must happen. It is far above what it takes.
const patience = time.Minute

// shell is an environment in which the program is run.
type shell struct {
	env   map[string]string
	input string
}

// running is a shell with a real deployment in this process, and an account in it.
func running(t *testing.T) *shell {
	t.Helper()
	cfg := standalone.Default()
	cfg.DataDir = t.TempDir()
	cfg.GRPC.Listen, cfg.HTTPListen, cfg.Admin.MetricsListen = "127.0.0.1:0", "127.0.0.1:0", ""
	svc, err := standalone.New(cfg, logtest.New(t))
	require.NoError(t, err)
	require.NoError(t, svc.Start(t.Context()))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		require.NoError(t, svc.Stop(ctx))
	})
	s := &shell{env: map[string]string{"POSTRIDER_SERVER": svc.GRPCAddr(), "POSTRIDER_DATA_DIR": cfg.DataDir}}
	return s.account(t, t.Name())
}

// account is the shell in a new account.
func (s *shell) account(t *testing.T, name string) *shell {
	t.Helper()
	return s.with("POSTRIDER_ACCOUNT", s.json(t, "accounts", "create", name)["id"].(string))
}

// with is the shell with another variable.
func (s *shell) with(name, value string) *shell {
	out := &shell{env: map[string]string{name: value}, input: s.input}
	for k, v := range s.env {
		if k != name {
			out.env[k] = v
		}
	}
	return out
}

// reading is the shell with something to read.
func (s *shell) reading(input string) *shell {
	return &shell{env: s.env, input: input}
}

// result is what one run did.
type result struct {
	code     int
	out, err string
}

// run runs the program.
func (s *shell) run(t *testing.T, args ...string) result {
	t.Helper()
	var out, errOut buffer
	return s.runInto(t.Context(), &out, &errOut, args...)
}

func (s *shell) runInto(ctx context.Context, out, errOut *buffer, args ...string) result {
	lookup := func(name string) (string, bool) {
		v, ok := s.env[name]
		return v, ok
	}
	code := Run(ctx, args, lookup, Streams{In: strings.NewReader(s.input), Out: out, Err: errOut})
	return result{code, out.String(), errOut.String()}
}

// ok runs the program, which must succeed, and returns what it printed.
func (s *shell) ok(t *testing.T, args ...string) string {
	t.Helper()
	r := s.run(t, args...)
	require.Equal(t, exitOK, r.code, "%v: %s", args, r.err)
	return r.out
}

// json is ok for a program that reads the output.
func (s *shell) json(t *testing.T, args ...string) map[string]any {
	t.Helper()
	out := s.ok(t, append(args, "-o", "json")...)
	var v map[string]any
	require.NoError(t, json.Unmarshal([]byte(out), &v), out)
	return v
}

// fails runs the program, which must end with the code and say the words.
func (s *shell) fails(t *testing.T, code int, words string, args ...string) result {
	t.Helper()
	r := s.run(t, args...)
	require.Equal(t, code, r.code, "%v: %s%s", args, r.out, r.err)
	require.Contains(t, r.err, words, "%v", args)
	return r
}

// background runs the program until it ends or is interrupted.
type background struct {
	out, err buffer
	cancel   context.CancelFunc
	done     chan result
}

func (s *shell) background(t *testing.T, args ...string) *background {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	b := &background{cancel: cancel, done: make(chan result, 1)}
	go func() { b.done <- s.runInto(ctx, &b.out, &b.err, args...) }()
	t.Cleanup(func() {
		cancel()
		select {
		case <-b.done:
		case <-time.After(patience):
			t.Errorf("%v did not end", args)
		}
	})
	return b
}

// await waits until the program has said the words.
func (b *background) await(t *testing.T, words string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(b.out.String()+b.err.String(), words) }, patience, 5*time.Millisecond,
		"want %q, got %s%s", words, &b.out, &b.err)
}

// end waits until the program has ended by itself.
func (b *background) end(t *testing.T) result {
	t.Helper()
	select {
	case r := <-b.done:
		b.done <- r // for the cleanup
		return r
	case <-time.After(patience):
		t.Fatalf("it did not end: %s%s", &b.out, &b.err)
		return result{}
	}
}

// buffer is written by the program and read by the test.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// list is the items of a list that was printed as JSON.
func list(t *testing.T, v map[string]any, name string) []map[string]any {
	t.Helper()
	items, ok := v[name].([]any)
	require.True(t, ok, "%v has no %s", v, name)
	out := make([]map[string]any, len(items))
	for i, item := range items {
		out[i], ok = item.(map[string]any)
		require.True(t, ok)
	}
	return out
}
