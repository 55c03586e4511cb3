package scheduler_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	"github.com/postrider/postrider/services/scheduler"
)

func cancelRequest(h *hook, delivery string) *schedulerv1.CancelRequest {
	return &schedulerv1.CancelRequest{AccountId: string(h.account()), WebhookId: string(h.id()), DeliveryId: delivery, Reason: "request"}
}

func TestACancelledDeliveryWaitsNoMoreAndIsJournalled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	client := w.start(quick(), scheduler.NewMemoryIndex())
	hook := w.webhook()
	retries := hook.retries(3, waiting, time.Now().Add(time.Hour))
	w.schedule(client, retries...)
	resp, err := client.Cancel(t.Context(), cancelRequest(hook, retries[1].GetDelivery().GetId()))
	require.NoError(t, err)
	require.EqualValues(t, 1, resp.GetCancelled())
	require.Len(t, hook.records(), 2)
	require.Equal(t, 1, hook.count(func(e *recordv1.JournalEntry) bool {
		return e.GetCancelled().GetReason() == "request" && e.GetDeliveryId() == retries[1].GetDelivery().GetId()
	}))

	resp, err = client.Cancel(t.Context(), cancelRequest(hook, retries[1].GetDelivery().GetId()))
	require.NoError(t, err, "a cancel may be repeated")
	require.Zero(t, resp.GetCancelled())
	resp, err = client.Cancel(t.Context(), cancelRequest(hook, string(postrider.DeliveryIDFor("evt_1", hook.id(), ""))))
	require.NoError(t, err, "the delivery may be in flight: the mark is what ends it")
	require.Zero(t, resp.GetCancelled())
}

// The journal says "waiting" before the record stands. A cancel in between finds no record; who
// stores it then meets the mark: the scheduler before it answers, and for what a dispatcher stored
// itself the sweep.
func TestACancelThatComesBeforeTheRecordEndsIt(t *testing.T) {
	t.Parallel()
	now := func(*world, func() bool) {}
	for name, c := range map[string]struct {
		sweep time.Duration
		store func(*world, schedulerv1.SchedulerServiceClient, ...*recordv1.Retry)
		wait  func(*world, func() bool)
	}{
		"stored by the scheduler": {time.Hour, func(w *world, client schedulerv1.SchedulerServiceClient, r ...*recordv1.Retry) {
			w.schedule(client, r...)
		}, now},
		"stored by a dispatcher": {
			100 * time.Millisecond, func(w *world, _ schedulerv1.SchedulerServiceClient, r ...*recordv1.Retry) { w.put(r...) },
			func(w *world, gone func() bool) { w.eventually(gone, "the sweep ends it") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, time.Hour)
			cfg := quick()
			cfg.SweepInterval = c.sweep
			client := w.start(cfg, scheduler.NewMemoryIndex())
			hook := w.webhook()
			retries := hook.retries(2, waiting, time.Now().Add(time.Hour))
			resp, err := client.Cancel(t.Context(), cancelRequest(hook, retries[0].GetDelivery().GetId()))
			require.NoError(t, err)
			require.Zero(t, resp.GetCancelled())
			c.store(w, client, retries...)
			c.wait(w, func() bool { return len(hook.records()) == 1 })
			left := hook.records()
			require.Len(t, left, 1)
			require.Equal(t, retries[1].GetDelivery().GetId(), left[0].Retry.GetDelivery().GetId())
			require.Equal(t, 1, hook.count(func(e *recordv1.JournalEntry) bool {
				return e.GetCancelled().GetReason() == "request" && e.GetDeliveryId() == retries[0].GetDelivery().GetId()
			}))
			require.Empty(t, w.got())
		})
	}
}

func TestEverythingThatWaitsForAWebhookIsCancelled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	client := w.start(quick(), scheduler.NewMemoryIndex())
	hook, other := w.webhook(), w.webhook()
	w.schedule(client, hook.retries(600, waiting, time.Now().Add(time.Hour))...)
	w.put(hook.retries(100, held, time.Now().Add(time.Hour))...)
	w.schedule(client, other.retries(5, waiting, time.Now().Add(time.Hour))...)
	resp, err := client.Cancel(t.Context(), cancelRequest(hook, ""))
	require.NoError(t, err)
	require.EqualValues(t, 700, resp.GetCancelled())
	require.Empty(t, hook.records())
	require.Equal(t, 700, hook.count(isCancelled))
	require.Len(t, other.records(), 5)
	require.Zero(t, other.count(isCancelled))
}

func TestWhatWaitsForADeletedWebhookIsCancelled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	client := w.start(quick(), scheduler.NewMemoryIndex())
	hook := w.webhook()
	w.schedule(client, hook.retries(50, waiting, time.Now().Add(time.Hour))...)
	_, err := w.store.DeleteWebhook(t.Context(), string(hook.account()), string(hook.id()), hook.revision)
	require.NoError(t, err)
	w.eventually(func() bool { return len(hook.records()) == 0 }, "nothing waits")
	require.Equal(t, 50, hook.count(func(e *recordv1.JournalEntry) bool { return e.GetCancelled().GetReason() == "webhook_deleted" }))
	require.Empty(t, w.got())
}

func TestRetryNow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	client := w.start(quick(), scheduler.NewMemoryIndex())
	hook := w.webhook()
	retries := hook.retries(2, waiting, time.Now().Add(time.Hour))
	w.schedule(client, retries...)
	request := func(r *recordv1.Retry) *schedulerv1.RetryNowRequest {
		return &schedulerv1.RetryNowRequest{AccountId: string(hook.account()), WebhookId: string(hook.id()), DeliveryId: r.GetDelivery().GetId()}
	}
	_, err := client.RetryNow(t.Context(), request(retries[0]))
	require.NoError(t, err)
	require.Equal(t, retries[0].GetDelivery().GetId(), w.await(1)[0].delivery())
	require.Equal(t, 1, hook.count(func(e *recordv1.JournalEntry) bool { return e.GetReleased().GetReason() == "retry_now" }))
	_, err = client.RetryNow(t.Context(), request(retries[0]))
	requireKind(t, err, fault.NotFound)

	hook.pause()
	w.hold(client, hook)
	_, err = client.RetryNow(t.Context(), request(retries[1]))
	requireKind(t, err, fault.Precondition)
	require.Len(t, hook.records(), 1)
}

func TestListRetriesGivesEveryRecordOnOnePage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	client := w.start(quick(), scheduler.NewMemoryIndex())
	hook := w.webhook()
	at := time.Now().Add(time.Hour).Truncate(time.Millisecond)
	retries := hook.retries(25, waiting, at)
	results := w.schedule(client, retries...)
	request := &schedulerv1.ListRetriesRequest{AccountId: string(hook.account()), WebhookId: string(hook.id()), PageSize: 10}
	var listed []*schedulerv1.WaitingRetry
	var pages []int
	for {
		resp, err := client.ListRetries(t.Context(), request)
		require.NoError(t, err)
		listed = append(listed, resp.GetRetries()...)
		pages = append(pages, len(resp.GetRetries()))
		if resp.GetNextPageToken() == "" {
			break
		}
		request.PageToken = resp.GetNextPageToken()
	}
	require.Equal(t, []int{10, 10, 5}, pages)
	sequences := make(map[uint64]string)
	for i, r := range retries {
		sequences[results[i].GetSequence()] = r.GetDelivery().GetId()
	}
	for _, l := range listed {
		require.Equal(t, sequences[l.GetSequence()], l.GetDeliveryId())
		require.Equal(t, waiting, l.GetKind())
		require.Equal(t, at.UnixMilli(), l.GetDueTime().AsTime().UnixMilli())
		require.Equal(t, int32(1), l.GetAttempts())
		require.Equal(t, "http_status", l.GetReason())
		delete(sequences, l.GetSequence())
	}
	require.Empty(t, sequences)
}

func TestRequestsThatNoStateCouldAcceptAreInvalid(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	client := w.start(quick(), scheduler.NewMemoryIndex())
	hook := w.webhook()
	ctx := t.Context()
	account, webhook := string(hook.account()), string(hook.id())
	retry := func(change func(*recordv1.Retry)) error {
		r := hook.retry(waiting, time.Now().Add(time.Hour))
		change(r)
		_, err := client.ScheduleRetry(ctx, &schedulerv1.ScheduleRetryRequest{Retries: []*recordv1.Retry{r}})
		return err
	}
	tests := map[string]error{
		"no kind":        retry(func(r *recordv1.Retry) { r.Kind = 0 }),
		"unknown kind":   retry(func(r *recordv1.Retry) { r.Kind = 99 }),
		"no due time":    retry(func(r *recordv1.Retry) { r.DueTime = nil }),
		"no delivery":    retry(func(r *recordv1.Retry) { r.Delivery = nil }),
		"bad delivery":   retry(func(r *recordv1.Retry) { r.Delivery.Id = "dlv_*" }),
		"bad webhook":    retry(func(r *recordv1.Retry) { r.Delivery.WebhookId = "wh_>" }),
		"bad account":    retry(func(r *recordv1.Retry) { r.Delivery.AccountId = "a.b" }),
		"empty batch":    second(client.ScheduleRetry(ctx, &schedulerv1.ScheduleRetryRequest{})),
		"too many":       second(client.ScheduleRetry(ctx, &schedulerv1.ScheduleRetryRequest{Retries: hook.retries(257, waiting, time.Now())})),
		"hold nothing":   second(client.Hold(ctx, &schedulerv1.HoldRequest{})),
		"resume nothing": second(client.Resume(ctx, &schedulerv1.ResumeRequest{AccountId: account})),
		"no reason":      second(client.Cancel(ctx, &schedulerv1.CancelRequest{AccountId: account, WebhookId: webhook})),
		"bad cancel":     second(client.Cancel(ctx, &schedulerv1.CancelRequest{AccountId: account, WebhookId: webhook, DeliveryId: "x", Reason: "request"})),
		"retry nothing":  second(client.RetryNow(ctx, &schedulerv1.RetryNowRequest{AccountId: account, WebhookId: webhook})),
		"bad token":      second(client.ListRetries(ctx, &schedulerv1.ListRetriesRequest{AccountId: account, WebhookId: webhook, PageToken: "!"})),
		"bad size":       second(client.ListRetries(ctx, &schedulerv1.ListRetriesRequest{AccountId: account, WebhookId: webhook, PageSize: -1})),
	}
	for name, err := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireKind(t, err, fault.Invalid)
		})
	}
}

// second is the error of a call.
func second[T any](_ T, err error) error { return err }

// Each record is marked before it is removed: one that fired, or was stored anew, between the read
// and the removal is met by its mark, although the webhook lives on.
func TestWhatWaitsForAWebhookThatLivesOnIsMarkedAndCancelled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	client := w.start(quick(), scheduler.NewMemoryIndex())
	hook, other := w.webhook(), w.webhook()
	retries := hook.retries(1300, waiting, time.Now().Add(time.Hour))
	w.schedule(client, retries...)
	w.schedule(client, other.retries(5, waiting, time.Now().Add(time.Hour))...)
	request := &schedulerv1.CancelWaitingRequest{AccountId: string(hook.account()), WebhookId: string(hook.id()), Reason: "request"}
	var got []int64
	for more := true; more; {
		resp, err := client.CancelWaiting(t.Context(), request)
		require.NoError(t, err)
		require.Zero(t, resp.GetMarked())
		got, more = append(got, resp.GetCancelled()), resp.GetMore()
	}
	require.Equal(t, []int64{1000, 300}, got)
	require.Empty(t, hook.records())
	require.Equal(t, 1300, hook.count(isCancelled))
	require.Len(t, other.records(), 5)

	again, fresh := hook.retry(waiting, time.Now().Add(time.Hour)), hook.retry(waiting, time.Now().Add(time.Hour))
	again.Delivery = retries[1299].GetDelivery()
	w.schedule(client, again, fresh)
	left := hook.records()
	require.Len(t, left, 1, "what was in flight when it was marked ends where it comes back")
	require.Equal(t, fresh.GetDelivery().GetId(), left[0].Retry.GetDelivery().GetId())
	_, err := client.CancelWaiting(t.Context(), &schedulerv1.CancelWaitingRequest{WebhookId: string(hook.id()), Reason: "request"})
	requireKind(t, err, fault.Invalid)
}
