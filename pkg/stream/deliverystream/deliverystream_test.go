package deliverystream_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, shards int) *deliverystream.Streams {
	t.Helper()
	cfg := stream.Default()
	cfg.Shards = shards
	c, err := stream.New(natstest.Start(t).Connect(t), cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	s, err := deliverystream.Ensure(t.Context(), c)
	require.NoError(t, err)
	return s
}

func TestADeliveryIsStoredOnceOnTheShardOfItsWebhook(t *testing.T) {
	t.Parallel()
	const shards, webhooks = 4, 20
	s := open(t, shards)
	done := make(chan error, 2*webhooks)
	want := map[string]*recordv1.Delivery{}
	for i := range webhooks {
		d := &recordv1.Delivery{Id: fmt.Sprintf("dlv_%d", i), AccountId: "acc_1", WebhookId: fmt.Sprintf("wh_%d", i), Data: []byte("data")}
		want[d.GetId()] = d
		for range 2 { // routed twice
			require.NoError(t, s.Publish(t.Context(), d, func(err error) { done <- err }))
		}
	}
	for range 2 * webhooks {
		require.NoError(t, <-done)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	type placed struct {
		shard int
		d     *recordv1.Delivery
	}
	got := make(chan placed, 2*webhooks)
	ended := make(chan error, shards)
	for shard := range shards {
		consumer, err := s.Consumer(ctx, shard)
		require.NoError(t, err)
		go func() {
			ended <- consumer.Consume(ctx, func(m *stream.Msg) {
				d, err := deliverystream.Decode(m)
				if err == nil {
					err = m.Ack()
				}
				if err != nil {
					t.Error(err)
				}
				got <- placed{shard, d}
			})
		}()
	}
	for range webhooks {
		p := <-got
		require.Equal(t, postrider.ShardOf(postrider.WebhookID(p.d.GetWebhookId()), shards), p.shard)
		require.True(t, proto.Equal(want[p.d.GetId()], p.d))
		delete(want, p.d.GetId())
	}
	require.Empty(t, want)
	cancel()
	for range shards {
		require.NoError(t, <-ended)
	}
	require.Empty(t, got, "nothing came twice")
}

func BenchmarkPublish(b *testing.B) {
	s := open(b, 1)
	d := &recordv1.Delivery{AccountId: "acc_01J0000000000000000000000", WebhookId: "wh_01J0000000000000000000000", Data: make([]byte, 1024)}
	done := make(chan error, 1<<16)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		d.Id = fmt.Sprintf("dlv_%d", n)
		require.NoError(b, s.Publish(b.Context(), d, func(err error) { done <- err }))
		if n%1000 == 0 {
			for range 1000 {
				require.NoError(b, <-done)
			}
		}
	}
}
