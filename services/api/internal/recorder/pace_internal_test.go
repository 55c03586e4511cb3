package recorder

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOnlyABusyRecorderGathers(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	var p pace
	step := func(after time.Duration, entries int) {
		now = now.Add(after)
		p.recorded(entries, now)
	}
	step(0, 1)
	require.LessOrEqual(t, p.wait(now), time.Duration(0), "the first entry is written at once")
	for range 50 {
		step(20*time.Millisecond, 10)
	}
	require.LessOrEqual(t, p.wait(now), time.Duration(0), "half of what makes it busy")
	for range 50 {
		step(20*time.Millisecond, 40)
	}
	require.Equal(t, busyFor, p.wait(now))
	now = now.Add(busyFor - 50*time.Millisecond)
	require.Equal(t, 50*time.Millisecond, p.wait(now))
	now = now.Add(time.Hour)
	require.LessOrEqual(t, p.wait(now), time.Duration(0), "what comes after a pause is written at once")
	step(0, 500)
	require.LessOrEqual(t, p.wait(now), time.Duration(0), "many at once in an hour are no load")
}
