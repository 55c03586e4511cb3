package logstore_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/services/api/internal/logstore"
)

// said is one entry of a delivery's journal and what it says.
type said struct {
	entry    *recordv1.JournalEntry
	series   int32
	state    postrider.DeliveryState // "": nothing
	at       time.Duration
	attempts int32
}

// anything draws an entry about the delivery, of any kind and series.
func anything(rt *rapid.T, delivery string) said {
	s := said{
		series: rapid.Int32Range(0, 3).Draw(rt, "series"),
		at:     time.Duration(rapid.IntRange(1, 20).Draw(rt, "at")) * time.Second,
	}
	e := &recordv1.JournalEntry{
		Time: at(s.at), AccountId: string(account), EventId: "evt_1", EventType: "release.live",
		DeliveryId: delivery, WebhookId: "wh_1", Series: s.series,
	}
	attempted := func(a *recordv1.Attempted) {
		a.AttemptId, a.StartTime = fmt.Sprintf("att_%d", rapid.Int().Draw(rt, "attempt")), at(s.at)
		e.What = &recordv1.JournalEntry_Attempted{Attempted: a}
	}
	switch rapid.IntRange(0, 7).Draw(rt, "kind") {
	case 0:
		s.state, e.What = postrider.Waiting, &recordv1.JournalEntry_Waiting{Waiting: &recordv1.Waiting{Reason: "rate"}}
	case 1:
		s.state, e.What = postrider.Held, &recordv1.JournalEntry_Held{Held: &recordv1.Held{Reason: "paused"}}
	case 2:
		s.state, e.What = postrider.Pending, &recordv1.JournalEntry_Released{Released: &recordv1.Released{Reason: "redriven"}}
	case 3:
		s.state, e.What = postrider.Dead, &recordv1.JournalEntry_Dead{Dead: &recordv1.Dead{Cause: "expired"}}
	case 4:
		s.state, e.What = postrider.Cancelled, &recordv1.JournalEntry_Cancelled{Cancelled: &recordv1.Cancelled{Reason: "request"}}
	case 5:
		s.state = rapid.SampledFrom([]postrider.DeliveryState{postrider.Waiting, postrider.Dead, postrider.Delivered}).Draw(rt, "state")
		s.attempts = rapid.Int32Range(1, 5).Draw(rt, "number")
		attempted(&recordv1.Attempted{Number: s.attempts, State: string(s.state), Trigger: "schedule"})
	case 6:
		attempted(&recordv1.Attempted{Trigger: logstore.TriggerManual})
	case 7:
		s.state = postrider.Delivered
		attempted(&recordv1.Attempted{State: string(s.state), Trigger: logstore.TriggerManual})
	}
	s.entry = e
	return s
}

// Within a series end states absorb; nothing of an earlier series counts against a later one; a
// manual retry that failed says nothing.
func testTheLatestSeriesDecidesInEveryOrderAndRepetition(t *testing.T, open opener) {
	t.Helper()
	t.Parallel()
	s := open(t)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		id := string(postrider.DeliveryIDFor(postrider.EventID(fmt.Sprintf("evt_%d", n)), "wh_1", ""))
		facts := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) said { return anything(rt, id) }), 1, 12).Draw(rt, "journal")
		var entries []*recordv1.JournalEntry
		for _, f := range facts {
			entries = append(entries, f.entry)
		}
		entries = append(entries, rapid.SliceOfN(rapid.SampledFrom(entries), 0, 6).Draw(rt, "repeats")...)
		entries = rapid.Permutation(entries).Draw(rt, "order")
		cut := rapid.IntRange(0, len(entries)).Draw(rt, "cut")
		require.NoError(rt, s.Apply(t.Context(), entries[:cut]))
		require.NoError(rt, s.Apply(t.Context(), entries[cut:]))

		d, err := s.Delivery(t.Context(), account, id)
		require.NoError(rt, err)
		spoken := slices.DeleteFunc(slices.Clone(facts), func(f said) bool { return f.state == "" })
		if len(spoken) == 0 {
			require.Empty(rt, d.State)
			return
		}
		want := slices.MaxFunc(spoken, func(a, b said) int {
			return cmp.Or(cmp.Compare(a.series, b.series), cmp.Compare(a.state.Rank(), b.state.Rank()), cmp.Compare(a.at, b.at), cmp.Compare(a.state, b.state))
		})
		require.Equal(rt, want.state, d.State)
		require.EqualValues(rt, want.series, d.Series)
		require.Equal(rt, start.Add(want.at), d.StateTime)
		var attempts int32
		for _, f := range spoken {
			if f.series == want.series {
				attempts = max(attempts, f.attempts)
			}
		}
		require.EqualValues(rt, attempts, d.AttemptCount, "of the latest series")
	})
}

func testARedrivenDeliveryIsPendingAgainAndAFailedManualRetryChangesNothing(t *testing.T, open opener) {
	t.Helper()
	t.Parallel()
	s := open(t)
	h := history(1)
	id := h[1].GetDeliveryId()
	entry := func(offset time.Duration, series int32, e *recordv1.JournalEntry) *recordv1.JournalEntry {
		e.Time, e.AccountId, e.EventId, e.EventType, e.DeliveryId, e.WebhookId, e.Series = at(offset), string(account), "evt_1", "release.live", id, "wh_1", series
		return e
	}
	state := func(entries ...*recordv1.JournalEntry) *logstore.Delivery {
		require.NoError(t, s.Apply(t.Context(), entries))
		d, err := s.Delivery(t.Context(), account, id)
		require.NoError(t, err)
		return d
	}
	dead := entry(time.Hour, 0, &recordv1.JournalEntry{What: &recordv1.JournalEntry_Dead{Dead: &recordv1.Dead{Cause: "exhausted"}}})
	require.Equal(t, postrider.Dead, state(h[0], h[1], dead).State)
	manual := entry(2*time.Hour, 0, &recordv1.JournalEntry{What: &recordv1.JournalEntry_Attempted{Attempted: &recordv1.Attempted{
		AttemptId: "att_manual", Trigger: logstore.TriggerManual, StartTime: at(2 * time.Hour), StatusCode: 418, ErrorClass: "http_status",
	}}})
	d := state(manual)
	require.Equal(t, postrider.Dead, d.State)
	require.Equal(t, 1, d.AttemptCount)
	require.Equal(t, 418, d.LastStatusCode)

	d = state(entry(3*time.Hour, 1, &recordv1.JournalEntry{What: &recordv1.JournalEntry_Released{Released: &recordv1.Released{Reason: "redriven"}}}))
	require.Equal(t, postrider.Pending, d.State)
	require.Equal(t, "redriven", d.Reason)
	require.Equal(t, 1, d.Series)
	require.Zero(t, d.AttemptCount)
	require.Equal(t, postrider.Pending, state(dead, h[4]).State, "what is late of the first series counts no more")
}
