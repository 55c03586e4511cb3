package stream_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/test/fixture/natstest"
)

// queueWorker is the durable of a work queue, as its owner makes it.
func queueWorker(t testing.TB, c *stream.Client) *stream.Consumer {
	t.Helper()
	con, err := c.NewConsumer(t.Context(), "WORK", durable, func(ctx context.Context) error {
		return c.EnsureConsumer(ctx, "WORK", c.QueueConsumer(jetstream.ConsumerConfig{
			Durable: durable, AckPolicy: jetstream.AckExplicitPolicy, AckWait: stream.AckWait,
			MaxDeliver: -1, MaxAckPending: 8192,
		}))
	})
	require.NoError(t, err)
	return con
}

func inMemory(t testing.TB, c *stream.Client) bool {
	t.Helper()
	con, err := c.JetStream().Consumer(t.Context(), "WORK", durable)
	require.NoError(t, err)
	return con.CachedInfo().Config.MemoryStorage
}

// A consumer whose state is on disk is made anew when the stream gets replicas: what was acknowledged
// stays away, what was not comes again.
func TestAConsumerWhoseStateBelongsElsewhereIsMadeAnew(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	c := client(t, s, quick())
	queue(t, c, jetstream.WorkQueuePolicy)
	con := queueWorker(t, c)
	require.False(t, inMemory(t, c), "of one replica nothing else has the state")
	fill(t, c, 0, 10)
	got := make(chan string, 10)
	stop := consume(t, con, func(m *stream.Msg) {
		if m.Sequence()%2 == 0 {
			_ = m.AckSync(t.Context())
		}
		got <- string(m.Data())
	})
	for range 10 {
		receive(t, got)
	}
	stop()

	cfg := quick()
	cfg.Replicas = 3 // as of a cluster; the stream itself stays as it is
	wide := client(t, s, cfg)
	con = queueWorker(t, wide)
	require.True(t, inMemory(t, wide))
	consume(t, con, func(m *stream.Msg) {
		_ = m.Ack()
		got <- string(m.Data())
	})
	for i := range 5 {
		require.Equal(t, strconv.Itoa(2*i), receive(t, got))
	}
	fill(t, c, 10, 1)
	require.Equal(t, "10", receive(t, got), "and nothing that was acknowledged before it")
	_ = queueWorker(t, wide)
	require.True(t, inMemory(t, wide))
}

// A work queue's consumer forgets when all servers stop at once, and the stream does not.
func TestAReplicatedQueueOutlivesAllItsServers(t *testing.T) {
	t.Parallel()
	nodes := natstest.StartCluster(t, 3)
	cfg := quick()
	cfg.Replicas = 3
	nc, err := nats.Connect(nodes.URL, nats.MaxReconnects(-1))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	c, err := stream.New(nc, cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	queue(t, c, jetstream.WorkQueuePolicy)
	con := queueWorker(t, c)
	require.True(t, inMemory(t, c))
	fill(t, c, 0, 100)
	got := make(chan string, 1000)
	stop := consume(t, con, func(m *stream.Msg) {
		if m.Sequence()%2 == 0 {
			if err := m.AckSync(context.WithoutCancel(t.Context())); err != nil {
				t.Errorf("sequence %d is not acknowledged: %v", m.Sequence(), err)
			}
		}
		got <- string(m.Data())
	})
	for range 100 {
		receive(t, got)
	}
	stop()
	st, err := c.JetStream().Stream(t.Context(), "WORK")
	require.NoError(t, err)
	require.Eventually(t, func() bool { // An acknowledgement is answered before the servers have agreed on what it removes.
		info, err := st.Info(t.Context())
		return err == nil && info.State.Msgs == 50
	}, 30*time.Second, 10*time.Millisecond)

	for _, n := range nodes.Nodes {
		n.Stop()
	}
	for _, n := range nodes.Nodes {
		n.Restart(t)
	}
	nodes.WaitForLeader(t)
	consume(t, con, func(m *stream.Msg) {
		_ = m.Ack()
		got <- string(m.Data())
	})
	missing := map[string]bool{}
	for i := range 50 {
		missing[strconv.Itoa(2*i)] = true
	}
	for len(missing) > 0 {
		body := receive(t, got)
		n, err := strconv.Atoi(body)
		require.NoError(t, err)
		require.Zero(t, n%2, "%s was acknowledged", body)
		delete(missing, body)
	}
}
