package lag

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTheLagIsWhatTimersAreLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m Meter
		require.Zero(t, m.Behind(), "before the start")
		m.Start()
		pass := func(d time.Duration) {
			time.Sleep(d) //nolint:forbidigo // the bubble's clock, which waits for nothing
			synctest.Wait()
		}
		defer m.Stop()
		pass(10 * every)
		require.Zero(t, m.Behind())
		// As after a stall: the timer should have fired long ago.
		m.due.Add(-int64(time.Second))
		require.GreaterOrEqual(t, m.Behind(), time.Second-every)
		pass(every)
		require.GreaterOrEqual(t, m.Behind(), time.Second-every, "a peak is remembered")
		pass(5 * time.Second)
		require.Less(t, m.Behind(), time.Millisecond, "and fades")
		m.Stop()
	})
}
