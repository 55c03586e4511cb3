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
)

// loadSize is how big the load is around each blow at what the record is kept in.
type loadSize struct {
	burst    int // events published around each blow, again and again until it was mended
	batch    int
	inFlight int // deliveries that must be in flight at each blow
	ahead    int // deliveries in flight at which producers wait; 0: maxAhead
}

// blow takes something away, for a while, and brings it back.
type blow struct {
	name   string
	busy   func(ctx context.Context) (int, error) // how much it would meet of its own; nil: what dispatchers have
	strike func(ctx context.Context)
	down   time.Duration // between the two
	mend   func(ctx context.Context)
}

// blowTimeout bounds one blow with the burst around it.
const blowTimeout = 5 * time.Minute

// lookTimeout bounds one look at what a blow would meet: a server that has just lost its leader answers
// some questions never, and the client would wait for the answer as long as it may.
const lookTimeout = 10 * time.Second

// underLoad publishes a burst of events and strikes in its midst: when a seeded share of it has
// receipts, a seeded moment later, and then at once when enough is in flight and there is something
// for the blow itself to meet. It returns when the burst has its receipts. What the strike met is known
// from right before it.
func underLoad(t *testing.T, d dice, w *world, s *streams, r *row, p *producer, size loadSize, b blow) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), blowTimeout)
	defer cancel()
	from := w.ledger.acceptedCount()
	instant := from + size.burst/10 + d.IntN(size.burst/2)
	moment := d.between(0, 5*time.Millisecond)
	mended := make(chan struct{})
	published := p.publishUntil(ctx, mended, from, size.burst)

	var m met
	var own int
	var err error
	if b.busy == nil {
		b.busy = func(context.Context) (int, error) { return m.unacked, nil }
	}
	state := func() string {
		return fmt.Sprintf("%d events accepted, %s (%v)", w.ledger.acceptedCount()-from, m, err)
	}
	await(t, time.Minute, time.Millisecond, state, func() bool { return w.ledger.acceptedCount() >= instant })
	require.True(t, pause(ctx, moment))
	await(t, time.Minute, time.Millisecond, state, func() bool {
		look, end := context.WithTimeout(ctx, lookTimeout)
		defer end()
		if m, err = meet(look, w, s); err == nil {
			own, err = b.busy(look)
		}
		return err == nil && own > 0 && m.inFlight >= size.inFlight
	})
	r.strike(t, w, b.name)
	struck := time.Now()
	b.strike(ctx)
	require.True(t, pause(ctx, time.Until(struck.Add(b.down))))
	b.mend(ctx)
	back := time.Since(struck)
	close(mended)
	require.NoError(t, <-published)
	t.Logf("%s met %s, %d of its own; mended after %s, the burst had all receipts after %s",
		b.name, m, own, back.Round(time.Millisecond), time.Since(struck).Round(time.Millisecond))
}

// meet is what a strike would meet now.
func meet(ctx context.Context, w *world, s *streams) (m met, err error) {
	m.inFlight = w.ledger.inFlight()
	if m.unrouted, err = s.unrouted(ctx); err != nil {
		return m, err
	}
	if m.unacked, err = s.unacked(ctx, s.all()); err != nil {
		return m, err
	}
	m.records, err = s.waiting(ctx)
	return m, err
}

// conclude waits for the end of everything that was accepted, and holds the ledger, the logs and
// the number of duplicates to their rules.
func conclude(t *testing.T, w *world, s *streams, r *row, p *producer) {
	t.Helper()
	settle(t, w, s)
	logs := readLogs(t, w)
	sum := w.ledger.total()
	t.Logf("ledger: accepted %d events (%d publishes repeated, %d receipts marked duplicate, %d with a degraded window), "+
		"expected %d deliveries, arrived %d (%d not in the first request), missing %d, unexpected %d, duplicates %d, bound %d",
		sum.accepted, p.repeats.Load(), p.duplicates.Load(), p.degraded.Load(),
		sum.expected, sum.arrived, sum.retried, len(sum.missing), len(sum.strangers), sum.duplicates, r.Bound)
	for _, f := range sum.faults {
		t.Error(f)
	}
	explain(t, w, "missing", sum.missing)
	explain(t, w, "never accepted, or not wanted, but arrived", sum.strangers)
	for i, log := range logs {
		if !log.agrees(sum.expected) {
			t.Errorf("the log of api-%d does not say of every delivery that it is delivered: %v; %d unknown, such as %v; %v",
				i+1, log.states, len(log.unknown), log.unknown[:min(3, len(log.unknown))], log.err)
		}
	}
	report(t, w, r)
	if t.Failed() {
		t.Log("left in work queues:", s.left(t.Context()))
	}
}

// left is what work queues hold and what their consumers make of it, of those that hold anything.
func (s *streams) left(ctx context.Context) string {
	var text strings.Builder
	for n := range s.shards {
		for _, name := range []string{"DELIVERIES_", "RETRIES_"} {
			st, err := s.js.Stream(ctx, name+strconv.Itoa(n))
			if err != nil {
				return err.Error()
			}
			con, err := st.Consumer(ctx, "dispatcher")
			if err != nil {
				return err.Error()
			}
			if state, info := st.CachedInfo().State, con.CachedInfo(); state.Msgs > 0 {
				fmt.Fprintf(&text, "\n  %s%d: %d messages from %d to %d; %d pending, %d not acknowledged, acknowledged up to %d, given out up to %d",
					name, n, state.Msgs, state.FirstSeq, state.LastSeq, info.NumPending, info.NumAckPending, info.AckFloor.Stream, info.Delivered.Stream)
			}
		}
	}
	return text.String()
}
