package topology_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/topology"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestTheFirstNumberOfShardsStands(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	ensure := func(shards int) (int, error) {
		cfg := stream.Default()
		cfg.Shards = shards
		c, err := stream.New(s.Connect(t), cfg)
		require.NoError(t, err)
		t.Cleanup(c.Close)
		return topology.Ensure(t.Context(), c)
	}
	for range 2 {
		got, err := ensure(4)
		require.NoError(t, err)
		require.Equal(t, 4, got)
	}
	_, err := ensure(8)
	require.ErrorContains(t, err, "8 shards")
	require.ErrorContains(t, err, "have 4")
}
