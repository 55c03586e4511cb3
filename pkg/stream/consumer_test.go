package stream_test

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/test/fixture/natstest"
)

const durable = "worker"

// worker makes the durable of the stream WORK.
func worker(t testing.TB, c *stream.Client) *stream.Consumer {
	t.Helper()
	con, err := c.NewConsumer(t.Context(), "WORK", durable, func(ctx context.Context) error {
		return c.EnsureConsumer(ctx, "WORK", jetstream.ConsumerConfig{
			Durable: durable, AckPolicy: jetstream.AckExplicitPolicy, AckWait: stream.AckWait,
			MaxDeliver: -1, MaxAckPending: 8192,
		})
	})
	require.NoError(t, err)
	return con
}

// fill publishes n messages whose bodies are their numbers, from start on.
func fill(t testing.TB, c *stream.Client, start, n int) {
	t.Helper()
	p := c.NewPublisher("fill", 0)
	for i := start; i < start+n; i++ {
		require.NoError(t, p.Publish(t.Context(), message("work.a", fmt.Sprint("id-", i), strconv.Itoa(i)), func(_ stream.Ack, err error) {
			if err != nil {
				t.Error(err)
			}
		}))
	}
	require.NoError(t, p.Flush(t.Context()))
}

// consume runs a consumer until the test ends or stop is called, which waits for it.
func consume(t testing.TB, con *stream.Consumer, handle func(*stream.Msg)) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- con.Consume(ctx, handle) }()
	var stopped atomic.Bool
	stop = func() {
		cancel()
		if stopped.CompareAndSwap(false, true) {
			if err := receive(t, ended); err != nil {
				t.Errorf("consume: %v", err)
			}
		}
	}
	t.Cleanup(stop)
	return stop
}

func TestConsumeInOrderAndAcknowledge(t *testing.T) {
	t.Parallel()
	c := client(t, natstest.Start(t), quick())
	queue(t, c, jetstream.WorkQueuePolicy)
	const n = 5000
	fill(t, c, 0, n)
	con := worker(t, c)
	got := make(chan *stream.Msg, n)
	consume(t, con, func(m *stream.Msg) {
		got <- m
		require.NoError(t, m.Ack())
		require.NoError(t, m.Nak(time.Hour), "after Ack it counts for nothing")
	})
	for i := range n {
		m := receive(t, got)
		require.Equal(t, strconv.Itoa(i), string(m.Data()))
		require.Equal(t, uint64(i+1), m.Sequence())
		require.Equal(t, uint64(1), m.Deliveries())
		require.Equal(t, "work.a", m.Subject())
		require.WithinDuration(t, time.Now(), m.Time(), time.Minute)
		if i == 0 {
			require.Equal(t, uint64(n-1), m.Pending())
		}
	}
	require.Eventually(t, func() bool {
		info, err := con.Info(t.Context())
		return err == nil && info == stream.ConsumerInfo{AckFloor: n, Delivered: n}
	}, deadline, 10*time.Millisecond)
}

// A stream of another retention, where messages outlive their acknowledgements, stands for a work
// queue whose full disk did not let the server remove them.
func TestWhatIsAcknowledgedAndStandsIsRemoved(t *testing.T) {
	t.Parallel()
	c := client(t, natstest.Start(t), quick())
	queue(t, c, jetstream.LimitsPolicy)
	fill(t, c, 0, 100)
	con := worker(t, c)
	got := make(chan *stream.Msg, 100)
	consume(t, con, func(m *stream.Msg) { got <- m })
	var last *stream.Msg
	for i := range 100 {
		if m := receive(t, got); i < 40 {
			require.NoError(t, m.Ack())
		} else if last = m; i == 99 {
			require.NoError(t, last.Ack(), "beyond one that is not acknowledged")
		}
	}
	require.Eventually(t, func() bool {
		info, err := con.Info(t.Context())
		return err == nil && info.AckFloor == 40 && info.AckPending == 59
	}, deadline, 5*time.Millisecond)
	removed, err := con.RemoveAcked(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 40, removed)
	removed, err = con.RemoveAcked(t.Context())
	require.NoError(t, err)
	require.Zero(t, removed)
	m, err := c.Next(t.Context(), "WORK", ">", 1)
	require.NoError(t, err)
	require.EqualValues(t, 41, m.Sequence)
}

func TestABlockedHandlerHoldsNoMoreThanTheBatch(t *testing.T) {
	t.Parallel()
	c := client(t, natstest.Start(t), quick())
	queue(t, c, jetstream.WorkQueuePolicy)
	fill(t, c, 0, 200)
	con := worker(t, c).WithBatch(20)
	gate := make(chan struct{})
	got := make(chan string, 200)
	stop := consume(t, con, func(m *stream.Msg) {
		<-gate
		got <- string(m.Data())
		_ = m.Ack()
	})
	require.Eventually(t, func() bool {
		info, err := con.Info(t.Context())
		return err == nil && info.AckPending >= 20
	}, deadline, 5*time.Millisecond)
	info, err := con.Info(t.Context())
	require.NoError(t, err)
	require.LessOrEqual(t, info.AckPending, 31, "the message at hand, the queue and half a batch more")
	close(gate)
	for i := range 200 {
		require.Equal(t, strconv.Itoa(i), receive(t, got))
	}
	stop()
}

func TestWhatWaitsGoesBackWhenConsumingEnds(t *testing.T) {
	t.Parallel()
	c := client(t, natstest.Start(t), quick())
	queue(t, c, jetstream.WorkQueuePolicy)
	fill(t, c, 0, 100)
	con := worker(t, c)
	first := make(chan *stream.Msg)
	stop := consume(t, con, func(m *stream.Msg) {
		first <- m
		_ = m.AckSync(t.Context())
		<-first
	})
	receive(t, first)
	require.Eventually(t, func() bool {
		info, err := con.Info(t.Context())
		return err == nil && info.Delivered == 100
	}, deadline, 5*time.Millisecond)
	go func() { first <- nil }()
	stop()

	// Another consumer of the same durable gets the rest long before the ack wait has passed.
	got := make(chan string, 100)
	consume(t, con, func(m *stream.Msg) {
		_ = m.Ack()
		got <- string(m.Data())
	})
	seen := make(map[string]bool)
	for len(seen) < 99 {
		seen[receive(t, got)] = true
	}
	require.NotContains(t, seen, "0")
}

func TestADeletedConsumerIsMadeAgain(t *testing.T) {
	t.Parallel()
	c := client(t, natstest.Start(t), quick())
	queue(t, c, jetstream.WorkQueuePolicy)
	troubles := make(chan error, 100)
	con := worker(t, c).WithTrouble(func(err error) {
		select {
		case troubles <- err:
		default:
		}
	})
	got := make(chan string, 10)
	consume(t, con, func(m *stream.Msg) {
		_ = m.AckSync(t.Context())
		got <- string(m.Data())
	})
	fill(t, c, 0, 1)
	require.Equal(t, "0", receive(t, got))
	for i := range 3 {
		require.NoError(t, c.JetStream().DeleteConsumer(t.Context(), "WORK", durable))
		fill(t, c, i+1, 1)
		require.Equal(t, strconv.Itoa(i+1), receive(t, got))
		require.Error(t, receive(t, troubles))
	}
}

func TestAConsumerOfADeletedStreamEnds(t *testing.T) {
	t.Parallel()
	c := client(t, natstest.Start(t), quick())
	queue(t, c, jetstream.WorkQueuePolicy)
	con := worker(t, c)
	ended := make(chan error, 1)
	go func() { ended <- con.Consume(t.Context(), func(*stream.Msg) {}) }()
	require.NoError(t, c.JetStream().DeleteStream(t.Context(), "WORK"))
	require.ErrorIs(t, receive(t, ended), jetstream.ErrStreamNotFound)
}

func TestConsumingOutlivesTheServer(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	c := client(t, s, quick())
	queue(t, c, jetstream.WorkQueuePolicy)
	got := make(chan string, 1000)
	consume(t, worker(t, c), func(m *stream.Msg) {
		_ = m.AckSync(t.Context())
		got <- string(m.Data())
	})
	seen := make(map[string]bool)
	for round := range 3 {
		fill(t, c, 100*round, 100)
		for len(seen) < 100*(round+1) {
			seen[receive(t, got)] = true
		}
		s.Restart(t)
	}
}

func TestTheRestOfAMessagesWords(t *testing.T) {
	t.Parallel()
	c := client(t, natstest.Start(t), quick())
	queue(t, c, jetstream.WorkQueuePolicy)
	fill(t, c, 0, 2)
	con := worker(t, c)
	got := make(chan *stream.Msg, 10)
	consume(t, con, func(m *stream.Msg) { got <- m })
	first, second := receive(t, got), receive(t, got)

	require.NoError(t, first.InProgress())
	require.NoError(t, second.Term("malformed"))
	require.NoError(t, second.InProgress(), "after the end it says nothing")
	require.NoError(t, first.Nak(30*time.Millisecond))
	again := receive(t, got)
	require.Equal(t, "0", string(again.Data()))
	require.Equal(t, uint64(2), again.Deliveries())
	require.NoError(t, again.AckSync(t.Context()))
	info, err := con.Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, stream.ConsumerInfo{AckFloor: 2, Delivered: 2}, info)
}

func BenchmarkConsumeAndAck(b *testing.B) {
	c := client(b, natstest.Start(b), stream.Default())
	queue(b, c, jetstream.WorkQueuePolicy)
	fill(b, c, 0, b.N)
	con := worker(b, c)
	done := make(chan struct{})
	n := 0
	b.ReportAllocs()
	b.ResetTimer()
	consume(b, con, func(m *stream.Msg) {
		_ = m.Ack()
		if n++; n == b.N {
			close(done)
		}
	})
	<-done
	b.StopTimer()
}

// What the server sent to a run that ended must not wait for the ack wait: another run gets it at
// once.
func TestARunThatEndsGivesBackWhatWasOnItsWay(t *testing.T) {
	t.Parallel()
	c := client(t, natstest.Start(t), quick())
	queue(t, c, jetstream.WorkQueuePolicy)
	const n = 2000
	p := c.NewPublisher("test", 0)
	for i := range n {
		require.NoError(t, p.Publish(t.Context(), message("work.a", "", strconv.Itoa(i)), func(stream.Ack, error) {}))
	}
	require.NoError(t, p.Flush(t.Context()))
	con, err := c.NewConsumer(t.Context(), "WORK", "w", func(ctx context.Context) error {
		return c.EnsureConsumer(ctx, "WORK", jetstream.ConsumerConfig{Durable: "w", AckPolicy: jetstream.AckExplicitPolicy, AckWait: stream.AckWait, MaxAckPending: n})
	})
	require.NoError(t, err)
	began := time.Now()
	seen := map[string]bool{}
	for len(seen) < n {
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		handled := 0
		require.NoError(t, con.Consume(ctx, func(m *stream.Msg) {
			if err := m.Ack(); err != nil {
				t.Error(err)
			}
			seen[string(m.Data())] = true
			if handled++; handled%100 == 0 || len(seen) == n {
				cancel()
			}
		}))
		cancel()
		require.Less(t, time.Since(began), stream.AckWait, "nothing waited for the ack wait")
		require.NotZero(t, handled)
	}
}
