package deliverystream_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, shards int, limits deliverystream.Config) *deliverystream.Streams {
	t.Helper()
	_, s := openWithClient(t, shards, limits)
	return s
}

func openWithClient(t testing.TB, shards int, limits deliverystream.Config) (*stream.Client, *deliverystream.Streams) {
	t.Helper()
	cfg := stream.Default()
	cfg.Shards = shards
	c, err := stream.New(natstest.Start(t).Connect(t), cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	s, err := deliverystream.Ensure(t.Context(), c, limits)
	require.NoError(t, err)
	return c, s
}

func TestADeliveryIsStoredOnTheShardOfItsWebhook(t *testing.T) {
	t.Parallel()
	const shards, webhooks, events = 4, 20, 50
	s := open(t, shards, deliverystream.Default())
	done := make(chan error, webhooks*events)
	want := map[string]*recordv1.Delivery{}
	for i := range events {
		ev := &recordv1.Event{
			Id: fmt.Sprintf("evt_%d", i), AccountId: fmt.Sprintf("acc_%d", i%3), Type: "a.b", Data: fmt.Appendf(nil, "data of %d", i),
			AcceptTime: timestamppb.New(time.Unix(int64(i), 0)), Extensions: map[string]string{"n": strconv.Itoa(i)},
		}
		for k := range webhooks {
			d := deliverystream.Of(ev, uint64(i+1), postrider.WebhookID(fmt.Sprintf("wh_%d", k)), "")
			d.RouteTime, d.Data = timestamppb.New(time.Unix(100, 0)), ev.GetData()
			want[d.GetId()] = proto.CloneOf(d)
			require.NoError(t, s.Publish(t.Context(), d, func(err error) { done <- err }))
		}
	}
	for range webhooks * events {
		require.NoError(t, <-done)
	}
	messages := 0
	for shard := range shards {
		for _, m := range consume(t, s, shard) {
			require.LessOrEqual(t, len(m), 64)
			messages++
			for _, d := range m {
				require.Equal(t, shard, postrider.ShardOf(postrider.WebhookID(d.GetWebhookId()), shards))
				require.Equal(t, m[0].GetAccountId(), d.GetAccountId(), "a message is of one account")
				require.True(t, proto.Equal(want[d.GetId()], d), "%s", d)
				delete(want, d.GetId())
			}
		}
	}
	require.Empty(t, want)
	require.Less(t, messages, webhooks*events/2, "most go together")
}

// consume takes and acknowledges every message that a shard holds.
func consume(t *testing.T, s *deliverystream.Streams, shard int) (messages [][]*recordv1.Delivery) {
	t.Helper()
	consumer, err := s.Consumer(t.Context(), shard)
	require.NoError(t, err)
	last, err := s.Last(t.Context(), shard)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if last == 0 {
		return nil
	}
	require.NoError(t, consumer.Consume(ctx, func(m *stream.Msg) {
		all, err := deliverystream.Decode(m)
		if err == nil {
			err = m.Ack()
		}
		if err != nil {
			t.Error(err)
		}
		messages = append(messages, all)
		if m.Sequence() == last {
			cancel()
		}
	}))
	return messages
}

func TestOneThatComesAloneIsStoredOnce(t *testing.T) {
	t.Parallel()
	s := open(t, 1, deliverystream.Default())
	d := &recordv1.Delivery{Id: "dlv_1", AccountId: "acc_1", WebhookId: "wh_1", EventId: "evt_1"}
	require.NoError(t, publish(t, s, d))
	require.NoError(t, publish(t, s, d))
	require.Len(t, consume(t, s, 0), 1)
	for range 2 {
		done := make(chan error, 1)
		require.NoError(t, s.Again(t.Context(), d, func(err error) { done <- err }))
		require.NoError(t, <-done)
	}
	require.Len(t, consume(t, s, 0), 2, "asked for again, it is stored again")
}

func TestAPayloadIsStoredOnceForTheWebhooksOfAShard(t *testing.T) {
	t.Parallel()
	c, s := openWithClient(t, 1, deliverystream.Default())
	const webhooks = 50
	ev := &recordv1.Event{Id: "evt_1", AccountId: "acc_1", Type: "a.b", Data: make([]byte, 4096), AcceptTime: timestamppb.Now()}
	done := make(chan error, webhooks)
	for i := range webhooks {
		d := deliverystream.Of(ev, 1, postrider.WebhookID(fmt.Sprintf("wh_%d", i)), "")
		d.Data = ev.GetData()
		require.NoError(t, s.Publish(t.Context(), d, func(err error) { done <- err }))
	}
	for range webhooks {
		require.NoError(t, <-done)
	}
	held, err := c.JetStream().Stream(t.Context(), deliverystream.Name(0))
	require.NoError(t, err)
	require.Less(t, held.CachedInfo().State.Bytes, uint64(webhooks/2*4096))
}

func TestNoMessageIsTooLarge(t *testing.T) {
	t.Parallel()
	s := open(t, 1, deliverystream.Default())
	const n = 100
	done := make(chan error, n)
	for i := range n { // each of an event of its own, so that nothing is shared
		d := &recordv1.Delivery{Id: fmt.Sprintf("dlv_%d", i), EventId: fmt.Sprintf("evt_%d", i), AccountId: "acc_1", WebhookId: "wh_1", Data: make([]byte, 1<<(i%17))}
		require.NoError(t, s.Publish(t.Context(), d, func(err error) { done <- err }))
	}
	for range n {
		require.NoError(t, <-done)
	}
	var got int
	for _, m := range consume(t, s, 0) {
		size := 0
		for _, d := range m {
			size += len(d.GetData())
		}
		require.True(t, len(m) == 1 || size < 64<<10, "%d deliveries of %d bytes", len(m), size)
		got += len(m)
	}
	require.Equal(t, n, got)
}

func TestDeliveriesAreCountedByAccount(t *testing.T) {
	t.Parallel()
	c, s := openWithClient(t, 1, deliverystream.Default())
	want := map[postrider.AccountID]int64{"acc_0": 150, "acc_1": 100, "acc_2": 50}
	done := make(chan error, 300)
	for account, n := range want {
		for i := range n {
			d := &recordv1.Delivery{Id: fmt.Sprintf("dlv_%s_%d", account, i), EventId: "evt", AccountId: string(account), WebhookId: "wh_1"}
			require.NoError(t, s.Publish(t.Context(), d, func(err error) { done <- err }))
		}
	}
	for range 300 {
		require.NoError(t, <-done)
	}
	got, err := deliverystream.CountByAccount(t.Context(), c, 0)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestWhatIsQueuedWhenTheClientIsClosedIsNotSaidToBeStored(t *testing.T) {
	t.Parallel()
	c, err := stream.New(natstest.Start(t).Connect(t), stream.Default())
	require.NoError(t, err)
	s, err := deliverystream.Ensure(t.Context(), c, deliverystream.Default())
	require.NoError(t, err)
	var queued, stored, refused atomic.Int64
	var publishing sync.WaitGroup
	began := make(chan struct{})
	var once sync.Once
	publishing.Go(func() {
		for i := 0; ; i++ {
			d := &recordv1.Delivery{Id: fmt.Sprintf("dlv_%d", i), EventId: "evt", AccountId: "acc_1", WebhookId: "wh_1"}
			err := s.Publish(t.Context(), d, func(err error) {
				if err == nil {
					stored.Add(1)
				} else {
					refused.Add(1)
				}
				once.Do(func() { close(began) })
			})
			if err != nil {
				return
			}
			queued.Add(1)
		}
	})
	<-began
	c.Close()
	publishing.Wait()
	require.Equal(t, queued.Load(), stored.Load()+refused.Load(), "each is answered once")
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
	data, done := make([]byte, 1024), make(chan error, 1<<16)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		d := &recordv1.Delivery{
			Id: fmt.Sprintf("dlv_%d", n), AccountId: "acc_01J0000000000000000000000", WebhookId: "wh_01J0000000000000000000000", Data: data,
		}
		require.NoError(b, s.Publish(b.Context(), d, func(err error) { done <- err }))
		if n%1000 == 0 {
			for range 1000 {
				require.NoError(b, <-done)
			}
		}
	}
}
