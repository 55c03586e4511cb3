//go:build integration

package retryset_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/redisconn"
	"github.com/postrider/postrider/services/scheduler/internal/retryset"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/redistest"
)

// connectCluster opens a client as a service does, which knows one node to begin with.
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

func TestCluster(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t)
	client := connectCluster(t, cluster)
	Exercise(t, func(t *testing.T) retryset.Index {
		t.Helper()
		cluster.Flush(t)
		return retryset.NewRedis(client)
	})
}

func dueKey(slot int) string { return fmt.Sprintf("postrider:retry:{r%02d}:due", slot) }

const slotCount = 16

// slotsOf is which slots of the index a node has.
func slotsOf(t *testing.T, c *redistest.Cluster, node *redistest.Server) (slots retryset.Slots) {
	t.Helper()
	for slot := range slotCount {
		if c.MasterOf(t, dueKey(slot)) == node {
			slots = slots.With(slot)
		}
	}
	return slots
}

// due returns entries that are due, and the members of them.
func due(from, n uint64) (entries []retryset.Entry, list []retryset.Member) {
	for seq := from; seq < from+n; seq++ {
		entries, list = append(entries, entry(seq, 0)), append(list, member(seq))
	}
	return entries, list
}

// tally counts how often each member was claimed.
type tally map[retryset.Member]int

func (c tally) add(list []retryset.Member) {
	for _, m := range list {
		c[m]++
	}
}

func (c tally) requireOnce(t *testing.T, list []retryset.Member) {
	t.Helper()
	require.ElementsMatch(t, list, slices.Collect(maps.Keys(c)))
	for m, times := range c {
		require.Equal(t, 1, times, "member %s", m)
	}
}

func TestClusterMembersAreSpreadOverAllMasters(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t)
	x := retryset.NewRedis(connectCluster(t, cluster))
	entries, list := due(1, 320)
	rebuild(t, x, entries...)
	total := int64(0)
	for _, master := range cluster.Masters(t) {
		slots := slotsOf(t, cluster, master)
		require.NotZero(t, slots)
		n := int64(0)
		for slot := range slotCount {
			if slots.Has(slot) {
				n += master.Client(t).ZCount(t.Context(), dueKey(slot), "0", "+inf").Val()
			}
		}
		require.Equal(t, int64(20*slots.Count()), n)
		total += n
	}
	require.EqualValues(t, len(list), total)
}

// The user of production may do what a cluster asks of it.
func TestClusterTakesTheUserOfProduction(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t)
	text, err := os.ReadFile("../../../../deploy/redis/users.acl")
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if rules, ok := strings.CutPrefix(strings.TrimSpace(line), "user scheduler "); ok {
			cluster.SetUser(t, "scheduler", strings.Fields(strings.ReplaceAll(rules, "#SCHEDULER_PASSWORD_SHA256", ">sesame"))...)
		}
	}
	client := connectCluster(t, cluster, func(c *redisconn.Config) { c.Username, c.Password = "scheduler", "sesame" })
	require.ErrorContains(t, client.Set(t.Context(), "another", "1", 0).Err(), "NOPERM")
	x := retryset.NewRedis(client)
	entries, list := due(1, 32)
	rebuild(t, x, entries[:16]...)
	from := cluster.MasterOf(t, dueKey(3))
	for _, to := range cluster.Masters(t) {
		if to != from {
			cluster.MoveSlot(t, dueKey(3), to, func() { require.NoError(t, x.Add(t.Context(), entries[16:]...)) })
			break
		}
	}
	got, err := x.Claim(t.Context(), base, lease, 1000)
	require.ErrorIs(t, err, retryset.ErrEpochLost, "the slot has moved")
	require.ElementsMatch(t, list, got.Members)
	lock, ok, err := x.TryLock(t.Context(), "a", time.Minute)
	require.NoError(t, err)
	require.True(t, ok)
	require.NoError(t, lock.Release(t.Context()))
}

func TestClusterSlotMovesWhileRetriesAreClaimed(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t)
	x := retryset.NewRedis(connectCluster(t, cluster))
	rebuild(t, x)
	const slot = 3
	from := cluster.MasterOf(t, dueKey(slot))
	var to *redistest.Server
	for _, m := range cluster.Masters(t) {
		if m != from {
			to = m
		}
	}
	claimed := make(tally)
	var added []retryset.Member
	next := uint64(1)
	work := func() {
		t.Helper()
		entries, list := due(next, 64)
		next += 64
		require.NoError(t, x.Add(t.Context(), entries...))
		added = append(added, list...)
		got, err := x.Claim(t.Context(), base, lease, 16*2) // leaves some
		if err != nil {
			require.ErrorIs(t, err, retryset.ErrEpochLost, "the slot is in another process now")
		}
		claimed.add(got.Members)
	}
	work()
	cluster.MoveSlot(t, dueKey(slot), to, work)
	work()
	require.Equal(t, to, cluster.MasterOf(t, dueKey(slot)))
	rebuild(t, x)
	for {
		got := claim(t, x, 0)
		if len(got) == 0 {
			break
		}
		claimed.add(got)
	}
	claimed.requireOnce(t, added)
}

// A master dies with members that are claimed and members that are not. The other slots go on. When
// the replica has taken over, its slots and no others are lost, a rebuild fills them, and nothing that
// is leased is claimed a second time.
func TestClusterMasterDies(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t)
	x := retryset.NewRedis(connectCluster(t, cluster))
	entries, list := due(1, 320)
	rebuild(t, x, entries...)
	claimed := make(tally)
	got, err := x.Claim(t.Context(), base, lease, 160)
	require.NoError(t, err)
	claimed.add(got.Members)
	dead := cluster.MasterOf(t, dueKey(3))
	slots := slotsOf(t, cluster, dead)
	require.Equal(t, int64(1), dead.Client(t).Wait(t.Context(), 1, 10*time.Second).Val(), "the replica knows the leases")
	dead.Down(t)

	got, err = x.Claim(t.Context(), base, lease, 160)
	require.Error(t, err)
	require.NotErrorIs(t, err, retryset.ErrEpochLost, "nobody knows")
	require.Len(t, got.Members, 10*(slotCount-slots.Count()), "the others are claimed")
	claimed.add(got.Members)

	more, moreList := due(1001, 160)
	var left *retryset.NotAddedError
	require.ErrorAs(t, x.Add(t.Context(), more...), &left)
	require.Equal(t, slots, left.Away)
	require.Len(t, left.Members, 10*slots.Count())
	for _, m := range left.Members {
		require.True(t, slots.Has(m.Slot()))
	}
	x.Distrust(left.Members...)
	got, err = x.Claim(t.Context(), base, lease, 1000)
	require.NotErrorIs(t, err, retryset.ErrEpochLost, "what cannot be reached is not rebuilt")
	require.Len(t, got.Members, 10*(slotCount-slots.Count()))
	claimed.add(got.Members)
	r, err := x.BeginRebuild(t.Context())
	require.Error(t, err)
	require.Zero(t, r.Slots, "nor are the others")

	cluster.AwaitFailover(t, dueKey(3), dead)
	vanished := 0
	require.Eventually(t, func() bool {
		got, err = x.Claim(t.Context(), base, lease, 16) // one of each slot
		claimed.add(got.Members)
		vanished += got.Vanished
		return vanished == slots.Count()
	}, 30*time.Second, 10*time.Millisecond)
	require.ErrorIs(t, err, retryset.ErrEpochLost)
	r, err = x.BeginRebuild(t.Context())
	require.NoError(t, err)
	require.Equal(t, slots, r.Slots)
	require.NoError(t, x.Refill(t.Context(), r, append(entries, more...)))
	rest, err := x.EndRebuild(t.Context(), r)
	require.NoError(t, err)
	require.Zero(t, rest)
	claimed.add(claim(t, x, 0))
	claimed.requireOnce(t, append(list, moreList...))
}

// What a master took after the last claim and its replica never got is missing, although the count
// goes on where it was.
func TestClusterReplicaThatLacksTheLastIsFoundOut(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t)
	x := retryset.NewRedis(connectCluster(t, cluster))
	rebuild(t, x)
	require.Empty(t, claim(t, x, 0))
	last := entry(3, 0)
	key := dueKey(last.Slot())
	dead := cluster.MasterOf(t, key)
	slots := slotsOf(t, cluster, dead)
	require.Equal(t, int64(1), dead.Client(t).Wait(t.Context(), 1, 10*time.Second).Val(), "the replica knows the claim")
	replica := cluster.ReplicaOf(t, dead)
	replica.Hang(t)
	// What is on its way to a replica that hangs would be there when it goes on.
	require.NoError(t, dead.Client(t).Do(t.Context(), "client", "kill", "type", "replica").Err())
	require.NoError(t, x.Add(t.Context(), last))
	dead.Down(t)
	replica.Continue(t)
	cluster.AwaitFailover(t, key, dead)
	require.ErrorIs(t, replica.Client(t).ZScore(t.Context(), key, last.String()).Err(), redis.Nil)

	var err error
	require.Eventually(t, func() bool {
		_, err = x.Claim(t.Context(), base, lease, 16)
		return err == nil || errors.Is(err, retryset.ErrEpochLost)
	}, 30*time.Second, 10*time.Millisecond)
	require.ErrorIs(t, err, retryset.ErrEpochLost)
	r, err := x.BeginRebuild(t.Context())
	require.NoError(t, err)
	require.Equal(t, slots, r.Slots)
	require.NoError(t, x.Refill(t.Context(), r, []retryset.Entry{last}))
	_, err = x.EndRebuild(t.Context(), r)
	require.NoError(t, err)
	require.Equal(t, members(3), claim(t, x, 0))
}

// A replica that is promoted in the middle of a rebuild may lack what was added meanwhile.
func TestClusterMasterDiesInTheMiddleOfARebuild(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t)
	x := retryset.NewRedis(connectCluster(t, cluster))
	r, err := x.BeginRebuild(t.Context())
	require.NoError(t, err)
	require.Equal(t, slotCount, r.Slots.Count())
	dead := cluster.MasterOf(t, dueKey(3))
	slots := slotsOf(t, cluster, dead)
	require.Equal(t, int64(1), dead.Client(t).Wait(t.Context(), 1, 10*time.Second).Val(), "the replica has the locks")
	dead.Down(t)
	cluster.AwaitFailover(t, dueKey(3), dead)
	require.Eventually(t, func() bool { return x.Refill(t.Context(), r, nil) == nil }, 30*time.Second, 10*time.Millisecond)
	left, err := x.EndRebuild(t.Context(), r)
	require.NoError(t, err)
	require.Equal(t, slots, left)
}
