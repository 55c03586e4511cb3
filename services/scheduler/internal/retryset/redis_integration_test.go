//go:build integration

package retryset_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/services/scheduler/internal/retryset"
	"github.com/postrider/postrider/test/fixture/redistest"
)

// connect opens a client of its own, as a replica has.
func connect(t testing.TB, url string) redis.UniversalClient {
	t.Helper()
	opts, err := redis.ParseURL(url)
	require.NoError(t, err)
	client := redis.NewClient(opts)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}

func TestRedis(t *testing.T) {
	server := redistest.Start(t)
	client := connect(t, server.URL)
	Exercise(t, func(t *testing.T) retryset.Index {
		t.Helper()
		require.NoError(t, client.FlushAll(t.Context()).Err())
		return retryset.NewRedis(client)
	})
}

// requireLost claims until the loss is seen, which the first claim must do.
func requireLost(t *testing.T, x retryset.Index) {
	t.Helper()
	_, err := x.Claim(t.Context(), base, lease, 100)
	require.ErrorIs(t, err, retryset.ErrEpochLost)
}

func TestRedisLosses(t *testing.T) {
	server := redistest.Start(t)
	server.Client(t) // is closed with this test, not with the first of those below
	setup := func(t *testing.T) (redis.UniversalClient, *retryset.Redis) {
		t.Helper()
		client := connect(t, server.URL)
		require.NoError(t, client.FlushAll(t.Context()).Err())
		x := retryset.NewRedis(client)
		rebuild(t, x, entry(1, 0), entry(2, time.Hour))
		require.Equal(t, members(1), claim(t, x, 0))
		return client, x
	}
	t.Run("a flush is seen by the first claim, and mended by a rebuild", func(t *testing.T) {
		client, x := setup(t)
		require.NoError(t, client.FlushAll(t.Context()).Err())
		got, err := x.Claim(t.Context(), base, lease, 100)
		require.ErrorIs(t, err, retryset.ErrEpochLost)
		require.Equal(t, 16, got.Vanished, "every part of the index")
		got, err = x.Claim(t.Context(), base, lease, 100)
		require.ErrorIs(t, err, retryset.ErrEpochLost)
		require.Zero(t, got.Vanished, "told once")
		rebuild(t, x, entry(1, 0), entry(2, time.Hour))
		require.Equal(t, members(1), claim(t, x, 0))
	})
	t.Run("a flush is seen by every replica and one rebuild serves them all", func(t *testing.T) {
		client, x := setup(t)
		y := retryset.NewRedis(connect(t, server.URL))
		got, err := y.Claim(t.Context(), base, lease, 100)
		require.ErrorIs(t, err, retryset.ErrEpochLost)
		require.Zero(t, got.Vanished, "whoever has just started misses nothing")
		rebuild(t, y)
		claim(t, x, 0)
		require.NoError(t, client.FlushAll(t.Context()).Err())
		requireLost(t, x)
		requireLost(t, y)
		rebuild(t, x, entry(1, 0))
		require.Equal(t, members(1), claim(t, y, 0))
		require.Empty(t, claim(t, x, 0))
	})
	t.Run("two replicas never rebuild one slot at once", func(t *testing.T) {
		client, x := setup(t)
		y := retryset.NewRedis(connect(t, server.URL))
		require.NoError(t, client.FlushAll(t.Context()).Err())
		requireLost(t, x)
		requireLost(t, y)
		first, err := x.BeginRebuild(t.Context())
		require.NoError(t, err)
		require.Equal(t, 16, first.Slots.Count())
		second, err := y.BeginRebuild(t.Context())
		require.NoError(t, err)
		require.Zero(t, second.Slots)
		_, err = x.EndRebuild(t.Context(), first)
		require.NoError(t, err)
		claim(t, y, 0)
	})
	t.Run("an older snapshot is seen, although its counter is plausible", func(t *testing.T) {
		_, x := setup(t)
		snapshot := server.Snapshot(t)
		require.NoError(t, x.Add(t.Context(), entry(3, 0)))
		claim(t, x, 0)
		server.Restore(t, snapshot)
		requireLost(t, x)
		for range 5 {
			requireLost(t, x) // the counter passes what was remembered
		}
		rebuild(t, x, entry(1, 0), entry(2, time.Hour), entry(3, 0))
		require.Equal(t, members(3), claim(t, x, 0), "member 1 was leased in the snapshot")
	})
	t.Run("a snapshot from before the last rebuild is seen", func(t *testing.T) {
		client, x := setup(t)
		for range 20 {
			claim(t, x, 0)
		}
		snapshot := server.Snapshot(t)
		require.NoError(t, client.FlushAll(t.Context()).Err())
		requireLost(t, x)
		rebuild(t, x)
		claim(t, x, 0)
		server.Restore(t, snapshot)
		requireLost(t, x)
	})
	t.Run("a flush in the middle of a rebuild makes another one necessary", func(t *testing.T) {
		client, x := setup(t)
		require.NoError(t, client.FlushAll(t.Context()).Err())
		requireLost(t, x)
		r, err := x.BeginRebuild(t.Context())
		require.NoError(t, err)
		require.NoError(t, client.FlushAll(t.Context()).Err())
		require.NoError(t, x.Refill(t.Context(), r, []retryset.Entry{entry(1, 0)}))
		left, err := x.EndRebuild(t.Context(), r)
		require.NoError(t, err)
		require.Equal(t, r.Slots, left)
		requireLost(t, x)
	})
	t.Run("a snapshot restored in the middle of a rebuild makes another one necessary", func(t *testing.T) {
		client, x := setup(t)
		require.NoError(t, client.FlushAll(t.Context()).Err())
		requireLost(t, x)
		r, err := x.BeginRebuild(t.Context())
		require.NoError(t, err)
		snapshot := server.Snapshot(t) // holds the locks of the rebuild
		require.NoError(t, x.Refill(t.Context(), r, []retryset.Entry{entry(1, 0)}))
		requireLost(t, x)
		server.Restore(t, snapshot)
		left, err := x.EndRebuild(t.Context(), r)
		require.NoError(t, err)
		require.Equal(t, r.Slots, left)
	})
	t.Run("the loss of a single slot is seen and only it is rebuilt", func(t *testing.T) {
		client, x := setup(t)
		require.NoError(t, client.Del(t.Context(), "postrider:retry:{r03}:due").Err())
		requireLost(t, x)
		r, err := x.BeginRebuild(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, r.Slots.Count())
		require.True(t, r.Slots.Has(3))
		require.NoError(t, x.AbandonRebuild(t.Context(), r))
		rebuild(t, x)
		claim(t, x, 0)
	})
	t.Run("a replica that starts rebuilds, and one that starts with it need not", func(t *testing.T) {
		_, x := setup(t)
		y, z := retryset.NewRedis(connect(t, server.URL)), retryset.NewRedis(connect(t, server.URL))
		requireLost(t, y)
		requireLost(t, z)
		rebuild(t, y)
		claim(t, z, 0)
		claim(t, x, 0)
	})
}

func TestRedisComesAndGoes(t *testing.T) {
	server := redistest.Start(t)
	x := retryset.NewRedis(connect(t, server.URL))
	rebuild(t, x, entry(1, 0))

	server.Down(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	require.Error(t, x.Add(ctx, entry(2, 0)))
	x.Distrust(member(2))
	_, err := x.Claim(ctx, base, lease, 100)
	require.Error(t, err)
	require.NotErrorIs(t, err, retryset.ErrEpochLost)
	_, err = x.Count(ctx)
	require.Error(t, err)
	_, err = x.Missing(ctx, members(1))
	require.Error(t, err)
	require.Error(t, x.Drop(ctx, member(1)))
	require.Error(t, x.Move(ctx, entry(1, 0)))
	_, err = x.BeginRebuild(ctx)
	require.Error(t, err)
	_, _, err = x.TryLock(ctx, "a", time.Second)
	require.Error(t, err)

	server.Up(t)
	require.Eventually(t, func() bool {
		_, err := x.Count(t.Context())
		return err == nil
	}, 10*time.Second, 10*time.Millisecond)
	requireLost(t, x) // also loads the script anew
	rebuild(t, x, entry(1, 0), entry(2, 0))
	require.Equal(t, members(1, 2), claim(t, x, lease))
}

// The price of a waiting retry is what an operator sizes Redis by.
func TestRedisMemoryOfAWaitingRetry(t *testing.T) {
	server := redistest.Start(t)
	client := connect(t, server.URL)
	x := retryset.NewRedis(client)
	rebuild(t, x)
	before := usedMemory(t, client)
	const total = 200_000
	fill(t, x, 10_000_000_000, total)
	each := float64(usedMemory(t, client)-before) / total
	t.Logf("%.1f bytes for each waiting retry", each)
	require.LessOrEqual(t, each, 130.0)
}

func fill(t testing.TB, x retryset.Index, from, total uint64) {
	t.Helper()
	batch := make([]retryset.Entry, 0, 5000)
	for seq := from; seq < from+total; seq++ {
		batch = append(batch, entry(seq, time.Duration(seq%3_600_000)*time.Millisecond))
		if len(batch) == cap(batch) || seq == from+total-1 {
			require.NoError(t, x.Add(t.Context(), batch...))
			batch = batch[:0]
		}
	}
}

func usedMemory(t testing.TB, client redis.UniversalClient) int64 {
	t.Helper()
	info, err := client.Info(t.Context(), "memory").Result()
	require.NoError(t, err)
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "used_memory:"); ok {
			n, err := strconv.ParseInt(value, 10, 64)
			require.NoError(t, err)
			return n
		}
	}
	require.Fail(t, "redis does not tell its memory")
	return 0
}

func BenchmarkRedis(b *testing.B) {
	server := redistest.Start(b)
	client := connect(b, server.URL)
	x := retryset.NewRedis(client)
	r, err := x.BeginRebuild(b.Context())
	require.NoError(b, err)
	_, err = x.EndRebuild(b.Context(), r)
	require.NoError(b, err)
	b.Run("claim that finds nothing", func(b *testing.B) {
		for b.Loop() {
			_, _ = x.Claim(b.Context(), base.Add(-time.Hour), lease, 4096)
		}
	})
	for _, limit := range []int{512, 4096} {
		b.Run(fmt.Sprintf("claim and drop %d of many", limit), func(b *testing.B) {
			fill(b, x, 0, 300_000)
			claimed := 0
			for b.Loop() {
				got, err := x.Claim(b.Context(), base.Add(2*time.Hour), lease, limit)
				require.NoError(b, err)
				require.NoError(b, x.Drop(b.Context(), got.Members...))
				claimed += len(got.Members)
				if len(got.Members) == 0 {
					b.StopTimer()
					fill(b, x, 0, 300_000)
					b.StartTimer()
				}
			}
			b.ReportMetric(float64(claimed)/b.Elapsed().Seconds(), "retries/s")
		})
	}
	b.Run("add 5000", func(b *testing.B) {
		seq := uint64(1_000_000)
		for b.Loop() {
			fill(b, x, seq, 5000)
			seq += 5000
		}
		b.ReportMetric(float64(b.N)*5000/b.Elapsed().Seconds(), "retries/s")
	})
}
