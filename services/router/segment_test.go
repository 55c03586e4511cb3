package router_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/services/router"
	"github.com/postrider/postrider/test/fixture/natstest"
)

// segments is a bench for each of two segments, seen from an account of it.
func segments(t *testing.T, change ...func(*eventstream.Config)) (one, other *bench) {
	t.Helper()
	one = setupIn(t, natstest.Start(t), 2, change...)
	one.account = "acc_01JDABCDEFGHJKMNPQRSTVWXYZ"
	second := *one
	second.account = "acc_01JDABCDEFGHJKMNPQRSTVWXY0"
	require.Equal(t, "EVENTS", one.events.Of(one.account).Name())
	require.Equal(t, "EVENTS_1", one.events.Of(second.account).Name())
	return one, &second
}

func TestEventsOfEverySegmentAreRouted(t *testing.T) {
	t.Parallel()
	one, other := segments(t)
	hooks := map[postrider.AccountID]string{one.account: one.webhook(t, "*"), other.account: other.webhook(t, "*")}
	one.start(t)
	const n = 50
	events := map[string]postrider.AccountID{}
	for range n {
		events[one.publish(t).GetId()] = one.account
		events[other.publish(t).GetId()] = other.account
	}
	for _, d := range one.take(t, 2*n) {
		account := events[d.GetEventId()]
		delete(events, d.GetEventId())
		require.Equal(t, string(account), d.GetAccountId())
		require.Equal(t, hooks[account], d.GetWebhookId())
		ev, err := one.events.Get(t.Context(), account, d.GetEventSequence())
		require.NoError(t, err)
		require.Equal(t, d.GetEventId(), ev.GetId(), "the sequence is of the account's segment")
	}
	require.Empty(t, events)
	one.awaitRouted(t)
	other.awaitRouted(t)
}

// checkpointed waits until routing of the segment is written down as that far.
func (b *bench) checkpointed(t *testing.T, key string, floor uint64) {
	t.Helper()
	kv, err := b.client.JetStream().KeyValue(t.Context(), "checkpoints")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		var stored struct{ Floor uint64 }
		entry, err := kv.Get(t.Context(), key)
		return err == nil && json.Unmarshal(entry.Value(), &stored) == nil && stored.Floor == floor
	}, patience, 5*time.Millisecond)
}

func TestADeletedConsumerOfOneSegmentGoesOnAtItsOwnCheckpoint(t *testing.T) {
	t.Parallel()
	one, other := segments(t)
	other.webhook(t, "*")
	one.start(t, func(c *router.Config) { c.Checkpoint = 10 * time.Millisecond })
	for range 10 {
		one.publish(t)
	}
	for range 5 {
		other.publish(t)
	}
	other.take(t, 5)
	other.checkpointed(t, "router_1", 5)
	one.checkpointed(t, "router", 10)
	require.NoError(t, one.client.JetStream().DeleteConsumer(t.Context(), "EVENTS_1", "router"))
	last := other.publish(t)
	require.Equal(t, last.GetId(), other.take(t, 1)[0].GetEventId())

	made, err := one.client.JetStream().Consumer(t.Context(), "EVENTS_1", "router")
	require.NoError(t, err)
	require.EqualValues(t, 6, made.CachedInfo().Config.OptStartSeq)
	left, err := one.client.JetStream().Consumer(t.Context(), "EVENTS", "router")
	require.NoError(t, err)
	require.Zero(t, left.CachedInfo().Config.OptStartSeq, "the other's was not made again")
	require.EqualValues(t, 10, left.CachedInfo().Delivered.Stream)
}

// Sequences of two segments have nothing to do with each other: what is referred to in one is no
// reason to keep anything in the other, and what the other has no use for goes by itself.
func TestTrimOfOneSegmentLeavesTheOther(t *testing.T) {
	t.Parallel()
	one, other := segments(t, func(c *eventstream.Config) { c.MaxBytes = 1 << 20 })
	one.webhook(t, "order.paid")
	one.start(t, often)
	one.publish(t, large) // which nobody wants
	wanted := one.publish(t, large, func(ev *recordv1.Event) { ev.Type = "order.paid" })
	one.awaitRouted(t)
	for range 200 {
		require.Eventually(t, func() bool { return other.tryPublish(t, other.event(large)) == nil }, patience, 5*time.Millisecond)
	}
	other.awaitRouted(t)
	require.Greater(t, other.first(t), uint64(100), "far more than fits")
	require.EqualValues(t, 1, one.first(t), "it has room")

	var err error
	for n := 0; err == nil && n < 200; n++ {
		err = one.tryPublish(t, one.event(large))
	}
	require.ErrorIs(t, err, stream.ErrFull)
	one.awaitRouted(t)
	require.Eventually(t, func() bool { return one.first(t) == 2 }, patience, 5*time.Millisecond)
	ev, err := one.events.Get(t.Context(), one.account, 2)
	require.NoError(t, err)
	require.Equal(t, wanted.GetId(), ev.GetId())
	require.Eventually(t, func() bool { return other.tryPublish(t, other.event(large)) == nil }, patience, 5*time.Millisecond,
		"the other is not full of what is needed")
}
