package standalone_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/fixture/receivertest"
)

const (
	running   = postriderv1.ReplayState_REPLAY_STATE_RUNNING
	succeeded = postriderv1.ReplayState_REPLAY_STATE_SUCCEEDED
	aborted   = postriderv1.ReplayState_REPLAY_STATE_ABORTED

	delivered = postriderv1.DeliveryState_DELIVERY_STATE_DELIVERED
	dead      = postriderv1.DeliveryState_DELIVERY_STATE_DEAD
)

func (u *user) replays() postriderv1.ReplayServiceClient {
	return postriderv1.NewReplayServiceClient(u.conn)
}

// once is a webhook whose deliveries are dead after one attempt.
func once(w *postriderv1.Webhook) { w.RetrySchedule = &postriderv1.RetrySchedule{} }

func lastHour() *postriderv1.EventSelection {
	return &postriderv1.EventSelection{StartTime: timestamppb.New(time.Now().Add(-time.Hour))}
}

func (u *user) replay(t *testing.T, sel *postriderv1.EventSelection, rate float64) *postriderv1.Replay {
	t.Helper()
	resp, err := u.replays().CreateReplay(u.ctx(t), &postriderv1.CreateReplayRequest{Events: sel, Rate: rate})
	require.NoError(t, err)
	require.Equal(t, running, resp.GetReplay().GetState())
	return resp.GetReplay()
}

func (u *user) redrive(t *testing.T, sel *postriderv1.DeadLetterSelection, rate float64) *postriderv1.Replay {
	t.Helper()
	resp, err := u.replays().RedriveDeadLetters(u.ctx(t), &postriderv1.RedriveDeadLettersRequest{DeadLetters: sel, Rate: rate})
	require.NoError(t, err)
	return resp.GetReplay()
}

// awaitReplay waits until the job is as wanted.
func (u *user) awaitReplay(t *testing.T, id string, wanted func(*postriderv1.Replay) bool) *postriderv1.Replay {
	t.Helper()
	var last *postriderv1.Replay
	require.Eventually(t, func() bool {
		resp, err := u.replays().GetReplay(u.ctx(t), &postriderv1.GetReplayRequest{ReplayId: id})
		last = resp.GetReplay()
		return err == nil && wanted(last)
	}, patience, 5*time.Millisecond, "the job is %v", &last)
	return last
}

func is(state postriderv1.ReplayState) func(*postriderv1.Replay) bool {
	return func(r *postriderv1.Replay) bool { return r.GetState() == state }
}

// of lists the deliveries that a job made.
func (u *user) of(t *testing.T, replay string) map[string]postriderv1.DeliveryState {
	t.Helper()
	resp, err := u.deliveries.ListDeliveries(u.ctx(t), &postriderv1.ListDeliveriesRequest{PageSize: 1000})
	require.NoError(t, err)
	out := make(map[string]postriderv1.DeliveryState)
	for _, d := range resp.GetDeliveries() {
		if d.GetReplayId() == replay {
			out[d.GetId()] = d.GetState()
		}
	}
	return out
}

func (u *user) deadLetters(t *testing.T) []*postriderv1.DeadLetter {
	t.Helper()
	resp, err := u.deliveries.ListDeadLetters(u.ctx(t), &postriderv1.ListDeadLettersRequest{PageSize: 1000})
	require.NoError(t, err)
	return resp.GetDeadLetters()
}

// awaitDeadLetters waits for as many dead letters: the log says that a delivery is dead a moment
// before its letter is stored, and a redrive takes those that are there when it is asked for.
func (u *user) awaitDeadLetters(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return len(u.deadLetters(t)) == n }, patience, 10*time.Millisecond)
}

func TestEventsAreReplayedAsSelectedAndCountedBefore(t *testing.T) {
	t.Parallel()
	svc, _ := start(t, config(t.TempDir()))
	good, bad := receivertest.New(t), receivertest.New(t).Respond(500)
	u := admin(t, svc).newAccount(t)
	hook := u.webhook(t, good.URL).GetWebhook()
	failing := u.webhook(t, bad.URL, once).GetWebhook()
	const n = 6
	var one string
	for range n {
		one = u.publish(t, "", `{}`).GetEventId()
	}
	u.awaitStates(t, n, delivered)
	u.awaitStates(t, n, dead)

	for name, c := range map[string]struct {
		sel  *postriderv1.EventSelection
		want int64
	}{
		"all":                  {lastHour(), 2 * n},
		"to one webhook":       {&postriderv1.EventSelection{StartTime: lastHour().GetStartTime(), WebhookId: hook.GetId()}, n},
		"one event":            {&postriderv1.EventSelection{EventId: one}, 2},
		"by type":              {&postriderv1.EventSelection{StartTime: lastHour().GetStartTime(), EventTypes: []string{"order.*"}}, 2 * n},
		"by another type":      {&postriderv1.EventSelection{StartTime: lastHour().GetStartTime(), EventTypes: []string{"release.*"}}, 0},
		"by state":             {&postriderv1.EventSelection{StartTime: lastHour().GetStartTime(), State: dead}, n},
		"by state and webhook": {&postriderv1.EventSelection{StartTime: lastHour().GetStartTime(), State: dead, WebhookId: hook.GetId()}, 0},
		"of the future":        {&postriderv1.EventSelection{StartTime: timestamppb.New(time.Now().Add(time.Hour))}, 0},
		"before all":           {&postriderv1.EventSelection{StartTime: lastHour().GetStartTime(), EndTime: timestamppb.New(time.Now().Add(-time.Minute))}, 0},
	} {
		preview, err := u.replays().CreateReplay(u.ctx(t), &postriderv1.CreateReplayRequest{Events: c.sel, DryRun: true})
		require.NoError(t, err, name)
		require.Equal(t, c.want, preview.GetPreview().GetDeliveries(), name)
		require.Nil(t, preview.GetReplay(), name)
		job := u.replay(t, c.sel, 1000)
		done := u.awaitReplay(t, job.GetId(), is(succeeded))
		require.Equal(t, c.want, done.GetDeliveries(), name)
		require.Eventually(t, func() bool { return len(u.of(t, job.GetId())) == int(c.want) }, patience, 10*time.Millisecond, name)
	}
	list, err := u.replays().ListReplays(u.ctx(t), &postriderv1.ListReplaysRequest{PageSize: 3})
	require.NoError(t, err)
	require.Len(t, list.GetReplays(), 3)
	require.NotEmpty(t, list.GetNextPageToken())

	other := admin(t, svc).newAccount(t)
	for name, err := range map[string]error{
		"get":   second(other.replays().GetReplay(other.ctx(t), &postriderv1.GetReplayRequest{ReplayId: list.GetReplays()[0].GetId()})),
		"abort": second(other.replays().AbortReplay(other.ctx(t), &postriderv1.AbortReplayRequest{ReplayId: list.GetReplays()[0].GetId()})),
		"event": second(other.replays().CreateReplay(other.ctx(t), &postriderv1.CreateReplayRequest{Events: &postriderv1.EventSelection{EventId: one}})),
		"webhook": second(other.replays().RedriveDeadLetters(other.ctx(t), &postriderv1.RedriveDeadLettersRequest{
			DeadLetters: &postriderv1.DeadLetterSelection{WebhookId: failing.GetId()},
		})),
		"cancel": second(other.deliveries.CancelEvent(other.ctx(t), &postriderv1.CancelEventRequest{EventId: one})),
	} {
		kind, _ := fault.KindOf(fault.FromStatus(err))
		require.Equal(t, fault.NotFound, kind, "%s: %v", name, err)
	}
	_, err = u.replays().CreateReplay(u.ctx(t), &postriderv1.CreateReplayRequest{Events: lastHour(), ReplayId: list.GetReplays()[0].GetId()})
	kind, _ := fault.KindOf(fault.FromStatus(err))
	require.Equal(t, fault.AlreadyExists, kind)
	for name, req := range map[string]*postriderv1.CreateReplayRequest{
		"nothing":       {},
		"a rate":        {Events: lastHour(), Rate: -1},
		"an id":         {Events: lastHour(), ReplayId: "rpl_x"},
		"a pattern":     {Events: &postriderv1.EventSelection{StartTime: timestamppb.Now(), EventTypes: []string{"a.*.b"}}},
		"times crossed": {Events: &postriderv1.EventSelection{StartTime: timestamppb.Now(), EndTime: lastHour().GetStartTime()}},
	} {
		_, err := u.replays().CreateReplay(u.ctx(t), req)
		kind, _ := fault.KindOf(fault.FromStatus(err))
		require.Equal(t, fault.Invalid, kind, name)
	}
}

func second[T any](_ T, err error) error { return err }

func TestDeadLettersAreRedrivenAsSelectedAndDieAgain(t *testing.T) {
	t.Parallel()
	svc, _ := start(t, config(t.TempDir()))
	r := receivertest.New(t).Respond(500)
	u := admin(t, svc).newAccount(t)
	hook := u.webhook(t, r.URL, once).GetWebhook()
	const n = 6
	for range n {
		u.publish(t, "", `{}`)
	}
	u.awaitStates(t, n, dead)
	u.awaitDeadLetters(t, n)
	groups, err := u.deliveries.SummarizeDeadLetters(u.ctx(t), &postriderv1.SummarizeDeadLettersRequest{})
	require.NoError(t, err)
	require.EqualValues(t, n, groups.GetTotal())
	require.Len(t, groups.GetGroups(), 1)
	require.Equal(t, []any{hook.GetId(), "exhausted", "order.paid", int64(n)}, []any{
		groups.GetGroups()[0].GetWebhookId(), groups.GetGroups()[0].GetCause(), groups.GetGroups()[0].GetEventType(), groups.GetGroups()[0].GetCount(),
	})
	letters := u.deadLetters(t)
	require.Greater(t, letters[0].GetExpireTime().AsTime(), time.Now())

	preview, err := u.replays().RedriveDeadLetters(u.ctx(t), &postriderv1.RedriveDeadLettersRequest{DryRun: true})
	require.NoError(t, err)
	require.EqualValues(t, n, preview.GetPreview().GetDeliveries())
	none := u.redrive(t, &postriderv1.DeadLetterSelection{Cause: "permanent"}, 1000)
	require.Zero(t, u.awaitReplay(t, none.GetId(), is(succeeded)).GetDeliveries())

	// One that is named, and one that nobody knows: it lives, fails, and is dead again.
	id := letters[2].GetDeliveryId()
	job := u.redrive(t, &postriderv1.DeadLetterSelection{DeliveryIds: []string{id, id, string(postrider.DeliveryIDFor("evt_x", "wh_x", ""))}}, 1000)
	done := u.awaitReplay(t, job.GetId(), is(succeeded))
	require.EqualValues(t, 1, done.GetDeliveries())
	require.EqualValues(t, 1, done.GetSkipped())
	require.Eventually(t, func() bool {
		resp, err := u.deliveries.GetDelivery(u.ctx(t), &postriderv1.GetDeliveryRequest{DeliveryId: id})
		return err == nil && resp.GetDelivery().GetSeries() == 1 && resp.GetDelivery().GetState() == dead
	}, patience, 10*time.Millisecond)
	require.Eventually(t, func() bool { return len(u.deadLetters(t)) == n }, patience, 10*time.Millisecond)

	r.Respond(200)
	all := u.redrive(t, &postriderv1.DeadLetterSelection{WebhookId: hook.GetId()}, 1000)
	require.EqualValues(t, n, u.awaitReplay(t, all.GetId(), is(succeeded)).GetDeliveries())
	u.awaitStates(t, n, delivered)
	require.Empty(t, u.deadLetters(t))
	resp, err := u.deliveries.GetDelivery(u.ctx(t), &postriderv1.GetDeliveryRequest{DeliveryId: id})
	require.NoError(t, err)
	require.EqualValues(t, 2, resp.GetDelivery().GetSeries())
	require.EqualValues(t, 1, resp.GetDelivery().GetAttemptCount(), "of this series")
}

func TestAReplayThatIsAbortedStopsAndCountsWhatItMade(t *testing.T) {
	t.Parallel()
	svc, _ := start(t, config(t.TempDir()))
	u := admin(t, svc).newAccount(t)
	u.webhook(t, receivertest.New(t).URL)
	const n = 20
	for range n {
		u.publish(t, "", `{}`)
	}
	job := u.replay(t, lastHour(), 4) // five seconds' worth
	u.awaitReplay(t, job.GetId(), func(r *postriderv1.Replay) bool { return r.GetDeliveries() > 0 })
	resp, err := u.replays().AbortReplay(u.ctx(t), &postriderv1.AbortReplayRequest{ReplayId: job.GetId()})
	require.NoError(t, err)
	require.NotEqual(t, running, resp.GetReplay().GetState())
	done := u.awaitReplay(t, job.GetId(), is(aborted))
	require.Less(t, done.GetDeliveries(), int64(n))
	require.NotNil(t, done.GetEndTime())
	require.Eventually(t, func() bool { return len(u.of(t, job.GetId())) == int(done.GetDeliveries()) }, patience, 10*time.Millisecond)
	again, err := u.replays().AbortReplay(u.ctx(t), &postriderv1.AbortReplayRequest{ReplayId: job.GetId()})
	require.NoError(t, err, "an abort may be repeated")
	require.Equal(t, aborted, again.GetReplay().GetState())
}

func TestAReplayGoesOnAfterEverythingWasKilledAndCountsExactly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	receiver := receivertest.New(t)
	root, kill := startChild(t, dir)
	u := root.newAccount(t)
	u.webhook(t, receiver.URL)
	const n = 40
	for range n {
		u.publish(t, "", `{}`)
	}
	u.awaitStates(t, n, delivered)
	const rate = 20 // two seconds' worth, in batches of ten
	job := u.replay(t, lastHour(), rate)
	before := u.awaitReplay(t, job.GetId(), func(r *postriderv1.Replay) bool { return r.GetDeliveries() > 0 && r.GetState() == running })
	require.Less(t, before.GetDeliveries(), int64(n), "nothing was under way")
	kill()

	svc, _ := start(t, config(dir))
	u = admin(t, svc).with(u.key)
	after := u.awaitReplay(t, job.GetId(), is(succeeded))
	require.EqualValues(t, n, after.GetDeliveries(), "%v", after)
	u.awaitStates(t, 2*n, delivered)
	// Which replay made a delivery the log may learn after how it ended: from another entry of the journal.
	require.Eventually(t, func() bool { return len(u.of(t, job.GetId())) == n }, patience, 10*time.Millisecond)
	t.Logf("POSTs too many: %d", receiver.Count()-2*n)
	// The server dies with the process, and forgets acks and message ids of a moment before, so that
	// events are routed again: what the journal knows of their deliveries is not POSTed again.
	require.LessOrEqual(t, receiver.Count()-2*n, rate, "a batch, and what was in flight")
}

func TestACancelledEventReachesNobodyAnyMoreAndCanBeReplayed(t *testing.T) {
	t.Parallel()
	svc, _ := start(t, config(t.TempDir()))
	r := receivertest.New(t).Respond(500)
	u := admin(t, svc).newAccount(t)
	for range 3 {
		u.webhook(t, r.URL, func(w *postriderv1.Webhook) { w.MaxInFlight = 1 })
	}
	event := u.publish(t, "", `{}`).GetEventId()
	u.awaitStates(t, 3, postriderv1.DeliveryState_DELIVERY_STATE_WAITING)
	resp, err := u.deliveries.CancelEvent(u.ctx(t), &postriderv1.CancelEventRequest{EventId: event})
	require.NoError(t, err)
	require.EqualValues(t, 3, resp.GetRemoved()+resp.GetMarked())
	u.awaitStates(t, 3, postriderv1.DeliveryState_DELIVERY_STATE_CANCELLED)
	r.Respond(200)
	job := u.replay(t, &postriderv1.EventSelection{EventId: event}, 1000)
	u.awaitReplay(t, job.GetId(), is(succeeded))
	u.awaitStates(t, 3, delivered)

	// The log need not know the event yet.
	early := u.publish(t, "", `{}`).GetEventId()
	_, err = u.deliveries.CancelEvent(u.ctx(t), &postriderv1.CancelEventRequest{EventId: early})
	require.NoError(t, err)
	_, err = u.deliveries.CancelEvent(u.ctx(t), &postriderv1.CancelEventRequest{EventId: string(postrider.NewEventID())})
	kind, _ := fault.KindOf(fault.FromStatus(err))
	require.Equal(t, fault.NotFound, kind)
}
