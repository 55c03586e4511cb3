package doctor

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestClocksAreJudgedByWhatIsCertain(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		skew, uncertain time.Duration
		want            Status
	}{
		"a clock that agrees":                 {5 * time.Millisecond, time.Millisecond, OK},
		"a little ahead":                      {2 * time.Second, time.Millisecond, Warning},
		"a little behind":                     {-2 * time.Second, time.Millisecond, Warning},
		"so far that retries come late":       {-11 * time.Second, time.Millisecond, Failure},
		"an answer that took as long as that": {2 * time.Second, 3 * time.Second, OK},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &Report{}
			r.clock("NATS", c.skew, c.uncertain)
			require.Equal(t, c.want, r.Findings[0].Status, r.Findings)
		})
	}
}

func TestVersionsAreCompared(t *testing.T) {
	t.Parallel()
	require.True(t, older("2.9.25", 2, 14))
	require.True(t, older("1.14", 2, 14))
	require.False(t, older("2.14.0", 2, 14))
	require.False(t, older("3.0.0-beta", 2, 14))
	require.False(t, older("unknown", 2, 14))
}

func TestRoomOnADiskIsJudged(t *testing.T) {
	t.Parallel()
	for free, want := range map[int64]Status{10 << 30: OK, 500 << 20: Warning, 5 << 20: Failure} {
		r := &Report{}
		r.disk(free)
		require.Equal(t, want, r.Findings[0].Status, r.Findings)
	}
	r := &Report{}
	r.disk(-1)
	require.Empty(t, r.Findings)
}
