package bench

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func sample(before, after, delivered float64) Sample {
	s := Sample{
		RawBefore: Raw{PerSecond: before, CPU: 20 * time.Microsecond}, RawAfter: Raw{PerSecond: after, CPU: 20 * time.Microsecond},
		Events: 1000, Deliveries: 1000, Delivered: delivered, CPUTotal: 80 * time.Microsecond,
		CPU: map[string]time.Duration{"nats": 26 * time.Microsecond, loadName: 5 * time.Microsecond},
	}
	s.ratios()
	return s
}

func TestRatiosAreToTheMeanOfThePlainLoops(t *testing.T) {
	t.Parallel()
	s := sample(90_000, 110_000, 25_000)
	require.True(t, s.Steady)
	require.InDelta(t, 0.25, s.Wall, 1e-9)
	require.InDelta(t, 0.25, s.CPURatio, 1e-9)
}

func TestARunIsDroppedForAFlaw(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*Sample)
		flaw   string
		fatal  bool
	}{
		"none":                               {change: func(*Sample) {}},
		"a few events without Redis":         {change: func(s *Sample) { s.Degraded = 10 }},
		"many events without Redis":          {change: func(s *Sample) { s.Degraded = 11 }, flaw: "before Redis answered", fatal: true},
		"plain loops that differ":            {change: func(s *Sample) { *s = sample(100_000, 70_000, 1) }, flaw: "differ by 30 %"},
		"plain loops that differ but little": {change: func(s *Sample) { *s = sample(100_000, 75_000, 1) }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sample(100_000, 100_000, 1)
			test.change(&s)
			flaw, fatal := s.flaw()
			require.Equal(t, test.fatal, fatal)
			require.Contains(t, flaw, test.flaw)
			require.Equal(t, test.flaw == "", flaw == "")
		})
	}
}

func TestMediansAreOfTheSteadyRuns(t *testing.T) {
	t.Parallel()
	steady := []Sample{sample(100_000, 100_000, 20_000), sample(100_000, 100_000, 30_000), sample(100_000, 100_000, 40_000)}
	r := newResult(Configuration{}, append(steady, sample(100_000, 10_000, 1)), 1)
	require.InDelta(t, 30_000, r.Median.Delivered, 0)
	require.InDelta(t, 0.3, r.Median.Wall, 1e-9)
	require.Equal(t, 26*time.Microsecond, r.Median.CPU["nats"])
	require.True(t, r.Median.Steady)
	require.Len(t, r.Runs, 4)

	require.False(t, newResult(Configuration{}, []Sample{sample(100_000, 10_000, 1)}, 2).Median.Steady)
}

func TestTheTableNamesWhatTheNumbersDependOn(t *testing.T) {
	t.Parallel()
	unsteady := sample(100_000, 10_000, 1)
	unsteady.Parked, unsteady.Duplicates = 7, 3
	report := Report{
		Machine:  Machine{CPU: "a CPU", Cores: 2, Redis: "7.0.15"},
		Settings: Settings{Repetitions: 3, Shards: 4, PayloadBytes: payloadSize},
		Results:  []Result{*newResult(Configurations()[0], []Sample{unsteady}, 2)},
	}
	var out strings.Builder
	require.NoError(t, report.Table(&out))
	for _, want := range []string{
		"a CPU, 2 cores", "Redis 7.0.15", "1024 B of data, 4 shards", "256 producers", "nats", "unary: 2 runs were dropped",
		"do not rely on its wall ratio", "7 of 1000 deliveries were parked", "3 requests were repeats", "after 1 of 3 repetitions",
	} {
		require.Contains(t, out.String(), want)
	}
	require.NoError(t, report.JSON(&out))
}

func TestPercentilesAndNumbers(t *testing.T) {
	t.Parallel()
	var values []time.Duration
	for i := range 100 {
		values = append(values, time.Duration(100-i)*time.Millisecond)
	}
	require.Equal(t, 51*time.Millisecond, percentile(values, 50))
	require.Equal(t, 100*time.Millisecond, percentile(values, 99))
	require.Zero(t, percentile(nil, 50))
	require.Equal(t, "1 234 567", count(1_234_567.4))
	require.Equal(t, "12", count(12))
	require.Equal(t, "1.5", millis(1500*time.Microsecond))
}
