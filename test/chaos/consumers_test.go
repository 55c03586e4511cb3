//go:build chaos

package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// TestConsumersDeletedUnderLoad deletes, one after the other, the durable consumers that the
// services work through. Each is made again by its owner. Nobody dies who knows what was attempted,
// and the server knows which deliveries it has been given: nothing may come twice.
func TestConsumersDeletedUnderLoad(t *testing.T) {
	d := roll(t)
	c := startCluster(t, nil)
	w := newWorld(t, c, 4, killHooks(time.Now()), inTurn(killEvents()))
	s := watchStreams(t, c)
	p := &producer{w: w, batch: natsLoad.batch}
	r := &row{Fault: "consumers deleted: router, dispatcher, due, recorder"}

	shard := strconv.Itoa(d.IntN(shards))
	recorder, err := s.recorder(t.Context(), "api-1")
	require.NoError(t, err)
	for _, consumer := range [][2]string{
		{"DELIVERIES_" + shard, "dispatcher"}, {"RETRIES_" + shard, "dispatcher"}, {"JOURNAL", recorder},
	} {
		underLoad(t, d, w, s, r, p, natsLoad, s.deletion(t, consumer[0], consumer[1]))
	}

	// The router's goes on at the checkpoint. From the first event it would route everything again,
	// from the newest it would lose what was not routed.
	var before uint64
	await(t, time.Minute, 100*time.Millisecond, func() string { return "no checkpoint of routing is written" }, func() bool {
		before = s.routed(t.Context(), t)
		return before > 0
	})
	deletion := s.deletion(t, "EVENTS", "router")
	remove := deletion.strike
	deletion.strike = func(ctx context.Context) {
		before = s.routed(ctx, t)
		remove(ctx)
	}
	underLoad(t, d, w, s, r, p, natsLoad, deletion)
	made, err := s.js.Consumer(t.Context(), "EVENTS", "router")
	require.NoError(t, err)
	cfg, after := made.CachedInfo().Config, s.routed(t.Context(), t)
	t.Logf("the checkpoint was %d, the router's consumer begins after %d, the checkpoint is %d", before, cfg.OptStartSeq-1, after)
	require.Equal(t, jetstream.DeliverByStartSequencePolicy, cfg.DeliverPolicy)
	require.GreaterOrEqual(t, cfg.OptStartSeq, before+1)
	require.LessOrEqual(t, cfg.OptStartSeq, after+1)
	conclude(t, w, s, r, p)
}

// deletion deletes a consumer that has given out messages which are not acknowledged, and waits
// until it is there again.
func (s *streams) deletion(t *testing.T, stream, consumer string) blow {
	t.Helper()
	return blow{
		name: fmt.Sprintf("consumer %s of %s deleted", consumer, stream),
		busy: func(ctx context.Context) (int, error) {
			con, err := s.js.Consumer(ctx, stream, consumer)
			if err != nil {
				return 0, err
			}
			return con.CachedInfo().NumAckPending, nil
		},
		strike: func(ctx context.Context) {
			t.Helper()
			require.NoError(t, s.js.DeleteConsumer(ctx, stream, consumer))
		},
		mend: func(ctx context.Context) {
			t.Helper()
			require.True(t, awaited(ctx, time.Minute, 10*time.Millisecond, func() bool {
				con, err := s.js.Consumer(ctx, stream, consumer)
				if errors.Is(err, jetstream.ErrConsumerNotFound) {
					return false
				}
				require.NoError(t, err)
				return con.CachedInfo().Delivered.Consumer > 0
			}), "nobody made the consumer again")
		},
	}
}

// routed is the checkpoint: every event up to it is routed.
func (s *streams) routed(ctx context.Context, t *testing.T) uint64 {
	t.Helper()
	kv, err := s.js.KeyValue(ctx, "checkpoints")
	require.NoError(t, err)
	e, err := kv.Get(ctx, "router")
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return 0
	}
	require.NoError(t, err)
	var value struct {
		Floor uint64 `json:"floor"`
	}
	require.NoError(t, json.Unmarshal(e.Value(), &value))
	return value.Floor
}
