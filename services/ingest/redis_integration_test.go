//go:build integration

package ingest_test

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/redisconn"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/ingest"
	"github.com/postrider/postrider/services/ingest/internal/admission"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/redistest"
)

func redisDedup(t testing.TB, server *redistest.Server) ingest.Dedup {
	t.Helper()
	cfg := redisconn.Default()
	cfg.URL = server.URL
	client, err := redisconn.Open(cfg, logtest.New(t))
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return ingest.NewRedisDedup(client)
}

// patient gives Redis more time than a loaded machine takes from it.
func patient(c *ingest.Config) { c.DedupTimeout = 5 * time.Second }

func (b *bench) replicas(t *testing.T, n int, server *redistest.Server, change ...func(*ingest.Config)) []*ingestOf {
	t.Helper()
	all := make([]*ingestOf, n)
	for i := range all {
		all[i] = b.start(t, redisDedup(t, server), change...)
	}
	return all
}

// publishUntil publishes fresh keys until a receipt speaks of the window.
func (b *bench) publishUntil(t *testing.T, in *ingestOf, want postriderv1.DedupWindow) {
	t.Helper()
	n := 0
	require.Eventually(t, func() bool {
		n++
		return b.publish(t, in, "until-"+want.String()+strconv.Itoa(n), "1").GetDedupWindow() == want
	}, soon, 10*time.Millisecond)
}

func TestFiftyAtOnceOverThreeIngestsThatShareARedis(t *testing.T) {
	t.Parallel()
	b, server := setup(t), redistest.Start(t)
	fifty(t, b, b.replicas(t, 3, server, patient))
}

func TestRedisMayGoAndComeBackWhileEventsArePublished(t *testing.T) {
	t.Parallel()
	b, server := setup(t), redistest.Start(t)
	replicas := b.replicas(t, 2, server, patient)
	in := replicas[0]
	b.publishUntil(t, in, postriderv1.DedupWindow_DEDUP_WINDOW_FULL)
	first := b.publish(t, in, "before", "1")

	server.Down(t)
	b.publishUntil(t, in, postriderv1.DedupWindow_DEDUP_WINDOW_DEGRADED)
	during := b.publish(t, in, "during", "1")
	again := b.publish(t, in, "during", "1")
	require.True(t, again.GetDuplicate(), "EVENTS itself remembers it")
	require.Equal(t, during.GetEventId(), again.GetEventId())
	b.refused(t, in, "during", "2", fault.AlreadyExists, admission.ReasonConflict)
	fifty(t, b, replicas)

	server.Up(t) // empty
	for _, in := range replicas {
		for key, receipt := range map[string]*postriderv1.Receipt{"before": first, "during": during} {
			// A replica looks at each part of the window anew, so a key's answer may be degraded when
			// another's is not; it is the same answer all the while.
			require.Eventually(t, func() bool {
				again := b.publish(t, in, key, "1")
				require.True(t, again.GetDuplicate())
				require.Equal(t, receipt.GetEventId(), again.GetEventId())
				return again.GetDedupWindow() == postriderv1.DedupWindow_DEDUP_WINDOW_FULL
			}, soon, tick)
		}
	}
}

func TestAFlushOfRedisUnderLoadStoresNothingTwice(t *testing.T) {
	t.Parallel()
	b, server := setup(t), redistest.Start(t)
	replicas := b.replicas(t, 3, server, patient)
	b.publishUntil(t, replicas[0], postriderv1.DedupWindow_DEDUP_WINDOW_FULL)
	before := b.stored(t)

	const keys = 200
	var ids [keys]atomic.Pointer[string]
	var load sync.WaitGroup
	for n := range 6 {
		load.Go(func() { // each key is published by six producers
			for i := range keys {
				res, err := replicas[n%3].events.PublishEvent(as(t.Context(), b.key), requestOf("load-"+strconv.Itoa(i), "1"))
				if err != nil {
					t.Error(err)
					continue
				}
				id := res.GetReceipt().GetEventId()
				if !ids[i].CompareAndSwap(nil, &id) && *ids[i].Load() != id {
					t.Errorf("key %d has two events", i)
				}
				if n == 0 && i%50 == 25 {
					server.Flush(t)
				}
			}
		})
	}
	load.Wait()
	require.Equal(t, before+keys, b.stored(t))
}

func TestARedisThatHangsDelaysNobodyForLong(t *testing.T) {
	t.Parallel()
	b, server := setup(t), redistest.Start(t)
	in := b.replicas(t, 1, server)[0] // with the timeout of production
	b.publishUntil(t, in, postriderv1.DedupWindow_DEDUP_WINDOW_FULL)
	server.Hang(t)
	receipts := make([]*postriderv1.Receipt, 100)
	for i := range receipts {
		receipts[i] = b.publish(t, in, "hang-"+strconv.Itoa(i), "1")
	}
	require.Equal(t, postriderv1.DedupWindow_DEDUP_WINDOW_DEGRADED, receipts[99].GetDedupWindow())
	server.Continue(t)
	b.publishUntil(t, in, postriderv1.DedupWindow_DEDUP_WINDOW_FULL)
	for i, r := range receipts[1:] {
		require.Equal(t, r.GetEventId(), b.publish(t, in, "hang-"+strconv.Itoa(i+1), "1").GetEventId())
	}
}

func BenchmarkIngestWithRedis(b *testing.B) {
	bench, server := setup(b), redistest.Start(b)
	benchmark(b, bench, bench.start(b, redisDedup(b, server), patient))
}

// Keys in Redis outlive a segment that is made anew. They vouch for nothing that it held, and those of
// the other segment's accounts stand.
func TestASegmentThatIsMadeAnewTakesNoKeysOfAnother(t *testing.T) {
	t.Parallel()
	b, server := setup(t, inTwo), redistest.Start(t)
	accounts := apart(t, b)
	in := b.start(t, redisDedup(t, server), patient)
	b.publishUntil(t, in, postriderv1.DedupWindow_DEDUP_WINDOW_FULL)
	for _, of := range accounts {
		of.publish(t, in, "k", "1")
		require.True(t, of.publish(t, in, "k", "1").GetDuplicate())
	}
	require.NoError(t, b.client(t).JetStream().DeleteStream(t.Context(), "EVENTS_1"))
	again := b.start(t, redisDedup(t, server), patient)
	require.True(t, accounts[0].publish(t, again, "k", "1").GetDuplicate())
	require.False(t, accounts[1].publish(t, again, "k", "1").GetDuplicate(), "the event is gone, and stored again")
	require.True(t, accounts[1].publish(t, again, "k", "1").GetDuplicate())
}
