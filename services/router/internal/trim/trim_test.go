package trim_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/telemetry"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/services/router/internal/trim"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// full is EVENTS near its limit, with everything routed.
func full(t *testing.T) *eventstream.Stream {
	t.Helper()
	c, err := stream.New(natstest.Start(t).Connect(t), stream.Default())
	require.NoError(t, err)
	t.Cleanup(c.Close)
	cfg := eventstream.Default()
	cfg.MaxBytes = 64 << 10
	events, err := eventstream.Ensure(t.Context(), c, cfg)
	require.NoError(t, err)
	for n := 0; err == nil; n++ {
		stored := make(chan error, 1)
		ev := &recordv1.Event{Id: fmt.Sprintf("evt_%d", n), AccountId: "acc_1", Type: "order.paid", Data: make([]byte, 1<<10)}
		require.NoError(t, events.Publish(t.Context(), ev, func(_ eventstream.Stored, err error) { stored <- err }))
		err = <-stored
	}
	require.ErrorIs(t, err, stream.ErrFull)
	segment := events.Segments()[0]
	router, err := segment.Router(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- router.Consume(ctx, func(m *stream.Msg) { _ = m.Ack() }) }()
	require.Eventually(t, func() bool {
		floor, pending, err := segment.Routed(t.Context())
		return err == nil && floor > 0 && pending == 0
	}, patience, time.Millisecond)
	cancel()
	require.NoError(t, <-ended)
	return events
}

func TestNothingIsRemovedWhileTheNumberOfShardsChanges(t *testing.T) {
	t.Parallel()
	events := full(t)
	var settled, changes atomic.Bool
	looks := make(chan struct{})
	walks := func(context.Context, func(*recordv1.Delivery)) error { return nil }
	var version atomic.Int64
	trimmer, err := trim.New(time.Millisecond, trim.Deps{
		Events: events, Deliveries: walks, Retries: walks, Logger: logtest.New(t), Meter: telemetry.Noop().Meter(""),
		Layout: func(ctx context.Context) (postrider.Layout, error) {
			select {
			case looks <- struct{}{}:
			case <-ctx.Done():
			}
			l := postrider.Layout{Version: 1, Shards: 3, Streams: 3}
			if !settled.Load() {
				l.Before = 2
			}
			if changes.Load() {
				l.Version = int(version.Add(1))
			}
			return l, nil
		},
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		trimmer.Run(ctx)
	}()
	defer func() {
		cancel()
		<-ended
	}()
	first := func() uint64 {
		u, err := events.Segments()[0].Usage(t.Context())
		require.NoError(t, err)
		return u.FirstSequence
	}
	for range 4 {
		<-looks
	}
	require.EqualValues(t, 1, first(), "one change is not finished")
	changes.Store(true)
	settled.Store(true)
	for range 8 {
		<-looks
	}
	require.EqualValues(t, 1, first(), "another began and was finished in the meantime")
	changes.Store(false)
	go func() {
		for {
			select {
			case <-looks:
			case <-ctx.Done():
				return
			}
		}
	}()
	require.Eventually(t, func() bool { return first() > 1 }, patience, time.Millisecond)
}
