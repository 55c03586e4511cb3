package fanout

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// part is one thing that must be stored before an event may be acked. done is called exactly
// once unless send returns an error.
type part interface {
	send(ctx context.Context, f *Fanout, done func(error)) error
}

// flight is one event on its way into the stores.
type flight struct {
	fanout  *Fanout
	msg     Message
	parts   []part          // not stored yet, as of the last send
	ctx     context.Context //nolint:containedctx // what is sent again belongs to the same trace
	span    trace.Span      // of the routing; nil if its trace is not recorded
	started time.Time

	pending atomic.Int32
	mu      sync.Mutex
	missing []part
}

// send gives every part to its store. When all have answered, the event is acked, or what is
// missing is handed to the repeater.
func (fl *flight) send() {
	parts := fl.parts
	fl.pending.Store(int32(len(parts)) + 1) //nolint:gosec // bounded by the webhooks of one account
	for _, p := range parts {
		done := func(err error) { fl.settle(p, err) }
		if err := p.send(fl.ctx, fl.fanout, done); err != nil {
			fl.settle(p, err)
		}
	}
	fl.release()
}

func (fl *flight) settle(p part, err error) {
	if err != nil {
		fl.mu.Lock()
		fl.missing = append(fl.missing, p)
		fl.mu.Unlock()
	}
	fl.release()
}

func (fl *flight) release() {
	if fl.pending.Add(-1) > 0 {
		return
	}
	fl.mu.Lock()
	fl.parts, fl.missing = fl.missing, nil
	missing := len(fl.parts)
	fl.mu.Unlock()
	if missing == 0 {
		fl.fanout.finish(fl)
		return
	}
	fl.fanout.repeats <- fl // never blocks: its capacity is above what may be in flight
}
