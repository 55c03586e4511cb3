//go:build chaos

package chaos

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/test/cluster"
)

// steadyHooks are killHooks without the one whose receiver is away now and then, so that everything
// arrives within seconds.
func steadyHooks() []hookPlan {
	hooks := killHooks(time.Now())
	hooks[unsteady].mood = fine()
	return hooks
}

// probeFrom is the number of the first event of publish.
const probeFrom = 3_000_000

// publish publishes one event, once. It is published again later by those who want its receipt.
func (w *world) publish(ctx context.Context, number int) error {
	ctx, cancel := context.WithTimeout(w.accounts[w.plan(number).account].as(ctx), callTimeout)
	defer cancel()
	_, err := w.publishing.PublishEvent(ctx, w.request(number))
	return err
}

// untilRefused publishes events until one is refused, and returns how many were published and the
// refusal. All are still to be published by the producer.
func untilRefused(ctx context.Context, t *testing.T, w *world) (published int, refusal error) {
	t.Helper()
	if !awaited(ctx, 2*time.Minute, 20*time.Millisecond, func() bool {
		refusal = w.publish(ctx, probeFrom+published)
		published++
		return refusal != nil
	}) {
		t.Fatalf("%d events were published and none was refused", published)
	}
	return published, refusal
}

// requireFull holds a refusal to what it must tell a producer: what is full, that nothing was
// stored, and when to try again.
func requireFull(t *testing.T, err error) {
	t.Helper()
	s := fault.Status(err)
	require.Equal(t, codes.ResourceExhausted, s.Code(), "%v", err)
	var reason string
	var again time.Duration
	for _, detail := range s.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			reason = d.GetReason()
		case *errdetails.RetryInfo:
			again = d.GetRetryDelay().AsDuration()
		}
	}
	t.Logf("refused with %s %s, again in %s: %s", s.Code(), reason, again, s.Message())
	require.Equal(t, "EVENTS_FULL", reason)
	require.Positive(t, again)
	require.Contains(t, s.Message(), "nothing was stored")
}

// TestEventsFull fills EVENTS with work that is not finished, since no router runs. When it is, what
// is finished with makes room by itself.
func TestEventsFull(t *testing.T) {
	d := roll(t)
	limit := 1<<20 + d.IntN(1<<20)
	c := startCluster(t, map[string]string{"POSTRIDER_EVENTS_MAX_BYTES": strconv.Itoa(limit)})
	w := newWorld(t, c, 4, steadyHooks(), inTurn(killEvents()))
	s := watchStreams(t, c)
	p := &producer{w: w, batch: 25}
	r := &row{Fault: "EVENTS at its byte limit"}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()

	// Several times more than there is room for: the producer goes on trying until there is some.
	const events = 8000
	published := make(chan error, 1)
	go func() { published <- p.publish(ctx, 0, events) }()
	instant := 100 + d.IntN(500)
	await(t, time.Minute, time.Millisecond, func() string { return "nothing is accepted" }, func() bool { return w.ledger.acceptedCount() >= instant })
	for _, router := range c.Of("router") {
		require.NoError(t, router.Stop(stopPatience))
	}
	probes, refusal := untilRefused(ctx, t, w)
	r.strike(t, w, fmt.Sprintf("EVENTS has its %d bytes, and no router runs", limit))
	requireFull(t, refusal)
	require.Less(t, w.ledger.acceptedCount(), events)
	for _, router := range c.Of("router") {
		start(t, router)(ctx)
	}
	require.NoError(t, <-published)
	require.NoError(t, p.publish(ctx, probeFrom, probeFrom+probes))
	require.Equal(t, events+probes, w.ledger.acceptedCount())
	conclude(t, w, s, r, p)
	st, err := s.js.Stream(ctx, "EVENTS")
	require.NoError(t, err)
	state := st.CachedInfo().State
	t.Logf("EVENTS holds %d of %d events, from %d on, in %d of %d bytes", state.Msgs, state.LastSeq, state.FirstSeq, state.Bytes, limit)
	require.Less(t, state.Msgs, state.LastSeq, "none made room")
}

// restart stops a process in order and starts it again.
func restart(ctx context.Context, t *testing.T, p *cluster.Process) {
	t.Helper()
	require.NoError(t, p.Stop(stopPatience))
	require.NoError(t, p.Start())
	require.NoError(t, p.WaitReady(ctx))
}

// TestDeliveriesFull fills the streams of deliveries while no dispatcher runs. Publishing does not
// notice: what cannot be routed waits in EVENTS.
func TestDeliveriesFull(t *testing.T) {
	t.Parallel()
	d := roll(t)
	const room = 128 << 10 // each shard's
	c := startCluster(t, map[string]string{"POSTRIDER_DELIVERIES_MAX_BYTES": strconv.Itoa(room)})
	w := newWorld(t, c, 4, steadyHooks(), inTurn(killEvents()))
	s := watchStreams(t, c)
	p := &producer{w: w, batch: 25}
	r := &row{Fault: "DELIVERIES at its byte limit, EVENTS is not"}

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	enough := make(chan struct{})
	published := p.publishUntil(ctx, enough, 0, 500)
	instant := 50 + d.IntN(200)
	await(t, time.Minute, time.Millisecond, func() string { return "nothing is accepted" }, func() bool { return w.ledger.acceptedCount() >= instant })
	for _, dispatcher := range c.Of("dispatcher") {
		require.NoError(t, dispatcher.Stop(stopPatience))
	}
	var state strings.Builder
	await(t, 2*time.Minute, 20*time.Millisecond, func() string { return "no stream of deliveries is full:" + state.String() }, func() bool {
		full := 0
		state.Reset()
		for n := range shards {
			st, err := s.js.Stream(ctx, "DELIVERIES_"+strconv.Itoa(n))
			require.NoError(t, err)
			bytes := st.CachedInfo().State.Bytes
			fmt.Fprintf(&state, " %d", bytes)
			if bytes > room-2<<10 { // less than the next delivery
				full++
			}
		}
		unrouted, err := s.unrouted(ctx)
		require.NoError(t, err)
		return full > 0 && unrouted > 0
	})
	r.strike(t, w, "the streams of deliveries hold"+state.String()+" bytes each")
	before := w.ledger.acceptedCount()
	const more = 500
	require.NoError(t, p.publish(ctx, probeFrom, probeFrom+more))
	require.GreaterOrEqual(t, w.ledger.acceptedCount(), before+more, "publishing goes on")
	for _, dispatcher := range c.Of("dispatcher") {
		start(t, dispatcher)(ctx)
	}
	close(enough)
	require.NoError(t, <-published)
	conclude(t, w, s, r, p)
}
