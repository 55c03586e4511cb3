package dispatcher_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/services/dispatcher"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/receivertest"
)

// parcel stores deliveries in one message of the first shard.
func (w *world) parcel(t *testing.T, list ...*recordv1.Delivery) {
	t.Helper()
	data, err := proto.Marshal(&recordv1.Deliveries{Deliveries: list})
	require.NoError(t, err)
	_, err = w.client.JetStream().Publish(t.Context(), fmt.Sprintf("deliveries.0.%s.%d", w.account, len(list)), data)
	require.NoError(t, err)
}

// shardMessages is how many messages the first shard holds, and the sequence of the first.
func (w *world) shardMessages(t *testing.T) (n, first uint64) {
	t.Helper()
	s, err := w.client.JetStream().Stream(t.Context(), deliverystream.Name(0))
	require.NoError(t, err)
	return s.CachedInfo().State.Msgs, s.CachedInfo().State.FirstSeq
}

func (w *world) list(hook *postriderv1.Webhook, n int) (list []*recordv1.Delivery) {
	for i := range n {
		list = append(list, w.delivery(hook, fmt.Sprintf(`{"n":%d}`, i)))
	}
	return list
}

// A process that dies has settled a part of a message. What it journalled is not POSTed again.
func TestAParcelOfADeadProcessIsFinishedByItsSuccessor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.scheduler.set(func(s *smallScheduler) { s.idle = true })
	receiver := receivertest.New(t)
	hook := onShard(t, w, 0, receiver.URL)
	list := w.list(hook, 8)
	w.parcel(t, list...)
	consumer, err := w.deliveries.Consumer(t.Context(), 0)
	require.NoError(t, err)
	take(t, consumer)
	due := time.Now().Add(time.Hour).Truncate(time.Millisecond)
	for i, state := range []string{"delivered", "waiting", "delivered"} {
		d := list[2*i]
		e := &recordv1.JournalEntry{
			Time: timestamppb.Now(), AccountId: w.account, DeliveryId: d.GetId(), WebhookId: hook.GetId(), EventId: d.GetEventId(),
			What: &recordv1.JournalEntry_Attempted{Attempted: &recordv1.Attempted{
				Number: 1, State: state, Reason: "http_status", StatusCode: 503, StartTime: timestamppb.Now(), NextAttemptTime: timestamppb.New(due),
			}},
		}
		w.journalled(t, e)
	}
	w.dispatch(t, testConfig())
	for _, i := range []int{1, 3, 5, 6, 7} {
		w.ledger.state(t, list[i].GetId(), "delivered")
	}
	w.settled(t)
	require.Equal(t, 5, receiver.Count())
	require.Nil(t, w.record(t, list[0].GetId(), hook))
	require.Equal(t, waitingKind, w.record(t, list[2].GetId(), hook).GetKind())
}

// What a dead process handed over goes on by itself, also if the message that it came in comes again: a record that waits, one that
// was released and is due, and one that was delivered since.
func TestWhatADeadProcessHandedOverOfAParcelIsNotHandedOverAgain(t *testing.T) {
	t.Parallel()
	for _, released := range []bool{false, true} {
		t.Run(fmt.Sprintf("released %t", released), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			receiver := receivertest.New(t)
			hook := onShard(t, w, 0, receiver.URL)
			list := w.list(hook, 4)
			w.parcel(t, list...)
			consumer, err := w.deliveries.Consumer(t.Context(), 0)
			require.NoError(t, err)
			take(t, consumer)
			due := time.Now().Add(time.Hour)
			for _, d := range list[:2] {
				w.journalled(t, &recordv1.JournalEntry{
					Time: timestamppb.Now(), AccountId: w.account, DeliveryId: d.GetId(), WebhookId: hook.GetId(), EventId: d.GetEventId(),
					What: &recordv1.JournalEntry_Waiting{Waiting: &recordv1.Waiting{DueTime: timestamppb.New(due), Reason: "concurrency"}},
				})
				w.put(t, &recordv1.Retry{Delivery: d, Kind: parkedKind, DueTime: timestamppb.New(due)})
				if !released {
					continue
				}
				account, id := postriderAccount(w), postriderDelivery(d.GetId())
				record, err := w.retries.Last(t.Context(), account, postrider.WebhookID(hook.GetId()), id)
				require.NoError(t, err)
				done := make(chan error, 1)
				require.NoError(t, w.retries.Release(t.Context(), *record, func(err error) { done <- err }))
				require.NoError(t, <-done)
			}
			w.dispatch(t, testConfig())
			want := list[2:]
			if released {
				want = list
			}
			for _, d := range want {
				w.ledger.state(t, d.GetId(), "delivered")
			}
			w.settled(t)
			require.Equal(t, len(want), receiver.Count())
			for _, d := range list[:2] {
				require.Equal(t, released, w.record(t, d.GetId(), hook) == nil)
			}
		})
	}
}

// A receiver that hangs does not keep the message of others: what is settled is acknowledged within seconds, and the
// delivery that is not has a message of its own, which is acknowledged when it ends.
func TestASlowDeliveryOfAParcelGetsAMessageOfItsOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	release := make(chan struct{})
	hanging := receivertest.New(t).Answer(receivertest.Hang(release))
	healthy := receivertest.New(t)
	slow, well := onShard(t, w, 0, hanging.URL), onShard(t, w, 0, healthy.URL)
	stuck := w.delivery(slow, `{}`)
	list := append(w.list(well, 5), stuck)
	w.dispatch(t, testConfig())
	w.parcel(t, list...)
	for _, d := range list[:5] {
		w.ledger.state(t, d.GetId(), "delivered")
	}
	require.Eventually(t, func() bool {
		n, first := w.shardMessages(t)
		return n == 1 && first == 2
	}, patience, 10*time.Millisecond, "the slow delivery has a message of its own")
	counts, err := deliverystream.CountByAccount(t.Context(), w.client, 0)
	require.NoError(t, err)
	require.Equal(t, int64(1), counts[postriderAccount(w)], "and is counted alone")
	require.Equal(t, 1, hanging.Count())
	close(release)
	w.ledger.await(t, stuck.GetId(), "of its attempt", func(e *recordv1.JournalEntry) bool { return e.GetAttempted() != nil })
	w.settled(t)
	require.Equal(t, 5, healthy.Count())
}

// A dispatcher that is told to end gives back what it has not begun, and its successor attempts that and nothing else.
func TestWhatIsNotBegunOfAParcelGoesToTheSuccessor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	release := make(chan struct{})
	receiver := receivertest.New(t).Answer(receivertest.Hang(release))
	hook := onShard(t, w, 0, receiver.URL, func(h *postriderv1.Webhook) { h.MaxInFlight = 1 })
	cfg := testConfig()
	cfg.Pipeline.ParkAfter, cfg.Pipeline.SlowAfter = time.Hour, time.Hour // So that they wait in memory.
	list := w.list(hook, 6)
	w.parcel(t, list...)
	_, stop := w.dispatch(t, cfg)
	require.Eventually(t, func() bool { return receiver.Count() == 1 }, patience, time.Millisecond)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		stop()
	}()
	require.Eventually(t, func() bool {
		n, _ := w.shardMessages(t)
		return n == 6
	}, patience, 10*time.Millisecond, "five are in messages of their own")
	receiver.Answer(receivertest.Status(200))
	close(release)
	<-stopped
	w.dispatch(t, cfg)
	for _, d := range list[1:] {
		w.ledger.state(t, d.GetId(), "delivered")
	}
	w.settled(t)
	require.Equal(t, 6, receiver.Count())
}

// A shard that is full takes nothing back. It is given up all the same, and what was settled in a message that comes
// again whole is not attempted again.
func TestAShardThatIsFullIsGivenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	release := make(chan struct{})
	hanging := receivertest.New(t).Answer(receivertest.Hang(release))
	receiver := receivertest.New(t)
	slow := onShard(t, w, 0, hanging.URL, func(h *postriderv1.Webhook) { h.MaxInFlight = 1 })
	well := onShard(t, w, 0, receiver.URL)
	cfg := testConfig()
	cfg.Pipeline.ParkAfter, cfg.Pipeline.SlowAfter = time.Hour, time.Hour // So that they wait in memory.
	list := append(w.list(well, 4), w.list(slow, 4)...)
	w.parcel(t, list...)
	s, err := w.client.JetStream().Stream(t.Context(), deliverystream.Name(0))
	require.NoError(t, err)
	full := s.CachedInfo().Config
	full.MaxBytes = int64(s.CachedInfo().State.Bytes)
	_, err = w.client.JetStream().UpdateStream(t.Context(), full)
	require.NoError(t, err)
	log, lines := logtest.Recorder(t)
	_, stop := w.dispatch(t, cfg, func(d *dispatcher.Deps) { d.Logger = log })
	for _, d := range list[:4] {
		w.ledger.state(t, d.GetId(), "delivered")
	}
	require.Eventually(t, func() bool { return hanging.Count() == 1 }, patience, time.Millisecond)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		stop()
	}()
	hanging.Answer(receivertest.Status(200))
	close(release)
	<-stopped
	require.Len(t, lines.Find("shard given up"), shards, "nothing was left that it waited for")
	w.dispatch(t, cfg)
	for _, d := range list[5:] {
		w.ledger.state(t, d.GetId(), "delivered")
	}
	w.settled(t)
	require.Equal(t, 4, receiver.Count())
	require.Equal(t, 4, hanging.Count())
}

// Routers that route an event twice put its deliveries into two messages.
func TestARepeatInAnotherParcelIsNotPostedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	release := make(chan struct{})
	hanging := receivertest.New(t).Answer(receivertest.Hang(release))
	receiver := receivertest.New(t)
	slow, well := onShard(t, w, 0, hanging.URL), onShard(t, w, 0, receiver.URL)
	w.dispatch(t, testConfig())
	stuck := w.delivery(slow, `{}`)
	list := append(w.list(well, 10), stuck)
	w.parcel(t, list...)
	for _, d := range list[:10] {
		w.ledger.state(t, d.GetId(), "delivered")
	}
	require.Eventually(t, func() bool { return hanging.Count() == 1 }, patience, time.Millisecond)
	w.parcel(t, list[3:]...)
	w.parcel(t, list...)
	w.publish(t, list[0], stuck)
	hanging.Answer(receivertest.Status(200))
	close(release)
	w.ledger.await(t, stuck.GetId(), "of its attempt", func(e *recordv1.JournalEntry) bool { return e.GetAttempted() != nil })
	w.settled(t)
	require.Equal(t, 10, receiver.Count())
}

// A message of the time when each held one delivery is read as one.
func TestAMessageThatNamesItsWebhookIsRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t)
	hook := onShard(t, w, 0, receiver.URL)
	d := w.delivery(hook, `{}`)
	data, err := proto.Marshal(d)
	require.NoError(t, err)
	_, err = w.client.JetStream().Publish(t.Context(), fmt.Sprintf("deliveries.0.%s.%s", w.account, hook.GetId()), data)
	require.NoError(t, err)
	w.dispatch(t, testConfig())
	w.ledger.state(t, d.GetId(), "delivered")
	w.settled(t)
	require.Equal(t, 1, receiver.Count())
}
