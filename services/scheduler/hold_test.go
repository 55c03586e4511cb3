package scheduler_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/scheduler"
)

func TestAPauseHoldsWhatWaitsAndAResumeReleasesIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	client := w.start(quick(), scheduler.NewMemoryIndex())
	hook, other := w.webhook(), w.webhook()
	retries := append(hook.retries(300, waiting, time.Now().Add(time.Hour)), hook.retries(20, parked, time.Now().Add(time.Hour))...)
	w.schedule(client, retries...)
	w.schedule(client, other.retries(10, waiting, time.Now().Add(time.Hour))...)

	w.known(client, hook)
	hook.pause()
	w.eventually(func() bool { return hook.kinds()[held] == len(retries) }, "everything is held")
	require.Equal(t, map[recordv1.RetryKind]int{waiting: 10}, other.kinds())
	require.Equal(t, len(retries), hook.count(isHeld), "each hold is journalled")
	for _, r := range hook.records() {
		require.Equal(t, hook.revision, r.Retry.GetWebhookRevision())
		require.Equal(t, "paused", r.Retry.GetReason())
		require.WithinDuration(t, time.Now().Add(time.Hour), r.Retry.GetDueTime().AsTime(), 7*time.Minute)
		require.Equal(t, []byte(`{"number":42}`), r.Retry.GetDelivery().GetData())
		require.Equal(t, int32(1), r.Retry.GetDelivery().GetProgress().GetAttempts())
	}

	hook.resume()
	w.await(len(retries))
	require.ElementsMatch(t, deliveries(retries), dueIDs(w.got()))
	w.eventually(func() bool { return len(hook.records()) == 0 }, "nothing is held")
	require.GreaterOrEqual(t, hook.count(isReleased), len(retries))
	require.Empty(t, other.entries())
}

func TestAHoldKeepsWhatALaterVersionWrote(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	hook := w.webhook()
	later := protowire.AppendString(protowire.AppendTag(nil, 1900, protowire.BytesType), "of a later version")
	retries := hook.retries(3, waiting, time.Now().Add(time.Hour))
	for _, r := range retries {
		r.ProtoReflect().SetUnknown(later)
		r.GetDelivery().ProtoReflect().SetUnknown(later)
	}
	w.put(retries...)
	w.start(quick(), scheduler.NewMemoryIndex())
	hook.pause()
	w.eventually(func() bool { return hook.kinds()[held] == len(retries) }, "everything is held")
	for _, r := range hook.records() {
		require.Equal(t, later, []byte(r.Retry.ProtoReflect().GetUnknown()))
		require.Equal(t, later, []byte(r.Retry.GetDelivery().ProtoReflect().GetUnknown()))
	}
}

func TestHeldDeliveriesAreReleasedInTheOrderOfTheirEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	hook := w.webhook()
	retries := hook.retries(200, held, time.Now().Add(time.Hour))
	want := deliveries(retries)
	// The order of the stream is another, as it is after an hour's hold.
	shuffled := slices.Clone(retries)
	slices.Reverse(shuffled)
	w.put(shuffled...)
	w.start(quick(), scheduler.NewMemoryIndex())
	require.Equal(t, want, dueIDs(w.await(len(retries))))
}

func TestHeldDeliveriesAreReleasedAtTheWebhooksRate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	limit := 40.0
	hook := w.webhook(func(h *postriderv1.Webhook) { h.RateLimit = &limit })
	retries := hook.retries(60, held, time.Now().Add(time.Hour))
	w.put(retries...)
	begun := time.Now()
	w.start(quick(), scheduler.NewMemoryIndex())
	dues := w.await(len(retries))
	// Sixty at forty a second, less a burst of four.
	require.GreaterOrEqual(t, dues[len(dues)-1].at.Sub(begun), 1400*time.Millisecond)
}

func TestDelayedDeliveriesKeepTheirTimeAcrossAPause(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	client := w.start(quick(), scheduler.NewMemoryIndex())
	hook := w.webhook()
	hook.pause()
	w.hold(client, hook)
	soon := hook.retry(delayed, time.Now().Add(200*time.Millisecond))
	later := hook.retry(delayed, time.Now().Add(time.Hour))
	w.schedule(client, soon, later)
	w.eventually(func() bool { return hook.kinds()[held] == 1 }, "what has come due is held")
	require.Equal(t, 1, hook.kinds()[delayed])
	require.Empty(t, w.got())
	hook.resume()
	require.Equal(t, soon.GetDelivery().GetId(), w.await(1)[0].delivery())
	require.Equal(t, map[recordv1.RetryKind]int{delayed: 1}, hook.kinds())
}

func TestAHeldRecordCarriesThePayloadThatItReferredTo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	client := w.start(quick(), scheduler.NewMemoryIndex())
	hook := w.webhook()
	retry := hook.retry(waiting, time.Now().Add(time.Hour))
	event := &recordv1.Event{
		Id: retry.GetDelivery().GetEventId(), AccountId: string(hook.account()), Type: "release.live",
		ContentType: "application/json", Data: []byte(`{"large":true}`),
	}
	sequence := w.publish(event)
	retry.Delivery.Data, retry.Delivery.DataByReference, retry.Delivery.EventSequence = nil, true, sequence
	gone := proto.CloneOf(retry)
	gone.Delivery.EventSequence = sequence + 1000
	gone.Delivery.Id = string(postrider.DeliveryIDFor("evt_gone", hook.id(), ""))
	w.schedule(client, retry, gone)
	w.known(client, hook)
	hook.pause()
	w.eventually(func() bool { return hook.kinds()[held] == 2 }, "both are held")
	for _, r := range hook.records() {
		d := r.Retry.GetDelivery()
		if d.GetId() == gone.GetDelivery().GetId() {
			require.True(t, d.GetDataByReference(), "the dispatcher will say that the payload is gone")
			continue
		}
		require.False(t, d.GetDataByReference())
		require.Equal(t, event.GetData(), d.GetData())
	}
}

func TestWhatRanPastAPauseOrAResumeIsPutRight(t *testing.T) {
	t.Parallel()
	t.Run("a retry handed over for a paused webhook is held", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, time.Hour)
		client := w.start(quick(), scheduler.NewMemoryIndex())
		hook := w.webhook()
		hook.pause()
		w.hold(client, hook)
		w.schedule(client, hook.retries(5, waiting, time.Now().Add(time.Hour))...)
		w.eventually(func() bool { return hook.kinds()[held] == 5 }, "all are held")
	})
	t.Run("a record held for a webhook that is active again is released", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, time.Hour)
		client := w.start(quick(), scheduler.NewMemoryIndex())
		hook := w.webhook()
		hook.pause()
		hook.resume()
		w.known(client, hook)
		retries := hook.retries(5, held, time.Now().Add(time.Hour))
		w.schedule(client, retries...)
		require.ElementsMatch(t, deliveries(retries), dueIDs(w.await(5)))
	})
	t.Run("a retry that is due while its webhook is paused is held, not released", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, time.Hour)
		client := w.start(quick(), scheduler.NewMemoryIndex())
		hook := w.webhook()
		hook.pause()
		w.hold(client, hook)
		w.schedule(client, hook.retries(5, waiting, time.Now())...)
		w.eventually(func() bool { return hook.kinds()[held] == 5 }, "all are held")
		require.Empty(t, w.got())
	})
	t.Run("what changed while no scheduler ran is found", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, time.Hour)
		stopped, resumed := w.webhook(), w.webhook()
		w.put(stopped.retries(3, waiting, time.Now().Add(time.Hour))...)
		back := resumed.retries(3, held, time.Now().Add(time.Hour))
		w.put(back...)
		stopped.pause()
		w.start(quick(), scheduler.NewMemoryIndex())
		require.ElementsMatch(t, deliveries(back), dueIDs(w.await(3)))
		w.eventually(func() bool { return stopped.kinds()[held] == 3 }, "all are held")
	})
}

func TestHoldAndResumeAnswerForTheStateOfTheWebhook(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	client := w.start(quick(), scheduler.NewMemoryIndex())
	hook := w.webhook()
	w.schedule(client, hook.retries(7, waiting, time.Now().Add(time.Hour))...)

	answer := w.hold(client, hook)
	require.Zero(t, answer.GetHeld(), "an active webhook holds nothing")
	require.Equal(t, 7, hook.kinds()[waiting])

	hook.pause()
	w.hold(client, hook)
	require.Equal(t, 7, hook.kinds()[held], "when the call answers, everything is held")
	resume := &schedulerv1.ResumeRequest{AccountId: string(hook.account()), WebhookId: string(hook.id())}
	_, err := client.Resume(t.Context(), resume)
	requireKind(t, err, fault.Precondition)

	hook.resume()
	w.eventually(func() bool {
		_, err := client.Resume(t.Context(), resume)
		return err == nil
	}, "the scheduler sees the resume")
	w.await(7)

	_, err = client.Resume(t.Context(), &schedulerv1.ResumeRequest{AccountId: string(hook.account()), WebhookId: string(postrider.NewWebhookID())})
	requireKind(t, err, fault.NotFound)
	_, err = client.Resume(t.Context(), &schedulerv1.ResumeRequest{AccountId: string(postrider.NewAccountID()), WebhookId: string(hook.id())})
	requireKind(t, err, fault.NotFound)
	_, err = client.Hold(t.Context(), &schedulerv1.HoldRequest{
		AccountId: string(hook.account()), WebhookId: string(hook.id()), WebhookRevision: hook.revision + 1000,
	})
	requireKind(t, err, fault.Unavailable)
}

// requireKind holds an error that crossed gRPC to a kind.
func requireKind(t *testing.T, err error, want fault.Kind) {
	t.Helper()
	require.Error(t, err)
	kind, ok := fault.KindOf(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, want, kind, "%v", err)
	require.NotEqual(t, codes.Internal, status.Code(err))
}

// hold calls Hold for the webhook's last revision.
func (w *world) hold(client schedulerv1.SchedulerServiceClient, h *hook) *schedulerv1.HoldResponse {
	w.t.Helper()
	resp, err := client.Hold(w.t.Context(), &schedulerv1.HoldRequest{
		AccountId: string(h.account()), WebhookId: string(h.id()), Reason: "paused", WebhookRevision: h.revision,
	})
	require.NoError(w.t, err)
	return resp
}
