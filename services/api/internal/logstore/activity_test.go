package logstore_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/services/api/internal/logstore"
)

// testAttemptsAreCountedOnceHoweverOftenTheyAreRecorded has the same entries come twice, and tests that
// count for nothing.
func testAttemptsAreCountedOnceHoweverOftenTheyAreRecorded(t *testing.T, open opener) {
	t.Helper()
	s := open(t)
	begin := time.Date(2026, 5, 4, 3, 0, 0, 0, time.UTC)
	var entries []*recordv1.JournalEntry
	add := func(hook, outcome, trigger string, at, took time.Duration) {
		n := len(entries)
		entries = append(entries, &recordv1.JournalEntry{
			AccountId: "acc_1", EventId: "evt_1", DeliveryId: fmt.Sprint("dlv_", n), WebhookId: hook, Time: timestamppb.New(begin.Add(at)),
			What: &recordv1.JournalEntry_Attempted{Attempted: &recordv1.Attempted{
				AttemptId: fmt.Sprint("att_", n), Number: 1, Outcome: outcome, Trigger: trigger, StartTime: timestamppb.New(begin.Add(at)), DurationUs: took.Microseconds(),
			}},
		})
	}
	add("wh_1", "succeeded", "schedule", 0, 10*time.Millisecond)
	add("wh_1", "succeeded", "schedule", 59*time.Second, 10*time.Millisecond)
	add("wh_1", "retryable", "schedule", 3*time.Minute, time.Second)
	add("wh_2", "succeeded", "manual", time.Minute, 10*time.Millisecond)
	add("wh_2", "succeeded", "test", time.Minute, 10*time.Millisecond)
	add("wh_2", "succeeded", "schedule", time.Hour, 10*time.Millisecond)
	require.NoError(t, s.Apply(t.Context(), entries))
	require.NoError(t, s.Apply(t.Context(), entries))
	require.NoError(t, s.Prune(t.Context(), time.Time{}))

	count := func(account, hook string, minutes int64) map[string]int64 {
		found, err := s.Activity(t.Context(), logstore.ActivityQuery{
			Account: postrider.AccountID(account), WebhookID: hook, Start: begin, End: begin.Add(10 * time.Minute), Minutes: minutes,
		})
		require.NoError(t, err)
		counts := make(map[string]int64)
		for _, c := range found {
			took := logstore.BucketTime(c.Bucket)
			if c.Good {
				require.InEpsilon(t, 10*time.Millisecond, took, 0.1)
			} else {
				require.InEpsilon(t, time.Second, took, 0.1)
			}
			counts[fmt.Sprint(c.Step, c.Good)] += c.Count
		}
		return counts
	}
	require.Equal(t, map[string]int64{"0 true": 2, "1 true": 1, "3 false": 1}, count("acc_1", "", 1))
	require.Equal(t, map[string]int64{"0 true": 3, "1 false": 1}, count("acc_1", "", 2))
	require.Equal(t, map[string]int64{"0 true": 2, "3 false": 1}, count("acc_1", "wh_1", 1))
	require.Empty(t, count("acc_2", "", 1))

	more, err := s.Expire(t.Context(), "acc_1", begin.Add(2*time.Minute))
	require.NoError(t, err)
	require.False(t, more)
	require.Equal(t, map[string]int64{"3 false": 1}, count("acc_1", "", 1))
	require.NoError(t, s.Reset(t.Context()))
	require.NoError(t, s.SetIncomplete(t.Context(), s.Token(), 0))
	require.Empty(t, count("acc_1", "", 1))
}
