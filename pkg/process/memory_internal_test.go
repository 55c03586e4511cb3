package process

import (
	"math"
	"os"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheLimitOfTheControlGroupIsRead(t *testing.T) {
	t.Parallel()
	const v2, v1 = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"
	tests := map[string]struct {
		files map[string]string
		want  int64
	}{
		"no control group":        {nil, 0},
		"version 2 with a limit":  {map[string]string{v2: "536870912\n"}, 512 << 20},
		"version 2 without one":   {map[string]string{v2: "max\n"}, 0},
		"version 1 with a limit":  {map[string]string{v1: "536870912\n"}, 512 << 20},
		"version 1 without one":   {map[string]string{v1: "9223372036854771712\n"}, 0},
		"something else entirely": {map[string]string{v2: "-1", v1: "lots"}, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, containerLimit(func(path string) ([]byte, error) {
				if text, ok := test.files[path]; ok {
					return []byte(text), nil
				}
				return nil, os.ErrNotExist
			}))
		})
	}
}

// It changes what holds for the whole process, so it does not run beside others.
func TestTheEnvironmentHasTheLastWordOnMemory(t *testing.T) {
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(math.MaxInt64)
	t.Cleanup(func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	})
	TuneMemory(func(name string) (string, bool) { return "50", name == "GOGC" || name == "GOMEMLIMIT" })
	require.Equal(t, 100, debug.SetGCPercent(100), "the runtime has read GOGC itself")
	require.EqualValues(t, math.MaxInt64, debug.SetMemoryLimit(-1))

	TuneMemory(func(string) (string, bool) { return "", false })
	require.Equal(t, gcPercent, debug.SetGCPercent(100))
}
