package dispatcher_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/test/fixture/receivertest"
)

// onShard stores a webhook of the given shard.
func onShard(t *testing.T, w *world, shard int, url string, change ...func(*postriderv1.Webhook)) *postriderv1.Webhook {
	t.Helper()
	change = append(change, func(h *postriderv1.Webhook) {
		for postrider.ShardOf(postrider.WebhookID(h.GetId()), shards) != shard {
			h.Id = string(postrider.NewWebhookID())
		}
	})
	return w.webhook(t, url, change...)
}

// A webhook that hangs, with a backlog larger than all that may be unsettled, does not keep the
// deliveries of the others from arriving: its backlog is parked.
func TestAWebhookThatHangsCostsTheOthersNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hanging := receivertest.New(t).Answer(receivertest.Hang(nil))
	healthy := receivertest.New(t)
	stuck := onShard(t, w, 0, hanging.URL, func(h *postriderv1.Webhook) { h.AttemptTimeout = durationpb.New(30 * time.Second) })
	well := onShard(t, w, 0, healthy.URL)
	cfg := testConfig()
	cfg.Pipeline.MaxUnsettled = 256
	w.scheduler.set(func(s *smallScheduler) { s.idle = true })
	parked := w.send(t, stuck, 2000)
	ids := w.send(t, well, 200) // Behind the whole backlog.
	w.dispatch(t, cfg)
	for _, id := range ids {
		w.ledger.state(t, id, "delivered")
	}
	require.Equal(t, 200, healthy.Count())
	require.LessOrEqual(t, hanging.Count(), 64)
	e := w.ledger.await(t, parked[1999], "that parks", func(e *recordv1.JournalEntry) bool { return e.GetWaiting() != nil })
	require.Equal(t, "concurrency", e.GetWaiting().GetReason())
	require.Eventually(t, func() bool { return len(w.scheduler.records(parkedKind)) >= 1900 }, patience, 10*time.Millisecond)
	for _, r := range w.scheduler.records(parkedKind) {
		require.Zero(t, r.GetDelivery().GetProgress().GetAttempts(), "parking burns no attempt")
	}
	hanging.Down() // So that the attempts end with the test.
}

// A receiver that keeps up is never parked, however deep its backlog: pulling slows down.
func TestTheBacklogOfAReceiverThatKeepsUpIsNotParked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t)
	hook := w.webhook(t, receiver.URL)
	cfg := testConfig()
	cfg.Pipeline.ParkAfter, cfg.Pipeline.SlowAfter = time.Hour, time.Hour // However slow the machine is.
	cfg.Pipeline.MaxUnsettled = 100
	ids := w.send(t, hook, 3000)
	w.dispatch(t, cfg)
	for _, id := range ids {
		w.ledger.state(t, id, "delivered")
	}
	w.settled(t)
	require.Empty(t, w.scheduler.records(parkedKind))
	require.Equal(t, 3000, receiver.Count())
	require.LessOrEqual(t, receiver.MaxOpen(), 64)
}

func TestAWebhookHasNoMoreAttemptsAtOnceThanItMay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t).Answer(receivertest.After(time.Millisecond, receivertest.Status(200)))
	hook := w.webhook(t, receiver.URL, func(h *postriderv1.Webhook) { h.MaxInFlight = 3 })
	w.dispatch(t, testConfig())
	ids := w.send(t, hook, 200)
	for _, id := range ids {
		w.ledger.state(t, id, "delivered")
	}
	require.LessOrEqual(t, receiver.MaxOpen(), 3)
}

func TestTheRateOfAWebhookHolds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t)
	hook := w.webhook(t, receiver.URL, func(h *postriderv1.Webhook) { h.RateLimit = proto.Float64(20) })
	w.dispatch(t, testConfig())
	ids := w.send(t, hook, 40)
	for _, id := range ids {
		w.ledger.state(t, id, "delivered")
	}
	all := receiver.All()
	require.Len(t, all, 40)
	// 40 attempts at 20 a second, of which a burst of two may come at once.
	require.GreaterOrEqual(t, all[39].Arrived.Sub(all[0].Arrived), 1850*time.Millisecond)
	reasons := map[string]bool{}
	for _, r := range w.scheduler.records(parkedKind) {
		reasons[r.GetReason()] = true
	}
	require.Equal(t, map[string]bool{"rate": true}, reasons)
}

func TestRetryAfterPausesTheWebhook(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.scheduler.set(func(s *smallScheduler) { s.idle = true })
	receiver := receivertest.New(t).Answer(receivertest.RetryAfter(http.StatusTooManyRequests, "3600"), receivertest.Status(200))
	hook := w.webhook(t, receiver.URL)
	other := w.webhook(t, receiver.URL)
	w.dispatch(t, testConfig())
	before := time.Now()
	first := w.send(t, hook, 1)[0]
	a := w.ledger.state(t, first, "waiting")
	require.False(t, a.GetNextAttemptTime().AsTime().Before(before.Add(time.Hour)), "a floor over the schedule")
	second := w.send(t, hook, 1)[0]
	e := w.ledger.await(t, second, "that parks", func(e *recordv1.JournalEntry) bool { return e.GetWaiting() != nil })
	require.Equal(t, "retry_after", e.GetWaiting().GetReason())
	require.False(t, e.GetWaiting().GetDueTime().AsTime().Before(before.Add(time.Hour)))
	w.ledger.state(t, w.send(t, other, 1)[0], "delivered")
	w.settled(t)
	require.Equal(t, 2, receiver.Count())
}

func TestAWebhookThatKeepsFailingIsAttemptedByProbesOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	failing := make([]int, 10)
	for i := range failing {
		failing[i] = 500
	}
	receiver := receivertest.New(t).Respond(append(failing, 200)...)
	hook := w.webhook(t, receiver.URL, func(h *postriderv1.Webhook) {
		h.MaxInFlight, h.RetrySchedule = 1, schedule(time.Hour)
	})
	cfg := testConfig()
	cfg.Pipeline.Breaker.Cooldown = 200 * time.Millisecond
	w.dispatch(t, cfg)
	ids := w.send(t, hook, 10)
	for _, id := range ids {
		w.ledger.state(t, id, "waiting")
	}
	// The breaker is open: what comes now is parked until the probe, which succeeds.
	more := w.send(t, hook, 5)
	for _, id := range more {
		require.Equal(t, int32(1), w.ledger.state(t, id, "delivered").GetNumber())
	}
	parked := w.scheduler.records(parkedKind)
	require.NotEmpty(t, parked)
	for _, r := range parked {
		require.Equal(t, "breaker", r.GetReason())
	}
	require.Equal(t, 15, receiver.Count())
}

func TestARetryStormLeavesFirstAttemptsTheirSlots(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hanging := receivertest.New(t).Answer(receivertest.Hang(nil))
	healthy := receivertest.New(t)
	cfg := testConfig()
	cfg.Pipeline.Slots, cfg.Pipeline.RetrySlots = 64, 4
	w.scheduler.set(func(s *smallScheduler) { s.idle = true })
	for range 20 { // Twenty webhooks whose retries hang.
		stuck := onShard(t, w, 0, hanging.URL)
		d := w.delivery(stuck, "{}")
		w.put(t, &recordv1.Retry{Delivery: d, Kind: waitingKind, DueTime: d.GetAcceptTime()})
		w.release(t, d.GetId(), stuck)
	}
	w.dispatch(t, cfg)
	hanging.AwaitCount(t, 4)
	well := onShard(t, w, 0, healthy.URL)
	for _, id := range w.send(t, well, 50) {
		w.ledger.state(t, id, "delivered")
	}
	require.Equal(t, 4, hanging.Count())
	hanging.Down()
}
