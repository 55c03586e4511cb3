package postrider_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/pkg/postrider"
)

func TestAWebhookIsLookedForWhereItWasBeforeWhereItIs(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := postrider.Layout{Shards: rapid.IntRange(1, postrider.MaxShards).Draw(t, "shards"), Before: rapid.IntRange(0, postrider.MaxShards).Draw(t, "before")}
		id := postrider.WebhookID(rapid.String().Draw(t, "webhook"))
		homes := l.Homes(id)
		require.Equal(t, l.Home(id), homes[len(homes)-1])
		require.Less(t, l.Home(id), l.Shards)
		switch {
		case l.Before == 0 || postrider.ShardOf(id, l.Before) == l.Home(id):
			require.Len(t, homes, 1)
		default:
			require.Equal(t, []int{postrider.ShardOf(id, l.Before), l.Home(id)}, homes)
		}
	})
}
