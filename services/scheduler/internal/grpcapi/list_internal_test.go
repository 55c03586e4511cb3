package grpcapi

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/services/scheduler/internal/retryset"
)

func TestPageTokenIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		at := retrystream.Place{Shard: rapid.IntRange(0, postrider.MaxShards-1).Draw(t, "shard"), Sequence: rapid.Uint64().Draw(t, "sequence")}
		got, ok := parsePageToken(pageToken(at))
		require.True(t, ok)
		require.Equal(t, at, got)
	})
}

func FuzzPageToken(f *testing.F) {
	for _, token := range []string{"", pageToken(retrystream.Place{Sequence: 7}), pageToken(retrystream.Place{Shard: 255, Sequence: 1 << 40}), "AQ", "Ag", "AgE", "AYCA", "!", "AQEB", "AgCAAQ"} {
		f.Add(token)
	}
	f.Fuzz(func(t *testing.T, token string) {
		at, ok := parsePageToken(token)
		if ok && token != "" {
			again, ok := parsePageToken(pageToken(at))
			require.True(t, ok)
			require.Equal(t, at, again)
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
