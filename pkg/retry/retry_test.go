package retry_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"pgregory.net/rapid"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/retry"
)

var start = time.Date(2026, 11, 21, 22, 0, 0, 0, time.UTC)

func fixed(share float64) func() float64 { return func() float64 { return share } }

func TestNext(t *testing.T) {
	t.Parallel()
	gaps := retry.Schedule{Delays: []time.Duration{time.Minute, 5 * time.Minute, 30 * time.Minute}, Jitter: 0.1}
	early := gaps
	early.Early = true
	offsets := gaps
	offsets.FromFirst = true
	tests := map[string]struct {
		schedule   retry.Schedule
		attempts   int
		lastEnd    time.Duration // after start
		retryAfter time.Duration // after start; 0 for none
		jitter     func() float64
		want       time.Duration // after start
		spent      bool
	}{
		"the first delay counts from the end of the first attempt": {gaps, 1, 20 * time.Second, 0, nil, 80 * time.Second, false},
		"the second counts from the end of the second":             {gaps, 2, 2 * time.Minute, 0, nil, 7 * time.Minute, false},
		"the last delay is used":                                   {gaps, 3, time.Hour, 0, nil, 90 * time.Minute, false},
		"after the last delay there is no attempt":                 {gaps, 4, time.Hour, 0, nil, 0, true},
		"nor is there one without a first":                         {gaps, 0, 0, 0, nil, 0, true},
		"jitter adds at most its share":                            {gaps, 1, 0, 0, fixed(0.5), 63 * time.Second, false},
		"no jitter is drawn where none is wanted":                  {gaps, 1, 0, 0, fixed(0), time.Minute, false},
		"early jitter may shorten":                                 {early, 1, 0, 0, fixed(0), 54 * time.Second, false},
		"early jitter may lengthen":                                {early, 1, 0, 0, fixed(0.75), 63 * time.Second, false},
		"early jitter without randomness is the delay":             {early, 1, 0, 0, nil, time.Minute, false},
		"offsets count from the first attempt":                     {offsets, 2, 2 * time.Minute, 0, nil, 5 * time.Minute, false},
		"an offset that passed is due at once":                     {offsets, 2, 9 * time.Minute, 0, nil, 9 * time.Minute, false},
		"a longer Retry-After postpones":                           {gaps, 1, 0, 3 * time.Minute, nil, 3 * time.Minute, false},
		"a shorter Retry-After does not bring forward":             {gaps, 1, 0, time.Second, fixed(0.5), 63 * time.Second, false},
		"a Retry-After of years is cut to a day":                   {gaps, 1, time.Second, 9000 * time.Hour, nil, 24*time.Hour + time.Second, false},
		"a Retry-After does not revive a spent schedule":           {gaps, 4, 0, time.Hour, nil, 0, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var retryAfter time.Time
			if tt.retryAfter > 0 {
				retryAfter = start.Add(tt.retryAfter)
			}
			due, ok := tt.schedule.Next(tt.attempts, start, start.Add(tt.lastEnd), retryAfter, tt.jitter)
			require.Equal(t, !tt.spent, ok)
			if ok {
				require.Equal(t, start.Add(tt.want), due)
			}
		})
	}
}

func TestAnOffsetScheduleWithoutAFirstAttemptCountsFromTheLast(t *testing.T) {
	t.Parallel()
	s := retry.Schedule{Delays: []time.Duration{time.Minute}, FromFirst: true}
	due, ok := s.Next(1, time.Time{}, start, time.Time{}, nil)
	require.True(t, ok)
	require.Equal(t, start.Add(time.Minute), due)
}

// drawSchedule draws valid schedules.
func drawSchedule(t *rapid.T) retry.Schedule {
	s := retry.Schedule{
		Jitter:    rapid.Float64Range(0, 1).Draw(t, "jitter"),
		Early:     rapid.Bool().Draw(t, "early"),
		FromFirst: rapid.Bool().Draw(t, "fromFirst"),
	}
	for range rapid.IntRange(0, retry.MaxDelays).Draw(t, "delays") {
		s.Delays = append(s.Delays, time.Duration(rapid.Int64Range(0, int64(7*time.Hour-1)).Draw(t, "delay")))
	}
	require.NoError(t, s.Validate())
	return s
}

// TestASeriesOfFailures plays a whole series of failing attempts.
func TestASeriesOfFailures(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := drawSchedule(t)
		attempts, first, begin := 0, start, start
		for {
			attempts++
			require.LessOrEqual(t, attempts, s.MaxAttempts(), "no attempt beyond the limit")
			lastEnd := begin.Add(time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "duration")))
			var retryAfter time.Time
			if rapid.Bool().Draw(t, "hasRetryAfter") {
				retryAfter = lastEnd.Add(time.Duration(rapid.Int64Range(int64(-time.Hour), int64(72*time.Hour)).Draw(t, "retryAfter")))
			}
			share := rapid.Float64Range(0, math.Nextafter(1, 0)).Draw(t, "share")
			due, ok := s.Next(attempts, first, lastEnd, retryAfter, fixed(share))
			if !ok {
				require.Equal(t, s.MaxAttempts(), attempts, "the count is exact")
				return
			}
			checkDue(t, s, s.Delays[attempts-1], first, lastEnd, retryAfter, due)
			begin = due
		}
	})
}

func checkDue(t *rapid.T, s retry.Schedule, delay time.Duration, first, lastEnd, retryAfter, due time.Time) {
	basis := lastEnd
	if s.FromFirst {
		basis = first
	}
	spread := time.Duration(float64(delay) * s.Jitter)
	floor, ceiling := basis.Add(delay), basis.Add(delay+spread)
	if s.Early {
		floor = basis.Add(delay - spread - 1)
	}
	require.False(t, due.Before(lastEnd), "never before the last attempt ended")
	require.False(t, due.Before(floor), "never before the delay has passed")
	if !retryAfter.IsZero() {
		capped := lastEnd.Add(retry.MaxRetryAfter)
		if retryAfter.Before(capped) {
			capped = retryAfter
		}
		require.False(t, due.Before(capped), "never before Retry-After")
		if capped.After(ceiling) {
			ceiling = capped
		}
	}
	if lastEnd.After(ceiling) {
		ceiling = lastEnd
	}
	require.False(t, due.After(ceiling), "never later than jitter and Retry-After explain")
}

func TestScale(t *testing.T) {
	t.Parallel()
	s := retry.Schedule{Delays: []time.Duration{time.Minute, time.Hour}, Jitter: 0.1}
	got := s.Scale(0.001)
	require.Equal(t, []time.Duration{60 * time.Millisecond, 3600 * time.Millisecond}, got.Delays)
	require.InDelta(t, 0.1, got.Jitter, 0)
	require.Equal(t, []time.Duration{time.Minute, time.Hour}, s.Delays, "the original is not changed")
	require.Equal(t, time.Duration(math.MaxInt64), s.Scale(1e300).Delays[1], "no overflow")
	require.Equal(t, 3, got.MaxAttempts())
}

func TestValidate(t *testing.T) {
	t.Parallel()
	many := make([]time.Duration, retry.MaxDelays+1)
	tests := map[string]struct {
		schedule retry.Schedule
		says     []string
	}{
		"no delays are one attempt":     {retry.Schedule{}, nil},
		"the longest delays are a week": {retry.Schedule{Delays: repeat(24*time.Hour, 7), Jitter: 1}, nil},
		"more than a week is refused":   {retry.Schedule{Delays: append(repeat(24*time.Hour, 7), 1)}, []string{"7 days"}},
		"more than 24 are refused":      {retry.Schedule{Delays: many}, []string{"at most 24"}},
		"a negative delay is refused":   {retry.Schedule{Delays: []time.Duration{0, -1}}, []string{"delays[1]"}},
		"more than a day is refused":    {retry.Schedule{Delays: []time.Duration{24*time.Hour + 1}}, []string{"delays[0]"}},
		"an absurd sum does not wrap":   {retry.Schedule{Delays: repeat(math.MaxInt64, 24)}, []string{"delays[0]", "delays[23]"}},
		"negative jitter is refused":    {retry.Schedule{Jitter: -0.1}, []string{"jitter"}},
		"jitter beyond one is refused":  {retry.Schedule{Jitter: 1.1}, []string{"jitter"}},
		"jitter must be a number":       {retry.Schedule{Jitter: math.NaN()}, []string{"jitter"}},
		"every fault is told":           {retry.Schedule{Delays: append(many, -1), Jitter: 2}, []string{"at most 24", "delays[25]", "jitter"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := tt.schedule.Validate()
			if tt.says == nil {
				require.NoError(t, err)
			}
			for _, s := range tt.says {
				require.ErrorContains(t, err, s)
			}
		})
	}
}

func repeat(d time.Duration, n int) []time.Duration {
	out := make([]time.Duration, n)
	for i := range out {
		out[i] = d
	}
	return out
}

func TestFromProto(t *testing.T) {
	t.Parallel()
	base := retry.Schedule{Delays: []time.Duration{time.Second}, Jitter: 0.1, Early: true}
	got, err := retry.FromProto(nil, base)
	require.NoError(t, err)
	require.Equal(t, base, got)

	got, err = retry.FromProto(&postriderv1.RetrySchedule{Delays: []*durationpb.Duration{durationpb.New(time.Minute)}}, base)
	require.NoError(t, err)
	require.Equal(t, retry.Schedule{Delays: []time.Duration{time.Minute}, Jitter: 0.1, Early: true}, got)

	got, err = retry.FromProto(&postriderv1.RetrySchedule{
		Jitter: proto.Float64(0), DelayBasis: postriderv1.DelayBasis_DELAY_BASIS_FIRST_ATTEMPT,
	}, base)
	require.NoError(t, err)
	require.Equal(t, 1, got.MaxAttempts(), "no delays are one attempt")
	require.Zero(t, got.Jitter)
	require.True(t, got.FromFirst)

	base.FromFirst = true
	got, err = retry.FromProto(&postriderv1.RetrySchedule{DelayBasis: postriderv1.DelayBasis_DELAY_BASIS_PREVIOUS_ATTEMPT}, base)
	require.NoError(t, err)
	require.False(t, got.FromFirst)

	for name, p := range map[string]*postriderv1.RetrySchedule{
		"an absent delay's text":     {Delays: []*durationpb.Duration{nil}},
		"a malformed delay":          {Delays: []*durationpb.Duration{{Seconds: 1, Nanos: -1}}},
		"a delay that would wrap":    {Delays: []*durationpb.Duration{{Seconds: math.MaxInt64}}},
		"a delay that is too long":   {Delays: []*durationpb.Duration{durationpb.New(25 * time.Hour)}},
		"jitter that is too large":   {Jitter: proto.Float64(2)},
		"a basis that is not known":  {DelayBasis: 7},
		"more delays than there are": {Delays: make([]*durationpb.Duration, 25)},
	} {
		_, err := retry.FromProto(p, base)
		require.Error(t, err, name)
	}
}

func TestParseRetryAfter(t *testing.T) {
	t.Parallel()
	date := func(d time.Duration) string { return start.Add(d).Format("Mon, 02 Jan 2006 15:04:05 GMT") }
	tests := map[string]struct {
		value string
		want  time.Duration
		ok    bool
	}{
		"seconds":                           {"120", 2 * time.Minute, true},
		"seconds with spaces around":        {" \t120 ", 2 * time.Minute, true},
		"seconds with zeros before":         {"0120", 2 * time.Minute, true},
		"a fraction is rounded up":          {"1.2", 2 * time.Second, true},
		"a fraction of zero is none":        {"5.000", 5 * time.Second, true},
		"the smallest fraction counts":      {"0.0001", time.Second, true},
		"more than a day is a day":          {"90000", 24 * time.Hour, true},
		"more than any number is a day":     {"99999999999999999999999", 24 * time.Hour, true},
		"a date":                            {date(time.Hour), time.Hour, true},
		"a date of RFC 850":                 {start.Add(time.Hour).Format("Monday, 02-Jan-06 15:04:05 GMT"), time.Hour, true},
		"a date of asctime":                 {start.Add(time.Hour).Format("Mon Jan _2 15:04:05 2006"), time.Hour, true},
		"a date beyond a day is a day":      {date(48 * time.Hour), 24 * time.Hour, true},
		"zero is no wait":                   {"0", 0, false},
		"a date in the past is ignored":     {date(-time.Hour), 0, false},
		"the present is ignored":            {date(0), 0, false},
		"nothing is ignored":                {"", 0, false},
		"spaces are ignored":                {"  ", 0, false},
		"a negative number is ignored":      {"-5", 0, false},
		"a positive sign is ignored":        {"+5", 0, false},
		"a power is ignored":                {"1e3", 0, false},
		"a unit is ignored":                 {"5s", 0, false},
		"a dot without a fraction is wrong": {"5.", 0, false},
		"a fraction without a number is":    {".5", 0, false},
		"two dots are wrong":                {"1.2.3", 0, false},
		"a hexadecimal number is ignored":   {"0x10", 0, false},
		"a date that is none is ignored":    {"Mon, 99 Nov 2026 22:00:00 GMT", 0, false},
		"a list is ignored":                 {"5, 10", 0, false},
		"a word is ignored":                 {"soon", 0, false},
		"other digits are ignored":          {"１２", 0, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at, ok := retry.ParseRetryAfter(tt.value, start)
			require.Equal(t, tt.ok, ok)
			if ok {
				require.True(t, start.Add(tt.want).Equal(at), "%s", at)
			}
		})
	}
}

func FuzzParseRetryAfter(f *testing.F) {
	for _, s := range []string{"120", "1.5", "0", "-1", "Sat, 21 Nov 2026 23:00:00 GMT", "Saturday, 21-Nov-26 23:00:00 GMT", "9999999999999999999999.9", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		at, ok := retry.ParseRetryAfter(value, start)
		if !ok {
			require.True(t, at.IsZero())
			return
		}
		require.True(t, at.After(start))
		require.False(t, at.After(start.Add(retry.MaxRetryAfter)))
	})
}
