package reconcile_test

import (
	"database/sql"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"
	_ "modernc.org/sqlite" // to plant rows

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/reconcile"
)

const (
	waiting = recordv1.RetryKind_RETRY_KIND_WAITING
	held    = recordv1.RetryKind_RETRY_KIND_HELD
)

func TestWhatIsWhereItShouldBeIsNotNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, end := range []func(*recordv1.Delivery){
		w.deliver, // pending
		func(d *recordv1.Delivery) { w.waiting(d); w.put(d, waiting) },
		func(d *recordv1.Delivery) { w.waiting(d); w.put(d, held) },
		func(d *recordv1.Delivery) { w.dead(d); w.bury(d) },
		w.cancelled,
	} {
		d := w.event()
		w.routed(d)
		end(d)
	}
	w.ackAll()
	w.deliver(w.event()) // in a router's hands: not journalled yet

	named, summary := w.run(false)
	require.Empty(t, named)
	require.True(t, summary.GetIndexCompared())
	require.EqualValues(t, 5, summary.GetEvents())
	require.EqualValues(t, 2, summary.GetDeliveries())
	require.EqualValues(t, 2, summary.GetRecords())
	require.EqualValues(t, 1, summary.GetDeadLetters())
	require.EqualValues(t, 4, summary.GetLogDeliveries(), "three that have not ended, and a dead one")
	require.Zero(t, summary.GetImbalances())
}

func TestEachPlantedImbalanceIsNamedAndNothingElse(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		plant func(w *world, d *recordv1.Delivery)
		kind  postriderv1.ImbalanceKind
	}{
		"an event that was passed over": {
			func(*world, *recordv1.Delivery) {}, postriderv1.ImbalanceKind_IMBALANCE_KIND_EVENT_NOT_ROUTED,
		},
		"a routed delivery that is nowhere": {
			func(w *world, d *recordv1.Delivery) { w.routed(d) }, postriderv1.ImbalanceKind_IMBALANCE_KIND_NOWHERE,
		},
		"a waiting delivery without a record": {
			func(w *world, d *recordv1.Delivery) { w.routed(d); w.waiting(d) }, postriderv1.ImbalanceKind_IMBALANCE_KIND_NO_RECORD,
		},
		"a delivery in two places": {
			func(w *world, d *recordv1.Delivery) { w.routed(d); w.deliver(d); w.put(d, waiting) }, postriderv1.ImbalanceKind_IMBALANCE_KIND_TWO_PLACES,
		},
		"a record of a delivery that has ended": {
			func(w *world, d *recordv1.Delivery) { w.routed(d); w.cancelled(d); w.put(d, waiting) }, postriderv1.ImbalanceKind_IMBALANCE_KIND_ENDED,
		},
		"a record of a later series that nobody journalled": {
			func(w *world, d *recordv1.Delivery) {
				w.routed(d)
				w.dead(d)
				d.Progress.Series++
				w.put(d, waiting)
			}, postriderv1.ImbalanceKind_IMBALANCE_KIND_NOT_JOURNALLED,
		},
		"a delivery that was never journalled": {
			func(w *world, d *recordv1.Delivery) {
				other := w.event()
				other.EventId, other.EventSequence = d.GetEventId(), d.GetEventSequence()
				w.routed(d)
				w.cancelled(d)
				d.Id = other.GetId()
				w.deliver(d)
				w.routed(w.last(other))
			}, postriderv1.ImbalanceKind_IMBALANCE_KIND_NOT_JOURNALLED,
		},
		"a dead letter of a delivery that is nowhere else": {
			func(w *world, d *recordv1.Delivery) { w.routed(d); w.bury(d) }, postriderv1.ImbalanceKind_IMBALANCE_KIND_UNKNOWN_DEAD_LETTER,
		},
		"a death without a dead letter": {
			func(w *world, d *recordv1.Delivery) { w.routed(d); w.dead(d) }, postriderv1.ImbalanceKind_IMBALANCE_KIND_NO_DEAD_LETTER,
		},
		"a record that the index does not have": {
			func(w *world, d *recordv1.Delivery) {
				w.routed(d)
				w.index.missing[w.put(d, waiting)] = true
			}, postriderv1.ImbalanceKind_IMBALANCE_KIND_NOT_INDEXED,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorldIn(t, 2)
			for range 3 { // in either segment
				good := w.event()
				w.routed(good)
				w.deliver(good)
			}
			d := w.event()
			test.plant(w, d)
			w.ackAll()
			named, summary := w.run(false)
			require.Len(t, named, 1, "%v", named)
			require.Equal(t, test.kind, named[0].GetKind(), "%v", named[0])
			require.Equal(t, d.GetEventId(), named[0].GetEventId())
			require.Equal(t, d.GetAccountId(), named[0].GetAccountId())
			if test.kind != postriderv1.ImbalanceKind_IMBALANCE_KIND_EVENT_NOT_ROUTED {
				require.Equal(t, d.GetId(), named[0].GetDeliveryId())
			}
			require.EqualValues(t, 1, summary.GetImbalances())
			require.False(t, named[0].GetRepaired())
		})
	}
}

// last routes the event that event() published last to nobody but itself, and ends it.
func (w *world) last(d *recordv1.Delivery) *recordv1.Delivery {
	w.t.Helper()
	ev := w.newest
	other := &recordv1.Delivery{Id: "dlv_other", AccountId: ev.GetAccountId(), WebhookId: d.GetWebhookId(), EventId: ev.GetId(), EventType: ev.GetType()}
	w.cancelled(other)
	return other
}

func TestARepairPutsBackWhatIsAnIndex(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	lost, row, behind := w.event(), w.event(), w.event()
	for _, d := range []*recordv1.Delivery{lost, row, behind} {
		w.routed(d)
	}
	w.index.missing[w.put(lost, waiting)] = true
	w.deliver(row)
	w.cancelled(behind)
	w.ackAll()
	w.recorded()
	w.sql(`DELETE FROM deliveries WHERE delivery_id = ?`, row.GetId())
	w.sql(`DELETE FROM events WHERE event_id = ?`, row.GetEventId())
	w.sql(`UPDATE deliveries SET state = 'pending', state_rank = 1 WHERE delivery_id = ?`, behind.GetId())

	for _, repair := range []bool{false, true} {
		named, summary := w.run(repair)
		var got []string
		for _, i := range named {
			require.Equal(t, repair, i.GetRepaired())
			got = append(got, short(i))
		}
		require.ElementsMatch(t, []string{
			"IMBALANCE_KIND_NOT_INDEXED " + lost.GetId(), "IMBALANCE_KIND_LOG_BEHIND " + row.GetId(),
			"IMBALANCE_KIND_LOG_BEHIND ", // the event of row
			"IMBALANCE_KIND_LOG_BEHIND " + behind.GetId(),
		}, got)
		if repair {
			require.EqualValues(t, 4, summary.GetRepaired())
			require.Zero(t, summary.GetImbalances())
		} else {
			require.EqualValues(t, 4, summary.GetImbalances())
		}
	}
	named, _ := w.run(false)
	require.Empty(t, named)
	ledger, err := w.log.Ledger(t.Context())
	require.NoError(t, err)
	for _, counts := range ledger {
		require.EqualValues(t, 1, counts.Routed)
	}
}

// A store that lost what it had acknowledged leaves deliveries in no place; only the event and the log
// know of them.
func TestARepairHasRecordsMadeAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	routed, tried, held, forgotten := w.event(), w.event(), w.event(), w.event()
	for _, d := range []*recordv1.Delivery{routed, tried, held, forgotten} {
		w.routed(d)
	}
	w.write(tried, &recordv1.JournalEntry{What: &recordv1.JournalEntry_Attempted{Attempted: &recordv1.Attempted{
		Number: 1, Outcome: string(postrider.Retryable), StatusCode: 503, State: string(postrider.Waiting), StartTime: timestamppb.Now(),
	}}})
	later := time.Now().Add(time.Hour).Truncate(time.Microsecond)
	w.write(tried, &recordv1.JournalEntry{What: &recordv1.JournalEntry_Waiting{Waiting: &recordv1.Waiting{DueTime: timestamppb.New(later)}}})
	w.write(held, &recordv1.JournalEntry{What: &recordv1.JournalEntry_Held{Held: &recordv1.Held{Reason: "paused"}}})
	w.ackAll()
	w.recorded()
	require.NoError(t, w.client.DeleteMessage(t.Context(), "EVENTS", forgotten.GetEventSequence()))

	before, summary := w.run(false)
	require.Len(t, before, 4)
	require.EqualValues(t, 4, summary.GetImbalances())
	_, summary = w.run(true)
	require.EqualValues(t, 3, summary.GetRepaired())
	require.EqualValues(t, 1, summary.GetImbalances(), "what was lost with its event is only named")
	after, _ := w.run(false)
	require.Equal(t, []string{"IMBALANCE_KIND_NOWHERE " + forgotten.GetId()}, []string{short(after[0])})
	require.Len(t, after, 1)

	for _, d := range []*recordv1.Delivery{routed, tried, held} {
		standing, err := w.retries.Last(t.Context(), postrider.AccountID(d.GetAccountId()), postrider.WebhookID(d.GetWebhookId()), postrider.DeliveryID(d.GetId()))
		require.NoError(t, err)
		got := standing.Retry.GetDelivery()
		require.Equal(t, d.GetEventSequence(), got.GetEventSequence())
		require.Equal(t, d.GetEventType(), got.GetEventType())
		require.Equal(t, []byte("{}"), got.GetData())
		if d == tried {
			require.True(t, later.Equal(standing.Retry.GetDueTime().AsTime()))
			require.EqualValues(t, 1, got.GetProgress().GetAttempts())
			require.EqualValues(t, 503, got.GetProgress().GetLastStatusCode())
		} else {
			require.WithinRange(t, standing.Retry.GetDueTime().AsTime(), later.Add(-2*time.Hour), time.Now())
			require.Zero(t, got.GetProgress().GetAttempts())
		}
	}
}

func (w *world) sql(statement string, args ...any) {
	w.t.Helper()
	db, err := sql.Open("sqlite", "file:"+w.dbPath+"?_pragma=busy_timeout(10000)")
	require.NoError(w.t, err)
	defer func() { require.NoError(w.t, db.Close()) }()
	_, err = db.ExecContext(w.t.Context(), statement, args...)
	require.NoError(w.t, err)
}

func TestItTellsHowFarItIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.event()
	w.routed(d)
	w.index.missing[w.put(d, waiting)] = true
	w.ackAll()
	w.run(true)
	var steps []postriderv1.ReconcileStep
	for _, p := range w.progress {
		if len(steps) == 0 || steps[len(steps)-1] != p.GetStep() {
			steps = append(steps, p.GetStep())
		}
		if p.GetTotal() > 0 {
			require.LessOrEqual(t, p.GetDone(), p.GetTotal(), "%v", p)
		}
	}
	first := []postriderv1.ReconcileStep{
		postriderv1.ReconcileStep_RECONCILE_STEP_STREAMS, postriderv1.ReconcileStep_RECONCILE_STEP_LOG, postriderv1.ReconcileStep_RECONCILE_STEP_EVENTS,
		postriderv1.ReconcileStep_RECONCILE_STEP_JOURNAL, postriderv1.ReconcileStep_RECONCILE_STEP_INDEX,
	}
	steps = slices.DeleteFunc(steps, func(s postriderv1.ReconcileStep) bool { // it waits for the recorder or not
		return s == postriderv1.ReconcileStep_RECONCILE_STEP_RECORDER
	})
	require.Equal(t, first, steps[:len(first)])
	require.Contains(t, steps, postriderv1.ReconcileStep_RECONCILE_STEP_SETTLE)
	require.Equal(t, postriderv1.ReconcileStep_RECONCILE_STEP_REPAIR, steps[len(steps)-2], "%v", steps)

	gone := errors.New("nobody listens any more")
	_, err := w.reconciler.Run(t.Context(), false, nil, func(*postriderv1.ReconcileProgress) error { return gone })
	require.ErrorIs(t, err, gone)
}

func TestWithoutAnIndexTheRestIsCompared(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.event()
	w.routed(d)
	w.put(w.event(), waiting) // in a router's hands
	w.index.away = fault.New(fault.Unavailable, "STORE_UNAVAILABLE", "away")
	named, summary := w.run(false)
	require.False(t, summary.GetIndexCompared())
	require.Len(t, named, 1)
	require.Equal(t, postriderv1.ImbalanceKind_IMBALANCE_KIND_NOWHERE, named[0].GetKind())
}

func TestWhenTheRecorderDoesNotCatchUpNothingIsSaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.routed(w.event())
	_, err := w.journal.Consumer(t.Context(), "another")
	require.NoError(t, err)
	deps := reconcile.Deps{
		Streams: w.client, Events: w.events, Journal: w.journal, Recorder: func() string { return "another" }, Letters: w.letters, Log: w.log, Scheduler: w.index, Now: time.Now,
	}
	_, err = reconcile.New(reconcile.Config{CatchUp: time.Millisecond}, deps).Run(t.Context(), false, nil, nil)
	require.ErrorIs(t, err, reconcile.ErrRecorderBehind)
}
