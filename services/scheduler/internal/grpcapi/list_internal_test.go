package grpcapi

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
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

func TestGateLeavesAnIndexAloneThatDidNotAnswer(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	var g gate
	require.True(t, g.open(now))
	require.True(t, g.shut(now), "the first failure of a row")
	require.False(t, g.open(now))
	require.False(t, g.shut(now), "the second")
	require.True(t, g.open(now.Add(gateTime)), "what came while it was shut keeps it shut no longer")
	g.passed()
	require.True(t, g.shut(now.Add(gateTime)))
}
