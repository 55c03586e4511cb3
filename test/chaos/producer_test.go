//go:build chaos

package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/postrider/postrider/pkg/fault"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// producer publishes numbered events as a real one would: what failed or got no answer is published
// again under the same key, until there is a receipt.
type producer struct {
	w     *world
	batch int
	// late says that the events may have been accepted longer ago than the record itself knows
	// their keys. Where a receipt says that the deduplication window is degraded, the event may then
	// be another one than the first.
	late bool

	calls      atomic.Int64 // under way: batches, events and streams
	repeats    atomic.Int64 // publishes that were not the first of their event
	duplicates atomic.Int64 // receipts marked so: an earlier try had been stored
	degraded   atomic.Int64 // receipts whose window was not whole

	mu        sync.Mutex
	refused   []string       // answers that no repeat can change
	sequences map[int]uint64 // in EVENTS, by number, as receipts say
	ahead     int            // deliveries in flight at which it waits; 0: maxAhead
}

// Times of a producer. A call that gets no answer is given up and made again.
const (
	callTimeout = 10 * time.Second
	backoff     = 100 * time.Millisecond
)

// chunk is some events of one account that go together in one way.
type chunk struct {
	account *account
	numbers []int
	send    func(ctx context.Context, c *chunk) error
}

// publish publishes the events from one number up to another and returns when all have receipts,
// or ctx has ended: eight in ten by batches, one in ten one by one, one in ten over a stream.
func (p *producer) publish(ctx context.Context, from, to int) error {
	chunks := make(chan *chunk)
	go func() {
		defer close(chunks)
		for _, c := range p.chunks(from, to) {
			select {
			case chunks <- c:
			case <-ctx.Done():
				return
			}
		}
	}()
	const workers = 8
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for c := range chunks {
				p.untilAccepted(ctx, c)
			}
		})
	}
	wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.refused) > 0 {
		return fmt.Errorf("%d publishes were refused, such as: %s", len(p.refused), p.refused[0])
	}
	return ctx.Err()
}

// maxAhead is how many deliveries may be in flight when another burst begins: one without end would
// drown a machine that accepts faster than it delivers, and nothing on it answers in time any more.
const maxAhead = 20_000

// publishUntil publishes a burst of events from a number on, and another one as long as it is not
// enough. The channel has the result when all that was begun has receipts.
func (p *producer) publishUntil(ctx context.Context, enough <-chan struct{}, from, burst int) <-chan error {
	result := make(chan error, 1)
	go func() {
		for {
			if err := p.publish(ctx, from, from+burst); err != nil {
				result <- err
				return
			}
			from += burst
			over := func() bool {
				select {
				case <-enough:
					return true
				default:
					return false
				}
			}
			awaited(ctx, blowTimeout, 10*time.Millisecond, func() bool { return p.w.ledger.inFlight() < cmp.Or(p.ahead, maxAhead) || over() })
			if over() {
				result <- nil
				return
			}
		}
	}()
	return result
}

func (p *producer) chunks(from, to int) []*chunk {
	byAccount := make([][]int, len(p.w.accounts))
	for n := from; n < to; n++ {
		a := p.w.plan(n).account
		byAccount[a] = append(byAccount[a], n)
	}
	ways := []func(context.Context, *chunk) error{
		p.batches, p.batches, p.batches, p.batches, p.singly, p.batches, p.batches, p.batches, p.batches, p.stream,
	}
	var chunks []*chunk
	for left := true; left; {
		left = false
		for a, numbers := range byAccount {
			n := min(p.batch, len(numbers))
			if n == 0 {
				continue
			}
			left = true
			chunks = append(chunks, &chunk{account: p.w.accounts[a], numbers: numbers[:n:n], send: ways[len(chunks)%len(ways)]})
			byAccount[a] = numbers[n:]
		}
	}
	return chunks
}

// untilAccepted sends what is left of a chunk until nothing is.
func (p *producer) untilAccepted(ctx context.Context, c *chunk) {
	for first := true; len(c.numbers) > 0; first = false {
		if !first {
			p.repeats.Add(int64(len(c.numbers)))
			if !pause(ctx, backoff) {
				return
			}
		}
		call, cancel := context.WithTimeout(c.account.as(ctx), callTimeout)
		p.calls.Add(1)
		err := c.send(call, c)
		p.calls.Add(-1)
		if err != nil && !passing(fault.Status(err).Code()) {
			p.refuse("events %v: %v", c.numbers, err)
			c.numbers = nil
		}
		cancel() // what has no receipt is sent again
		if ctx.Err() != nil {
			return
		}
	}
}

// batches sends a chunk in one call.
func (p *producer) batches(ctx context.Context, c *chunk) error {
	req := &postriderv1.BatchPublishEventsRequest{}
	for _, n := range c.numbers {
		req.Requests = append(req.Requests, p.w.request(n))
	}
	resp, err := p.w.publishing.BatchPublishEvents(ctx, req)
	if err != nil {
		return err
	}
	if len(resp.GetVerdicts()) != len(c.numbers) {
		p.refuse("%d verdicts for %d events", len(resp.GetVerdicts()), len(c.numbers))
		c.numbers = nil
		return nil
	}
	var left []int
	for i, v := range resp.GetVerdicts() {
		if !p.judge(c.numbers[i], v) {
			left = append(left, c.numbers[i])
		}
	}
	c.numbers = left
	return nil
}

// singly sends a chunk in a call for each event, some at a time.
func (p *producer) singly(ctx context.Context, c *chunk) error {
	var mu sync.Mutex
	var left []int
	var wg sync.WaitGroup
	slots := make(chan struct{}, 16)
	for _, n := range c.numbers {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			resp, err := p.w.publishing.PublishEvent(ctx, p.w.request(n))
			if err == nil {
				p.accepted(n, resp.GetReceipt())
				return
			}
			if !passing(fault.Status(err).Code()) {
				p.refuse("event %d: %v", n, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			left = append(left, n)
		})
	}
	wg.Wait()
	c.numbers = left
	return nil
}

// stream sends a chunk over a stream of its own.
func (p *producer) stream(ctx context.Context, c *chunk) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream, whatever state it is in
	s, err := p.w.publishing.StreamEvents(ctx)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	numbers := c.numbers
	wg.Go(func() {
		for _, n := range numbers {
			if s.Send(&postriderv1.StreamEventsRequest{Tag: uint64(n), Request: p.w.request(n)}) != nil {
				return // Recv has the reason
			}
		}
		_ = s.CloseSend()
	})
	left := make(map[int]bool, len(numbers))
	for _, n := range numbers {
		left[n] = true
	}
	answers := 0
	for answers < len(numbers) && err == nil {
		var resp *postriderv1.StreamEventsResponse
		if resp, err = s.Recv(); err != nil {
			break
		}
		answers++
		if n := int(resp.GetTag()); left[n] && p.judge(n, resp.GetVerdict()) {
			delete(left, n)
		}
	}
	c.numbers = nil
	for _, n := range numbers {
		if left[n] {
			c.numbers = append(c.numbers, n)
		}
	}
	if errors.Is(err, io.EOF) {
		p.refuse("a stream ended without fault after %d answers to %d events", answers, len(numbers))
		return nil
	}
	return err
}

// judge enters a verdict; false if the event is to be published again.
func (p *producer) judge(n int, v *postriderv1.PublishVerdict) bool {
	if r := v.GetReceipt(); r != nil {
		p.accepted(n, r)
		return true
	}
	e := v.GetError()
	if passing(codes.Code(e.GetCode())) {
		return false
	}
	p.refuse("event %d: %s %s: %s", n, codes.Code(e.GetCode()), e.GetReason(), e.GetMessage())
	return true
}

// passing reports whether an answer is one after which a producer tries again.
func passing(code codes.Code) bool {
	passing := []codes.Code{codes.Unavailable, codes.DeadlineExceeded, codes.Aborted, codes.ResourceExhausted, codes.Canceled}
	return slices.Contains(passing, code)
}

func (p *producer) accepted(n int, r *postriderv1.Receipt) {
	if r.GetDuplicate() {
		p.duplicates.Add(1)
	}
	if r.GetDedupWindow() == postriderv1.DedupWindow_DEDUP_WINDOW_DEGRADED {
		p.degraded.Add(1)
		if p.late {
			p.w.ledger.acceptAgain(n, r.GetEventId(), time.Now())
			return
		}
	}
	p.mu.Lock()
	if p.sequences == nil {
		p.sequences = map[int]uint64{}
	}
	p.sequences[n] = r.GetSequence()
	p.mu.Unlock()
	p.w.ledger.accept(n, r.GetEventId(), time.Now())
}

func (p *producer) refuse(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused = append(p.refused, fmt.Sprintf(format, args...))
}
