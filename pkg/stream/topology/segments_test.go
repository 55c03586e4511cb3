package topology_test

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/topology"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func segmented(t *testing.T, s *natstest.Server, segments int) *stream.Client {
	t.Helper()
	cfg := stream.Default()
	cfg.Segments = segments
	c, err := stream.New(s.Connect(t), cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func TestTheFirstNumberOfSegmentsStands(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	stored, err := topology.InspectSegments(t.Context(), segmented(t, s, 4))
	require.NoError(t, err)
	require.Zero(t, stored, "none is stored, and looking stores none")
	for range 2 {
		_, err := topology.Ensure(t.Context(), segmented(t, s, 4))
		require.NoError(t, err)
	}
	other := segmented(t, s, 8)
	_, err = topology.Ensure(t.Context(), other)
	require.ErrorContains(t, err, "configured for 8 segments")
	require.ErrorContains(t, err, "in 4")
	require.ErrorContains(t, err, "streams-segments to 4")
	stored, err = topology.InspectSegments(t.Context(), other)
	require.NoError(t, err)
	require.Equal(t, 4, stored)
}

// A system that is older than segments has its events in one, whatever it is configured for now.
func TestASystemFromBeforeSegmentsHasOne(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	c := segmented(t, s, 1)
	kv, err := c.JetStream().CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "topology"})
	require.NoError(t, err)
	_, err = kv.Create(t.Context(), "shards", []byte(`{"version":1,"shards":1}`))
	require.NoError(t, err)

	_, err = topology.Ensure(t.Context(), segmented(t, s, 2))
	require.ErrorContains(t, err, "configured for 2 segments")
	require.ErrorContains(t, err, "streams-segments to 1")
	_, err = topology.Ensure(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, postrider.Layout{Version: 1, Shards: 1, Streams: 1}, c.Layout())
}

// Processes of a new system start at the same time.
func TestProcessesThatStartTogetherAgree(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	const n = 8
	ended := make(chan error, n)
	for range n {
		c := segmented(t, s, 3)
		go func() {
			_, err := topology.Ensure(t.Context(), c)
			ended <- err
		}()
	}
	for range n {
		require.NoError(t, <-ended)
	}
}
