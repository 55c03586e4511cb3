package process

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// Memory is given back once after each burst, the start among them, and not while work goes on.
func TestABurstIsOverOnce(t *testing.T) {
	t.Parallel()
	const little, much = restBelow, restBelow + 1
	var r rest
	var total uint64
	for i, look := range []struct {
		grown uint64
		over  bool
	}{
		{much, false},
		{little, false},
		{little, true},
		{0, false},
		{little, false},
		{much, false},
		{little, false},
		{much, false},
		{much, false},
		{0, false},
		{0, true},
		{0, false},
		{0, false},
		{0, false},
	} {
		total += look.grown
		require.Equal(t, look.over, r.over(total), "look %d", i)
	}
}

func TestWhatIsAllocatedIsCounted(t *testing.T) {
	before := allocated()
	b := make([]byte, 1<<20)
	runtime.KeepAlive(b)
	require.GreaterOrEqual(t, allocated()-before, uint64(1<<20))
}
