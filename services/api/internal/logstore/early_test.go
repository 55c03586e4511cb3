package logstore_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/services/api/internal/logstore"
)

// tried is an attempt of an event's delivery whose id was made some time after it.
func tried(id postrider.EventID, number int32, n int, after time.Duration, trigger string, body int) *recordv1.JournalEntry {
	made, _ := id.Time()
	at := timestamppb.New(made.Add(after))
	e := accepted(id, postrider.Waiting, &recordv1.Routed{})[1]
	e.Time = at
	a := e.GetAttempted()
	a.AttemptId = "att_" + string(eventAt(made.Add(after), n))[len("evt_"):]
	a.Number, a.StartTime, a.Trigger, a.ResponseBody, a.DurationUs = number, at, trigger, make([]byte, body), 1000
	return e
}

// Wherever an attempt is kept, it is listed, counted, found and redacted like any other, in every order and repetition.
func testAttemptsAreAlikeWhereverTheyAreKept(t *testing.T, open opener) {
	t.Helper()
	t.Parallel()
	s := open(t)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		day := start.Add(time.Duration(n) * time.Hour)
		id := eventAt(day, n)
		delivery := string(postrider.DeliveryIDFor(id, "wh_1", ""))
		routed := accepted(id, postrider.Pending, &recordv1.Routed{})
		// The first two are of a dispatcher that died and of the one after it; the others are in the order of their starts.
		attempts := []*recordv1.JournalEntry{
			tried(id, 1, 1, 2*time.Millisecond, logstore.TriggerSchedule, 10),
			tried(id, 1, 2, 700*time.Millisecond, logstore.TriggerSchedule, 10),
			tried(id, 0, 3, 800*time.Millisecond, logstore.TriggerManual, 10),
			tried(id, 1, 4, 900*time.Millisecond, logstore.TriggerSchedule, 4000),
			tried(id, 1, 5, time.Second, logstore.TriggerSchedule, 0),
			tried(id, 1, 6, 5*time.Second, logstore.TriggerSchedule, 10),
			tried(id, 2, 7, 6*time.Second, logstore.TriggerSchedule, 10),
		}
		attempts = rapid.SliceOfNDistinct(rapid.SampledFrom(attempts), 1, -1, func(e *recordv1.JournalEntry) string { return e.GetAttempted().GetAttemptId() }).Draw(rt, "attempts")
		entries := append(routed, attempts...) //nolint:gocritic // routed is not used again
		entries = append(entries, rapid.SliceOfN(rapid.SampledFrom(entries), 0, 6).Draw(rt, "repeats")...)
		entries = rapid.Permutation(entries).Draw(rt, "order")
		cut := rapid.IntRange(0, len(entries)).Draw(rt, "cut")
		require.NoError(rt, s.Apply(t.Context(), entries[:cut]))
		require.NoError(rt, s.Apply(t.Context(), entries[cut:]))

		var want []string
		bodies := 0
		for _, e := range attempts {
			want = append(want, e.GetAttempted().GetAttemptId())
			if len(e.GetAttempted().GetResponseBody())+len(e.GetAttempted().GetRequestBody()) > 0 {
				bodies++
			}
			owner, begun, err := s.AttemptOwner(t.Context(), account, e.GetAttempted().GetAttemptId())
			require.NoError(rt, err)
			require.Equal(rt, delivery, owner)
			require.Equal(rt, e.GetAttempted().GetStartTime().AsTime(), begun)
			_, _, err = s.AttemptOwner(t.Context(), "acc_2", e.GetAttempted().GetAttemptId())
			require.ErrorIs(rt, err, logstore.ErrNotFound)
		}
		slices.Sort(want) // their ids begin with their starts
		for skip := range len(want) + 2 {
			for limit := 1; limit <= len(want)+1; limit++ {
				page, err := s.Attempts(t.Context(), account, delivery, skip, limit)
				require.NoError(rt, err)
				var got []string
				for _, a := range page {
					require.Equal(rt, delivery, a.DeliveryID)
					got = append(got, a.Record.GetAttemptId())
				}
				require.Equal(rt, want[min(skip, len(want)):min(skip+limit, len(want))], append([]string{}, got...))
			}
		}
		counts, err := s.Activity(t.Context(), logstore.ActivityQuery{Account: account, WebhookID: "wh_1", Start: day, End: day.Add(time.Minute), Minutes: 1})
		require.NoError(rt, err)
		var counted int64
		for _, c := range counts {
			counted += c.Count
		}
		require.EqualValues(rt, len(attempts), counted)

		for _, want := range []int{bodies, 0} {
			redacted, err := s.Redact(t.Context(), account, string(id))
			require.NoError(rt, err)
			require.Equal(rt, want, redacted)
		}
		require.NoError(rt, s.Apply(t.Context(), entries), "what comes again brings no body back")
		page, err := s.Attempts(t.Context(), account, delivery, 0, 10)
		require.NoError(rt, err)
		require.Len(rt, page, len(want))
		for _, a := range page {
			require.Empty(rt, a.Record.GetResponseBody())
			require.EqualValues(rt, 200, a.Record.GetStatusCode())
		}
	})
	_, _, err := s.AttemptOwner(t.Context(), account, "att_"+string(eventAt(start, 1))[len("evt_"):])
	require.ErrorIs(t, err, logstore.ErrNotFound)
}

// An event that was routed twice keeps the time of the first: its attempt is found all the same.
func testAnEarlyAttemptOfAnEventRoutedTwiceIsFound(t *testing.T, open opener) {
	t.Helper()
	t.Parallel()
	s := open(t)
	id := eventAt(start, 1)
	entries := accepted(id, postrider.Pending, &recordv1.Routed{})
	late := tried(id, 1, 1, 31*time.Second, logstore.TriggerSchedule, 10)
	late.CreateTime = timestamppb.New(start.Add(30 * time.Second))
	require.NoError(t, s.Apply(t.Context(), append(entries, late)))
	owner, _, err := s.AttemptOwner(t.Context(), account, late.GetAttempted().GetAttemptId())
	require.NoError(t, err)
	require.Equal(t, late.GetDeliveryId(), owner)
}
