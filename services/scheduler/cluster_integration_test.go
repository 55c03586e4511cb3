//go:build integration

package scheduler_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/redisconn"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/services/scheduler"
	"github.com/postrider/postrider/services/scheduler/internal/retryset"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/redistest"
)

// clusterIndex is an index with a client of its own, which knows one node to begin with.
func clusterIndex(t testing.TB, w *world, c *redistest.Cluster) scheduler.Index {
	t.Helper()
	cfg := redisconn.Default()
	cfg.URL, cfg.Cluster, cfg.Nodes = c.Nodes[0].URL, true, c.Addrs()[1:]
	client, err := redisconn.Open(cfg, w.log)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return scheduler.NewRedisIndex(client)
}

// Ten thousand retries wait, traffic flows, and a master of the cluster is killed. Whatever had not
// come to its replica is found by the rebuild: everything becomes due once, and nothing by itself.
func TestAMasterOfTheClusterIsKilledWhileRetriesAreDue(t *testing.T) {
	cluster := redistest.StartCluster(t)
	w := newWorld(t, time.Hour)
	first := w.start(quick(), clusterIndex(t, w, cluster))
	second := w.start(quick(), clusterIndex(t, w, cluster))
	waits, flows := w.webhook(), w.webhook()
	at := time.Now().Add(8 * time.Second)
	retries := make([]*recordv1.Retry, 10_000)
	for i := range retries {
		retries[i] = waits.retry(waiting, at.Add(time.Duration(i)*time.Millisecond))
	}
	w.schedule(first, retries...)
	stop := traffic(t, second, flows)
	w.await(1000)
	key := dueKey(3)
	dead := cluster.MasterOf(t, key)
	killed := time.Now()
	dead.Down(t)
	cluster.AwaitFailover(t, key, dead)
	t.Logf("the replica took over after %s", time.Since(killed))
	during := len(w.got())
	w.await(during + 200)
	dead.Up(t)
	cluster.Await(t)
	w.await(len(retries))
	retries = append(retries, stop()...)
	w.await(len(retries))
	dues := w.got()
	require.ElementsMatch(t, deliveries(retries), dueIDs(dues), "each exactly once")
	late := lateness(t, dues)
	require.GreaterOrEqual(t, late[0], time.Duration(0))
	require.Empty(t, waits.records())

	// Most slots were of the other masters, and their retries were no later than ever: the median of
	// those that were due while there was no master is far below the time that it took.
	var meanwhile []time.Duration
	for _, d := range dues {
		if due := d.retry.GetDueTime().AsTime(); due.After(killed) && due.Before(killed.Add(2*time.Second)) {
			meanwhile = append(meanwhile, d.at.Sub(due))
		}
	}
	require.NotEmpty(t, meanwhile)
	slices.Sort(meanwhile)
	t.Logf("due within 2 s of the kill: %d, median %s, most %s late", len(meanwhile), meanwhile[len(meanwhile)/2], meanwhile[len(meanwhile)-1])
}

// While a master is away and has no replica, retries of the other masters' slots are indexed and become
// due as ever, one call after the other, and no rebuild is needed for them. Those of its own become due
// when it is back.
func TestAMasterThatIsAwayLeavesTheOtherSlotsAlone(t *testing.T) {
	cluster := redistest.StartCluster(t)
	w := newWorld(t, time.Hour)
	log, records := logtest.Recorder(t)
	w.log = log
	client := w.start(quick(), clusterIndex(t, w, cluster))
	w.eventually(func() bool { return len(records.Find("retry index rebuilt")) > 0 }, "the index is filled at the start")
	begun := len(records.Find("rebuilding the retry index"))
	dead := cluster.MasterOf(t, dueKey(3))
	var away retryset.Slots
	for slot := range retryset.AllSlots.Count() {
		if cluster.MasterOf(t, dueKey(slot)) == dead {
			away = away.With(slot)
		}
	}
	cluster.ReplicaOf(t, dead).Down(t)
	dead.Down(t)

	hook := w.webhook()
	var all, indexed []*recordv1.Retry
	for range 100 {
		retry := hook.retry(waiting, time.Now().Add(200*time.Millisecond))
		res := w.schedule(client, retry)[0]
		all = append(all, retry)
		if !away.Has((retryset.Member{Shard: hook.shard(), Sequence: res.GetSequence()}).Slot()) {
			indexed = append(indexed, retry)
		}
	}
	w.await(len(indexed))
	require.ElementsMatch(t, deliveries(indexed), dueIDs(w.got()))
	require.Len(t, records.Find("rebuilding the retry index"), begun)

	dead.Up(t) // empty
	w.await(len(all))
	require.ElementsMatch(t, deliveries(all), dueIDs(w.got()))
}

func dueKey(slot int) string { return fmt.Sprintf("postrider:retry:{r%02d}:due", slot) }
