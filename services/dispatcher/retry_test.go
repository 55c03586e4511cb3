package dispatcher_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	dispatcherv1 "github.com/postrider/postrider/proto/gen/go/postrider/dispatcher/v1"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/deadletterstream"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/test/fixture/receivertest"
)

func retryRequest(d *recordv1.Delivery) *dispatcherv1.SendRetryRequest {
	return &dispatcherv1.SendRetryRequest{AccountId: d.GetAccountId(), WebhookId: d.GetWebhookId(), DeliveryId: d.GetId(), EventId: d.GetEventId()}
}

// waitingFar is a delivery that failed twice and waits for an hour.
func (w *world) waitingFar(t *testing.T, hook *postriderv1.Webhook) *recordv1.Delivery {
	t.Helper()
	d := w.delivery(hook, `{"n":1}`)
	d.Progress = &recordv1.Progress{Attempts: 2, FirstAttemptTime: timestamppb.Now(), LastStatusCode: 503}
	w.put(t, &recordv1.Retry{
		Delivery: d, Kind: recordv1.RetryKind_RETRY_KIND_WAITING, DueTime: timestamppb.New(time.Now().Add(time.Hour)), Reason: "http_status",
	})
	return d
}

func (w *world) standing(t *testing.T, d *recordv1.Delivery) (*retrystream.Record, error) {
	t.Helper()
	return w.retries.Last(t.Context(), postrider.AccountID(d.GetAccountId()), postrider.WebhookID(d.GetWebhookId()), postrider.DeliveryID(d.GetId()))
}

func TestAManualRetryThatSucceedsEndsWhatWaitsAndOneThatFailsLeavesItAsItWas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t).Answer(receivertest.Status(500), receivertest.Status(200))
	s, _ := w.dispatch(t, testConfig())
	api := client(t, w, s)
	d := w.waitingFar(t, w.webhook(t, receiver.URL))
	before, err := w.standing(t, d)
	require.NoError(t, err)

	res, err := api.SendRetry(t.Context(), retryRequest(d))
	require.NoError(t, err)
	require.Equal(t, "retryable", res.GetAttempt().GetOutcome())
	require.Equal(t, "manual", res.GetAttempt().GetTrigger())
	require.Zero(t, res.GetAttempt().GetNumber())
	require.Empty(t, res.GetAttempt().GetState(), "it says nothing of the delivery")
	after, err := w.standing(t, d)
	require.NoError(t, err)
	require.Equal(t, before.Sequence, after.Sequence, "the schedule is as it was")

	res, err = api.SendRetry(t.Context(), retryRequest(d))
	require.NoError(t, err)
	require.Equal(t, "delivered", res.GetAttempt().GetState())
	_, err = w.standing(t, d)
	require.ErrorIs(t, err, retrystream.ErrGone)
	w.ledger.await(t, d.GetId(), "that it is delivered", func(e *recordv1.JournalEntry) bool { return e.GetAttempted().GetState() == "delivered" })
	first, second := receiver.Next(t), receiver.Next(t)
	require.Equal(t, first.Header.Get("Webhook-Id"), second.Header.Get("Webhook-Id"))
}

func TestTwoManualRetriesAtOnceAreTwoAttempts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	release := make(chan struct{})
	receiver := receivertest.New(t).Answer(receivertest.Hang(release), receivertest.Hang(release))
	s, _ := w.dispatch(t, testConfig())
	api := client(t, w, s)
	d := w.waitingFar(t, w.webhook(t, receiver.URL))
	ids := make(chan string, 2)
	for range 2 {
		go func() {
			res, err := api.SendRetry(t.Context(), retryRequest(d))
			if err != nil {
				t.Error(err)
			}
			ids <- res.GetAttempt().GetAttemptId()
		}()
	}
	receiver.AwaitCount(t, 2)
	close(release)
	one, other := <-ids, <-ids
	require.NotEqual(t, one, other)
}

func TestAManualRetryFindsADeadDeliveryAndOneThatWaitsNowhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t).Answer(receivertest.Status(http.StatusNoContent))
	s, _ := w.dispatch(t, testConfig())
	api := client(t, w, s)
	hook := w.webhook(t, receiver.URL)
	dead := w.delivery(hook, `{"dead":true}`)
	stored := make(chan error, 1)
	require.NoError(t, w.deadLetters.Publish(t.Context(), &recordv1.DeadLetter{Delivery: dead, Cause: "exhausted", Time: timestamppb.Now()},
		func(err error) { stored <- err }))
	require.NoError(t, <-stored)
	_, err := api.SendRetry(t.Context(), retryRequest(dead))
	require.NoError(t, err)
	require.JSONEq(t, `{"dead":true}`, string(receiver.Next(t).Body))
	_, _, err = w.deadLetters.Get(t.Context(), postrider.AccountID(w.account), postrider.DeliveryID(dead.GetId()))
	require.ErrorIs(t, err, deadletterstream.ErrNotFound, "it is no dead letter any more")

	ev, _ := w.publishEvent(t, `{"event":true}`)
	d := w.delivery(hook, "")
	d.EventId, d.Id = ev.GetId(), string(postrider.DeliveryIDFor(postrider.EventID(ev.GetId()), postrider.WebhookID(hook.GetId()), ""))
	_, err = api.SendRetry(t.Context(), retryRequest(d))
	require.NoError(t, err)
	require.JSONEq(t, `{"event":true}`, string(receiver.Next(t).Body))
}

func TestAManualRetryIsRefusedWhereNoAttemptMayBegin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t)
	s, _ := w.dispatch(t, testConfig())
	api := client(t, w, s)
	kind := func(d *recordv1.Delivery) fault.Kind {
		_, err := api.SendRetry(t.Context(), retryRequest(d))
		k, _ := fault.KindOf(err)
		return k
	}
	require.Equal(t, fault.Precondition, kind(w.waitingFar(t, w.webhook(t, receiver.URL, setState(paused)))))
	require.Equal(t, fault.Invalid, kind(&recordv1.Delivery{}))
	hook := w.webhook(t, receiver.URL)
	require.Equal(t, fault.Precondition, kind(w.delivery(hook, "{}")), "neither it nor its event is kept")
	foreign := w.waitingFar(t, hook)
	foreign.AccountId = string(postrider.NewAccountID())
	require.Equal(t, fault.Precondition, kind(foreign), "another account has no such delivery")
	cancelled := w.waitingFar(t, hook)
	rev, err := w.store.MarkCancelled(t.Context(), w.account, cancelled.GetId())
	require.NoError(t, err)
	require.NoError(t, w.barrier.Confirm(t.Context(), config.BucketCancellations, rev))
	require.Equal(t, fault.Precondition, kind(cancelled))
	receiver.AwaitCount(t, 0)
}

func TestAMarkOfAnEventEndsWhatRoutingMadeOfItAndNotWhatWasReplayedOrRedriven(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t)
	w.dispatch(t, testConfig())
	hook := w.webhook(t, receiver.URL)
	routed, replayed, redriven := w.delivery(hook, `1`), w.delivery(hook, `2`), w.delivery(hook, `3`)
	replayed.EventId, redriven.EventId = routed.GetEventId(), routed.GetEventId()
	replayed.ReplayId = string(postrider.NewReplayID())
	redriven.Progress = &recordv1.Progress{Series: 1}
	rev, err := w.store.MarkCancelled(t.Context(), w.account, routed.GetEventId())
	require.NoError(t, err)
	require.NoError(t, w.barrier.Confirm(t.Context(), config.BucketCancellations, rev))
	w.publish(t, routed, replayed, redriven)
	w.ledger.await(t, routed.GetId(), "that it is cancelled", func(e *recordv1.JournalEntry) bool { return e.GetCancelled().GetReason() == "request" })
	for _, d := range []*recordv1.Delivery{replayed, redriven} {
		e := w.ledger.await(t, d.GetId(), "that it is delivered", func(e *recordv1.JournalEntry) bool { return e.GetAttempted().GetState() == "delivered" })
		require.Equal(t, d.GetProgress().GetSeries(), e.GetSeries())
	}
	receiver.AwaitCount(t, 2)
}
