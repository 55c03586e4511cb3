//go:build integration

package redisconn_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/redisconn"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/redistest"
)

// soon is how long a test waits for what must happen.
const soon = 30 * time.Second

// openCluster opens a client that knows one node to begin with, with a time limit that a busy machine
// does not reach, unless the test changes it.
func openCluster(t *testing.T, c *redistest.Cluster, timeout time.Duration) (redis.UniversalClient, *logtest.Records) {
	t.Helper()
	log, records := logtest.Recorder(t)
	cfg := redisconn.Default()
	cfg.URL, cfg.Cluster, cfg.Timeout = c.Nodes[0].URL, true, timeout
	client, err := redisconn.Open(cfg, log)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	require.NoError(t, client.Ping(t.Context()))
	return client.Universal(), records
}

// keysOf returns a key for each master, that of the first node first.
func keysOf(t *testing.T, c *redistest.Cluster) (keys []string, masters []*redistest.Server) {
	t.Helper()
	for _, key := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		master := c.MasterOf(t, key)
		known := false
		for _, m := range masters {
			known = known || m == master
		}
		if !known {
			keys, masters = append(keys, key), append(masters, master)
		}
	}
	require.Len(t, keys, 3)
	return keys, masters
}

// A master that dies is replaced by its replica, and the client goes there without waiting for its
// own next look at the slots, which is once a minute. The log names the node that is away.
func TestClusterFailoverIsFoundAtOnce(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	client, records := openCluster(t, cluster, 5*time.Second)
	keys, masters := keysOf(t, cluster)
	require.NoError(t, client.Set(t.Context(), keys[0], "1", 0).Err())
	masters[0].Down(t)
	require.Error(t, client.Set(t.Context(), keys[0], "2", 0).Err())
	require.NotEmpty(t, records.Find("Redis cannot be reached"))
	cluster.AwaitFailover(t, keys[0], masters[0])
	promoted := time.Now()
	require.Eventually(t, func() bool {
		_, err := client.Pipelined(t.Context(), func(p redis.Pipeliner) error { return p.Set(t.Context(), keys[0], "3", 0).Err() })
		return err == nil
	}, soon, 10*time.Millisecond)
	t.Logf("found %s after the failover", time.Since(promoted))
}

// What hangs on one master costs the commands of the others nothing, not even their answers, and is
// over when its time is.
func TestClusterNodeThatHangsKeepsTheOthersFromNothing(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	const timeout = time.Second
	client, _ := openCluster(t, cluster, timeout)
	keys, masters := keysOf(t, cluster)
	masters[0].Hang(t)
	for range 3 { // with connections that stand, and without
		ctx, cancel := context.WithTimeout(t.Context(), 2*timeout) // as callers have
		pipe := client.Pipeline()
		hangs, works, also := pipe.Incr(ctx, keys[0]), pipe.Incr(ctx, keys[1]), pipe.Incr(ctx, keys[2])
		begun := time.Now()
		_, err := pipe.Exec(ctx)
		took := time.Since(begun)
		cancel()
		require.Error(t, err)
		require.Error(t, hangs.Err())
		require.NoError(t, works.Err())
		require.NoError(t, also.Err())
		require.Less(t, took, 10*timeout, "one time limit, with room for a busy machine")
		t.Logf("the pipeline took %s", took)
	}
}

// What may have been done is not sent again: here the connection breaks behind the first command.
func TestClusterSendsNothingTwice(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	client, _ := openCluster(t, cluster, soon)
	key := "{tag}count"
	master := cluster.MasterOf(t, key)
	var work sync.WaitGroup
	work.Go(func() {
		_, err := client.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			p.Incr(t.Context(), key)
			p.BLPop(t.Context(), 0, "{tag}empty")
			return nil
		})
		assert.Error(t, err)
	})
	require.Eventually(t, func() bool {
		info, err := master.Client(t).InfoMap(t.Context(), "clients").Result()
		return err == nil && info["Clients"]["blocked_clients"] == "1"
	}, soon, 10*time.Millisecond)
	require.NoError(t, master.Client(t).Do(t.Context(), "client", "kill", "type", "normal").Err())
	work.Wait()
	require.Equal(t, "1", client.Get(t.Context(), key).Val())
}

// The doctor learns of one node, whichever answers, also while another is away.
func TestClusterIsInspected(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	cfg := redisconn.Default()
	cfg.URL, cfg.Cluster, cfg.Nodes = cluster.Nodes[0].URL, true, cluster.Addrs()[1:]
	cluster.Nodes[0].Down(t) // the one that is asked first
	c, err := redisconn.Open(cfg, logtest.New(t))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	var info redisconn.Info
	require.Eventually(t, func() bool {
		info, err = c.Inspect(t.Context())
		return err == nil
	}, soon, 10*time.Millisecond)
	require.NotEmpty(t, info.Version)
	require.Equal(t, "noeviction", info.Policy)
}

// A slot that moves while it is used fails no command.
func TestClusterSlotMovesUnderPipelines(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	client, _ := openCluster(t, cluster, 5*time.Second)
	keys, masters := keysOf(t, cluster)
	incr := func() {
		t.Helper()
		_, err := client.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			for _, key := range []string{keys[0], "{" + keys[0] + "}2", keys[1]} {
				p.Incr(t.Context(), key)
			}
			return nil
		})
		require.NoError(t, err)
	}
	incr()
	cluster.MoveSlot(t, keys[0], masters[1], incr)
	incr()
	require.Equal(t, "4", client.Get(t.Context(), keys[0]).Val())
	require.Equal(t, "4", client.Get(t.Context(), "{"+keys[0]+"}2").Val())
	require.Equal(t, "4", client.Get(t.Context(), keys[1]).Val())
}
