package config_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/config"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestFailuresAreNotedByOneWriterAtATimeAndForgotten(t *testing.T) {
	t.Parallel()
	s := open(t, client(t, natstest.Start(t).Connect(t), 1))
	for range 2 { // a webhook fails again after it succeeded
		_, _, err := s.GetFailing(t.Context(), "acc_1", "wh_1")
		require.ErrorIs(t, err, config.ErrNotFound)
		rev, err := s.CreateFailing(t.Context(), &recordv1.Failing{AccountId: "acc_1", WebhookId: "wh_1"})
		require.NoError(t, err)
		_, err = s.CreateFailing(t.Context(), &recordv1.Failing{AccountId: "acc_1", WebhookId: "wh_1"})
		require.ErrorIs(t, err, config.ErrExists)
		next, err := s.UpdateFailing(t.Context(), &recordv1.Failing{AccountId: "acc_1", WebhookId: "wh_1", WarnedPercent: 50}, rev)
		require.NoError(t, err)
		_, err = s.UpdateFailing(t.Context(), &recordv1.Failing{AccountId: "acc_1", WebhookId: "wh_1"}, rev)
		require.ErrorIs(t, err, config.ErrConflict)
		got, at, err := s.GetFailing(t.Context(), "acc_1", "wh_1")
		require.NoError(t, err)
		require.Equal(t, next, at)
		require.EqualValues(t, 50, got.GetWarnedPercent())
		_, _, err = s.GetFailing(t.Context(), "acc_2", "wh_1")
		require.ErrorIs(t, err, config.ErrNotFound)
		require.ErrorIs(t, s.DeleteFailing(t.Context(), "acc_1", "wh_1", rev), config.ErrConflict)
		require.NoError(t, s.DeleteFailing(t.Context(), "acc_1", "wh_1", next))
	}
}

func TestANoticeIsListedUntilItIsRemoved(t *testing.T) {
	t.Parallel()
	s := open(t, client(t, natstest.Start(t).Connect(t), 1))
	notice := func(percent int32) *recordv1.Notice {
		return &recordv1.Notice{Event: &recordv1.Event{Id: "evt_1", AccountId: "acc_1"}, Percent: percent}
	}
	for _, percent := range []int32{50, 80} {
		require.NoError(t, s.PutNotice(t.Context(), notice(percent)))
		list, err := s.ListNotices(t.Context(), 10)
		require.NoError(t, err)
		require.Len(t, list, 1)
		require.Equal(t, percent, list[0].Record.GetPercent())
	}
	for range 2 {
		require.NoError(t, s.DeleteNotice(t.Context(), "acc_1", "evt_1"))
		list, err := s.ListNotices(t.Context(), 10)
		require.NoError(t, err)
		require.Empty(t, list)
	}
	require.NoError(t, s.PutNotice(t.Context(), notice(95)))

	_, rev, err := s.GetAnnounced(t.Context(), "acc_1")
	require.ErrorIs(t, err, config.ErrNotFound)
	require.NoError(t, s.PutAnnounced(t.Context(), &recordv1.Announced{AccountId: "acc_1", LetterSequence: 7}, rev))
	require.ErrorIs(t, s.PutAnnounced(t.Context(), &recordv1.Announced{AccountId: "acc_1"}, rev), config.ErrConflict)
	got, _, err := s.GetAnnounced(t.Context(), "acc_1")
	require.NoError(t, err)
	require.EqualValues(t, 7, got.GetLetterSequence())
}
