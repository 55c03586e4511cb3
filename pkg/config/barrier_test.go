package config_test

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/config"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func newBarrier(t *testing.T, nc *nats.Conn, replicas int) *config.Barrier {
	t.Helper()
	b := config.NewBarrier(client(t, nc, replicas), logtest.New(t))
	t.Cleanup(func() { require.NoError(t, b.Stop(context.WithoutCancel(t.Context()))) })
	return b
}

func TestConfirmIsQuickWhenAllAnnounce(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	s := open(t, client(t, server.Connect(t), 1))
	b := newBarrier(t, server.Connect(t), 1)
	require.NoError(t, b.Confirm(t.Context(), config.BucketWebhooks, 1), "with nobody there, there is nobody to wait for")

	one, two, other := &shown{}, &shown{}, make(chan string, 1)
	startMirror(t, server.Connect(t), 1, one.handlers())
	startMirror(t, server.Connect(t), 1, two.handlers())
	startMirror(t, server.Connect(t), 1, config.Handlers{
		Account: func(a *recordv1.Account, _ uint64) { other <- a.GetAccount().GetId() },
	})
	quick := 0
	for i := range 20 {
		id := "wh_" + strconv.Itoa(i)
		rev, err := s.CreateWebhook(t.Context(), webhook("acc_1", id, "one"))
		require.NoError(t, err)
		start := time.Now()
		require.NoError(t, b.Confirm(t.Context(), config.BucketWebhooks, rev))
		if time.Since(start) < config.Lease/2 {
			quick++
		}
		require.Contains(t, one.get(), id, "the handlers have returned")
		require.Contains(t, two.get(), id)
	}
	require.Positive(t, quick, "confirmations are quicker than the lease")
	t.Logf("%d of 20 within half the lease", quick)

	rev, err := s.CreateAccount(t.Context(), account("acc_1", "one"))
	require.NoError(t, err)
	require.NoError(t, b.Confirm(t.Context(), config.BucketAccounts, rev))
	require.Equal(t, "acc_1", <-other)
}

func TestConfirmWaitsForTheLeaseOfWhoIsSilent(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	s := open(t, client(t, server.Connect(t), 1))
	b := newBarrier(t, server.Connect(t), 1)

	// A mirror whose handler hangs: it is registered, and it is not fresh for long.
	entered, release := make(chan struct{}), make(chan struct{})
	nc := server.Connect(t)
	m := startMirror(t, nc, 1, config.Handlers{Webhook: func(w *recordv1.Webhook, _ uint64) {
		if w.GetWebhook().GetDisplayName() == "hang" {
			close(entered)
			<-release
		}
	}})
	rev, err := s.CreateWebhook(t.Context(), webhook("acc_1", "wh_1", "hang"))
	require.NoError(t, err)
	<-entered
	start := time.Now()
	require.NoError(t, b.Confirm(t.Context(), config.BucketWebhooks, rev))
	require.GreaterOrEqual(t, time.Since(start), config.Lease)
	require.False(t, m.Fresh())

	start = time.Now()
	require.NoError(t, b.Confirm(t.Context(), config.BucketKeys, 1))
	require.Less(t, time.Since(start), config.Lease, "nobody watches the keys")

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, b.Confirm(ctx, config.BucketWebhooks, rev), context.DeadlineExceeded)
	close(release)
	require.NoError(t, m.WaitFresh(t.Context()))
}

func TestConfirmHoldsWithoutAnyoneToAsk(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	b := newBarrier(t, server.Connect(t), 1)
	server.Stop()
	start := time.Now()
	require.NoError(t, b.Confirm(t.Context(), config.BucketWebhooks, 1))
	require.GreaterOrEqual(t, time.Since(start), config.Lease)
}

// worker begins work whenever its mirror is fresh, on the version that the mirror was last told,
// as a dispatcher does, and finds out whether that version was one that a confirmed write had
// replaced before the work began.
type worker struct {
	mu      sync.RWMutex
	version int

	mirror    *config.Mirror
	confirmed *atomic.Int64
	begun     atomic.Int64
	stale     atomic.Int64
}

func (w *worker) handlers() config.Handlers {
	return config.Handlers{
		Webhook: func(rec *recordv1.Webhook, _ uint64) {
			n, err := strconv.Atoi(rec.GetWebhook().GetDisplayName())
			if err != nil {
				return
			}
			// Nothing can begin on the old version once the lock was had.
			w.mu.Lock()
			defer w.mu.Unlock()
			w.version = n
		},
		Account: func(*recordv1.Account, uint64) {}, // a second bucket, which must be fresh too
	}
}

func (w *worker) work() {
	w.mu.RLock()
	defer w.mu.RUnlock()
	confirmed := w.confirmed.Load() // before the work begins
	if !w.mirror.Fresh() {
		return
	}
	w.begun.Add(1)
	if int64(w.version) < confirmed {
		w.stale.Add(1)
	}
}

// TestNothingBeginsOnWhatAConfirmedWriteReplaced is the barrier's promise, with connections that
// are lost and servers that restart.
func TestNothingBeginsOnWhatAConfirmedWriteReplaced(t *testing.T) {
	t.Parallel()
	t.Run("on one server that restarts", func(t *testing.T) {
		t.Parallel()
		server := natstest.Start(t)
		promise(t, func() *nats.Conn { return server.Connect(t) }, 1, 60, func(i int) {
			if i%20 == 10 {
				server.Restart(t)
			}
		})
	})
	t.Run("in a cluster that loses its leader", func(t *testing.T) {
		t.Parallel()
		cluster := natstest.StartCluster(t, 3)
		n := 0
		connect := func() *nats.Conn {
			n++
			return cluster.Nodes[n%3].Connect(t)
		}
		promise(t, connect, 3, 45, func(i int) {
			if i%20 == 10 {
				stopStreamLeader(t, cluster, "KV_webhooks")
			}
		})
	})
}

// stopStreamLeader restarts the node that leads a stream.
func stopStreamLeader(t *testing.T, cluster *natstest.Cluster, stream string) {
	t.Helper()
	for _, node := range cluster.Nodes {
		s := node.Server()
		if s == nil {
			continue
		}
		acc, err := s.LookupAccount("$G")
		require.NoError(t, err)
		if acc.JetStreamIsStreamLeader(stream) {
			node.Restart(t)
			return
		}
	}
	t.Log("nobody led the stream")
}

func promise(t *testing.T, connect func() *nats.Conn, replicas, writes int, disturb func(i int)) {
	t.Helper()
	s := open(t, client(t, connect(), replicas))
	b := newBarrier(t, connect(), replicas)
	_, err := s.CreateWebhook(t.Context(), webhook("acc_1", "wh_1", "0"))
	require.NoError(t, err)

	var confirmed atomic.Int64
	done := make(chan struct{})
	var wg sync.WaitGroup
	var workers []*worker
	var connections []*nats.Conn
	for range 3 {
		w := &worker{confirmed: &confirmed}
		nc := connect()
		w.mirror = startMirror(t, nc, replicas, w.handlers())
		workers = append(workers, w)
		wg.Go(func() {
			for running := true; running; {
				w.work()
				running = rest(done, 200*time.Microsecond)
			}
		})
		connections = append(connections, nc)
	}
	started := time.Now()
	for i := 1; i <= writes; i++ {
		disturb(i)
		if i%3 == 0 { // one of the mirrors loses its connection
			_ = connections[i/3%len(connections)].ForceReconnect()
		}
		write(t, s, strconv.Itoa(i), b)
		confirmed.Store(int64(i))
		rest(done, 10*time.Millisecond) // so that the writes meet the disturbances in every state
	}
	t.Logf("%d confirmed writes in %s", writes, time.Since(started))
	close(done)
	wg.Wait()
	for _, w := range workers {
		t.Logf("work was begun %d times", w.begun.Load())
		require.Positive(t, w.begun.Load(), "the worker worked")
		require.Zero(t, w.stale.Load(), "work began on a state that was replaced")
	}
}

// write writes a version and confirms it.
func write(t *testing.T, s *config.Store, version string, b *config.Barrier) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	for {
		w, rev, err := s.GetWebhook(ctx, "acc_1", "wh_1")
		if err == nil {
			w.Webhook.DisplayName = version
			rev, err = s.UpdateWebhook(ctx, w, rev)
		}
		if err == nil {
			require.NoError(t, b.Confirm(ctx, config.BucketWebhooks, rev))
			return
		}
		require.NoError(t, ctx.Err(), "last error: %v", err)
		require.NotErrorIs(t, err, config.ErrNotFound)
		rest(nil, 10*time.Millisecond)
	}
}

// rest waits for d; false if done was closed first.
func rest(done <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-done:
		return false
	}
}
