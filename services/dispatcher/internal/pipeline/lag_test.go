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
		pass := func(d time.Duration) {
			time.Sleep(d) //nolint:forbidigo // the bubble's clock, which waits for nothing
			synctest.Wait()
		}
		defer m.stop()
		pass(10 * lagEvery)
		require.Zero(t, m.behind())
		// As after a stall: the timer should have fired long ago.
		m.due.Add(-int64(time.Second))
		require.GreaterOrEqual(t, m.behind(), time.Second-lagEvery)
		pass(lagEvery)
		require.GreaterOrEqual(t, m.behind(), time.Second-lagEvery, "a peak is remembered")
		pass(5 * time.Second)
		require.Less(t, m.behind(), time.Millisecond, "and fades")
		m.stop()
	})
}
