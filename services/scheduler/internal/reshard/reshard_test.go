package reshard_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/pkg/stream/topology"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/services/scheduler/internal/reshard"
	"github.com/postrider/postrider/services/scheduler/internal/retryset"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	patience = 30 * time.Second
	before   = 4
	after    = 3
)

// world is the streams of a deployment whose number of shards is changed.
type world struct {
	client     *stream.Client
	topology   *topology.Topology
	deliveries *deliverystream.Streams
	retries    *retrystream.Streams
	index      retryset.Index
}

func newWorld(t *testing.T) *world {
	t.Helper()
	cfg := stream.Default()
	cfg.Shards = before
	w := &world{index: retryset.NewMemory()}
	var err error
	w.client, err = stream.New(natstest.Start(t).Connect(t), cfg)
	require.NoError(t, err)
	t.Cleanup(w.client.Close)
	w.topology, err = topology.Ensure(t.Context(), w.client)
	require.NoError(t, err)
	w.deliveries, err = deliverystream.Ensure(t.Context(), w.client, deliverystream.Default())
	require.NoError(t, err)
	w.retries, err = retrystream.Ensure(t.Context(), w.client, retrystream.Default())
	require.NoError(t, err)
	t.Cleanup(w.retries.Close)
	return w
}

func (w *world) put(t *testing.T, n int) retrystream.Record {
	t.Helper()
	r := &recordv1.Retry{
		Kind: recordv1.RetryKind_RETRY_KIND_WAITING, DueTime: timestamppb.New(time.Now().Add(time.Hour)),
		Delivery: &recordv1.Delivery{Id: fmt.Sprintf("dlv_%d", n), AccountId: "acc_1", WebhookId: fmt.Sprintf("wh_%d", n)},
	}
	if n%3 == 0 {
		r.Kind = recordv1.RetryKind_RETRY_KIND_HELD
	}
	type fate struct {
		at  retrystream.Place
		err error
	}
	fates := make(chan fate, 1)
	require.NoError(t, w.retries.Put(t.Context(), r, func(at retrystream.Place, err error) { fates <- fate{at, err} }))
	f := <-fates
	require.NoError(t, f.err)
	return retrystream.Record{Shard: f.at.Shard, Sequence: f.at.Sequence, Retry: r}
}

// dispatch puts what is moved on its home, as dispatchers do, on every shard until the test ends.
func (w *world) dispatch(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, before)
	for shard := range before {
		consumer, err := w.retries.Due(t.Context(), shard)
		require.NoError(t, err)
		go func() {
			ended <- consumer.Consume(ctx, func(m *stream.Msg) {
				r, _, err := retrystream.DecodeDue(m)
				if err != nil || !retrystream.Moved(m) {
					t.Errorf("a due message that was not moved: %v", err)
					return
				}
				if err := w.retries.Put(ctx, r, func(_ retrystream.Place, err error) {
					if err == nil {
						_ = m.Ack()
					}
				}); err != nil {
					t.Error(err)
				}
			})
		}()
	}
	t.Cleanup(func() {
		cancel()
		for range before {
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	})
}

// move runs a mover until the test ends.
func (w *world) move(t *testing.T) {
	t.Helper()
	m := reshard.New(reshard.Deps{
		Records: w.retries, Topology: w.topology, Index: w.index, Logger: logtest.New(t),
		Astray: func(ctx context.Context, shard int, l postrider.Layout) (uint64, error) {
			first, err1 := deliverystream.CountAstray(ctx, w.client, shard, l)
			due, err2 := retrystream.CountAstray(ctx, w.client, shard, l)
			return first + due, errors.Join(err1, err2)
		},
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
}

func TestEveryRecordIsMovedHomeOnceAndTheChangeIsFinishedAfterThat(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const n = 900
	was := make(map[string]retrystream.Record, n)
	for i := range n {
		rec := w.put(t, i)
		was[rec.Retry.GetDelivery().GetId()] = rec
		if rec.Retry.GetKind() != recordv1.RetryKind_RETRY_KIND_HELD {
			require.NoError(t, w.index.Add(t.Context(), retryset.Entry{
				Member: retryset.Member{Shard: rec.Shard, Sequence: rec.Sequence}, Due: rec.Retry.GetDueTime().AsTime(),
			}))
		}
	}
	layout, err := w.topology.Change(t.Context(), after)
	require.NoError(t, err)
	w.client.SetLayout(layout)
	for range 2 { // replicas
		w.move(t)
	}

	// Nobody hands on what is due, so the change is not finished.
	astray := 0
	for _, rec := range was {
		if layout.Home(postrider.WebhookID(rec.Retry.GetDelivery().GetWebhookId())) != rec.Shard {
			astray++
		}
	}
	require.Positive(t, astray)
	due := func() (sum uint64) {
		for shard := range before {
			n, err := retrystream.CountAstray(t.Context(), w.client, shard, layout)
			require.NoError(t, err)
			sum += n
		}
		return sum
	}
	require.Eventually(t, func() bool { return due() == uint64(astray) }, patience, 10*time.Millisecond)
	stands, err := topology.Inspect(t.Context(), w.client)
	require.NoError(t, err)
	require.Equal(t, layout, stands)

	w.dispatch(t)
	require.Eventually(t, func() bool {
		stands, err = topology.Inspect(t.Context(), w.client)
		return err == nil && stands.Before == 0
	}, patience, 10*time.Millisecond)
	require.Equal(t, postrider.Layout{Version: layout.Version + 1, Shards: after, Streams: before}, stands)
	found := make(map[string]bool, n)
	for shard := range before {
		require.NoError(t, retrystream.Walk(t.Context(), w.client, shard, func(s retrystream.Standing) error {
			d := s.Retry.GetDelivery()
			require.False(t, s.Due)
			require.False(t, found[d.GetId()], "one record for each delivery")
			found[d.GetId()] = true
			require.Equal(t, layout.Home(postrider.WebhookID(d.GetWebhookId())), shard)
			old := was[d.GetId()]
			require.True(t, proto.Equal(old.Retry, s.Retry))
			if old.Shard == shard {
				require.Equal(t, old.Sequence, s.Sequence, "what is at home is left alone")
			}
			return nil
		}))
	}
	require.Len(t, found, n)
}
