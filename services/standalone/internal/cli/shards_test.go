package cli

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/pkg/stream/topology"
	"github.com/postrider/postrider/test/fixture/natstest"
)

// split makes the streams of so many shards, as services do.
func split(t *testing.T, server *natstest.Server, shards int) (*stream.Client, *topology.Topology) {
	t.Helper()
	cfg := stream.Default()
	cfg.Shards = shards
	c, err := stream.New(server.NC(t), cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	top, err := topology.Ensure(t.Context(), c)
	require.NoError(t, err)
	_, err1 := deliverystream.Ensure(t.Context(), c, deliverystream.Config{MaxBytes: 1 << 20})
	retries, err2 := retrystream.Ensure(t.Context(), c, retrystream.Default())
	require.NoError(t, errors.Join(err1, err2))
	t.Cleanup(retries.Close)
	return c, top
}

func TestShardsAreShownAndChanged(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	s := &shell{}
	s.fails(t, 1, "no number of shards is stored", "shards", "--nats-url", server.URL)

	c, top := split(t, server, 2)
	m := s.json(t, "shards", "--nats-url", server.URL)
	require.EqualValues(t, 2, m["shards"])
	require.Len(t, m["streams"], 2)
	for _, wrong := range []string{"0", "-1", "257", "two"} {
		s.fails(t, 1, "want 1 to 256", "shards", "set", "--nats-url", server.URL, "--", wrong)
	}

	// The command waits until a scheduler says that nothing is left.
	settled := make(chan error, 1)
	go func() {
		for {
			l, err := topology.Inspect(t.Context(), c)
			if err == nil && l.Before != 0 {
				settled <- top.Settle(t.Context(), l)
				return
			}
			select {
			case <-time.After(time.Millisecond):
			case <-t.Context().Done():
				settled <- t.Context().Err()
				return
			}
		}
	}()
	m = s.json(t, "shards", "set", "3", "--nats-url", server.URL)
	require.NoError(t, <-settled)
	require.EqualValues(t, 3, m["shards"])
	require.EqualValues(t, 0, m["before"])
	require.Equal(t, map[string]any{"shard": 2.0, "in_use": true, "deliveries": 0.0, "retries": 0.0}, list(t, m, "streams")[2])
	made, err := c.JetStream().Stream(t.Context(), "DELIVERIES_2")
	require.NoError(t, err)
	require.EqualValues(t, 1<<20, made.CachedInfo().Config.MaxBytes, "as the first has it")

	_, err = top.Change(t.Context(), 1)
	require.NoError(t, err)
	s.fails(t, 1, "the last change is not finished", "shards", "set", "4", "--nats-url", server.URL)
	l, err := top.Refresh(t.Context())
	require.NoError(t, err)
	require.NoError(t, top.Settle(t.Context(), l))
	require.Contains(t, s.ok(t, "shards", "--nats-url", server.URL), "left")
	m = s.json(t, "shards", "set", "1", "--nats-url", server.URL)
	require.EqualValues(t, 1, m["shards"], "as it is already")
	require.Len(t, m["streams"], 3)
}
