//go:build logbench

package bench

import (
	"context"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkLogStoreAway measures deliveries with the recorder at work, and with its database stopped:
// the journal then keeps what is to be recorded. The two take turns.
func BenchmarkLogStoreAway(b *testing.B) {
	at := postgresStore(b)
	s := running(b, at)
	receiver, err := startReceiver(context.WithoutCancel(b.Context()))
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, receiver.stop()) })
	s.procs[loadName], s.procs[receiverName] = os.Getpid(), receiver.pid
	batch := slices.IndexFunc(Configurations(), func(c Configuration) bool { return c.Name == "batch" })
	c := Configurations()[batch]
	p, err := s.tenant(b.Context(), receiver.url, c.Groups, c.FanOut)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, p.close()) })
	m := &bench{receiver: receiver}
	_, err = m.once(b.Context(), s, p, c, 2*time.Second) // everything gets to its size
	require.NoError(b, err)

	const turns, load = 3, 6 * time.Second
	measured := func(state string) float64 {
		sample, err := m.once(b.Context(), s, p, c, load)
		require.NoError(b, err)
		b.Logf("log store %-8s %6d delivered, %5.0f/s, ack to arrival p50 %.1f ms, p99 %.1f ms; %s", state,
			sample.Deliveries, sample.Delivered, ms(sample.LagP50), ms(sample.LagP99), behind(b, s))
		return sample.Delivered
	}
	var working, away []float64
	for range turns {
		working = append(working, measured("at work"))
		at.pg.Down(b)
		away = append(away, measured("away"))
		at.pg.Up(b)
		awaitRecorded(b, s)
	}
	slices.Sort(working)
	slices.Sort(away)
	b.Logf("medians: %.0f/s with the log store at work, %.0f/s with it away: x %.2f", working[turns/2], away[turns/2], away[turns/2]/working[turns/2])
}
