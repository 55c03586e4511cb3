package dispatcher_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/fixture/receivertest"
)

// reshard changes the number of shards, for everyone at once.
func (w *world) reshard(t *testing.T, n int) {
	t.Helper()
	require.NoError(t, errors.Join(deliverystream.Grow(t.Context(), w.client, n), retrystream.Grow(t.Context(), w.client, n)))
	l := w.client.Layout()
	if l.Before != 0 {
		require.NoError(t, w.topology.Settle(t.Context(), l))
	}
	_, err := w.topology.Change(t.Context(), n)
	require.NoError(t, err)
	_, err = w.topology.Refresh(t.Context())
	require.NoError(t, err)
}

// hookFor is a webhook whose home is another one of so many shards than of two.
func (w *world) hookFor(t *testing.T, url string, to int, change ...func(*postriderv1.Webhook)) *postriderv1.Webhook {
	t.Helper()
	id := string(postrider.NewWebhookID())
	for postrider.ShardOf(postrider.WebhookID(id), shards) == postrider.ShardOf(postrider.WebhookID(id), to) {
		id = string(postrider.NewWebhookID())
	}
	return w.webhook(t, url, append(change, func(h *postriderv1.Webhook) { h.Id = id })...)
}

func once(t *testing.T, receiver *receivertest.Receiver, want int) {
	t.Helper()
	receiver.AwaitCount(t, want)
	seen := map[string]int{}
	for _, r := range receiver.All() {
		seen[r.Header.Get("Webhook-Id")]++
	}
	for id, n := range seen {
		require.Equal(t, 1, n, "%s", id)
	}
	require.Len(t, seen, want)
}

func TestWhatIsOnAShardThatItsWebhookHasLeftIsHandedOnAndAttemptedOnce(t *testing.T) {
	t.Parallel()
	for _, to := range []int{5, 1} {
		w := newWorld(t)
		receiver := receivertest.New(t)
		hook := w.hookFor(t, receiver.URL, to)
		resting := w.hookFor(t, receiver.URL, to, setState(paused))
		w.send(t, hook, 200)
		due := w.delivery(hook, "{}")
		w.put(t, &recordv1.Retry{Delivery: due, Kind: waitingKind, DueTime: timestamppb.New(time.Now())})
		held := w.send(t, resting, 1)[0]
		w.reshard(t, to)
		home := w.client.Layout().Home(postrider.WebhookID(hook.GetId()))
		w.send(t, hook, 100)
		w.dispatch(t, testConfig())
		w.release(t, due.GetId(), hook) // on the shard that it was put on
		once(t, receiver, 301)
		w.ledger.await(t, held, "that holds", func(e *recordv1.JournalEntry) bool { return e.GetHeld() != nil })
		w.settled(t)
		rec, err := w.retries.Last(t.Context(), postriderAccount(w), postrider.WebhookID(resting.GetId()), postriderDelivery(held))
		require.NoError(t, err)
		require.Equal(t, w.client.Layout().Home(postrider.WebhookID(resting.GetId())), rec.Shard)
		astray, err := deliverystream.CountAstray(t.Context(), w.client, 1-home%shards, w.client.Layout())
		require.NoError(t, err)
		require.Zero(t, astray)
	}
}

// What was handed on is no repeat when it comes back, neither to the stream's ids nor to the
// dispatcher's memory.
func TestADeliveryThatComesBackToItsFirstShardIsAttempted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t)
	const n = 50
	id := string(postrider.NewWebhookID())
	for postrider.ShardOf(postrider.WebhookID(id), 3) != 2 {
		id = string(postrider.NewWebhookID())
	}
	hook := w.webhook(t, receiver.URL, func(h *postriderv1.Webhook) { h.Id = id })
	require.NoError(t, errors.Join(deliverystream.Grow(t.Context(), w.client, 3), retrystream.Grow(t.Context(), w.client, 3)))
	w.send(t, hook, n)
	// The dispatcher has learned of the change, and does not work on the shard that it hands on to.
	w.client.SetLayout(postrider.Layout{Version: 2, Shards: 3, Before: shards, Streams: shards})
	w.dispatch(t, testConfig())
	require.Eventually(t, func() bool {
		moved, err1 := w.client.Messages(t.Context(), deliverystream.Name(2))
		rest, err2 := w.client.Messages(t.Context(), deliverystream.Name(postrider.ShardOf(postrider.WebhookID(id), shards)))
		return err1 == nil && err2 == nil && moved == n && rest == 0
	}, patience, time.Millisecond)
	require.Zero(t, receiver.Count())
	// Then it works there, and the webhook is at home where it was.
	w.client.SetLayout(postrider.Layout{Version: 3, Shards: shards, Before: 3, Streams: 3})
	once(t, receiver, n)
	w.settled(t)
}

func TestWhatIsMovedBeforeItIsDueIsNotAttempted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.scheduler.set(func(s *smallScheduler) { s.idle = true })
	receiver := receivertest.New(t)
	hook := w.hookFor(t, receiver.URL, 5)
	at := timestamppb.New(time.Now().Add(time.Hour).Truncate(time.Millisecond))
	later, held := w.delivery(hook, "{}"), w.delivery(hook, "{}")
	later.Progress = &recordv1.Progress{Attempts: 3}
	w.put(t, &recordv1.Retry{Delivery: later, Kind: recordv1.RetryKind_RETRY_KIND_DELAYED, DueTime: at, Reason: "deliver_at"})
	w.put(t, &recordv1.Retry{Delivery: held, Kind: heldKind, DueTime: at, Reason: "paused"})
	w.dispatch(t, testConfig())
	move := func(id string) *retrystream.Record {
		t.Helper()
		was, err := w.retries.Last(t.Context(), postriderAccount(w), postrider.WebhookID(hook.GetId()), postriderDelivery(id))
		require.NoError(t, err)
		moved := make(chan error, 1)
		require.NoError(t, w.retries.Move(t.Context(), *was, func(err error) { moved <- err }))
		require.NoError(t, <-moved)
		var now *retrystream.Record
		require.Eventually(t, func() bool {
			now, err = w.retries.Last(t.Context(), postriderAccount(w), postrider.WebhookID(hook.GetId()), postriderDelivery(id))
			return err == nil && (now.Shard != was.Shard || now.Sequence != was.Sequence)
		}, patience, time.Millisecond)
		return now
	}
	// By a dispatcher that has not learned of the change it is put where it was.
	here := w.client.Layout().Home(postrider.WebhookID(hook.GetId()))
	rec := move(later.GetId())
	require.Equal(t, here, rec.Shard)
	w.reshard(t, 5)
	for _, id := range []string{later.GetId(), held.GetId()} {
		rec = move(id)
		require.Equal(t, w.client.Layout().Home(postrider.WebhookID(hook.GetId())), rec.Shard)
	}
	require.Equal(t, heldKind, rec.Retry.GetKind())
	rec, err := w.retries.Last(t.Context(), postriderAccount(w), postrider.WebhookID(hook.GetId()), postriderDelivery(later.GetId()))
	require.NoError(t, err)
	require.Equal(t, recordv1.RetryKind_RETRY_KIND_DELAYED, rec.Retry.GetKind())
	require.True(t, at.AsTime().Equal(rec.Retry.GetDueTime().AsTime()))
	require.EqualValues(t, 3, rec.Retry.GetDelivery().GetProgress().GetAttempts())
	require.Equal(t, "deliver_at", rec.Retry.GetReason())
	w.settled(t)
	require.Zero(t, receiver.Count())
}

// What is handed on to a shard that is full waits until there is room, and takes no slot from those who
// make room.
func TestAFullShardIsAttemptedWhileOthersAreHandedOnToIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t)
	id := string(postrider.NewWebhookID())
	for postrider.ShardOf(postrider.WebhookID(id), 3) != 2 {
		id = string(postrider.NewWebhookID())
	}
	hook := w.webhook(t, receiver.URL, func(h *postriderv1.Webhook) { h.Id = id })
	const n = 100
	w.send(t, hook, n)
	w.reshard(t, 3)
	js := w.client.JetStream()
	home, err := js.Stream(t.Context(), deliverystream.Name(2))
	require.NoError(t, err)
	cfg := home.CachedInfo().Config
	cfg.MaxBytes = 8 << 10
	_, err = js.UpdateStream(t.Context(), cfg)
	require.NoError(t, err)
	filled := 0
	for ; err == nil; filled++ {
		stored := make(chan error, 1)
		require.NoError(t, w.deliveries.Publish(t.Context(), w.delivery(hook, "{}"), func(err error) { stored <- err }))
		err = <-stored
	}
	require.ErrorIs(t, err, stream.ErrFull)
	dispatching := testConfig()
	dispatching.Pipeline.Slots = 2
	w.dispatch(t, dispatching)
	once(t, receiver, n+filled-1)
	w.settled(t)
}
