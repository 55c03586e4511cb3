//go:build chaos

// Package chaos holds the drills: a whole deployment as separate processes, under load, with
// something killed, flushed or stopped at a random instant. The proof is a ledger that the drill
// keeps for itself, of what producers were told and of what receivers got: every accepted event
// reached every webhook that wants it, nothing arrived that was not accepted, and what arrived
// twice is within a bound that was computed before anything was counted.
//
// POSTRIDER_SEED repeats the choices of a run: which replica, which order, which instant. The
// machine's own timing is never the same twice. POSTRIDER_CHAOS_DIR keeps logs and data;
// POSTRIDER_CHAOS_MATRIX names a file for the matrix as JSON; POSTRIDER_CHAOS_BIN takes other binaries, such as some with a mistake that a drill is to find.
package chaos

import (
	"cmp"
	"context"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/postrider/postrider/test/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(drills{m}) }

// shards is how many the deployments of the drills have.
const shards = 4

// dice are a drill's random choices. One goroutine uses them.
type dice struct {
	*rand.Rand
	seed uint64
}

// roll begins with the seed of the environment, or one of its own, and prints it.
func roll(t *testing.T) dice {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("POSTRIDER_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, "POSTRIDER_SEED is a number")
	}
	t.Logf("seed %d: POSTRIDER_SEED=%d makes the same choices again", seed, seed)
	return dice{Rand: rand.New(rand.NewPCG(seed, 0)), seed: seed}
}

// between is a duration from low up to high.
func (d dice) between(low, high time.Duration) time.Duration {
	return low + time.Duration(d.Int64N(int64(high-low)))
}

// startCluster runs a deployment until the test ends; env is added to that of every service.
func startCluster(t *testing.T, env map[string]string) *cluster.Cluster {
	t.Helper()
	return startAdjusted(t, env, nil)
}

// startAdjusted is startCluster with a change to each service's process.
func startAdjusted(t *testing.T, env map[string]string, adjust func(*cluster.Cluster, *cluster.Process) error) *cluster.Cluster {
	t.Helper()
	bin, err := filepath.Abs(cmp.Or(os.Getenv("POSTRIDER_CHAOS_BIN"), "../../bin"))
	require.NoError(t, err)
	_, err = os.Stat(filepath.Join(bin, "dispatcher"))
	require.NoError(t, err, "run make build, or make chaos, first")
	dir := t.TempDir()
	if keep := os.Getenv("POSTRIDER_CHAOS_DIR"); keep != "" {
		dir = filepath.Join(keep, t.Name()) // logs and data stay there
	}
	c, err := cluster.Start(t.Context(), cluster.Options{Bin: bin, Dir: dir, Replicas: 2, Shards: shards, Env: env, Adjust: adjust})
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections() // the cluster asked with it whether it is ready
		if t.Failed() {
			for _, p := range c.Processes() {
				t.Logf("---- %s\n%s", p.Name, p.Tail(40))
			}
		}
	})
	return c
}

// await looks every so often whether cond holds, and fails the test with what it says if it does
// not within a time.
func await(t *testing.T, within, every time.Duration, what func() string, cond func() bool) {
	t.Helper()
	if !awaited(t.Context(), within, every, cond) {
		t.Fatalf("after %s: %s", within, what())
	}
}

// awaited is await with an answer.
func awaited(ctx context.Context, within, every time.Duration, cond func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for !cond() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// pause lets time pass that the drill has chosen; false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
