package stream_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestGet(t *testing.T) {
	t.Parallel()
	c := client(t, natstest.Start(t), quick())
	queue(t, c, jetstream.WorkQueuePolicy)
	p := c.NewPublisher("test", 0)
	m := message("work.a", "id-1", "first")
	m.Header["Postrider-Kind"] = []string{"7"}
	first, err := p.PublishSync(t.Context(), m)
	require.NoError(t, err)
	second, err := p.PublishSync(t.Context(), message("work.b", "", "second"))
	require.NoError(t, err)

	got, err := c.Get(t.Context(), "WORK", first.Sequence)
	require.NoError(t, err)
	require.Equal(t, "work.a", got.Subject)
	require.Equal(t, first.Sequence, got.Sequence)
	require.Equal(t, "first", string(got.Data))
	require.Equal(t, "7", got.Header.Get("Postrider-Kind"))

	last, err := c.Last(t.Context(), "WORK", "work.a")
	require.NoError(t, err)
	require.Equal(t, "first", string(last.Data))
	require.Equal(t, "7", last.Header.Get("Postrider-Kind"))

	next, err := c.Next(t.Context(), "WORK", "*.b", 0)
	require.NoError(t, err)
	require.Equal(t, second.Sequence, next.Sequence)
	require.Equal(t, "second", string(next.Data))

	_, err = p.PublishSync(t.Context(), message("work.a", "", "third"))
	require.NoError(t, err)
	latest, err := c.LastMatching(t.Context(), "WORK", "*.a")
	require.NoError(t, err)
	require.Equal(t, "third", string(latest.Data))
	latest, err = c.LastMatching(t.Context(), "WORK", "work.*")
	require.NoError(t, err)
	require.Equal(t, "third", string(latest.Data))

	for name, err := range map[string]error{
		"last of a pattern without any":  second2(c.LastMatching(t.Context(), "WORK", "*.none")),
		"get of a sequence to come":      second2(c.Get(t.Context(), "WORK", 99)),
		"last of a subject without any":  second2(c.Last(t.Context(), "WORK", "work.none")),
		"next of a subject without any":  second2(c.Next(t.Context(), "WORK", "work.none", 1)),
		"deletion of a sequence to come": c.DeleteMessage(t.Context(), "WORK", 99),
	} {
		require.ErrorIs(t, err, stream.ErrNotFound, name)
	}
	require.NoError(t, c.DeleteMessage(t.Context(), "WORK", first.Sequence))
	require.ErrorIs(t, c.DeleteMessage(t.Context(), "WORK", first.Sequence), stream.ErrNotFound)
	_, err = c.Get(t.Context(), "NONE", 1)
	require.Error(t, err)
	require.NotErrorIs(t, err, stream.ErrNotFound, "a stream that is away says nothing about its messages")
}

func second2[T any](_ T, err error) error { return err }

func TestGetAllKeepsTheOrderAndMarksWhatIsGone(t *testing.T) {
	t.Parallel()
	c := client(t, natstest.Start(t), quick())
	queue(t, c, jetstream.LimitsPolicy)
	fill(t, c, 0, 1200)
	require.NoError(t, c.DeleteMessage(t.Context(), "WORK", 7))
	var want []uint64
	for s := range uint64(1300) {
		want = append(want, 1300-s)
	}
	got, err := c.GetAll(t.Context(), "WORK", want)
	require.NoError(t, err)
	for i, s := range want {
		if s == 7 || s > 1200 {
			require.Nil(t, got[i])
			continue
		}
		require.Equal(t, s, got[i].Sequence)
		require.Equal(t, strconv.FormatUint(s-1, 10), string(got[i].Data))
	}
}

func TestScan(t *testing.T) {
	t.Parallel()
	c := client(t, natstest.Start(t), quick())
	queue(t, c, jetstream.WorkQueuePolicy)
	require.NoError(t, c.Scan(t.Context(), "WORK", stream.Scan{}, func(*stream.Stored) error { return errors.New("there is nothing") }))

	p := c.NewPublisher("test", 0)
	const n = 7000
	for i := range n {
		require.NoError(t, p.Publish(t.Context(), message(fmt.Sprintf("work.%d", i%2), fmt.Sprint("id-", i), strconv.Itoa(i)), func(stream.Ack, error) {}))
	}
	require.NoError(t, p.Flush(t.Context()))
	for s := uint64(3000); s < 4000; s++ {
		require.NoError(t, c.DeleteMessage(t.Context(), "WORK", s))
	}
	scan := func(s stream.Scan) []uint64 {
		var got []uint64
		require.NoError(t, c.Scan(t.Context(), "WORK", s, func(m *stream.Stored) error {
			require.Equal(t, strconv.FormatUint(m.Sequence-1, 10), string(m.Data))
			if s.Ago == 0 { // else it is not known where the first page begins
				require.Equal(t, s.Bare && s.Filter == "", m.Subject == "")
			}
			got = append(got, m.Sequence)
			return nil
		}))
		return got
	}
	var all, odd []uint64
	for s := uint64(1); s <= n; s++ {
		if s >= 3000 && s < 4000 {
			continue
		}
		all = append(all, s)
		if s%2 == 0 {
			odd = append(odd, s)
		}
	}
	require.Equal(t, all, scan(stream.Scan{}))
	require.Equal(t, all, scan(stream.Scan{Page: 7}))
	require.Equal(t, all[100:], scan(stream.Scan{From: 101}))
	require.Equal(t, all, scan(stream.Scan{Bare: true}))
	require.Equal(t, all, scan(stream.Scan{Bare: true, Page: 7}))
	require.Equal(t, all[100:], scan(stream.Scan{Bare: true, From: 101}))
	require.Equal(t, odd, scan(stream.Scan{Bare: true, Filter: "work.1"}))
	require.Equal(t, all, scan(stream.Scan{Bare: true, Ago: time.Hour}))
	require.Equal(t, odd, scan(stream.Scan{Filter: "work.1"}))
	require.Empty(t, scan(stream.Scan{From: n + 1}))
	require.Empty(t, scan(stream.Scan{Filter: "work.none"}))
	require.Equal(t, all, scan(stream.Scan{Since: time.Now().Add(-time.Hour)}))
	require.Empty(t, scan(stream.Scan{Since: time.Now().Add(time.Hour)}))
	require.Equal(t, all, scan(stream.Scan{Ago: time.Hour, Since: time.Now().Add(time.Hour)}), "the server's clock counts")
	for _, parts := range []int{2, 3, 8, 100} {
		got := scan(stream.Scan{Parts: parts})
		slices.Sort(got)
		require.Equal(t, all, got, "%d parts", parts)
		got = scan(stream.Scan{Parts: parts, Bare: true, Page: 100})
		slices.Sort(got)
		require.Equal(t, all, got, "%d bare parts", parts)
	}
	stop := errors.New("enough")
	calls := 0
	require.ErrorIs(t, c.Scan(t.Context(), "WORK", stream.Scan{Parts: 4}, func(*stream.Stored) error {
		if calls++; calls == 10 {
			return stop
		}
		return nil
	}), stop)
	require.Equal(t, 10, calls)
	require.Error(t, c.Scan(t.Context(), "NONE", stream.Scan{}, nil))
}

// cluster is three servers with a stream WORK of three replicas.
func cluster(t *testing.T) (*natstest.Cluster, *stream.Client) {
	t.Helper()
	cl := natstest.StartCluster(t, 3)
	nc, err := nats.Connect(cl.URL, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	cfg := quick()
	cfg.Replicas, cfg.PublishTimeout = 3, time.Second
	c, err := stream.New(nc, cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	queue(t, c, jetstream.WorkQueuePolicy)
	return cl, c
}

func TestABareScanOfAStreamThatChangesGivesWhatStays(t *testing.T) {
	t.Parallel()
	c := client(t, natstest.Start(t), quick())
	queue(t, c, jetstream.WorkQueuePolicy)
	p := c.NewPublisher("test", 0)
	const n = 2000
	put := func(from, to int) {
		for i := from; i < to; i++ {
			require.NoError(t, p.Publish(t.Context(), message("work.a", fmt.Sprint("id-", i), strconv.Itoa(i)), func(stream.Ack, error) {}))
		}
		require.NoError(t, p.Flush(t.Context()))
	}
	put(0, n)
	remove := func(s uint64) { require.NoError(t, c.DeleteMessage(t.Context(), "WORK", s)) }
	remove(7)
	seen := make(map[uint64]bool)
	bare, headers := 0, 0
	require.NoError(t, c.Scan(t.Context(), "WORK", stream.Scan{Bare: true, Page: 100}, func(m *stream.Stored) error {
		require.Equal(t, strconv.FormatUint(m.Sequence-1, 10), string(m.Data))
		require.False(t, seen[m.Sequence])
		seen[m.Sequence] = true
		if m.Subject == "" {
			bare++
		} else {
			headers++
		}
		if m.Sequence == 100 { // the last of its page, before the next one is asked for
			for s := uint64(501); s <= 550; s += 2 {
				remove(s)
			}
			remove(900)
			put(n, n+100)
		}
		return nil
	}))
	for s := uint64(1); s <= n; s++ {
		gone := s == 7 || s == 900 || s >= 501 && s <= 550 && s%2 == 1
		require.Equal(t, !gone, seen[s], s)
	}
	require.Positive(t, headers)
	require.Greater(t, bare, n/2)
}

func TestOnThreeReplicasALostLeaderLosesNothing(t *testing.T) {
	t.Parallel()
	cl, c := cluster(t)
	con := worker(t, c)
	const n = 2000
	got := make(chan string, 2*n)
	consume(t, con, func(m *stream.Msg) {
		got <- string(m.Data())
		_ = m.Ack()
	})
	p := c.NewPublisher("test", 128)
	failed := make(chan error, n)
	for i := range n {
		if i == n/2 {
			go stopLeader(t, cl, c)
		}
		require.NoError(t, p.Publish(t.Context(), message("work.a", fmt.Sprint("id-", i), strconv.Itoa(i)), func(_ stream.Ack, err error) {
			if err != nil {
				failed <- err
			}
		}))
	}
	require.NoError(t, p.Flush(t.Context()))
	require.Empty(t, failed)
	seen := make(map[string]int)
	for len(seen) < n {
		select {
		case body := <-got:
			seen[body]++
		case <-time.After(90 * time.Second): // messages on their way when the node went wait for the ack wait
			require.FailNow(t, "messages are missing", "%d of %d came", len(seen), n)
		}
	}
}

// stopLeader stops the server that leads WORK.
func stopLeader(t *testing.T, cl *natstest.Cluster, c *stream.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	s, err := c.JetStream().Stream(ctx, "WORK")
	if err != nil {
		t.Error(err)
		return
	}
	for _, node := range cl.Nodes {
		if running := node.Server(); running != nil && running.Name() == s.CachedInfo().Cluster.Leader {
			node.Stop()
			return
		}
	}
	t.Error("no node leads the stream")
}

func TestOnThreeReplicasEveryReadFindsWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	_, c := cluster(t)
	p := c.NewPublisher("test", 0)
	for i := range 200 {
		ack, err := p.PublishSync(t.Context(), message("work.a", fmt.Sprint("id-", i), strconv.Itoa(i)))
		require.NoError(t, err)
		// A replica that is behind must not hide it.
		got, err := c.Get(t.Context(), "WORK", ack.Sequence)
		require.NoError(t, err)
		require.Equal(t, strconv.Itoa(i), string(got.Data))
		count := 0
		if i%20 == 0 {
			require.NoError(t, c.Scan(t.Context(), "WORK", stream.Scan{Parts: 2}, func(*stream.Stored) error { count++; return nil }))
			require.Equal(t, i+1, count)
			require.NoError(t, c.Scan(t.Context(), "WORK", stream.Scan{Parts: 2, Bare: true}, func(*stream.Stored) error { count--; return nil }))
			require.Zero(t, count)
		}
	}
	for range 20 {
		latest, err := c.LastMatching(t.Context(), "WORK", "*.a")
		require.NoError(t, err)
		require.Equal(t, uint64(200), latest.Sequence)
		require.ErrorIs(t, second2(c.LastMatching(t.Context(), "WORK", "*.b")), stream.ErrNotFound)
	}
	all, err := c.GetAll(t.Context(), "WORK", []uint64{200, 1, 100, 4711})
	require.NoError(t, err)
	require.Equal(t, "199", string(all[0].Data))
	require.Equal(t, "0", string(all[1].Data))
	require.Equal(t, "99", string(all[2].Data))
	require.Nil(t, all[3])
}

func BenchmarkScan(b *testing.B) {
	const n = 200_000
	c := client(b, natstest.Start(b), stream.Default())
	queue(b, c, jetstream.WorkQueuePolicy)
	p := c.NewPublisher("fill", 0)
	body := make([]byte, 250)
	for i := range n {
		m := &nats.Msg{Subject: fmt.Sprintf("work.acc.wh.%d", i), Data: body, Header: nats.Header{"Postrider-Due": {"1700000000000"}, "Postrider-Kind": {"1"}}}
		require.NoError(b, p.Publish(b.Context(), m, func(stream.Ack, error) {}))
	}
	require.NoError(b, p.Flush(b.Context()))
	for _, parts := range []int{1, 2, 4} {
		for _, bare := range []bool{false, true} {
			b.Run(fmt.Sprintf("parts=%d/bare=%t", parts, bare), func(b *testing.B) {
				for b.Loop() {
					count := 0
					require.NoError(b, c.Scan(b.Context(), "WORK", stream.Scan{Parts: parts, Bare: bare}, func(*stream.Stored) error { count++; return nil }))
					require.Equal(b, n, count)
				}
				b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "msg/s")
			})
		}
	}
}
