package dispatcher_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/timestamppb"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/test/fixture/receivertest"
)

const (
	waitingKind = recordv1.RetryKind_RETRY_KIND_WAITING
	parkedKind  = recordv1.RetryKind_RETRY_KIND_PARKED
	heldKind    = recordv1.RetryKind_RETRY_KIND_HELD
	delayedKind = recordv1.RetryKind_RETRY_KIND_DELAYED
)

func TestDeliveriesOfAPausedWebhookAreHeld(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t)
	hook := w.webhook(t, receiver.URL, setState(paused))
	w.dispatch(t, testConfig())
	ids := w.send(t, hook, 3)
	for _, id := range ids {
		e := w.ledger.await(t, id, "that holds", func(e *recordv1.JournalEntry) bool { return e.GetHeld() != nil })
		require.Equal(t, "paused", e.GetHeld().GetReason())
	}
	w.settled(t)
	for _, id := range ids {
		r := w.record(t, id, hook)
		require.Equal(t, heldKind, r.GetKind())
		require.NotZero(t, r.GetWebhookRevision())
		require.NotEmpty(t, r.GetDelivery().GetData())
	}
	require.Zero(t, receiver.Count())

	// A held record that is met while the webhook is paused is written back. If it was released
	// before its time, it counts as resumed until the journal says that it is held again.
	w.release(t, ids[0], hook)
	require.Eventually(t, func() bool { return len(w.ledger.of(ids[0])) == 2 }, patience, 10*time.Millisecond)
	require.NotNil(t, w.ledger.of(ids[0])[1].GetHeld())
	w.settled(t)
	require.Equal(t, heldKind, w.record(t, ids[0], hook).GetKind())

	// If it came due by itself, nothing has changed.
	due := w.delivery(hook, "{}")
	w.put(t, &recordv1.Retry{Delivery: due, Kind: heldKind, DueTime: timestamppb.Now(), Reason: "paused"})
	w.release(t, due.GetId(), hook)
	require.Eventually(t, func() bool {
		r := w.record(t, due.GetId(), hook)
		return r != nil && r.GetDueTime().AsTime().After(time.Now())
	}, patience, 10*time.Millisecond)
	require.Empty(t, w.ledger.of(due.GetId()))

	// One that is met when the webhook is active is attempted.
	w.update(t, hook.GetId(), setState(active))
	for _, id := range ids {
		w.release(t, id, hook)
		w.ledger.state(t, id, "delivered")
	}
	w.settled(t)
	require.Equal(t, 3, receiver.Count())
	require.Len(t, w.ledger.of(ids[1]), 2)
}

func TestARetryOfAWebhookThatWasPausedMeanwhileIsHeld(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t).Respond(500)
	hook := w.webhook(t, receiver.URL, func(h *postriderv1.Webhook) { h.RetrySchedule = schedule(time.Hour) })
	w.dispatch(t, testConfig())
	id := w.send(t, hook, 1)[0]
	w.ledger.state(t, id, "waiting")
	w.settled(t)
	w.update(t, hook.GetId(), setState(disabled))
	w.release(t, id, hook)
	e := w.ledger.await(t, id, "that holds", func(e *recordv1.JournalEntry) bool { return e.GetHeld() != nil })
	require.Equal(t, "disabled", e.GetHeld().GetReason())
	w.settled(t)
	r := w.record(t, id, hook)
	require.Equal(t, heldKind, r.GetKind())
	require.Equal(t, int32(1), r.GetDelivery().GetProgress().GetAttempts(), "holding burns no attempt")
	require.Equal(t, 1, receiver.Count())
}

func TestARecordThatIsWrittenBackKeepsWhatALaterVersionWrote(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hook := w.webhook(t, "http://127.0.0.1:1", setState(paused))
	later := protowire.AppendString(protowire.AppendTag(nil, 1900, protowire.BytesType), "of a later version")
	d := w.delivery(hook, "{}")
	d.ProtoReflect().SetUnknown(later)
	record := &recordv1.Retry{Delivery: d, Kind: waitingKind, DueTime: timestamppb.New(time.Now().Add(time.Hour)), Reason: "http_status"}
	record.ProtoReflect().SetUnknown(later)
	w.put(t, record)
	w.dispatch(t, testConfig())
	w.release(t, d.GetId(), hook)
	w.ledger.await(t, d.GetId(), "that holds", func(e *recordv1.JournalEntry) bool { return e.GetHeld() != nil })
	w.settled(t)
	r := w.record(t, d.GetId(), hook)
	require.Equal(t, heldKind, r.GetKind())
	require.Equal(t, later, []byte(r.ProtoReflect().GetUnknown()))
	require.Equal(t, later, []byte(r.GetDelivery().ProtoReflect().GetUnknown()))
}

func TestADeliveryThatWasHeldTooLongIsADeadLetter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	longAgo := timestamppb.New(time.Now().Add(-8 * 24 * time.Hour))
	hook := w.webhook(t, "http://127.0.0.1:1", setState(paused), func(h *postriderv1.Webhook) { h.StateTime = longAgo })
	w.dispatch(t, testConfig())
	old, young := w.delivery(hook, "{}"), w.delivery(hook, "{}")
	old.AcceptTime, old.RouteTime = longAgo, longAgo
	w.publish(t, old, young)
	e := w.ledger.await(t, old.GetId(), "that buries", func(e *recordv1.JournalEntry) bool { return e.GetDead() != nil })
	require.Equal(t, "expired", e.GetDead().GetCause())
	w.ledger.await(t, young.GetId(), "that holds", func(e *recordv1.JournalEntry) bool { return e.GetHeld() != nil })
	w.settled(t)
	letter, _, err := w.deadLetters.Get(t.Context(), postriderAccount(w), postriderDelivery(old.GetId()))
	require.NoError(t, err)
	require.Equal(t, "expired", letter.GetCause())
}

func TestAGoneReceiverHasItsWebhookDisabled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.disabler.fail = 1
	release := make(chan struct{})
	receiver := receivertest.New(t).Answer(receivertest.Status(http.StatusGone), receivertest.Hang(release))
	hook := w.webhook(t, receiver.URL, func(h *postriderv1.Webhook) { h.MaxInFlight = 1 })
	w.dispatch(t, testConfig())
	ids := w.send(t, hook, 1)
	a := w.ledger.state(t, ids[0], "held")
	require.Equal(t, "gone", a.GetReason())
	require.Equal(t, "gone", a.GetOutcome())
	// What comes before the api has confirmed is held here.
	ids = append(ids, w.send(t, hook, 5)...)
	for _, id := range ids[1:] {
		w.ledger.await(t, id, "that holds", func(e *recordv1.JournalEntry) bool { return e.GetHeld() != nil })
	}
	require.Eventually(t, func() bool {
		rec, _, err := w.store.GetWebhook(t.Context(), w.account, hook.GetId())
		return err == nil && rec.GetWebhook().GetState() == disabled && rec.GetWebhook().GetStateReason() == "gone"
	}, patience, 10*time.Millisecond)
	w.settled(t)
	for _, id := range ids {
		require.Equal(t, heldKind, w.record(t, id, hook).GetKind())
	}
	require.Equal(t, 1, receiver.Count())

	// They go on when the owner enables the webhook again.
	close(release)
	w.update(t, hook.GetId(), setState(active))
	for _, id := range ids {
		w.release(t, id, hook)
		w.ledger.state(t, id, "delivered")
	}
}

func TestAWebhookThatItsOwnerChangedIsNotDisabled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.disabler.fail = 3
	receiver := receivertest.New(t).Respond(http.StatusGone, http.StatusOK)
	hook := w.webhook(t, receiver.URL)
	w.dispatch(t, testConfig())
	id := w.send(t, hook, 1)[0]
	w.ledger.state(t, id, "held")
	w.update(t, hook.GetId(), func(h *postriderv1.Webhook) { h.Url = receiver.URL + "/new" })
	next := w.send(t, hook, 1)[0]
	w.ledger.state(t, next, "delivered")
	rec, _, err := w.store.GetWebhook(t.Context(), w.account, hook.GetId())
	require.NoError(t, err)
	require.Equal(t, active, rec.GetWebhook().GetState())
}

func TestDeliveriesOfADeletedWebhookAreCancelled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t).Respond(500)
	hook := w.webhook(t, receiver.URL, func(h *postriderv1.Webhook) { h.RetrySchedule = schedule(time.Hour) })
	w.dispatch(t, testConfig())
	failed := w.send(t, hook, 1)[0]
	w.ledger.state(t, failed, "waiting")
	w.settled(t)
	w.remove(t, hook.GetId())
	w.release(t, failed, hook)
	fresh := w.send(t, hook, 1)[0]
	for _, id := range []string{failed, fresh} {
		e := w.ledger.await(t, id, "that cancels", func(e *recordv1.JournalEntry) bool { return e.GetCancelled() != nil })
		require.Equal(t, "webhook_deleted", e.GetCancelled().GetReason())
	}
	w.settled(t)
	require.Equal(t, 1, receiver.Count())
}

func TestACancelledDeliveryIsNotAttempted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t)
	hook := w.webhook(t, receiver.URL)
	marked, kept := w.delivery(hook, "{}"), w.delivery(hook, "{}")
	_, err := w.store.MarkCancelled(t.Context(), w.account, marked.GetId())
	require.NoError(t, err)
	w.dispatch(t, testConfig())
	w.publish(t, marked, kept)
	e := w.ledger.await(t, marked.GetId(), "that cancels", func(e *recordv1.JournalEntry) bool { return e.GetCancelled() != nil })
	require.Equal(t, "request", e.GetCancelled().GetReason())
	w.ledger.state(t, kept.GetId(), "delivered")
	w.settled(t)
	require.Equal(t, 1, receiver.Count())
}

// After a change was confirmed by the barrier, no request that was not begun before it arrives.
func TestNothingStartsAfterADeleteHasAnswered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t)
	hook := w.webhook(t, receiver.URL)
	w.dispatch(t, testConfig())
	stop := make(chan struct{})
	var publisher sync.WaitGroup
	publisher.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				w.send(t, hook, 20)
			}
		}
	})
	receiver.AwaitCount(t, 50)
	w.remove(t, hook.GetId())
	answered := time.Now()
	last := w.send(t, hook, 20)[19]
	w.ledger.await(t, last, "that cancels", func(e *recordv1.JournalEntry) bool { return e.GetCancelled() != nil })
	close(stop)
	publisher.Wait()
	w.settled(t)
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	for id, entries := range w.ledger.entries {
		for _, e := range entries {
			if a := e.GetAttempted(); a != nil {
				require.True(t, a.GetStartTime().AsTime().Before(answered), id)
			}
		}
	}
}

func TestNoAttemptBeginsBeyondTheHorizonOfASchedule(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t)
	hook := w.webhook(t, receiver.URL, func(h *postriderv1.Webhook) { h.Profile, h.RetrySchedule = "offblocks", nil })
	late, held := w.delivery(hook, "{}"), w.delivery(hook, "{}")
	for _, d := range []*recordv1.Delivery{late, held} {
		d.Progress = &recordv1.Progress{Attempts: 9, FirstAttemptTime: timestamppb.New(time.Now().Add(-25 * time.Hour))}
	}
	w.put(t, &recordv1.Retry{Delivery: held, Kind: heldKind, DueTime: timestamppb.New(time.Now().Add(time.Hour))})
	w.dispatch(t, testConfig())
	w.publish(t, late)
	e := w.ledger.await(t, late.GetId(), "that buries", func(e *recordv1.JournalEntry) bool { return e.GetDead() != nil })
	require.Equal(t, "expired", e.GetDead().GetCause())
	// One that waited for its owner is not given up for that. Here it only lacks a key to sign with.
	w.release(t, held.GetId(), hook)
	e = w.ledger.await(t, held.GetId(), "that parks", func(e *recordv1.JournalEntry) bool { return e.GetWaiting() != nil })
	require.Equal(t, "configuration", e.GetWaiting().GetReason())
	w.settled(t)
	letter, _, err := w.deadLetters.Get(t.Context(), postriderAccount(w), postriderDelivery(late.GetId()))
	require.NoError(t, err)
	require.JSONEq(t, "{}", string(letter.GetDelivery().GetData()))
	require.Zero(t, receiver.Count())
}
