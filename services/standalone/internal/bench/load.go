// Package bench measures a deployment from outside: a load of events, in open or closed loops, and a
// receiver that behaves as it is told. Both take a bounded amount of memory, however long they run.
// It owns nothing that outlives it.
package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/postrider/postrider/pkg/fault"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// How events are published.
const (
	Unary  = "unary"  // one in each call
	Batch  = "batch"  // Size in each call
	Stream = "stream" // over streams, Size of which wait for their receipts at a time
)

// LeastData is the smallest data of an event, in bytes: it has room for what tells events apart.
const LeastData = 128

// Load is how events are published.
type Load struct {
	// Account owns the events; empty: the credential's own.
	Account string
	// Type is the type of each event.
	Type string
	// Method is Unary, Batch or Stream.
	Method string
	// Rate is how many events are due each second, whether or not earlier ones were answered: an
	// open loop. 0: closed loops, each of which publishes again when it was answered.
	Rate float64
	// Producers is how many calls or streams there are at once.
	Producers int
	// Size is how many events there are in a batch, or unanswered on a stream.
	Size int
	// Data is the size of an event's data in bytes, at least LeastData.
	Data int
	// Duration is how long events are published.
	Duration time.Duration
	// Patience is how long streams wait for the last receipts.
	Patience time.Duration
}

// Run is one run of a load. Publish it once; everything else may be called at any time, by several
// goroutines.
type Run struct {
	load    Load
	clients []postriderv1.EventServiceClient
	marker  []byte // what data of this run begin with, before the number of the event
	data    []byte // of event 0

	pace   pace
	events atomic.Uint64
	acks   histogram
	ledger ledger

	mu         sync.Mutex
	took       time.Duration
	refused    map[string]int64
	broken     map[string]int64
	unanswered int64
	degraded   int64
	behind     int64
}

// NewRun prepares a run over the clients, which share it evenly. There must be one at least.
func NewRun(l Load, clients []postriderv1.EventServiceClient) *Run {
	r := &Run{load: l, clients: clients, marker: []byte("postrider-bench/" + uuid.NewString() + "/"), refused: map[string]int64{}, broken: map[string]int64{}}
	r.data = append(append([]byte(`{"event":"`), r.marker...), bytes.Repeat([]byte("0"), digits)...)
	r.data = append(r.data, `","filler":"`...)
	r.data = append(append(r.data, bytes.Repeat([]byte("x"), max(l.Data-len(r.data)-len(`"}`), 0))...), `"}`...)
	return r
}

// digits is how many an event's number has.
const digits = 12

// request is the next event, with an idempotency key of its own, and its number.
func (r *Run) request() (*postriderv1.PublishEventRequest, uint64) {
	n := r.events.Add(1) - 1
	number := fmt.Appendf(nil, "%0*d", digits, n)
	data := bytes.Clone(r.data)
	copy(data[len(`{"event":"`)+len(r.marker):], number)
	return &postriderv1.PublishEventRequest{
		AccountId: r.load.Account, Event: &postriderv1.EventInput{Type: r.load.Type, Data: data},
		IdempotencyKey: string(r.marker) + string(number),
	}, n
}

// Arrived notes what a receiver got. It is false for what is not of this run.
func (r *Run) Arrived(body []byte, at time.Time) bool {
	_, rest, found := bytes.Cut(body, r.marker)
	if !found || len(rest) < digits {
		return false
	}
	n, err := strconv.ParseUint(string(rest[:digits]), 10, 64)
	if err != nil || n >= r.events.Load() {
		return false
	}
	r.ledger.arrive(n, at)
	return true
}

// Publish publishes until the time is over or the context ends, and waits for what is under way. It
// fails at the first refusal that will not pass, such as one of the credential.
func (r *Run) Publish(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.pace.began = time.Now()
	r.pace.end = r.pace.began.Add(r.load.Duration)
	if r.load.Rate > 0 {
		events := 1
		if r.load.Method == Batch {
			events = r.load.Size
		}
		r.pace.every = time.Duration(float64(events) / r.load.Rate * float64(time.Second))
	}
	publish := map[string]func(context.Context, postriderv1.EventServiceClient) error{Unary: r.unary, Batch: r.batch, Stream: r.stream}[r.load.Method]
	var producers sync.WaitGroup
	for i := range r.load.Producers {
		producers.Go(func() {
			if err := publish(ctx, r.clients[i%len(r.clients)]); err != nil {
				cancel(err)
			}
		})
	}
	producers.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.took = time.Since(r.pace.began)
	if err := context.Cause(ctx); err != nil {
		if errors.Is(err, context.Canceled) {
			return nil // interrupted: what was measured counts
		}
		return err
	}
	// What was due and was not even sent has waited until now at least.
	r.pace.left(func(due time.Time) {
		r.acks.add(r.pace.end.Sub(due))
		r.behind++
	})
	return nil
}

// receipt notes an answer.
func (r *Run) receipt(n uint64, receipt *postriderv1.Receipt, at time.Time) {
	r.ledger.accept(n, at)
	if receipt.GetDedupWindow() != postriderv1.DedupWindow_DEDUP_WINDOW_FULL {
		r.mu.Lock()
		r.degraded++
		r.mu.Unlock()
	}
}

// retryPause is how long a closed loop waits after a refusal that does not say.
const retryPause = 100 * time.Millisecond

// refuse notes that n events were refused, or, with none, that a stream broke, and says how long a
// closed loop should wait. It fails if the refusal will not pass.
func (r *Run) refuse(err error, n int64) (time.Duration, error) {
	e, ok := fault.As(err)
	if !ok && status.Code(err) == codes.Internal {
		e = fault.New(fault.Unavailable, "INTERNAL", err.Error()) // the server's mistake, perhaps with this event alone
	} else if !ok {
		return 0, err
	}
	switch e.Kind {
	case fault.Invalid, fault.NotFound, fault.AlreadyExists, fault.Precondition, fault.Unauthenticated, fault.Denied, fault.Unimplemented:
		return 0, err
	case fault.Exhausted, fault.Unavailable, fault.Deadline, fault.Aborted, fault.Canceled:
	}
	r.mu.Lock()
	if n > 0 {
		r.refused[e.Reason] += n
	} else {
		r.broken[e.Reason]++
	}
	r.mu.Unlock()
	if r.pace.every > 0 {
		return 0, nil // the clock does not wait
	}
	if e.RetryAfter > 0 {
		return e.RetryAfter, nil
	}
	return retryPause, nil
}

// lose notes events that were sent and not answered.
func (r *Run) lose(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unanswered += int64(n)
}

// Await waits until every accepted event has arrived, or until none has for as long as the patience,
// or the context ends. It calls watch now and then.
func (r *Run) Await(ctx context.Context, patience time.Duration, watch func()) {
	const step = 100 * time.Millisecond
	last, since := int64(-1), time.Now()
	for {
		accepted, arrived, both := r.ledger.counts()
		if both == accepted {
			return
		}
		if arrived != last {
			last, since = arrived, time.Now()
		}
		watch()
		if time.Since(since) > patience || !pause(ctx, step) {
			return
		}
	}
}

// Counts are how many events were accepted, refused and delivered so far.
func (r *Run) Counts() (accepted, refused, delivered int64) {
	accepted, delivered, _ = r.ledger.counts()
	r.mu.Lock()
	defer r.mu.Unlock()
	for n := range maps.Values(r.refused) {
		refused += n
	}
	return accepted, refused, delivered
}
