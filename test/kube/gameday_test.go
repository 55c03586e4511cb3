package kube_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/test/kube/pod"
)

// gentle is the pause between two events of a worker on a game day, which is long.
const gentle = 400 * time.Millisecond

// slack is what an alert needs beyond its own time: two scrapes and an evaluation.
const slack = 3 * interval

// incident is one line of the timeline, for test/alerts. Times are of this machine's clock.
type incident struct {
	Name    string    `json:"name"`
	Runbook string    `json:"runbook"`
	Alert   string    `json:"alert"`
	Began   time.Time `json:"began"`
	Mended  time.Time `json:"mended"`
	// Fires is by when after Began the alert must fire, Over by when after Mended it must be over.
	Fires time.Duration `json:"fires"`
	Over  time.Duration `json:"over"`
	// Quiet are alerts that must not fire because of it.
	Quiet []string `json:"quiet"`
}

// gameDay is production with a load, a record of what Prometheus would see, and what went wrong.
type gameDay struct {
	*world

	load  *load
	js    jetstream.JetStream
	bound int // deliveries that the incidents can repeat
}

// TestGameDay lets four things go wrong, one after the other. Each lasts until its alert can have
// fired, and is mended as its runbook says. Whether the alerts fired, test/alerts says of the record.
func TestGameDay(t *testing.T) {
	w := start(t)
	js, err := jetstream.New(w.stores.Admin(t))
	require.NoError(t, err)
	g := &gameDay{world: w, load: w.publish(t, gentle), js: js}
	g.flows(t)
	record := w.record(t, "../../var/gameday/scrapes.jsonl.gz")
	hold(t, 4*interval) // what is usual here
	var timeline []incident
	for _, play := range []func(*testing.T) incident{g.natsLeaderKilled, g.redisFlushed, g.postgresStopped, g.dispatcherKilled} {
		timeline = append(timeline, play(t))
		last := timeline[len(timeline)-1]
		t.Logf("%s: mended after %s", last.Name, last.Mended.Sub(last.Began).Round(time.Second))
		text, err := json.MarshalIndent(timeline, "", "  ")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile("../../var/gameday/timeline.json", append(text, '\n'), 0o644))
	}
	hold(t, timeline[len(timeline)-1].Over)
	record.stop(t)

	g.load.stop()
	g.load.settle(t)
	_, repeats := w.receiver.count()
	require.LessOrEqual(t, repeats, g.bound, "more came twice than the killed dispatcher had in its hands")
	t.Logf("%d deliveries came twice, of %d that could", repeats, g.bound)
	out, err := g.postrider(t, "reconcile")
	require.NoError(t, err, "reconcile: %s", out)
	w.stop(t)
}

// hold lets a time pass that an alert asks for.
func hold(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}

// flows returns when events are accepted and delivered that were not before.
func (g *gameDay) flows(t *testing.T) {
	t.Helper()
	accepted := g.load.accepted.Load()
	arrived, _ := g.receiver.count()
	require.Eventually(t, func() bool {
		now, _ := g.receiver.count()
		return g.load.accepted.Load() > accepted+10 && now > arrived+10*hooks
	}, patience, 50*time.Millisecond, "events are not accepted, or not delivered")
}

// natsLeaderKilled follows docs/runbooks/nats-down.md.
func (g *gameDay) natsLeaderKilled(t *testing.T) incident {
	t.Helper()
	before := g.leaders(t)
	leader := before["EVENTS"]
	i := slices.Index([]string{"nats-0", "nats-1", "nats-2"}, leader)
	require.GreaterOrEqual(t, i, 0, leader)
	in := incident{Name: "NATS leader killed", Runbook: "nats-down.md", Alert: "NatsDown", Began: time.Now()}
	g.stores.NATS[i].Down()
	// First checks: which servers are there, and that no stream is without a leader.
	there := 0
	for _, page := range g.stores.Export(t.Context()) {
		if page.Labels["job"] == "nats" && page.Err == nil {
			there++
		}
	}
	require.Equal(t, 2, there)
	require.Eventually(t, func() bool {
		leaders := g.leaders(t)
		for _, name := range leaders {
			if name == "" || name == leader {
				return false
			}
		}
		return len(leaders) == len(before)
	}, patience, time.Second, "a stream has no leader")
	t.Logf("every stream has a leader again after %s", time.Since(in.Began).Round(time.Second))
	g.flows(t)
	require.Equal(t, "warning", g.doctor(t)["replicas"], "one of three copies is away")
	hold(t, time.Until(in.Began.Add(2*time.Minute+slack+interval)))

	in.Mended = time.Now()
	g.stores.NATS[i].Up(t)
	require.Eventually(t, func() bool { return g.inStep(t) }, patience, time.Second, "not every replica is current")
	g.flows(t)
	found := g.doctor(t)
	require.Empty(t, found["replicas"], "of those that are whole it says nothing")
	require.Equal(t, "ok", found["streams"])
	in.Fires, in.Over, in.Quiet = 2*time.Minute+slack, slack, []string{"NatsNoQuorum", "ServiceDown", "ShardNotHeld", "LedgerDifference"}
	return in
}

// leaders are the servers that lead streams, by stream; nil if JetStream does not tell now.
func (g *gameDay) leaders(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, s := range g.streams(t) {
		if s.Cluster != nil {
			out[s.Config.Name] = s.Cluster.Leader
		}
	}
	return out
}

// inStep reports whether every stream has two followers that have everything.
func (g *gameDay) inStep(t *testing.T) bool {
	t.Helper()
	all := g.streams(t)
	return len(all) > 0 && !slices.ContainsFunc(all, func(s *jetstream.StreamInfo) bool {
		current := 0
		for _, r := range s.Cluster.Replicas {
			if r.Current && !r.Offline {
				current++
			}
		}
		return s.Cluster.Leader == "" || current != 2
	})
}

func (g *gameDay) streams(t *testing.T) []*jetstream.StreamInfo {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	list := g.js.ListStreams(ctx)
	var out []*jetstream.StreamInfo
	for s := range list.Info() {
		out = append(out, s)
	}
	if list.Err() != nil {
		return nil
	}
	return out
}

// redisFlushed follows docs/runbooks/redis-away.md, "Emptied".
func (g *gameDay) redisFlushed(t *testing.T) incident {
	t.Helper()
	in := incident{Name: "Redis flushed", Runbook: "redis-away.md", Alert: "RedisEmptied", Began: time.Now()}
	client := g.stores.Client()
	defer func() { _ = client.Close() }()
	require.NoError(t, client.FlushAll(t.Context()).Err())
	// It answers, and it holds keys again that nobody put there by hand.
	require.NoError(t, client.Ping(t.Context()).Err())
	require.Eventually(t, func() bool {
		n, err := client.DBSize(t.Context()).Result()
		return err == nil && n > 0
	}, patience, 50*time.Millisecond)
	// Both indexes are whole again.
	require.Eventually(t, func() bool {
		losses, degraded := sum(g.values(t.Context(), "postrider_scheduler_index_losses_total")), g.values(t.Context(), "postrider_ingest_dedup_degraded")
		running := g.values(t.Context(), "postrider_scheduler_rebuild_running")
		return losses > 0 && len(degraded) == 2 && sum(degraded) == 0 && sum(running) == 0
	}, patience, time.Second, "the indexes are not rebuilt")
	in.Mended = time.Now() // by nobody
	// Who it was.
	did, err := client.InfoMap(t.Context(), "commandstats").Result()
	require.NoError(t, err)
	require.Contains(t, did["Commandstats"], "cmdstat_flushall")
	g.flows(t)
	require.Equal(t, "ok", g.doctor(t)["redis"])
	hold(t, time.Until(in.Began.Add(slack+interval)))
	in.Fires, in.Over, in.Quiet = slack, 10*time.Minute+slack, []string{"RedisDown", "RedisMemoryHigh", "DedupDegraded", "RetryIndexDivergence", "SchedulerLag"}
	return in
}

// postgresStopped follows docs/runbooks/recorder-lag.md.
func (g *gameDay) postgresStopped(t *testing.T) incident {
	t.Helper()
	in := incident{Name: "PostgreSQL stopped", Runbook: "recorder-lag.md", Alert: "RecorderLag", Began: time.Now()}
	g.stores.Postgres.Down()
	// Receivers notice nothing, whereas the log does not move.
	g.flows(t)
	recorded := sum(g.values(t.Context(), "postrider_recorder_entries_total"))
	const age = "postrider_backlog_oldest_age_seconds"
	require.Eventually(t, func() bool { return most(g.values(t.Context(), age, `stream="JOURNAL"`)) > 60 }, patience, time.Second, "the journal does not grow old")
	require.LessOrEqual(t, sum(g.values(t.Context(), "postrider_recorder_entries_total")), recorded, "something is recorded")
	require.True(t, slices.ContainsFunc(g.cluster.Pods("api"), func(p *pod.Pod) bool {
		return strings.Contains(p.Process().Tail(50), "log store refused entries")
	}), "no api says why")
	require.Equal(t, "failure", g.doctor(t)["delivery log"])
	// The alert asks for ten minutes of age, and then for two of its own.
	require.Eventually(t, func() bool { return most(g.values(t.Context(), age, `stream="JOURNAL"`)) > 600 }, 12*time.Minute, interval)
	fires := time.Since(in.Began) + 2*time.Minute + slack
	hold(t, 2*time.Minute+slack+interval)

	in.Mended = time.Now()
	g.stores.Postgres.Up(t)
	g.stores.AwaitPostgres(t)
	require.Eventually(t, func() bool { return most(g.values(t.Context(), age, `stream="JOURNAL"`)) < 60 }, patience, time.Second, "the log does not catch up")
	t.Logf("the log has caught up after %s", time.Since(in.Mended).Round(time.Second))
	require.NotEqual(t, "failure", g.doctor(t)["delivery log"])
	in.Fires, in.Over, in.Quiet = fires, 2*time.Minute, []string{"BacklogAgeHigh", "BacklogGrowingNoAttempts", "ServiceDown", "LedgerDifference", "StreamNearLimit"}
	return in
}

// dispatcherKilled follows docs/runbooks/service-down.md.
func (g *gameDay) dispatcherKilled(t *testing.T) incident {
	t.Helper()
	pods := g.cluster.Pods("dispatcher")
	lost := pods[0]
	shards := most(g.values(t.Context(), "postrider_streams_shards"))
	in := incident{Name: "dispatcher killed", Runbook: "service-down.md", Alert: "ServiceDown", Began: time.Now()}
	lost.Kill()
	g.bound += g.unacked(t)
	require.Eventually(t, func() bool { return sum(g.values(t.Context(), "postrider_dispatcher_shards")) == shards }, patience, 250*time.Millisecond, "shards are not taken over")
	t.Logf("the other dispatcher holds all %v shards after %s", shards, time.Since(in.Began).Round(100*time.Millisecond))
	g.flows(t)
	// First checks: which pod is away, and how it ended.
	require.ErrorContains(t, lost.Process().Result(), "killed")
	hold(t, time.Until(in.Began.Add(3*time.Minute+slack+interval)))

	in.Mended = time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	fresh, err := g.cluster.Replace(ctx, "dispatcher", lost)
	require.NoError(t, err)
	require.NoError(t, fresh.Verify())
	g.scrape(t)
	g.flows(t)
	in.Fires, in.Over, in.Quiet = 3*time.Minute+slack, time.Minute+slack, []string{"ShardNotHeld", "BacklogAgeHigh", "BacklogGrowingNoAttempts", "SchedulerLag", "RedeliveryRateHigh"}
	return in
}

// unacked is how many deliveries dispatchers have and have not acknowledged. A shard's consumer does
// not forget them with the dispatcher.
func (g *gameDay) unacked(t *testing.T) int {
	t.Helper()
	n, found := 0, 0
	for _, s := range g.streams(t) {
		if !strings.HasPrefix(s.Config.Name, "DELIVERIES_") {
			continue
		}
		stream, err := g.js.Stream(t.Context(), s.Config.Name)
		require.NoError(t, err)
		list := stream.ListConsumers(t.Context())
		for c := range list.Info() {
			n += c.NumAckPending
			found++
		}
		require.NoError(t, list.Err())
	}
	require.Positive(t, found, "no shard has a consumer")
	return n
}

// doctor is what the doctor finds, by check; of several findings of a check the worst. It runs with
// the environment of the api, as NATS's admin.
func (g *gameDay) doctor(t *testing.T) map[string]string {
	t.Helper()
	api := g.cluster.Pods("api")[0]
	env := slices.Clone(api.Env)
	for _, m := range api.Template.Spec.Containers[0].VolumeMounts {
		for i := range env {
			env[i] = strings.ReplaceAll(env[i], m.MountPath+"/", api.Volumes[m.Name]+"/")
		}
	}
	dir, pair := t.TempDir(), g.stores.AdminPair(t)
	for name, text := range map[string][]byte{"tls.crt": pair.Cert, "tls.key": pair.Key, "ca.crt": pair.CA} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	secrets := g.stores.Secrets()
	env = append(env,
		"POSTRIDER_NATS_CERT_FILE="+dir+"/tls.crt", "POSTRIDER_NATS_KEY_FILE="+dir+"/tls.key", "POSTRIDER_NATS_CA_FILE="+dir+"/ca.crt",
		"POSTRIDER_REDIS_USERNAME=ingest", "POSTRIDER_REDIS_PASSWORD="+secrets["postrider/redis-ingest"],
		"POSTRIDER_API_LOG_URL="+strings.ReplaceAll(secrets["postrider/log-url"], "/run/tls/postrider/", dir+"/"))
	out, err := g.postrider(t, "doctor", env...)
	var report struct {
		Findings []struct{ Check, Status, What string }
	}
	require.NoError(t, json.Unmarshal(out, &report), "%v: %s", err, out)
	rank := []string{"", "ok", "warning", "failure"}
	found := map[string]string{}
	for _, f := range report.Findings {
		if slices.Index(rank, f.Status) > slices.Index(rank, found[f.Check]) {
			found[f.Check] = f.Status
			if f.Status != "ok" {
				t.Logf("the doctor: %s: %s: %s", f.Check, f.Status, f.What)
			}
		}
	}
	return found
}

// postrider runs a command of the command line and returns what it printed.
func (g *gameDay) postrider(t *testing.T, command string, env ...string) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "../../bin/postrider", command, "-o", "json")
	cmd.Env = slices.Concat(env, []string{"PATH=/usr/bin:/bin", "HOME=" + t.TempDir(), "POSTRIDER_SERVER=api.postrider.svc:9090", "POSTRIDER_KEY=" + adminKey})
	return cmd.Output()
}

func sum(values []float64) float64 {
	total := 0.0
	for _, v := range values {
		total += v
	}
	return total
}

// most is the largest of values; 0 of none.
func most(values []float64) float64 { return slices.Max(append(values, 0)) }
