package activity_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/access"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/activity"
	"github.com/postrider/postrider/services/api/internal/logstore"
)

const account = "acc_01JDXN0000000000000000000A"

// counts answers with the same, and keeps what it was asked.
type counts struct {
	asked logstore.ActivityQuery
	give  []logstore.ActivityCount
}

func (c *counts) Activity(_ context.Context, q logstore.ActivityQuery) ([]logstore.ActivityCount, error) {
	c.asked = q
	return c.give, nil
}

var noon = time.Date(2026, 5, 4, 12, 0, 30, 0, time.UTC)

func as(t *testing.T) context.Context {
	t.Helper()
	return access.NewContext(t.Context(), access.Principal{Account: account, Scopes: []postrider.Scope{postrider.ScopeRead}})
}

func TestEachStepIsThereAndQuantilesAreOfAllItsAttempts(t *testing.T) {
	t.Parallel()
	log := &counts{give: []logstore.ActivityCount{{Step: 1, Good: true, Bucket: 50, Count: 98}, {Step: 1, Bucket: 70, Count: 2}, {Step: 99, Count: 5}}}
	resp, err := activity.New(log, func() time.Time { return noon }).GetActivity(as(t), &postriderv1.GetActivityRequest{Step: durationpb.New(5 * time.Minute)})
	require.NoError(t, err)
	require.Len(t, resp.GetPoints(), 12)
	require.Equal(t, time.Date(2026, 5, 4, 11, 1, 0, 0, time.UTC), resp.GetPoints()[0].GetTime().AsTime())
	require.Nil(t, resp.GetPoints()[0].GetP50())
	p := resp.GetPoints()[1]
	require.EqualValues(t, 98, p.GetSucceeded())
	require.EqualValues(t, 2, p.GetFailed())
	require.Equal(t, logstore.BucketTime(50), p.GetP50().AsDuration())
	require.Equal(t, logstore.BucketTime(70), p.GetP99().AsDuration())
	require.EqualValues(t, 100, resp.GetTotal().GetSucceeded()+resp.GetTotal().GetFailed())
	require.Equal(t, postrider.AccountID(account), log.asked.Account)
}

func TestWhatCannotBeCountedIsNamed(t *testing.T) {
	t.Parallel()
	s := activity.New(&counts{}, func() time.Time { return noon })
	for field, req := range map[string]*postriderv1.GetActivityRequest{
		"webhook_id": {WebhookId: "x"},
		"step":       {Step: durationpb.New(90 * time.Second)},
		"start_time": {StartTime: timestamppb.New(noon.Add(time.Hour))},
	} {
		_, err := s.GetActivity(as(t), req)
		e, ok := fault.As(err)
		require.True(t, ok, field)
		require.Equal(t, field, e.Violations[0].Field)
	}
	_, err := s.GetActivity(as(t), &postriderv1.GetActivityRequest{StartTime: timestamppb.New(noon.Add(-24 * time.Hour))})
	e, _ := fault.As(err)
	require.Equal(t, "step", e.Violations[0].Field, "more steps than anybody draws")
	_, err = s.GetActivity(as(t), &postriderv1.GetActivityRequest{AccountId: "acc_01JDXN0000000000000000000B"})
	kind, _ := fault.KindOf(err)
	require.Equal(t, fault.NotFound, kind)
}
