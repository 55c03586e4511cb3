package retryset_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/services/scheduler/internal/retryset"
)

func TestMemberIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := retryset.Member{
			Shard:    rapid.IntRange(0, 255).Draw(t, "shard"),
			Sequence: rapid.Uint64().Draw(t, "sequence"),
		}
		got, err := retryset.ParseMember(m.String())
		require.NoError(t, err)
		require.Equal(t, m, got)
	})
}

func TestMemberIsShort(t *testing.T) {
	t.Parallel()
	require.Equal(t, "3:1234567", retryset.Member{Shard: 3, Sequence: 1234567}.String())
	require.LessOrEqual(t, len(retryset.Member{Shard: 255, Sequence: math.MaxUint64}.String()), 26)
}

func FuzzParseMember(f *testing.F) {
	for _, s := range []string{"0:1", "255:18446744073709551615", "256:1", "01:1", "1:01", "-1:1", ":", "count", "1:+1", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := retryset.ParseMember(s)
		if err == nil {
			require.Equal(t, s, m.String())
			require.GreaterOrEqual(t, m.Shard, 0)
			require.Less(t, m.Shard, 256)
		}
	})
}
