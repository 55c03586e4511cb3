package deliverystream_test

import (
	"context"
	"encoding/hex"
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

func open(t testing.TB, shards int, limits deliverystream.Config) *deliverystream.Streams {
	t.Helper()
	cfg := stream.Default()
	cfg.Shards = shards
	c, err := stream.New(natstest.Start(t).Connect(t), cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	s, err := deliverystream.Ensure(t.Context(), c, limits)
	require.NoError(t, err)
	return s
}

func TestADeliveryIsStoredOnceOnTheShardOfItsWebhook(t *testing.T) {
	t.Parallel()
	const shards, webhooks = 4, 20
	s := open(t, shards, deliverystream.Default())
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

func publish(t *testing.T, s *deliverystream.Streams, d *recordv1.Delivery) error {
	t.Helper()
	done := make(chan error, 1)
	require.NoError(t, s.Publish(t.Context(), d, func(err error) { done <- err }))
	return <-done
}

func TestScanSeesWhatIsNotAcknowledged(t *testing.T) {
	t.Parallel()
	s := open(t, 1, deliverystream.Default())
	for i := range 5 {
		require.NoError(t, publish(t, s, &recordv1.Delivery{Id: fmt.Sprintf("dlv_%d", i), AccountId: "acc_1", WebhookId: "wh_1"}))
	}
	consumer, err := s.Consumer(t.Context(), 0)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	acknowledged := 0
	require.NoError(t, consumer.Consume(ctx, func(m *stream.Msg) {
		if err := m.AckSync(ctx); err != nil {
			t.Error(err)
		}
		if acknowledged++; acknowledged == 2 {
			cancel()
		}
	}))
	var got []string
	require.NoError(t, s.Scan(t.Context(), 0, func(d *recordv1.Delivery) error {
		got = append(got, d.GetId())
		return nil
	}))
	require.Equal(t, []string{"dlv_2", "dlv_3", "dlv_4"}, got)
}

func TestAFullShardRefusesAndProvesThatNothingWasStored(t *testing.T) {
	t.Parallel()
	s := open(t, 1, deliverystream.Config{MaxBytes: 4096})
	var err error
	for i := 0; err == nil && i < 20; i++ {
		err = publish(t, s, &recordv1.Delivery{Id: fmt.Sprintf("dlv_%d", i), AccountId: "acc_1", WebhookId: "wh_1", Data: make([]byte, 500)})
	}
	require.ErrorIs(t, err, stream.ErrFull)
	require.True(t, stream.NotStored(err))
}

func TestIDsThatWouldChangeTheSubjectAreRefused(t *testing.T) {
	t.Parallel()
	s := open(t, 1, deliverystream.Default())
	for _, id := range []string{"", "a.b", "*", "wh_>", "a b", "ü"} {
		err := s.Publish(t.Context(), &recordv1.Delivery{Id: "dlv_1", AccountId: "acc_1", WebhookId: id}, nil)
		require.ErrorIs(t, err, stream.ErrRefused, "webhook %q", id)
	}
}

func TestTheEncodingOfADeliveryStays(t *testing.T) {
	t.Parallel()
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(&recordv1.Delivery{
		Id: "dlv_a", AccountId: "acc_b", WebhookId: "wh_c", EventId: "evt_d", EventSequence: 300, EventType: "t",
		DataByReference: true, Progress: &recordv1.Progress{Attempts: 2}, Data: []byte("x"),
	})
	require.NoError(t, err)
	require.Equal(t, "0a05646c765f6112056163635f621a0477685f6322056576745f6428ac02320174"+"880101"+"92010208"+"02"+"a2010178", hex.EncodeToString(data))
}

func BenchmarkPublish(b *testing.B) {
	s := open(b, 1, deliverystream.Default())
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
