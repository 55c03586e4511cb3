package pipeline

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheLagIsWhatTimersAreLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m lagMeter
		require.Zero(t, m.behind(), "before the start")
		m.start()
		time.Sleep(10 * lagEvery) //nolint:forbidigo // the bubble's clock, which waits for nothing
		require.Zero(t, m.behind())
		// As after a stall: the timer should have fired long ago.
		m.due.Add(-int64(time.Second))
		require.GreaterOrEqual(t, m.behind(), time.Second-lagEvery)
		time.Sleep(lagEvery) //nolint:forbidigo // the bubble's clock
		require.GreaterOrEqual(t, m.behind(), time.Second-lagEvery, "a peak is remembered")
		time.Sleep(5 * time.Second) //nolint:forbidigo // the bubble's clock
		require.Less(t, m.behind(), time.Millisecond, "and fades")
		m.stop()
		m.stop()
	})
}
