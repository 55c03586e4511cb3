package topology_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/pkg/stream/topology"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/natstest"
)

const patience = 30 * time.Second

// client is one process that is configured for so many shards.
func client(t *testing.T, s *natstest.Server, shards int) *stream.Client {
	t.Helper()
	cfg := stream.Default()
	cfg.Shards = shards
	c, err := stream.New(s.Connect(t), cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func TestTheFirstNumberOfShardsStands(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	probe := client(t, s, 1)
	_, err := topology.Inspect(t.Context(), probe)
	require.ErrorIs(t, err, topology.ErrNone)
	_, _, err = topology.Open(t.Context(), s.Connect(t))
	require.ErrorIs(t, err, topology.ErrNone)
	want := postrider.Layout{Version: 1, Shards: 4, Streams: 4}
	for _, shards := range []int{4, 4, 8} {
		c := client(t, s, shards)
		_, err := topology.Ensure(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, want, c.Layout())
	}
	got, err := topology.Inspect(t.Context(), probe)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestAChangeReachesEveryoneAndIsFinishedOnce(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	first := client(t, s, 4)
	top, err := topology.Ensure(t.Context(), first)
	require.NoError(t, err)
	_, err = deliverystream.Ensure(t.Context(), first, deliverystream.Default())
	require.NoError(t, err)
	_, err = retrystream.Ensure(t.Context(), first, retrystream.Default())
	require.NoError(t, err)
	var others []*stream.Client
	for range 3 {
		c := client(t, s, 1)
		other, err := topology.Ensure(t.Context(), c)
		require.NoError(t, err)
		others = append(others, c)
		follow(t, other)
	}
	learned := func(want postrider.Layout) {
		t.Helper()
		for _, c := range others {
			require.Eventually(t, func() bool { return c.Layout() == want }, patience, time.Millisecond)
		}
	}
	operator, c, err := topology.Open(t.Context(), s.Connect(t))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	require.NoError(t, errors.Join(deliverystream.Grow(t.Context(), c, 6), retrystream.Grow(t.Context(), c, 6)))
	for _, name := range []string{"DELIVERIES_5", "RETRIES_5"} {
		_, err := first.JetStream().Stream(t.Context(), name)
		require.NoError(t, err, name)
	}
	changed, err := operator.Change(t.Context(), 6)
	require.NoError(t, err)
	require.Equal(t, postrider.Layout{Version: 2, Shards: 6, Before: 4, Streams: 6}, changed)
	learned(changed)
	again, err := operator.Change(t.Context(), 6)
	require.NoError(t, err)
	require.Equal(t, changed, again)
	_, err = operator.Change(t.Context(), 2)
	require.ErrorIs(t, err, topology.ErrUnsettled)

	require.NoError(t, top.Settle(t.Context(), postrider.Layout{Version: 1, Shards: 4, Streams: 4}), "what was looked at is not what stands")
	got, err := operator.Refresh(t.Context())
	require.NoError(t, err)
	require.Equal(t, changed, got)
	for range 2 {
		require.NoError(t, top.Settle(t.Context(), changed))
	}
	learned(postrider.Layout{Version: 3, Shards: 6, Streams: 6})
	shrunk, err := operator.Change(t.Context(), 2)
	require.NoError(t, err)
	require.Equal(t, postrider.Layout{Version: 4, Shards: 2, Before: 6, Streams: 6}, shrunk)
	learned(shrunk)
	for _, wrong := range []int{0, -1, postrider.MaxShards + 1} {
		_, err := operator.Change(t.Context(), wrong)
		require.ErrorContains(t, err, "want 1 to 256")
	}
}

// follow keeps the client of a topology up to date until the test ends.
func follow(t *testing.T, top *topology.Topology) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- top.Follow(ctx, logtest.New(t)) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
}
