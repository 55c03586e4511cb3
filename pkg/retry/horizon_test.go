package retry_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"
	"pgregory.net/rapid"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/retry"
)

func hurried() retry.Schedule {
	return retry.Schedule{
		Delays: []time.Duration{time.Second, 10 * time.Second, time.Minute, time.Hour},
		Jitter: 0.5, Sooner: true, JitterFrom: 4, Horizon: 30 * time.Minute,
	}
}

func TestJitterMayShortenOnlyAndBeginLate(t *testing.T) {
	t.Parallel()
	s := hurried()
	require.NoError(t, s.Validate())
	first := time.Unix(1000, 0)
	rapid.Check(t, func(t *rapid.T) {
		share := func() float64 { return rapid.Float64Range(0, 0.999999).Draw(t, "share") }
		for n, exact := range s.Delays[:2] {
			due, ok := s.Next(n+1, first, first, time.Time{}, share)
			require.True(t, ok)
			require.Equal(t, exact, due.Sub(first))
		}
		due, ok := s.Next(3, first, first, time.Time{}, share)
		require.True(t, ok)
		require.LessOrEqual(t, due.Sub(first), time.Minute)
		require.Greater(t, due.Sub(first), time.Minute/2-time.Millisecond)
	})
}

func TestNothingIsDueBeyondTheHorizon(t *testing.T) {
	t.Parallel()
	s := hurried()
	first := time.Unix(1000, 0)
	_, ok := s.Next(4, first, first.Add(time.Minute), time.Time{}, nil)
	require.False(t, ok, "an hour is too much")
	due, ok := s.Next(4, first, first, time.Time{}, func() float64 { return 0.9999 })
	require.False(t, ok, "%s", due)
	_, ok = s.Next(2, first, first, first.Add(29*time.Minute), nil)
	require.True(t, ok)
	_, ok = s.Next(2, first, first, first.Add(30*time.Minute), nil)
	require.False(t, ok, "nor does a Retry-After move it there")
	_, ok = s.Next(4, time.Time{}, first, time.Time{}, nil)
	require.True(t, ok, "without a first attempt there is no horizon")

	scaled := s.Scale(0.01)
	require.Equal(t, 18*time.Second, scaled.Horizon)
	require.True(t, scaled.Expired(first, first.Add(18*time.Second)))
	require.False(t, scaled.Expired(first, first.Add(17*time.Second)))
}

func TestDelaysOfOnesOwnHaveNoHorizon(t *testing.T) {
	t.Parallel()
	s, err := retry.FromProto(&postriderv1.RetrySchedule{Delays: []*durationpb.Duration{durationpb.New(10 * time.Hour)}}, hurried())
	require.NoError(t, err)
	require.Zero(t, s.Horizon)
	require.Zero(t, s.JitterFrom)
	require.True(t, s.Sooner)
	require.Error(t, retry.Schedule{Horizon: -1}.Validate())
	require.Error(t, retry.Schedule{Early: true, Sooner: true}.Validate())
}
