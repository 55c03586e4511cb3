package scheduler_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	"github.com/postrider/postrider/services/scheduler"
)

func TestRetriesAreReleasedWhenTheyAreDue(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	client := w.start(quick(), scheduler.NewMemoryIndex())
	hook := w.webhook()
	// 10 000 a minute for three seconds.
	const total = 500
	begin := time.Now().Add(500 * time.Millisecond)
	retries := make([]*recordv1.Retry, total)
	for i := range retries {
		retries[i] = hook.retry(waiting, begin.Add(time.Duration(i)*6*time.Millisecond))
	}
	w.schedule(client, retries...)

	w.await(total)
	dues := w.got()
	require.ElementsMatch(t, deliveries(retries), dueIDs(dues), "each exactly once")
	late := make([]time.Duration, 0, total)
	for _, d := range dues {
		require.False(t, d.fired)
		late = append(late, d.at.Sub(d.retry.GetDueTime().AsTime()))
	}
	slices.Sort(late)
	t.Logf("late: least %s, median %s, p99 %s, most %s", late[0], late[total/2], late[total*99/100], late[total-1])
	// How late is the machine's affair here; the tests of the loop hold it to milliseconds.
	require.GreaterOrEqual(t, late[0], time.Duration(0), "never early")
	require.Empty(t, hook.records())
}

func TestTheReleasedDeliveryIsTheRecordWordForWord(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	client := w.start(quick(), scheduler.NewMemoryIndex())
	for _, kind := range []recordv1.RetryKind{waiting, parked, delayed} {
		retry := w.webhook().retry(kind, time.Now())
		n := len(w.got())
		w.schedule(client, retry)
		dues := w.await(n + 1)
		require.True(t, proto.Equal(retry, dues[n].retry), "got %v", dues[n].retry)
	}
}

func TestAHandOverOfAnEarlierAttemptIsStale(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	client := w.start(quick(), scheduler.NewMemoryIndex())
	hook := w.webhook()
	schedule := func(r *recordv1.Retry) *schedulerv1.ScheduleResult {
		resp, err := client.ScheduleRetry(t.Context(), &schedulerv1.ScheduleRetryRequest{Retries: []*recordv1.Retry{r}})
		require.NoError(t, err)
		return resp.GetResults()[0]
	}
	second := hook.retry(waiting, time.Now().Add(time.Hour))
	second.Delivery.Progress.Attempts = 2
	first := proto.CloneOf(second)
	first.Delivery.Progress.Attempts = 1
	third := proto.CloneOf(second)
	third.Delivery.Progress.Attempts = 3
	third.DueTime = timestamppb.Now()

	stored := schedule(second)
	require.Equal(t, schedulerv1.ScheduleStatus_SCHEDULE_STATUS_STORED, stored.GetStatus())
	for name, stale := range map[string]*recordv1.Retry{"an earlier attempt": first, "the same attempt": second} {
		got := schedule(stale)
		require.Equal(t, schedulerv1.ScheduleStatus_SCHEDULE_STATUS_SUPERSEDED, got.GetStatus(), name)
		require.Equal(t, stored.GetSequence(), got.GetSequence(), "names the record that stands: %s", name)
	}
	replaced := schedule(third)
	require.Equal(t, schedulerv1.ScheduleStatus_SCHEDULE_STATUS_STORED, replaced.GetStatus())
	require.Greater(t, replaced.GetSequence(), stored.GetSequence())

	dues := w.await(1)
	require.Equal(t, int32(3), dues[0].retry.GetDelivery().GetProgress().GetAttempts())
	w.eventually(func() bool { return len(hook.records()) == 0 }, "the record is removed")
	require.Len(t, w.got(), 1, "the replaced record's member releases nothing")
}

func TestRecordsStoredWithoutASchedulerAreReleasedByTheNextOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	hook := w.webhook()
	var retries []*recordv1.Retry
	for range 200 {
		retries = append(retries, hook.retry(waiting, time.Now().Add(-time.Minute)))
	}
	w.put(retries...)
	w.start(quick(), scheduler.NewMemoryIndex())
	w.await(len(retries))
	require.ElementsMatch(t, deliveries(retries), dueIDs(w.got()))
}

func TestReplicasShareTheWorkAndReleaseEachRetryOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	index := scheduler.NewMemoryIndex()
	first := w.start(quick(), index)
	second := w.start(quick(), index)
	hooks := []*hook{w.webhook(), w.webhook(), w.webhook()}
	at := time.Now().Add(300 * time.Millisecond)
	var retries []*recordv1.Retry
	for _, hook := range hooks {
		list := hook.retries(500, waiting, at)
		w.schedule(first, list[:250]...)
		w.schedule(second, list[250:]...)
		retries = append(retries, list...)
	}
	w.await(len(retries))
	for _, hook := range hooks {
		w.eventually(func() bool { return len(hook.records()) == 0 }, "no record is left")
	}
	require.ElementsMatch(t, deliveries(retries), dueIDs(w.got()))
}

func TestTwoIndexesThatHoldTheSameRetriesReleaseEachOnce(t *testing.T) {
	t.Parallel()
	// The worst that an index can do: everything is claimed by both.
	w := newWorld(t, time.Hour)
	hook := w.webhook()
	retries := hook.retries(1000, waiting, time.Now().Add(time.Second))
	w.put(retries...)
	w.start(quick(), scheduler.NewMemoryIndex())
	w.start(quick(), scheduler.NewMemoryIndex())
	w.await(len(retries))
	w.eventually(func() bool { return len(hook.records()) == 0 }, "no record is left")
	require.ElementsMatch(t, deliveries(retries), dueIDs(w.got()))
}

func TestAStoppedSchedulerGivesBackWhatItClaimed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	index := scheduler.NewMemoryIndex()
	cfg := quick()
	cfg.Lease = 30 * time.Minute // longer than the test waits
	client, stop := w.startStoppable(cfg, index)
	hook := w.webhook()
	retries := hook.retries(2000, waiting, time.Now())
	w.schedule(client, retries...)
	w.await(1)
	stop()
	w.start(cfg, index)
	w.await(len(retries))
	require.ElementsMatch(t, deliveries(retries), dueIDs(w.got()))
}

// A scheduler that dies between the record and the index leaves a record that the index does not
// have. Its caller asks another, which finds the record and indexes it: the retry is punctual all
// the same, long before the record would fire by itself.
func TestARepeatedCallIndexesWhatADeadSchedulerStored(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	client := w.start(quick(), scheduler.NewMemoryIndex())
	retry := w.webhook().retry(waiting, time.Now().Add(200*time.Millisecond))
	sequence := w.put(retry)[0]
	resp, err := client.ScheduleRetry(t.Context(), &schedulerv1.ScheduleRetryRequest{Retries: []*recordv1.Retry{retry}})
	require.NoError(t, err)
	require.Equal(t, schedulerv1.ScheduleStatus_SCHEDULE_STATUS_SUPERSEDED, resp.GetResults()[0].GetStatus())
	require.Equal(t, sequence, resp.GetResults()[0].GetSequence())
	got := w.await(1)[0]
	require.Equal(t, retry.GetDelivery().GetId(), got.delivery())
	require.False(t, got.fired)
}
