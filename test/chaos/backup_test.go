//go:build chaos

package chaos

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/cluster"
)

// manifest is what the command says of a backup.
type manifest struct {
	Streams []struct {
		Name         string `json:"name"`
		Messages     uint64 `json:"messages"`
		LastSequence uint64 `json:"last_sequence"`
	} `json:"streams"`
}

func (m manifest) messages(stream string) (n uint64) {
	for _, s := range m.Streams {
		if ok, _ := filepath.Match(stream, s.Name); ok {
			n += s.Messages
		}
	}
	return n
}

// postrider runs the command line against the deployment's NATS.
func postrider(t *testing.T, c *cluster.Cluster, args ...string) (m manifest) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(c.Bin(), "postrider"), append(args, "-o", "json", "--nats-url", c.NATSURL)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s", out)
	require.NoError(t, json.Unmarshal(out, &m))
	return m
}

// TestBackupAndRestoreOfTheRecord takes a backup in the midst of a burst, with events unrouted,
// attempts in flight and retries waiting; lets things go on for a while; and then loses everything:
// NATS, Redis and the delivery logs. What was unfinished in the backup is delivered.
func TestBackupAndRestoreOfTheRecord(t *testing.T) {
	t.Parallel()
	d := roll(t)
	c := startCluster(t, map[string]string{"POSTRIDER_DISPATCHER_BREAKER_FAILURES": patientBreaker})
	// Half of the retries that wait at the backup have been made by the time of the loss.
	hooks := killHooks(time.Now())
	hooks[unsteady].mood = stubborn()
	hooks[unsteady].schedule = schedule(10*time.Second, 0.5)
	w := newWorld(t, c, 4, hooks, inTurn(killEvents()))
	s := watchStreams(t, c)
	p := &producer{w: w, batch: 50}
	r := &row{Fault: "everything lost, restored from a backup taken under load"}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	before := s.incarnation(t)

	enough := make(chan struct{})
	published := p.publishUntil(ctx, enough, 0, 1000)
	instant := 1000 + d.IntN(1000)
	await(t, time.Minute, time.Millisecond, func() string { return "too few events are accepted" }, func() bool {
		m, err := meet(ctx, w, s)
		return err == nil && w.ledger.acceptedCount() >= instant && m.unrouted > 0 && m.unacked > 0 && m.records > 0
	})
	r.strike(t, w, "a backup begins")
	m, err := meet(ctx, w, s)
	require.NoError(t, err)
	began := time.Now()
	dir := filepath.Join(t.TempDir(), "backup")
	taken := postrider(t, c, "backup", dir)
	t.Logf("the backup met %s; it took %s and has %d events, %d deliveries, %d records, %d messages of the journal",
		m, time.Since(began).Round(time.Millisecond), taken.messages("EVENTS"), taken.messages("DELIVERIES_*"), taken.messages("RETRIES_*"), taken.messages("JOURNAL"))
	require.Positive(t, taken.messages("DELIVERIES_*")+taken.messages("RETRIES_*"), "nothing is unfinished in the backup")
	require.True(t, pause(ctx, d.between(2*time.Second, 6*time.Second)))
	close(enough)
	require.NoError(t, <-published)

	r.strike(t, w, "everything is lost")
	for _, process := range c.Processes() {
		process.Kill()
	}
	lost := time.Now()
	for _, server := range c.Of("nats") {
		require.NoError(t, os.RemoveAll(c.NATSStore(server)))
	}
	logs, err := filepath.Glob(filepath.Join(c.Dir(), "api-*.db*"))
	require.NoError(t, err)
	require.NotEmpty(t, logs)
	for _, file := range logs {
		require.NoError(t, os.Remove(file))
	}

	// What was accepted after EVENTS was taken is gone, as is said.
	last := uint64(0)
	for _, stream := range taken.Streams {
		if stream.Name == "EVENTS" {
			last = stream.LastSequence
		}
	}
	gone := 0
	for number, sequence := range p.sequences {
		if sequence > last {
			w.ledger.excuse(number)
			gone++
		}
	}
	require.Positive(t, gone, "nothing was accepted after the backup")
	// Again comes what was delivered since the backup began, and what dispatchers had then.
	r.Bound = w.ledger.arrivedBetween(began, lost) + m.unacked
	t.Logf("%d events were accepted after the backup; %d deliveries are unfinished by it; at most %d come again", gone, w.ledger.inFlight(), r.Bound)

	for _, service := range []string{"nats", "redis"} {
		for _, process := range c.Of(service) {
			start(t, process)(ctx)
		}
	}
	postrider(t, c, "restore", dir)
	for _, process := range services(c) {
		start(t, process)(ctx)
	}
	t.Logf("everything is back after %s", time.Since(lost).Round(time.Millisecond))
	require.NotEqual(t, before, s.incarnation(t), "keys that were finished after the backup must not vouch for events that are gone")

	settle(t, w, s)
	// The logs are built again from the journal of the backup.
	for replica := range w.logs {
		missing := 0
		require.True(t, awaited(ctx, time.Minute, time.Second, func() bool {
			missing = w.unlogged(ctx, t, replica)
			return missing == 0
		}), "the log of api-%d does not say of %d deliveries that they are delivered", replica+1, missing)
	}
	// Everything goes on.
	const more = 500
	require.NoError(t, p.publish(ctx, probeFrom, probeFrom+more))
	settle(t, w, s)
	sum := w.ledger.total()
	t.Logf("ledger: accepted %d events, expected %d deliveries, arrived %d, missing %d, unexpected %d, duplicates %d, bound %d",
		sum.accepted, sum.expected, sum.arrived, len(sum.missing), len(sum.strangers), sum.duplicates, r.Bound)
	require.Empty(t, sum.faults)
	explain(t, w, "missing", sum.missing)
	explain(t, w, "never accepted, or not wanted, but arrived", sum.strangers)
	report(t, w, r)
}

// unlogged is how many deliveries that were not lost the log of a replica does not call delivered.
func (w *world) unlogged(ctx context.Context, t *testing.T, replica int) int {
	t.Helper()
	said := map[pair]bool{}
	err := w.logged(ctx, replica, delivered, func(d *postriderv1.Delivery) { said[w.pairOf(d)] = true })
	if err != nil {
		t.Logf("the log cannot be read: %v", err)
		return -1
	}
	n := 0
	for _, p := range w.ledger.kept() {
		if !said[p] {
			n++
		}
	}
	return n
}

// incarnation is the stored name of EVENTS, which tells it from one that stood there before.
func (s *streams) incarnation(t *testing.T) string {
	t.Helper()
	kv, err := s.js.KeyValue(t.Context(), "checkpoints")
	require.NoError(t, err)
	e, err := kv.Get(t.Context(), "origin")
	require.NoError(t, err)
	return string(e.Value())
}
