package logstore_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/services/api/internal/logstore"
)

const account = postrider.AccountID("acc_1")

var start = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func at(offset time.Duration) *timestamppb.Timestamp { return timestamppb.New(start.Add(offset)) }

// history is the journal of one delivery that failed once and then succeeded.
func history(n int) []*recordv1.JournalEntry {
	event, webhook := fmt.Sprintf("evt_%d", n), postrider.WebhookID("wh_1")
	id := string(postrider.DeliveryIDFor(postrider.EventID(event), webhook, ""))
	entry := func(offset time.Duration, e *recordv1.JournalEntry) *recordv1.JournalEntry {
		e.Time, e.AccountId, e.EventId, e.EventType = at(offset+time.Duration(n)*time.Minute), string(account), event, "release.live"
		if e.GetRouted() == nil {
			e.DeliveryId, e.WebhookId = id, string(webhook)
		}
		return e
	}
	attempt := func(number int32, offset time.Duration, state string, status int32, class string) *recordv1.JournalEntry {
		return entry(offset, &recordv1.JournalEntry{What: &recordv1.JournalEntry_Attempted{Attempted: &recordv1.Attempted{
			AttemptId: fmt.Sprintf("att_%d_%d", n, number), Number: number, StartTime: at(offset), StatusCode: status,
			ErrorClass: class, State: state, Trigger: "schedule",
		}}})
	}
	return []*recordv1.JournalEntry{
		entry(0, &recordv1.JournalEntry{What: &recordv1.JournalEntry_Routed{Routed: &recordv1.Routed{
			Deliveries: []*recordv1.RoutedDelivery{{DeliveryId: id, WebhookId: string(webhook)}}, MatchedTotal: 1, UnmatchedTotal: 1,
			Unmatched: []*recordv1.Unmatched{{WebhookId: "wh_2", Reason: "event_type"}}, AcceptTime: at(0),
		}}}),
		attempt(1, time.Second, "waiting", 500, "http_status"),
		entry(2*time.Second, &recordv1.JournalEntry{What: &recordv1.JournalEntry_Held{Held: &recordv1.Held{Reason: "paused"}}}),
		entry(3*time.Second, &recordv1.JournalEntry{What: &recordv1.JournalEntry_Released{Released: &recordv1.Released{Reason: "resumed"}}}),
		entry(4*time.Second, &recordv1.JournalEntry{What: &recordv1.JournalEntry_Cancelled{Cancelled: &recordv1.Cancelled{Reason: "request"}}}),
		attempt(2, 5*time.Second, "delivered", 204, ""),
	}
}

func testApplyGivesOneResultForEveryOrderAndRepetition(t *testing.T, open opener) {
	t.Helper()
	t.Parallel()
	s := open(t)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		entries := history(n)
		entries = append(entries, rapid.SliceOfN(rapid.SampledFrom(entries), 0, 6).Draw(rt, "repeats")...)
		entries = rapid.Permutation(entries).Draw(rt, "order")
		cut := rapid.IntRange(0, len(entries)).Draw(rt, "cut")
		require.NoError(rt, s.Apply(t.Context(), entries[:cut]))
		require.NoError(rt, s.Apply(t.Context(), entries[cut:]))

		id := string(postrider.DeliveryIDFor(postrider.EventID(fmt.Sprintf("evt_%d", n)), "wh_1", ""))
		d, err := s.Delivery(t.Context(), account, id)
		require.NoError(rt, err)
		require.Equal(rt, postrider.Delivered, d.State, "a 2xx wins over a cancel")
		require.Equal(rt, 2, d.AttemptCount)
		require.Equal(rt, 204, d.LastStatusCode)
		require.Empty(rt, d.LastErrorClass)
		require.Equal(rt, start.Add(time.Duration(n)*time.Minute), d.CreateTime)

		attempts, err := s.Attempts(t.Context(), account, id, 0, 10)
		require.NoError(rt, err)
		require.Len(rt, attempts, 2)
		require.True(rt, proto.Equal(at(time.Second), attempts[0].Record.GetStartTime()))
	})
}

func testDeliveriesArePagedNewestFirstAndFiltered(t *testing.T, open opener) {
	t.Helper()
	t.Parallel()
	s := open(t)
	var entries []*recordv1.JournalEntry
	for n := range 25 {
		entries = append(entries, history(n)[0])
	}
	require.NoError(t, s.Apply(t.Context(), entries))

	want := make([]string, 25)
	for n := range want {
		want[n] = fmt.Sprintf("evt_%d", n)
	}
	for _, oldest := range []bool{true, false} {
		var got []string
		q := logstore.Query{Account: account, Limit: 10, OldestFirst: oldest}
		for {
			page, err := s.Deliveries(t.Context(), q)
			require.NoError(t, err)
			for _, d := range page {
				got = append(got, d.EventID)
			}
			if len(page) < q.Limit {
				break
			}
			last := page[len(page)-1]
			q.After = logstore.Cursor{CreateTime: last.CreateTime, ID: last.ID}
		}
		require.Equal(t, want, got)
		slices.Reverse(want)
	}

	callID := postrider.DeliveryIDFor("evt_3", "wh_1", "").UUID()
	call := callID.String()
	callID[15]++
	neighbour := callID.String()
	tests := map[string]struct {
		query logstore.Query
		want  int
	}{
		"by event":                    {logstore.Query{EventID: "evt_3"}, 1},
		"by webhook":                  {logstore.Query{WebhookID: "wh_1"}, 25},
		"by call id":                  {logstore.Query{CallID: call}, 1},
		"by call id in capitals":      {logstore.Query{CallID: strings.ToUpper(call)}, 1},
		"by call id of its neighbour": {logstore.Query{CallID: neighbour}, 0},
		"by what is no call id":       {logstore.Query{CallID: "dlv_1"}, 0},
		"by another webhook":          {logstore.Query{WebhookID: "wh_2"}, 0},
		"by state":                    {logstore.Query{State: postrider.Pending}, 25},
		"by another state":            {logstore.Query{State: postrider.Dead}, 0},
		"by type":                     {logstore.Query{EventType: "release.live"}, 25},
		"by time, half open":          {logstore.Query{Start: start.Add(5 * time.Minute), End: start.Add(7 * time.Minute)}, 2},
		"an injection is only a text": {logstore.Query{EventID: "' OR 1=1 --"}, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			test.query.Account, test.query.Limit = account, 100
			page, err := s.Deliveries(t.Context(), test.query)
			require.NoError(t, err)
			require.Len(t, page, test.want)
		})
	}
}

func testAnotherAccountSeesNothing(t *testing.T, open opener) {
	t.Helper()
	t.Parallel()
	s := open(t)
	require.NoError(t, s.Apply(t.Context(), history(1)))
	id := string(postrider.DeliveryIDFor("evt_1", "wh_1", ""))

	_, err := s.Delivery(t.Context(), "acc_2", id)
	require.ErrorIs(t, err, logstore.ErrNotFound)
	page, err := s.Deliveries(t.Context(), logstore.Query{Account: "acc_2", EventID: "evt_1", Limit: 10})
	require.NoError(t, err)
	require.Empty(t, page)
	attempts, err := s.Attempts(t.Context(), "acc_2", id, 0, 10)
	require.NoError(t, err)
	require.Empty(t, attempts)
}

func testATestAttemptIsRecordedWithoutADelivery(t *testing.T, open opener) {
	t.Helper()
	t.Parallel()
	s := open(t)
	entry := history(1)[1]
	entry.GetAttempted().Trigger = logstore.TriggerTest
	require.NoError(t, s.Apply(t.Context(), []*recordv1.JournalEntry{entry}))
	_, err := s.Delivery(t.Context(), account, entry.GetDeliveryId())
	require.ErrorIs(t, err, logstore.ErrNotFound)
	attempts, err := s.Attempts(t.Context(), account, entry.GetDeliveryId(), 0, 10)
	require.NoError(t, err)
	require.Len(t, attempts, 1)
}

func BenchmarkApply(b *testing.B) {
	s := openSQLite(b)
	const batch = 512
	for n := 0; b.Loop(); n++ {
		entries := make([]*recordv1.JournalEntry, 0, 2*batch)
		for i := range batch {
			h := history(n*batch + i)
			entries = append(entries, h[0], h[5])
		}
		require.NoError(b, s.Apply(b.Context(), entries))
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*batch), "us/attempt")
}
