package grpcapi

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/services/scheduler/internal/retryset"
)

func TestPageTokenIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		sequence := rapid.Uint64().Draw(t, "sequence")
		got, ok := parsePageToken(pageToken(sequence))
		require.True(t, ok)
		require.Equal(t, sequence, got)
	})
}

func FuzzPageToken(f *testing.F) {
	for _, token := range []string{"", pageToken(7), "AQ", "Ag", "AYCA", "!", "AQEB"} {
		f.Add(token)
	}
	f.Fuzz(func(t *testing.T, token string) {
		sequence, ok := parsePageToken(token)
		if ok && token != "" {
			again, ok := parsePageToken(pageToken(sequence))
			require.True(t, ok)
			require.Equal(t, sequence, again)
		}
	})
}

func TestGateLeavesSlotsAloneThatDidNotAnswer(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	var slots retryset.Slots
	var g gate
	require.Zero(t, g.shutNow(now))
	g.shut(now, slots.With(3))
	require.True(t, g.first(), "the first failure of a row")
	require.Equal(t, slots.With(3), g.shutNow(now))
	g.shut(now.Add(gateTime/2), slots.With(5))
	require.False(t, g.first(), "the second")
	require.Equal(t, slots.With(3).With(5), g.shutNow(now.Add(gateTime/2)))
	require.Zero(t, g.shutNow(now.Add(gateTime)), "what came while it was shut keeps it shut no longer")
	g.passed()
	require.True(t, g.first())
}
