package replay_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/replay"
)

// A job's sequences are of its account's segment: the same ones of the other are of other events.
func TestReplaysOfAccountsInTwoSegments(t *testing.T) {
	t.Parallel()
	w := newWorldIn(t, 2)
	events := map[postrider.AccountID]int{"acc_01JDABCDEFGHJKMNPQRSTVWXYZ": 7, "acc_01JDABCDEFGHJKMNPQRSTVWXY0": 12}
	jobs := map[postrider.AccountID]postrider.ReplayID{}
	segments := map[string]bool{}
	for account, n := range events {
		segments[w.events.Of(account).Name()] = true
		last := w.publishOf(t, account, n)
		require.EqualValues(t, n, last)
		w.publishOf(t, account, 2) // not selected
		jobs[account] = postrider.NewReplayID()
		_, err := w.store.CreateJob(t.Context(), &recordv1.Job{NextSequence: 1, LastSequence: last, Replay: &postriderv1.Replay{
			Id: string(jobs[account]), AccountId: string(account), Rate: 1000, State: postriderv1.ReplayState_REPLAY_STATE_RUNNING,
			Selection: &postriderv1.Replay_Events{Events: &postriderv1.EventSelection{StartTime: timestamppb.New(time.Now().Add(-time.Hour))}},
		}})
		require.NoError(t, err)
	}
	require.Len(t, segments, 2)
	w.run(t, t.Context(), 1<<40)
	for account, id := range jobs {
		require.Eventually(t, func() bool {
			job, _, err := w.store.GetJob(t.Context(), string(account), string(id))
			return err == nil && replay.Ended(job.GetReplay())
		}, patience, 2*time.Millisecond)
	}
	made := map[postrider.AccountID]int{}
	require.NoError(t, w.deliveries.Scan(t.Context(), 0, func(d *recordv1.Delivery) error {
		account := postrider.AccountID(d.GetAccountId())
		made[account]++
		require.Equal(t, string(jobs[account]), d.GetReplayId())
		ev, err := w.events.Get(t.Context(), account, d.GetEventSequence())
		require.NoError(t, err)
		require.Equal(t, d.GetEventId(), ev.GetId())
		require.Equal(t, d.GetAccountId(), ev.GetAccountId())
		return nil
	}))
	for account, n := range events {
		require.Equal(t, n*len(hooks), made[account], account)
	}
}
