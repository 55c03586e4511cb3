package fair_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/services/ingest/internal/fair"
)

func TestTheLevelLeavesSmallDemandsWhole(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		demands        []float64
		capacity, want float64
	}{
		"nobody asks":              {nil, 10, 10},
		"everybody fits":           {[]float64{1, 2, 3}, 10, 10},
		"a flood has what is left": {[]float64{1, 1000, 2}, 10, 7},
		"two floods have halves":   {[]float64{500, 2, 1000}, 10, 4},
		"all ask for too much":     {[]float64{9, 9, 9, 9}, 10, 2.5},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.InDelta(t, tt.want, fair.Level(tt.demands, tt.capacity), 1e-9)
		})
	}
}

// The capacity is used up as far as it is asked for and never exceeded, and nobody gets less than an
// equal part without wanting less.
func TestTheLevelSharesTheWholeCapacityEqually(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		demands := rapid.SliceOfN(rapid.Float64Range(0, 1e5), 0, 50).Draw(t, "demands")
		capacity := rapid.Float64Range(1, 1e6).Draw(t, "capacity")
		wanted := 0.0
		for _, d := range demands {
			wanted += d
		}
		level := fair.Level(demands, capacity)
		given := 0.0
		for _, d := range demands {
			given += min(d, level)
		}
		if math.Abs(given-min(wanted, capacity)) > 1e-6*(1+capacity) {
			t.Fatalf("%g given of %g for %g", given, capacity, wanted)
		}
		if n := len(demands); n > 0 && level < capacity/float64(n)-1e-9 {
			t.Fatalf("level %g is below an equal part of %g for %d", level, capacity, n)
		}
		if more := fair.Level(demands, 2*capacity); more < level {
			t.Fatalf("twice the capacity lowers the level from %g to %g", level, more)
		}
	})
}
