//go:build chaos

package chaos

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	ids "github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/test/cluster"
)

// TestRecordsOutliveTheirServers kills one of three NATS servers after the other while records are
// put, released, taken and put again as fast as they can be, with as many attempts as before, as those
// of a receiver that is over its limits are. Of each record that was put one due message must come. A
// server that was killed may bring back records that were released: they must not pass for what was
// put after them.
func TestRecordsOutliveTheirServers(t *testing.T) {
	d := roll(t)
	c := startNodes(t)
	for _, service := range []string{"ingest", "router", "dispatcher", "scheduler", "api"} {
		for _, p := range c.Of(service) {
			stop(t, p)(t.Context())
		}
	}
	const deliveries, kills = 600, 12
	r := openRecords(t, c)
	working, end := context.WithCancel(t.Context())
	var workers sync.WaitGroup
	for n := range deliveries {
		workers.Go(func() { r.cycle(working, t, n) })
	}
	s := watchStreams(t, c)
	for n := range kills {
		p := c.Of("nats")[d.IntN(3)]
		if n%2 == 1 {
			p = c.Process(s.leader(t.Context(), t, "RETRIES_"+strconv.Itoa(d.IntN(shards))))
		}
		before := r.released.Load()
		require.True(t, awaited(t.Context(), time.Minute, 10*time.Millisecond, func() bool { return r.released.Load() > before+deliveries }), "nothing is released")
		t.Logf("kill -9 of %s, after %d releases", p.Name, r.released.Load())
		p.Kill()
		pause(t.Context(), d.between(0, 3*time.Second))
		start(t, p)(t.Context())
	}
	end()
	workers.Wait()
	t.Logf("%d records put and released, %d of which had been told that one stood already; %d due messages did not come",
		r.released.Load(), r.superseded.Load(), r.lost.Load())
}

// records puts and releases records, and takes what is due.
type records struct {
	client     *stream.Client
	js         jetstream.JetStream
	streams    *retrystream.Streams
	released   atomic.Int64
	superseded atomic.Int64
	lost       atomic.Int64

	mu    sync.Mutex
	taken map[string]chan uint64 // the sequence of the due message, by the record's reason
}

func openRecords(t *testing.T, c *cluster.Cluster) *records {
	t.Helper()
	nc, err := nats.Connect(c.NATSURL, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	cfg := stream.Default()
	cfg.Shards, cfg.Replicas, cfg.PublishBudget = shards, 3, time.Minute
	client, err := stream.New(nc, cfg)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	r := &records{client: client, js: js, taken: map[string]chan uint64{}}
	r.streams, err = retrystream.Ensure(t.Context(), client, retrystream.Default())
	require.NoError(t, err)
	t.Cleanup(r.streams.Close)
	taking, end := context.WithCancel(context.WithoutCancel(t.Context()))
	var takers sync.WaitGroup
	for shard := range shards {
		due, err := r.streams.Due(t.Context(), shard)
		require.NoError(t, err)
		takers.Go(func() {
			if err := due.Consume(taking, func(m *stream.Msg) { r.take(t, m) }); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() {
		end()
		takers.Wait()
	})
	return r
}

func (r *records) take(t *testing.T, m *stream.Msg) {
	t.Helper()
	retry, _, err := retrystream.DecodeDue(m)
	if err != nil {
		t.Error(err)
	}
	select {
	case r.due(retry.GetReason()) <- m.Sequence():
	default: // it came again
	}
	_ = m.Ack() // what is not acknowledged comes again
}

func (r *records) due(reason string) chan uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken[reason] == nil {
		r.taken[reason] = make(chan uint64, 1)
	}
	return r.taken[reason]
}

// cycle works on one delivery until ctx ends and what it put last has come.
func (r *records) cycle(ctx context.Context, t *testing.T, n int) {
	t.Helper()
	d := &recordv1.Delivery{Id: fmt.Sprintf("dlv_%d", n), AccountId: "acc_1", WebhookId: fmt.Sprintf("wh_%d", n%40), EventId: "evt_1"}
	whole := context.WithoutCancel(ctx) // a cycle that has begun comes to its end
	follows := uint64(0)
	for turn := 0; ctx.Err() == nil; turn++ {
		retry := &recordv1.Retry{
			Delivery: d, Kind: recordv1.RetryKind_RETRY_KIND_PARKED, Reason: fmt.Sprintf("%d-%d", n, turn), Follows: follows,
			DueTime: timestamppb.New(time.Now().Add(time.Hour)),
		}
		record := r.put(whole, t, retry)
		answers := r.release(whole, t, record)
		select {
		case follows = <-r.due(retry.GetReason()):
			r.released.Add(1)
		case <-time.After(2 * time.Minute):
			r.lost.Add(1)
			t.Errorf("the record %s of %s was stored as %d, after %d, and never became due; its release was answered by %v; it is %s",
				retry.GetReason(), d.GetId(), record.Sequence, follows, answers, r.where(whole, record))
			return
		}
		r.mu.Lock()
		delete(r.taken, retry.GetReason())
		r.mu.Unlock()
	}
}

// put stores a record, as often as it takes, as a dispatcher does.
func (r *records) put(ctx context.Context, t *testing.T, retry *recordv1.Retry) retrystream.Record {
	t.Helper()
	for {
		type fate struct {
			sequence uint64
			err      error
		}
		fates := make(chan fate, 1)
		err := r.streams.Put(ctx, retry, func(at retrystream.Place, err error) { fates <- fate{at.Sequence, err} })
		f := fate{err: err}
		if err == nil {
			f = <-fates
		}
		shard := ids.ShardOf(ids.WebhookID(retry.GetDelivery().GetWebhookId()), shards)
		if stands, ok := errors.AsType[*retrystream.SupersededError](f.err); ok {
			r.superseded.Add(1)
			return stands.Standing
		}
		if f.err == nil {
			return retrystream.Record{Shard: shard, Sequence: f.sequence, Retry: retry}
		}
		pause(ctx, 50*time.Millisecond)
	}
}

// release releases a record, as often as it takes, as a scheduler does, and returns what each try came to.
func (r *records) release(ctx context.Context, t *testing.T, record retrystream.Record) (answers []string) {
	t.Helper()
	for {
		fates := make(chan error, 1)
		err := r.streams.Release(ctx, record, func(err error) { fates <- err })
		if err == nil {
			err = <-fates
		}
		answers = append(answers, fmt.Sprintf("%s: %v", time.Now().Format("15:04:05.000"), err))
		if err == nil || errors.Is(err, retrystream.ErrGone) {
			return answers
		}
		pause(ctx, 50*time.Millisecond)
	}
}

// where says what its stream has of a record, and how far the stream's consumer is.
func (r *records) where(ctx context.Context, record retrystream.Record) string {
	name := "RETRIES_" + strconv.Itoa(record.Shard)
	found := "in no message of " + name
	err := r.client.Scan(ctx, name, stream.Scan{}, func(m *stream.Stored) error {
		retry := &recordv1.Retry{}
		if proto.Unmarshal(m.Data, retry) == nil && retry.GetReason() == record.Retry.GetReason() {
			found = fmt.Sprintf("in message %d on %s", m.Sequence, m.Subject)
		}
		return nil
	})
	con, err2 := r.js.Consumer(ctx, name, "dispatcher")
	if err := errors.Join(err, err2); err != nil {
		return found + " (" + err.Error() + ")"
	}
	info := con.CachedInfo()
	return fmt.Sprintf("%s, whose consumer has delivered up to %d and was acknowledged up to %d", found, info.Delivered.Stream, info.AckFloor.Stream)
}
