package lag

import (
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWhatTheProcessUsesIsCounted(t *testing.T) {
	t.Parallel()
	before := Used()
	for Used().CPU < before.CPU+20*time.Millisecond {
		runtime.KeepAlive(t)
	}
	after := Used()
	require.Positive(t, after.At.Sub(before.At))
	require.GreaterOrEqual(t, after.CPU, before.CPU+20*time.Millisecond)
	if _, err := os.Stat("/proc/self/schedstat"); err == nil {
		require.Positive(t, after.Waited, "a thread has waited for a processor at least once")
	}
}

func TestAThreadsWaitIsTheSecondNumber(t *testing.T) {
	t.Parallel()
	require.Equal(t, 17*time.Nanosecond, waitedIn([]byte("2083456 17 12\n")))
	require.Zero(t, waitedIn([]byte("0\n")))
	require.Zero(t, waitedIn([]byte("a b c\n")))
}
