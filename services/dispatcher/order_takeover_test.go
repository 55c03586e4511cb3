package dispatcher_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/services/dispatcher"
	"github.com/postrider/postrider/test/fixture/receivertest"
)

// A dispatcher dies in the middle of it: what it had in its hands comes again, and nothing later goes first.
func TestALineIsTakenOverInOrderFromADispatcherThatDied(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := newLineReceiver(t)
	receiver.delay = 2 * time.Millisecond
	var failing atomic.Int64
	receiver.answer = func(body string, attempt int) int {
		if attempt == 1 && strings.HasSuffix(body, "7") {
			failing.Add(1)
			return http.StatusInternalServerError
		}
		return http.StatusOK
	}
	strict := w.webhook(t, receiver.URL, ordered("strict"), retrying(10))
	nc := w.server.Connect(t)
	first := w.depsOn(t, nc)
	first.Instance = "first"
	s, err := dispatcher.New(testConfig(), first)
	require.NoError(t, err)
	require.NoError(t, s.Start(t.Context()))
	w.route(t, 2, strict)
	w.accept(t, 0, 400)
	receiver.await(t, 60)
	nc.Close() // It cannot store anything any more, nor give anything back.
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Second)
		defer cancel()
		_ = s.Stop(ctx) // that it cannot is what the test is about
	})
	w.accept(t, 400, 100)
	w.dispatch(t, testConfig(), func(d *dispatcher.Deps) { d.Instance = "second" })
	receiver.await(t, 500)
	receiver.set(func(r *lineReceiver) { r.twice = 0 }) // the dead one's last attempt may still have been out
	receiver.inOrder(t)
	require.NotZero(t, failing.Load())
}

// What waits from before the webhook was ordered has its place, in whichever record it is, and nothing is
// attempted before that is known.
func TestAWebhookThatBecomesOrderedKeepsWhatWaitsInOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := newLineReceiver(t)
	hook := w.webhook(t, receiver.URL, ordered("strict"), retrying(5))
	w.accept(t, 0, 40)
	// A predecessor has left: retries that are due at any time, a held one, and one that was released.
	var list []*recordv1.Delivery
	seg := w.events.Of(postriderAccount(w))
	router, err := seg.Router(t.Context())
	require.NoError(t, err)
	_ = router
	require.NoError(t, w.events.Scan(t.Context(), time.Time{}, func(sequence uint64, ev *recordv1.Event) error {
		d := deliverystream.Of(ev, sequence, postrider.WebhookID(hook.GetId()), "")
		d.Data = ev.GetData()
		list = append(list, d)
		return nil
	}))
	require.Len(t, list, 40)
	for i := 20; i >= 0; i-- {
		r := &recordv1.Retry{Delivery: list[i], Kind: waitingKind, DueTime: timestamppb.New(time.Now().Add(time.Duration(i%7) * 300 * time.Millisecond))}
		if i%5 == 2 {
			r.Kind, r.Reason, r.DueTime = parkedKind, "ordering", timestamppb.New(time.Now().Add(time.Hour))
		}
		_, err := w.scheduler.ScheduleRetry(t.Context(), scheduleRequest(r))
		require.NoError(t, err)
	}
	w.release(t, list[11].GetId(), hook)
	w.dispatch(t, testConfig())
	w.route(t, 2, hook)
	receiver.await(t, 40)
	receiver.inOrder(t)
}

// An owner who makes a webhook ordered while its deliveries fail, and not ordered again while they wait.
func TestOrderingIsSwitchedOnAndOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := newLineReceiver(t)
	failing := true
	receiver.answer = func(body string, _ int) int {
		if failing && strings.HasSuffix(body, "0") {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	}
	hook := w.webhook(t, receiver.URL, retrying(24))
	cfg := testConfig()
	cfg.Pipeline.Breaker.Failures = 1000
	s, _ := w.dispatch(t, cfg)
	w.route(t, 2, hook)
	w.accept(t, 0, 100)
	receiver.await(t, 90)
	w.update(t, hook.GetId(), ordered("strict"))
	w.accept(t, 100, 100)
	api := client(t, w, s)
	blocked := awaitHealth(t, api, hook, func(h *postriderv1.WebhookHealth) bool {
		o := h.GetOrdering()
		return o.GetBlockedLines() == 1 && o.GetWaiting() == 110 && !o.GetSettling()
	}).GetOrdering().GetBlocked()[0]
	require.NotEmpty(t, blocked.GetDeliveryId())
	require.Equal(t, "http_status", blocked.GetReason())
	require.Equal(t, int64(109), blocked.GetBehind())
	require.NotNil(t, blocked.GetSince())
	receiver.set(func(r *lineReceiver) {
		for i := 100; i < 200; i++ {
			require.Zero(t, r.tries[bodyOf(i)], "behind those that fail")
		}
	})
	w.update(t, hook.GetId(), ordered("none"))
	receiver.await(t, 180)
	receiver.set(func(*lineReceiver) { failing = false })
	receiver.await(t, 200)
}

// Whoever is paused and resumed goes on in order.
func TestAnOrderedWebhookIsPausedAndResumed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := newLineReceiver(t)
	hook := w.webhook(t, receiver.URL, ordered("strict"))
	w.dispatch(t, testConfig())
	w.route(t, 2, hook)
	w.accept(t, 0, 50)
	receiver.await(t, 50)
	w.update(t, hook.GetId(), setState(paused))
	w.accept(t, 50, 50)
	require.Eventually(t, func() bool { return len(w.scheduler.records(heldKind)) >= 50 }, patience, tick)
	w.update(t, hook.GetId(), setState(active))
	w.accept(t, 100, 50)
	// As the scheduler does, but in any order.
	require.NoError(t, w.retries.ScanWebhook(t.Context(), postriderAccount(w), postrider.WebhookID(hook.GetId()), retrystream.Place{}, func(r retrystream.Record) error {
		if r.Retry.GetKind() != heldKind {
			return nil
		}
		return w.retries.Release(t.Context(), r, func(error) {})
	}))
	receiver.await(t, 150)
	receiver.inOrder(t)
}

// More waits than a book holds: what it does not know is read when it has room.
func TestABookThatIsFullIsReadAgain(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"strict", "key"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			receiver := newLineReceiver(t)
			mended := false
			receiver.answer = func(body string, _ int) int {
				if !mended && (body == "a/000000" || body == "b/000001") {
					return http.StatusInternalServerError
				}
				return http.StatusOK
			}
			hook := w.webhook(t, receiver.URL, ordered(how), retrying(24))
			cfg := testConfig()
			cfg.Pipeline.Ordering.Line, cfg.Pipeline.Ordering.Book, cfg.Pipeline.Ordering.Window = 100, 150, 20
			w.dispatch(t, cfg)
			w.route(t, 2, hook)
			w.accept(t, 0, 1000, "a", "b")
			require.Eventually(t, func() bool { return len(w.scheduler.records(parkedKind)) >= 990 }, patience, tick)
			receiver.set(func(*lineReceiver) { mended = true })
			receiver.await(t, 1000)
			receiver.inOrder(t)
		})
	}
}

// What others have ended does not hold up those behind it.
func TestALineGoesOnWhenOthersEndItsHead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := newLineReceiver(t)
	receiver.answer = func(body string, _ int) int {
		if body == "/000000" {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	}
	hook := w.webhook(t, receiver.URL, ordered("strict"), func(h *postriderv1.Webhook) { h.RetrySchedule = schedule(time.Hour) })
	w.dispatch(t, testConfig())
	w.route(t, 2, hook)
	w.accept(t, 0, 20)
	var head retrystream.Record
	require.Eventually(t, func() bool {
		_ = w.retries.ScanWebhook(t.Context(), postriderAccount(w), postrider.WebhookID(hook.GetId()), retrystream.Place{}, func(r retrystream.Record) error {
			if r.Retry.GetKind() == waitingKind {
				head = r
			}
			return nil
		})
		return head.Retry != nil
	}, patience, tick)
	require.NoError(t, w.retries.Remove(t.Context(), head))
	receiver.await(t, 19)
	receiver.inOrder(t)
}

// A message that comes again, because its acknowledgement did not get there, and an event that is routed again
// under another sequence, are known in a line too.
func TestWhatComesAgainInALineIsAttemptedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t)
	hook := w.webhook(t, receiver.URL, ordered("strict"))
	w.accept(t, 0, 5)
	w.dispatch(t, testConfig())
	w.route(t, 1, hook)
	receiver.AwaitCount(t, 5)
	again := 0
	require.NoError(t, w.events.Scan(t.Context(), time.Time{}, func(sequence uint64, ev *recordv1.Event) error {
		d := deliverystream.Of(ev, sequence, postrider.WebhookID(hook.GetId()), "")
		d.Data = ev.GetData()
		again++
		// Under an id of its own, as after the window.
		stored := make(chan error, 1)
		require.NoError(t, w.deliveries.Forward(t.Context(), d, 9, sequence, func(err error) { stored <- err }))
		return <-stored
	}))
	require.Equal(t, 5, again)
	w.accept(t, 5, 5)
	receiver.AwaitCount(t, 10)
	w.settled(t)
	once(t, receiver, 10)
}

// The number of shards changes while a line is held up: what waits moves with the webhook, and the line goes on
// in order on its new home when everything is there.
func TestAnOrderedWebhookMovesToAnotherShardInOrder(t *testing.T) {
	t.Parallel()
	const to = 5
	w := newWorld(t)
	receiver := newLineReceiver(t)
	mended := false
	receiver.answer = func(body string, _ int) int {
		if !mended && body == bodyOf(3) {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	}
	hook := w.hookFor(t, receiver.URL, to, ordered("strict"), retrying(24))
	id := postrider.WebhookID(hook.GetId())
	before := w.client.Layout().Home(id)
	w.dispatch(t, testConfig())
	w.route(t, 2, hook)
	w.accept(t, 0, 100)
	require.Eventually(t, func() bool { return len(w.scheduler.records(parkedKind)) >= 90 }, patience, tick)
	w.reshard(t, to)
	w.accept(t, 100, 100)
	receiver.set(func(*lineReceiver) { mended = true })
	// The mover releases what is on the shard that the webhook has left, until nothing is.
	require.Eventually(t, func() bool {
		left := 0
		require.NoError(t, w.retries.ScanWebhook(t.Context(), postriderAccount(w), id, retrystream.Place{}, func(r retrystream.Record) error {
			if r.Shard != before {
				return nil
			}
			left++
			return w.retries.Move(t.Context(), r, func(error) {})
		}))
		first, err1 := deliverystream.CountAstray(t.Context(), w.client, before, w.client.Layout())
		due, err2 := retrystream.CountAstray(t.Context(), w.client, before, w.client.Layout())
		return errors.Join(err1, err2) == nil && first == 0 && due == 0 && left == 0
	}, patience, 50*time.Millisecond)
	require.NoError(t, w.topology.Settle(t.Context(), w.client.Layout()))
	_, err := w.topology.Refresh(t.Context())
	require.NoError(t, err)
	receiver.await(t, 200)
	receiver.inOrder(t)
}
