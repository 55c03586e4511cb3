package config_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/config"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestJobsAreWrittenByCompareAndSetAndListedNewestFirst(t *testing.T) {
	t.Parallel()
	s := open(t, client(t, natstest.Start(t).Connect(t), 1))
	job := func(account, id string) *recordv1.Job {
		return &recordv1.Job{Replay: &postriderv1.Replay{Id: id, AccountId: account}}
	}
	var revs []uint64
	for i := range 5 {
		rev, err := s.CreateJob(t.Context(), job("acc_1", fmt.Sprintf("rpl_%d", i)))
		require.NoError(t, err)
		revs = append(revs, rev)
	}
	_, err := s.CreateJob(t.Context(), job("acc_2", "rpl_9"))
	require.NoError(t, err)
	_, err = s.CreateJob(t.Context(), job("acc_1", "rpl_0"))
	require.ErrorIs(t, err, config.ErrExists)

	next := job("acc_1", "rpl_0")
	next.Beat = 1
	rev, err := s.UpdateJob(t.Context(), next, revs[0])
	require.NoError(t, err)
	_, err = s.UpdateJob(t.Context(), next, revs[0])
	require.ErrorIs(t, err, config.ErrConflict, "who was replaced learns it")
	_, err = s.UpdateJob(t.Context(), job("acc_1", "rpl_new"), 0)
	require.ErrorIs(t, err, config.ErrConflict)
	got, at, err := s.GetJob(t.Context(), "acc_1", "rpl_0")
	require.NoError(t, err)
	require.Equal(t, rev, at)
	require.EqualValues(t, 1, got.GetBeat())
	_, _, err = s.GetJob(t.Context(), "acc_2", "rpl_0")
	require.ErrorIs(t, err, config.ErrNotFound, "another account's")

	var ids []string
	for before := ""; ; {
		page, err := s.ListJobs(t.Context(), "acc_1", before, 2)
		require.NoError(t, err)
		for _, e := range page {
			before = e.Record.GetReplay().GetId()
			ids = append(ids, before)
		}
		if len(page) < 2 {
			break
		}
	}
	require.Equal(t, []string{"rpl_4", "rpl_3", "rpl_2", "rpl_1", "rpl_0"}, ids)
	names, err := s.JobNames(t.Context())
	require.NoError(t, err)
	require.Len(t, names, 6)
	require.Contains(t, names, config.JobName{Account: "acc_2", ID: "rpl_9"})
}
