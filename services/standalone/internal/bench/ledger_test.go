package bench

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheLedgerHoldsTheAcceptedAgainstTheArrived(t *testing.T) {
	t.Parallel()
	at := func(ms int64) time.Time { return time.UnixMilli(1_000_000 + ms) }
	var l ledger
	l.accept(0, at(0))
	l.arrive(0, at(10))
	l.arrive(1, at(10)) // before its receipt
	l.accept(1, at(20))
	l.arrive(0, at(30))
	l.arrive(2, at(30)) // never answered
	l.accept(3, at(40)) // never arrives
	// Its place is taken before it arrives.
	l.accept(4, at(50))
	l.accept(4+remembered, at(50))
	l.arrive(4, at(60))
	accepted, arrived, both := l.counts()
	require.Equal(t, []int64{5, 4, 3}, []int64{accepted, arrived, both})
	require.EqualValues(t, 1, l.duplicates)
	require.EqualValues(t, 1, l.forgotten)
	require.Equal(t, at(60), l.last)
	lag := l.lag.latencies()
	require.EqualValues(t, 2, lag.Count)
	require.InDelta(t, 10, lag.Max, 0)
}
