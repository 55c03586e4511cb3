package retrystream_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/test/fixture/natstest"
)

// What this file pins is the server's doing (ADR-51): a later nats-server that does otherwise must
// fail here and not in production.

func connect(t testing.TB, server *natstest.Server, change func(*stream.Config)) *stream.Client {
	t.Helper()
	cfg := stream.Default()
	cfg.PublishBudget = 60 * time.Second // a loaded machine is slow and loses nothing
	if change != nil {
		change(&cfg)
	}
	c, err := stream.New(server.Connect(t), cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func ensure(t testing.TB, c *stream.Client, cfg retrystream.Config) *retrystream.Streams {
	t.Helper()
	s, err := retrystream.Ensure(t.Context(), c, cfg)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

func TestTheHeadersOfARecordAndOfWhatItBecomes(t *testing.T) {
	t.Parallel()
	c := connect(t, natstest.Start(t), nil)
	s := ensure(t, c, retrystream.Config{Grace: 100 * time.Millisecond})
	at := time.UnixMilli(time.Now().UnixMilli() + 300)
	sequence, err := put(t, s, retryOf("dlv_1", 1, at))
	require.NoError(t, err)
	record, err := c.Get(t.Context(), "RETRIES_0", sequence)
	require.NoError(t, err)
	require.Equal(t, "retries.0.acc_1.wh_1.dlv_1", record.Subject)
	require.Equal(t, "@at "+at.Add(100*time.Millisecond).UTC().Format(time.RFC3339Nano), record.Header.Get("Nats-Schedule"))
	require.Equal(t, "due.0.acc_1.wh_1", record.Header.Get("Nats-Schedule-Target"))
	require.Equal(t, strconv.FormatInt(at.UnixMilli(), 10), record.Header.Get("Postrider-Due"))
	require.Equal(t, "1", record.Header.Get("Postrider-Kind"))

	// What the server makes of it carries neither a schedule nor a time to live, so it waits for a
	// dispatcher as long as it must; and it names the record that it took the place of.
	var fired *stream.Stored
	require.Eventually(t, func() bool {
		fired, err = c.Next(t.Context(), "RETRIES_0", "due.>", 1)
		return err == nil
	}, patience, 10*time.Millisecond)
	require.Equal(t, "due.0.acc_1.wh_1", fired.Subject)
	require.Equal(t, record.Data, fired.Data)
	require.Equal(t, "retries.0.acc_1.wh_1.dlv_1", fired.Header.Get("Nats-Scheduler"))
	require.Equal(t, "purge", fired.Header.Get("Nats-Schedule-Next"))
	for name := range fired.Header {
		require.NotContains(t, []string{"Nats-TTL", "Nats-Schedule", "Nats-Schedule-Target", "Nats-Rollup", "Postrider-Released"}, name)
		require.False(t, strings.HasPrefix(name, "Nats-Expected-"), name)
	}
	_, err = c.Get(t.Context(), "RETRIES_0", sequence)
	require.ErrorIs(t, err, stream.ErrNotFound)
}

func TestAHeldRecordIsAScheduleFarAhead(t *testing.T) {
	t.Parallel()
	c := connect(t, natstest.Start(t), nil)
	s := ensure(t, c, retrystream.Default())
	r := retryOf("dlv_1", 0, time.Now())
	r.Kind = recordv1.RetryKind_RETRY_KIND_HELD
	sequence, err := put(t, s, r)
	require.NoError(t, err)
	record, err := c.Get(t.Context(), "RETRIES_0", sequence)
	require.NoError(t, err)
	at, err := time.Parse(time.RFC3339Nano, strings.TrimPrefix(record.Header.Get("Nats-Schedule"), "@at "))
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(retrystream.HoldFor), at, time.Minute)
}

func TestWhatIsReplacedOrPurgedDoesNotFire(t *testing.T) {
	t.Parallel()
	c := connect(t, natstest.Start(t), nil)
	s := ensure(t, c, retrystream.Config{Grace: time.Millisecond})
	out := dues(t, s)
	soon := time.Now().Add(5 * time.Second) // after what follows, on a slow machine too
	var last uint64
	for i := range 60 {
		r := retryOf(fmt.Sprintf("dlv_%d", i), 1, soon)
		r.Delivery.WebhookId = fmt.Sprintf("wh_%d", i%3)
		sequence, err := put(t, s, r)
		require.NoError(t, err)
		last = sequence
		switch i % 3 {
		case 1: // postponed
			later := retryOf(fmt.Sprintf("dlv_%d", i), 1, later())
			later.Delivery.WebhookId = "wh_1"
			last, err = s.Replace(t.Context(), retrystream.Record{Sequence: sequence, Retry: r}, later)
			require.NoError(t, err)
		case 2:
			if i < 30 {
				require.NoError(t, s.Remove(t.Context(), retrystream.Record{Sequence: sequence, Retry: r}))
			}
		}
	}
	removed, err := s.RemoveWebhook(t.Context(), "acc_1", "wh_2", retrystream.Place{Sequence: last})
	require.NoError(t, err)
	require.EqualValues(t, 10, removed)
	require.Less(t, time.Now(), soon, "nothing fired before it was replaced or removed")
	for range 20 {
		got := next(t, out)
		require.Equal(t, "wh_0", got.retry.GetDelivery().GetWebhookId())
	}
	require.Eventually(t, func() bool {
		n, err := s.Count(t.Context(), 0)
		return err == nil && n == 20
	}, patience, 10*time.Millisecond, "what was postponed waits")
	require.Empty(t, out)
}

func TestARestartInTheMiddleOfPutsAndReleasesLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	c := connect(t, server, func(cfg *stream.Config) {
		cfg.PublishTimeout, cfg.PublishBudget, cfg.PublishWindow = 5*time.Second, 60*time.Second, 64
	})
	s := ensure(t, c, retrystream.Default())
	const n = 2000
	halfway := func(i int, wg *sync.WaitGroup) {
		if i == n/2 {
			wg.Go(func() { server.Restart(t) })
		}
	}

	// A put whose acknowledgement got lost is repeated, refused because it is there, and found to
	// be its own.
	var restarts sync.WaitGroup
	fates := make(chan fate, n)
	for i := range n {
		halfway(i, &restarts)
		require.NoError(t, s.Put(t.Context(), retryOf(fmt.Sprintf("dlv_%d", i), 1, later()), func(at retrystream.Place, err error) { fates <- fate{at.Sequence, err} }))
	}
	for range n {
		require.NoError(t, (<-fates).err)
	}
	restarts.Wait()
	var records []retrystream.Record
	seen := map[string]bool{}
	require.NoError(t, s.ScanWebhook(t.Context(), "acc_1", "wh_1", retrystream.Place{}, func(r retrystream.Record) error {
		require.False(t, seen[r.Retry.GetDelivery().GetId()])
		seen[r.Retry.GetDelivery().GetId()] = true
		records = append(records, r)
		return nil
	}))
	require.Len(t, records, n)

	gone := 0
	released := make(chan error, n)
	for i, r := range records {
		halfway(i, &restarts)
		require.NoError(t, s.Release(t.Context(), r, func(err error) { released <- err }))
	}
	for range n {
		if err := <-released; err != nil {
			require.ErrorIs(t, err, retrystream.ErrGone, "its own release's acknowledgement was lost")
			gone++
		}
	}
	restarts.Wait()
	require.LessOrEqual(t, gone, 64, "at most the window")
	ids := map[string]int{}
	require.NoError(t, c.Scan(t.Context(), "RETRIES_0", stream.Scan{}, func(m *stream.Stored) error {
		if m.Subject == "anchors.0" {
			return nil
		}
		require.Equal(t, "due.0.acc_1.wh_1", m.Subject)
		ids[m.Header.Get("Nats-Scheduler")]++
		return nil
	}))
	require.Len(t, ids, n)
	for id, times := range ids {
		require.Equal(t, 1, times, id)
	}
}

func TestTheIndexIsScannedWhileRecordsComeAndGo(t *testing.T) {
	t.Parallel()
	c := connect(t, natstest.Start(t), nil)
	s := ensure(t, c, retrystream.Default())
	out := dues(t, s)
	const stay, leave = 3000, 3000
	fates := make(chan fate, stay+leave)
	leaving := make(map[uint64]*recordv1.Retry)
	var mu sync.Mutex
	for i := range stay + leave {
		name := "dlv_stays_%d"
		if i%2 == 0 {
			name = "dlv_goes_%d"
		}
		r := retryOf(fmt.Sprintf(name, i), 1, later())
		require.NoError(t, s.Put(t.Context(), r, func(at retrystream.Place, err error) {
			if strings.Contains(r.GetDelivery().GetId(), "goes") {
				mu.Lock()
				leaving[at.Sequence] = r
				mu.Unlock()
			}
			fates <- fate{at.Sequence, err}
		}))
	}
	for range stay + leave {
		require.NoError(t, (<-fates).err)
	}
	var releases sync.WaitGroup
	releases.Go(func() {
		for sequence, r := range leaving {
			if err := s.Release(t.Context(), retrystream.Record{Sequence: sequence, Retry: r}, func(err error) {
				if err != nil {
					t.Error(err)
				}
			}); err != nil {
				t.Error(err)
			}
		}
	})
	for range 5 {
		var scans sync.WaitGroup
		for _, scan := range []func(context.Context, int, func(retrystream.Entry) error) error{s.ScanIndex, s.ScanToFill} {
			scans.Go(func() {
				stays := make(map[postrider.DeliveryID]int)
				err := scan(t.Context(), 0, func(e retrystream.Entry) error {
					if strings.Contains(string(e.Delivery), "stays") {
						stays[e.Delivery]++
					}
					return nil
				})
				if err != nil || len(stays) != stay {
					t.Errorf("%d of %d records: %v", len(stays), stay, err)
				}
			})
		}
		scans.Wait()
	}
	releases.Wait()
	for range leave {
		require.Contains(t, next(t, out).retry.GetDelivery().GetId(), "goes")
	}
	n, err := s.Count(t.Context(), 0)
	require.NoError(t, err)
	require.EqualValues(t, stay, n, "a scan acknowledges nothing")
}

func TestOnThreeReplicasRecordsFireAndAreReleasedOnce(t *testing.T) {
	t.Parallel()
	cluster := natstest.StartCluster(t, 3)
	nc, err := nats.Connect(cluster.URL, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	cfg := stream.Default()
	cfg.Replicas, cfg.PublishBudget = 3, 60*time.Second
	c, err := stream.New(nc, cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	s := ensure(t, c, retrystream.Config{Grace: time.Second})
	out := dues(t, s)

	const n = 200
	for i := range n {
		due := later()
		if i%2 == 0 {
			due = time.Now().Add(2 * time.Second) // fires by itself
		}
		r := retryOf(fmt.Sprintf("dlv_%d", i), 1, due)
		sequence, err := put(t, s, r)
		require.NoError(t, err)
		if i%2 == 1 {
			_, err = put(t, s, r)
			require.ErrorIs(t, err, retrystream.ErrSuperseded)
			record := retrystream.Record{Sequence: sequence, Retry: r}
			require.NoError(t, release(t, s, record))
			require.ErrorIs(t, release(t, s, record), retrystream.ErrGone)
		}
	}
	fired := 0
	seen := make(map[string]bool)
	for range n {
		d := next(t, out)
		require.False(t, seen[d.retry.GetDelivery().GetId()], "it came twice")
		seen[d.retry.GetDelivery().GetId()] = true
		if d.fired {
			fired++
		}
	}
	require.Equal(t, n/2, fired)
	require.Eventually(t, func() bool {
		count, err := s.Count(context.WithoutCancel(t.Context()), 0)
		return err == nil && count == 0
	}, patience, 20*time.Millisecond)
}

func BenchmarkScanIndex(b *testing.B) {
	const n = 100_000
	c := connect(b, natstest.Start(b), nil)
	s := ensure(b, c, retrystream.Config{Grace: time.Minute})
	fates := make(chan error, n)
	for i := range n {
		r := retryOf(string(postrider.DeliveryIDFor("evt", postrider.WebhookID(strconv.Itoa(i)), "")), 1, later())
		require.NoError(b, s.Put(b.Context(), r, func(_ retrystream.Place, err error) { fates <- err }))
	}
	for range n {
		require.NoError(b, <-fates)
	}
	for b.Loop() {
		count := 0
		require.NoError(b, s.ScanIndex(b.Context(), 0, func(retrystream.Entry) error { count++; return nil }))
		require.Equal(b, n, count)
	}
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "records/s")
}
