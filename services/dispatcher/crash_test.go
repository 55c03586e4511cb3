package dispatcher_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/services/dispatcher"
	"github.com/postrider/postrider/test/fixture/receivertest"
)

// take is a dispatcher that dies: it takes the next message of a consumer and never acknowledges
// it. The message comes again at once, as it would after the acknowledgement's wait.
func take(t *testing.T, consumer *stream.Consumer) (sequence uint64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	require.NoError(t, consumer.WithBatch(1).Consume(ctx, func(m *stream.Msg) {
		sequence = m.Sequence()
		require.NoError(t, m.Nak(0))
		cancel()
	}))
	require.NotZero(t, sequence)
	return sequence
}

// journalled stores an entry as a dispatcher does.
func (w *world) journalled(t *testing.T, e *recordv1.JournalEntry) {
	t.Helper()
	writer := w.journal.NewWriter("dead")
	stored := make(chan error, 1)
	shard := postrider.ShardOf(postrider.WebhookID(e.GetWebhookId()), shards)
	require.NoError(t, writer.Write(t.Context(), shard, e, func(err error) { stored <- err }))
	require.NoError(t, <-stored)
	require.NoError(t, writer.Close(t.Context()))
}

// What a process journalled before it died is not POSTed again, and what it had not handed over
// yet is handed over: of a message that it had in hand, and of one that comes of a second routing,
// because the server died too and forgot that the first was settled.
func TestADeliveryOfADeadProcessIsFinishedByItsSuccessor(t *testing.T) {
	t.Parallel()
	due := time.Now().Add(time.Hour).Truncate(time.Millisecond)
	attempted := func(state, reason string) func(*recordv1.JournalEntry) {
		return func(e *recordv1.JournalEntry) {
			e.What = &recordv1.JournalEntry_Attempted{Attempted: &recordv1.Attempted{
				Number: 1, State: state, Reason: reason, StatusCode: 503, ErrorClass: "http_status",
				StartTime: timestamppb.Now(), NextAttemptTime: timestamppb.New(due),
			}}
		}
	}
	for name, test := range map[string]struct {
		entry func(*recordv1.JournalEntry)
		kind  recordv1.RetryKind // of the record that must stand then
		dead  string             // cause of the dead letter that must be there then
	}{
		"a delivered one": {entry: attempted("delivered", "")},
		"a cancelled one": {entry: func(e *recordv1.JournalEntry) {
			e.What = &recordv1.JournalEntry_Cancelled{Cancelled: &recordv1.Cancelled{Reason: "request"}}
		}},
		"one that failed":             {entry: attempted("waiting", "http_status"), kind: waitingKind},
		"one whose receiver is gone":  {entry: attempted("held", "gone"), kind: heldKind},
		"one whose schedule is spent": {entry: attempted("dead", "exhausted"), dead: "exhausted"},
		"one that was parked": {
			entry: func(e *recordv1.JournalEntry) {
				e.What = &recordv1.JournalEntry_Waiting{Waiting: &recordv1.Waiting{DueTime: timestamppb.New(due), Reason: "rate"}}
			},
			kind: parkedKind,
		},
		"one that was held": {
			entry: func(e *recordv1.JournalEntry) {
				e.What = &recordv1.JournalEntry_Held{Held: &recordv1.Held{Reason: "paused"}}
			},
			kind: heldKind,
		},
	} {
		finishes := func(t *testing.T, sequence func(*testing.T, *stream.Consumer) uint64) {
			t.Helper()
			w := newWorld(t)
			w.scheduler.set(func(s *smallScheduler) { s.idle = true })
			receiver := receivertest.New(t)
			hook := w.webhook(t, receiver.URL)
			d := w.delivery(hook, `{"a":1}`)
			w.publish(t, d)
			shard := postrider.ShardOf(postrider.WebhookID(hook.GetId()), shards)
			consumer, err := w.deliveries.Consumer(t.Context(), shard)
			require.NoError(t, err)
			e := &recordv1.JournalEntry{
				Time: timestamppb.Now(), AccountId: w.account, DeliveryId: d.GetId(), WebhookId: hook.GetId(), EventId: d.GetEventId(),
				DeliverySequence: sequence(t, consumer),
			}
			test.entry(e)
			w.journalled(t, e)
			w.dispatch(t, testConfig())
			w.settled(t)
			require.Zero(t, receiver.Count())
			r := w.record(t, d.GetId(), hook)
			require.Equal(t, test.kind, r.GetKind())
			if test.kind == waitingKind {
				require.True(t, due.Equal(r.GetDueTime().AsTime()))
				require.Equal(t, int32(1), r.GetDelivery().GetProgress().GetAttempts())
				require.Equal(t, int32(503), r.GetDelivery().GetProgress().GetLastStatusCode())
				require.NotNil(t, r.GetDelivery().GetProgress().GetFirstAttemptTime())
			}
			if test.dead != "" {
				letter, _, err := w.deadLetters.Get(t.Context(), postriderAccount(w), postriderDelivery(d.GetId()))
				require.NoError(t, err)
				require.Equal(t, test.dead, letter.GetCause())
			}
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			finishes(t, take)
		})
		t.Run(name+", routed again", func(t *testing.T) {
			t.Parallel()
			finishes(t, func(*testing.T, *stream.Consumer) uint64 { return 999 })
		})
	}
}

// The journal does not name the message, because it is older than what is read of it; but the
// record that was handed over stands.
func TestAMessageWhoseRecordStandsIsStale(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]recordv1.RetryKind{"after an attempt": waitingKind, "parked": parkedKind, "held": heldKind} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			receiver := receivertest.New(t)
			hook := w.webhook(t, receiver.URL)
			d := w.delivery(hook, `{}`)
			w.publish(t, d)
			consumer, err := w.deliveries.Consumer(t.Context(), postrider.ShardOf(postrider.WebhookID(hook.GetId()), shards))
			require.NoError(t, err)
			take(t, consumer)
			if kind == waitingKind {
				d.Progress = &recordv1.Progress{Attempts: 1}
			}
			w.put(t, &recordv1.Retry{Delivery: d, Kind: kind, DueTime: timestamppb.New(time.Now().Add(time.Hour))})
			w.dispatch(t, testConfig())
			w.settled(t)
			require.Zero(t, receiver.Count())
			require.NotNil(t, w.record(t, d.GetId(), hook))
		})
	}
}

func TestAMessageOfADeadProcessThatMadeNoAttemptIsAttempted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t)
	hook := w.webhook(t, receiver.URL)
	d := w.delivery(hook, `{}`)
	w.publish(t, d)
	consumer, err := w.deliveries.Consumer(t.Context(), postrider.ShardOf(postrider.WebhookID(hook.GetId()), shards))
	require.NoError(t, err)
	take(t, consumer)
	w.dispatch(t, testConfig())
	w.ledger.state(t, d.GetId(), "delivered")
	require.Equal(t, 1, receiver.Count())
}

// The server may fire a record that was replaced a moment before.
func TestAFiredMessageIsStaleOnlyIfItsSuccessorStands(t *testing.T) {
	t.Parallel()
	w := newWorldWith(t, retrystream.Config{Grace: time.Second})
	receiver := receivertest.New(t)
	hook := w.webhook(t, receiver.URL)
	stale, alone := w.delivery(hook, `{}`), w.delivery(hook, `{}`)
	for _, d := range []*recordv1.Delivery{stale, alone} {
		d.Progress = &recordv1.Progress{Attempts: 1}
		w.put(t, &recordv1.Retry{Delivery: d, Kind: waitingKind, DueTime: timestamppb.Now()})
	}
	require.Eventually(t, func() bool {
		return w.record(t, stale.GetId(), hook) == nil && w.record(t, alone.GetId(), hook) == nil
	}, patience, 20*time.Millisecond, "the server fires them")
	stale.Progress.Attempts = 2
	w.put(t, &recordv1.Retry{Delivery: stale, Kind: waitingKind, DueTime: timestamppb.New(time.Now().Add(time.Hour))})
	w.dispatch(t, testConfig())
	require.Equal(t, int32(2), w.ledger.state(t, alone.GetId(), "delivered").GetNumber())
	w.settled(t)
	require.Equal(t, 1, receiver.Count())
	require.Equal(t, int32(2), w.record(t, stale.GetId(), hook).GetDelivery().GetProgress().GetAttempts())
}

// A server that is killed between storing the due message and removing the record keeps both.
func TestARecordThatIsOlderThanTheDueMessageProvesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t)
	hook := w.webhook(t, receiver.URL)
	d := w.delivery(hook, `{}`)
	d.Progress = &recordv1.Progress{Attempts: 1}
	r := &recordv1.Retry{Delivery: d, Kind: waitingKind, DueTime: timestamppb.New(time.Now().Add(time.Hour))}
	w.put(t, r)
	data, err := proto.Marshal(r)
	require.NoError(t, err)
	shard := postrider.ShardOf(postrider.WebhookID(hook.GetId()), shards)
	_, err = w.client.JetStream().Publish(t.Context(), fmt.Sprintf("due.%d.%s.%s", shard, w.account, hook.GetId()), data)
	require.NoError(t, err)
	consumer, err := w.retries.Due(t.Context(), shard)
	require.NoError(t, err)
	take(t, consumer) // so that it comes again
	w.dispatch(t, testConfig())
	require.Equal(t, int32(2), w.ledger.state(t, d.GetId(), "delivered").GetNumber())
	w.settled(t)
	require.Equal(t, 1, receiver.Count())
}

// What is parked or held again, with no attempt in between, is no later than the record that a server
// kept; it stands after the due message all the same.
func TestWhatIsHeldAgainIsStoredBesideARecordThatWasReleased(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t)
	hook := w.webhook(t, receiver.URL)
	d := w.delivery(hook, `{}`)
	r := &recordv1.Retry{Delivery: d, Kind: parkedKind, DueTime: timestamppb.New(time.Now().Add(time.Hour))}
	w.put(t, r)
	w.update(t, hook.GetId(), func(h *postriderv1.Webhook) { h.State = postriderv1.WebhookState_WEBHOOK_STATE_PAUSED })
	data, err := proto.Marshal(r)
	require.NoError(t, err)
	shard := postrider.ShardOf(postrider.WebhookID(hook.GetId()), shards)
	_, err = w.client.JetStream().PublishMsg(t.Context(), &nats.Msg{
		Subject: fmt.Sprintf("due.%d.%s.%s", shard, w.account, hook.GetId()), Data: data, Header: nats.Header{"Postrider-Released": {"1"}},
	})
	require.NoError(t, err)
	w.dispatch(t, testConfig())
	w.settled(t)
	require.Equal(t, heldKind, w.record(t, d.GetId(), hook).GetKind())
	require.Zero(t, receiver.Count())
}

func TestWhatIsDueOfADeliveredDeliveryIsStale(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t)
	hook := w.webhook(t, receiver.URL)
	d := w.delivery(hook, `{}`)
	d.Progress = &recordv1.Progress{Attempts: 1}
	w.dispatch(t, testConfig())
	for range 2 {
		w.put(t, &recordv1.Retry{Delivery: d, Kind: waitingKind, DueTime: timestamppb.New(time.Now().Add(time.Hour))})
		w.release(t, d.GetId(), hook)
		w.ledger.state(t, d.GetId(), "delivered")
		w.settled(t)
	}
	require.Equal(t, 1, receiver.Count())
}

func TestWithoutASchedulerTheDispatcherStoresTheRecordItself(t *testing.T) {
	t.Parallel()
	w := newWorldWith(t, retrystream.Config{Grace: time.Second})
	w.scheduler.set(func(s *smallScheduler) { s.away = true })
	receiver := receivertest.New(t).Respond(http.StatusBadGateway, http.StatusOK)
	hook := w.webhook(t, receiver.URL)
	w.dispatch(t, testConfig())
	id := w.send(t, hook, 1)[0]
	w.ledger.state(t, id, "waiting")
	// Nobody releases it, so the server fires it.
	require.Equal(t, int32(2), w.ledger.state(t, id, "delivered").GetNumber())
	w.settled(t)
	require.Equal(t, 2, receiver.Count())
}

// Outcomes that were obtained while NATS was away stay in memory until it is back, and no delivery
// is POSTed twice.
func TestOutcomesOutliveARestartOfNATS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	release := make(chan struct{})
	receiver := receivertest.New(t).Answer(func(e *receivertest.Exchange) {
		if e.Wait(release) {
			e.Writer.WriteHeader([]int{200, 500, 200, 410}[e.Request.Index%4])
		}
	})
	w.scheduler.set(func(s *smallScheduler) { s.idle = true })
	var ids []string
	hooks := map[string]*postriderv1.Webhook{}
	for range 8 {
		hook := w.webhook(t, receiver.URL, func(h *postriderv1.Webhook) { h.RetrySchedule = schedule(time.Hour) })
		for _, id := range w.send(t, hook, 5) {
			hooks[id] = hook
			ids = append(ids, id)
		}
	}
	w.dispatch(t, testConfig())
	receiver.AwaitCount(t, len(ids))
	w.server.Stop()
	close(release)
	require.Eventually(t, func() bool { return receiver.MaxOpen() > 0 && receiver.Count() == len(ids) }, patience, time.Millisecond)
	w.server.Restart(t)
	for _, id := range ids {
		w.ledger.await(t, id, "of its attempt", func(e *recordv1.JournalEntry) bool { return e.GetAttempted() != nil })
	}
	w.settled(t)
	require.Equal(t, len(ids), receiver.Count(), "exactly one POST each")
	for _, id := range ids {
		a := w.ledger.of(id)[0].GetAttempted()
		r := w.record(t, id, hooks[id])
		require.Equal(t, a.GetState() != "delivered", r != nil, "a record for whatever is not delivered")
	}
}

// A server that dies forgets acknowledgements and message ids of a moment before, so a delivery that
// is settled comes again: to the dispatcher that settled it, in another message that no consumer has
// given out yet.
func TestADeliveryThatIsRoutedAgainToTheSameDispatcherIsNotPOSTedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t).Answer(receivertest.Status(200), receivertest.Status(500))
	w.scheduler.set(func(s *smallScheduler) { s.idle = true })
	hook := w.webhook(t, receiver.URL, func(h *postriderv1.Webhook) { h.RetrySchedule = schedule(time.Hour) })
	w.dispatch(t, testConfig())
	for range 2 {
		d := w.delivery(hook, `{"a":1}`)
		w.publish(t, d)
		w.ledger.await(t, d.GetId(), "of its attempt", func(e *recordv1.JournalEntry) bool { return e.GetAttempted() != nil })
		w.settled(t)
		w.server.Restart(t)
		w.publish(t, d)
		w.settled(t)
	}
	require.Equal(t, 2, receiver.Count(), "one POST for the delivery that arrived, and one for the one that waits")
}

// A dispatcher that ends gives back what it has not begun, and finishes and records what it has.
func TestAStopUnderLoadRepeatsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t).Answer(receivertest.After(2*time.Millisecond, receivertest.Status(200)))
	var ids []string
	for range 4 {
		ids = append(ids, w.send(t, w.webhook(t, receiver.URL), 250)...)
	}
	_, stop := w.dispatch(t, testConfig())
	receiver.AwaitCount(t, 200)
	stop()
	require.Less(t, receiver.Count(), 1000, "it was stopped under way")
	w.dispatch(t, testConfig())
	for _, id := range ids {
		w.ledger.state(t, id, "delivered")
	}
	w.settled(t)
	require.Equal(t, 1000, receiver.Count())
}

// When the time to stop is over, attempts in flight are cut off and their deliveries given back.
func TestAttemptsThatHangDoNotKeepADispatcherFromEnding(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t).Answer(receivertest.Hang(nil), receivertest.Status(200))
	hook := w.webhook(t, receiver.URL)
	s, _ := w.dispatch(t, testConfig())
	id := w.send(t, hook, 1)[0]
	receiver.AwaitCount(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_ = s.Stop(ctx) // Says that the time was over, or not: it may just do.
	w.dispatch(t, testConfig())
	require.Equal(t, int32(1), w.ledger.state(t, id, "delivered").GetNumber(), "nothing was recorded of the attempt that was cut off")
	require.Len(t, w.ledger.of(id), 1)
}

// Two dispatchers share the shards; when one loses its connection for good, the other has them
// all within seconds.
func TestAnotherDispatcherTakesOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t)
	nc := w.server.Connect(t, nats.NoReconnect())
	lost := w.depsOn(t, nc)
	lost.Instance = "lost"
	first, err := dispatcher.New(testConfig(), lost)
	require.NoError(t, err)
	require.NoError(t, first.Start(t.Context()))
	var hooks []*postriderv1.Webhook
	for shard := range shards {
		hooks = append(hooks, onShard(t, w, shard, receiver.URL))
	}
	both := func() {
		for _, hook := range hooks {
			for _, id := range w.send(t, hook, 20) {
				w.ledger.state(t, id, "delivered")
			}
		}
	}
	both() // The first holds all shards.
	w.dispatch(t, testConfig())
	both()
	nc.Close()
	require.Eventually(t, func() bool { return first.Ready() != nil }, patience, 10*time.Millisecond)
	both()
	w.settled(t)
	require.Equal(t, 120, receiver.Count())
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_ = first.Stop(ctx) // Cannot say goodbye.
}

func TestStoppingTwiceAndWithoutStarting(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, stop := w.dispatch(t, testConfig())
	require.Eventually(t, func() bool { return s.Ready() == nil }, patience, time.Millisecond)
	stop()
	require.NoError(t, s.Stop(t.Context()))
	require.Error(t, s.Ready())
	other, err := dispatcher.New(testConfig(), w.deps())
	require.NoError(t, err)
	require.NoError(t, other.Stop(t.Context()), "it was never started")
}
