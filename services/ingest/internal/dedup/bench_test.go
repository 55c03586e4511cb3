package dedup

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// benchmark times one claim and one finish of a fresh key, in batches of 64.
func benchmark(b *testing.B, idx Index) {
	b.Helper()
	const size = 64
	claims, results, done := make([]Claim, size), make([]Result, size), make([]Finished, size)
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		if n%size == 0 {
			for i := range claims {
				claims[i] = claimOf(strconv.Itoa(n+i), one)
			}
			idx.Claim(b.Context(), claims, results)
			for i := range claims {
				done[i] = finishOf(claims[i], claims[i].Event, uint64(n+i))
			}
			require.NoError(b, idx.Finish(b.Context(), done))
		}
		n++
	}
}
