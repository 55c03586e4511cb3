//go:build integration

package dedup

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/redisconn"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/redistest"
)

// connectCluster opens a client as a service does.
func connectCluster(t testing.TB, c *redistest.Cluster, change ...func(*redisconn.Config)) redis.UniversalClient {
	t.Helper()
	cfg := redisconn.Default()
	cfg.URL, cfg.Cluster = c.Nodes[0].URL, true
	cfg.Nodes = c.Addrs()[1:]
	for _, ch := range change {
		ch(&cfg)
	}
	client, err := redisconn.Open(cfg, logtest.New(t))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client.Universal()
}

// startCluster starts a cluster whose nodes' clients are closed with the test, and not with a part of it.
func startCluster(t testing.TB) *redistest.Cluster {
	t.Helper()
	c := redistest.StartCluster(t)
	for _, n := range c.Nodes {
		n.Client(t)
	}
	return c
}

func newRedisOf(t testing.TB, client redis.UniversalClient, events Events, change ...func(*RedisConfig)) *Redis {
	t.Helper()
	cfg := RedisConfig{
		Config:  Config{Takeover: hour / 2, Longest: hour},
		Timeout: 5 * time.Second, Beat: 10 * time.Millisecond, Settle: 50 * time.Millisecond,
	}
	for _, c := range change {
		c(&cfg)
	}
	r, err := NewRedis(client, cfg, events, logtest.New(t))
	require.NoError(t, err)
	return r
}

func TestCluster(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t)
	client := connectCluster(t, cluster)
	exercise(t, func(t *testing.T, takeover time.Duration, events Events) Index {
		t.Helper()
		cluster.Flush(t)
		return newRedisOf(t, client, events, func(c *RedisConfig) { c.Takeover = takeover })
	})
}

// keysOn returns names of keys whose slots are on a node, or on any other.
func keysOn(t *testing.T, c *redistest.Cluster, node *redistest.Server, n int) (on, elsewhere []string) {
	t.Helper()
	var here [slots]bool
	for s := range here {
		here[s] = c.MasterOf(t, epochKey(s)) == node
	}
	for i := 0; len(on) < n || len(elsewhere) < n; i++ {
		name := "key " + strconv.Itoa(i)
		switch {
		case here[slotOf(KeyOf(acc, name))] && len(on) < n:
			on = append(on, name)
		case !here[slotOf(KeyOf(acc, name))] && len(elsewhere) < n:
			elsewhere = append(elsewhere, name)
		}
	}
	return on, elsewhere
}

func TestClusterKeysAreSpreadOverAllMasters(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t)
	r := newRedisOf(t, connectCluster(t, cluster), &recordOf{})
	start(t, r)
	for i := range 60 {
		require.Equal(t, Claimed, claimOne(t, r, claimOf(strconv.Itoa(i), one)).Outcome)
	}
	total := int64(0)
	for _, master := range cluster.Masters(t) {
		n, err := master.Client(t).DBSize(t.Context()).Result()
		require.NoError(t, err)
		require.Greater(t, n, int64(5))
		total += n
	}
	require.EqualValues(t, 60+slots, total)
}

func TestClusterSlotMovesWhileKeysAreUsed(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t)
	events := &recordOf{}
	r := newRedisOf(t, connectCluster(t, cluster), events)
	start(t, r)
	const slot = 7
	from := cluster.MasterOf(t, epochKey(slot))
	var to *redistest.Server
	for _, m := range cluster.Masters(t) {
		if m != from {
			to = m
		}
	}
	// The names of keys of the slot, a few for each step.
	var names []string
	for i := 0; len(names) < 8; i++ {
		if name := strconv.Itoa(i); slotOf(KeyOf(acc, name)) == slot {
			names = append(names, name)
		}
	}
	stored := make(map[string]Finished)
	claims := make(map[string]Claim)
	claim := func(name string) {
		t.Helper()
		claims[name] = claimOf(name, one)
		require.Equal(t, Claimed, claimOne(t, r, claims[name]).Outcome)
	}
	finishAll := func(names ...string) {
		t.Helper()
		var done []Finished
		for _, name := range names {
			f := events.store(name, one, time.Now())
			f.Token = claims[name].Token
			stored[name] = f
			done = append(done, f)
		}
		require.NoError(t, r.Finish(t.Context(), done))
	}
	claim(names[0])
	claim(names[1])
	finishAll(names[0])
	step := 0
	cluster.MoveSlot(t, epochKey(slot), to, func() {
		step++
		claim(names[1+step])
		claim(names[3+step])
		finishAll(names[1+step], names[3+step]) // new keys are on the new node already
		if step == 1 {
			claim(names[6])
			// One key is here and one there: no call may have both.
			finishAll(names[1], names[6])
		}
	})
	claim(names[7])
	finishAll(names[7])
	for name, f := range stored {
		require.Equal(t, Duplicate, ask(t, r, claimOf(name, one)).Outcome, name)
		require.Equal(t, f.Event, ask(t, r, claimOf(name, one)).Event, name)
	}
	whole(t, r) // it is in another process now, so it is looked at again
	require.False(t, claimOne(t, r, claimOf("another", one)).Degraded)
}

// While a master is dead its slots are blind and those of the others whole; what was published blind
// is known when the replica has taken over and the slots are rebuilt, and until then answers say so.
func TestClusterMasterDies(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t)
	events := &recordOf{}
	r := newRedisOf(t, connectCluster(t, cluster), events)
	start(t, r)
	dead := cluster.MasterOf(t, epochKey(3))
	theirs, others := keysOn(t, cluster, dead, 20)
	for _, name := range append(theirs[:10:10], others...) {
		require.NoError(t, r.Finish(t.Context(), []Finished{events.store(name, one, time.Now())}))
	}
	hold := make(chan struct{})
	events.onScan(func() { <-hold })
	requireOthersWhole := func() {
		t.Helper()
		for _, name := range others {
			res := ask(t, r, claimOf(name, one))
			require.Equal(t, Duplicate, res.Outcome)
			require.False(t, res.Degraded)
		}
	}

	dead.Down(t)
	for _, name := range theirs[10:] {
		res := claimOne(t, r, claimOf(name, one))
		require.Equal(t, Blind, res.Outcome)
		require.True(t, res.Degraded)
		requireOthersWhole()
		events.store(name, one, time.Now())
	}
	reason, _ := r.Degraded()
	require.Equal(t, "away", reason)

	cluster.AwaitFailover(t, epochKey(3), dead)
	require.Eventually(t, func() bool {
		requireOthersWhole()
		reason, degraded := r.Degraded()
		return degraded && reason != "away"
	}, soon, tick)
	for _, name := range theirs {
		require.True(t, claimOne(t, r, claimOf(name, two)).Degraded, "not rebuilt yet")
	}
	requireOthersWhole()
	close(hold)
	events.onScan(nil)
	whole(t, r)
	for _, name := range theirs[:10] {
		res := ask(t, r, claimOf(name, one))
		require.Equal(t, Duplicate, res.Outcome)
		require.False(t, res.Degraded)
	}
	requireOthersWhole()
}

// A master that hangs costs one publish its timeout, and those of other slots nothing.
func TestClusterMasterThatHangs(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t)
	r := newRedisOf(t, connectCluster(t, cluster), &recordOf{}, func(c *RedisConfig) { c.Timeout, c.Beat = time.Second, time.Hour })
	start(t, r)
	hangs := cluster.MasterOf(t, epochKey(3))
	theirs, others := keysOn(t, cluster, hangs, 1)
	var want [slots]bool
	for s := range want {
		want[s] = cluster.MasterOf(t, epochKey(s)) == hangs
	}
	hangs.Hang(t)
	batch := []Claim{claimOf(theirs[0], one), claimOf(others[0], one)}
	results := make([]Result, len(batch))
	r.Claim(t.Context(), batch, results)
	require.Equal(t, Blind, results[0].Outcome)
	require.Equal(t, Result{Outcome: Claimed, Event: batch[1].Event}, results[1], "in the same batch")
	require.Equal(t, want, r.awayNow(), "the path is shut for all slots of the node, and no others")
	hangs.Continue(t)
	require.Eventually(t, func() bool { r.beat(t.Context()); return r.awayNow() == [slots]bool{} }, soon, tick)
}

// The user of production may do what a cluster asks of it.
func TestClusterTakesTheUserOfProduction(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t)
	text, err := os.ReadFile("../../../../deploy/redis/users.acl")
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if rules, ok := strings.CutPrefix(strings.TrimSpace(line), "user ingest "); ok {
			cluster.SetUser(t, "ingest", strings.Fields(strings.ReplaceAll(rules, "#INGEST_PASSWORD_SHA256", ">sesame"))...)
		}
	}
	client := connectCluster(t, cluster, func(c *redisconn.Config) { c.Username, c.Password = "ingest", "sesame" })
	require.ErrorContains(t, client.Set(t.Context(), "another", "1", 0).Err(), "NOPERM")
	events := &recordOf{}
	r := newRedisOf(t, client, events)
	start(t, r)
	c := claimOf(same, one)
	require.Equal(t, Result{Outcome: Claimed, Event: c.Event}, claimOne(t, r, c))
	from := cluster.MasterOf(t, redisKey(c.Key))
	for _, to := range cluster.Masters(t) {
		if to != from {
			cluster.MoveSlot(t, redisKey(c.Key), to, func() { finish(t, r, c, 7) })
			break
		}
	}
	require.Equal(t, Duplicate, ask(t, r, claimOf(same, one)).Outcome)
}
