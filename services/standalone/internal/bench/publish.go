package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/postrider/postrider/pkg/fault"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// unary is a producer of single events.
func (r *Run) unary(ctx context.Context, client postriderv1.EventServiceClient) error {
	for {
		due, ok := r.pace.next(ctx)
		if !ok {
			return nil
		}
		req, n := r.request()
		resp, err := client.PublishEvent(ctx, req)
		if err != nil {
			if stop := r.failed(ctx, err, 1); stop != nil {
				return stop
			}
			continue
		}
		now := time.Now()
		r.acks.add(now.Sub(due))
		r.receipt(n, resp.GetReceipt(), now)
	}
}

// batch is a producer of batches. A latency is that of a whole batch.
func (r *Run) batch(ctx context.Context, client postriderv1.EventServiceClient) error {
	numbers := make([]uint64, r.load.Size)
	for {
		due, ok := r.pace.next(ctx)
		if !ok {
			return nil
		}
		req := &postriderv1.BatchPublishEventsRequest{AccountId: r.load.Account, Requests: make([]*postriderv1.PublishEventRequest, r.load.Size)}
		for i := range numbers {
			req.Requests[i], numbers[i] = r.request()
		}
		resp, err := client.BatchPublishEvents(ctx, req)
		if err == nil && len(resp.GetVerdicts()) != len(numbers) {
			return fmt.Errorf("%d events were given %d verdicts", len(numbers), len(resp.GetVerdicts()))
		}
		if err != nil {
			if stop := r.failed(ctx, err, len(numbers)); stop != nil {
				return stop
			}
			continue
		}
		now := time.Now()
		r.acks.add(now.Sub(due))
		var wait time.Duration
		for i, v := range resp.GetVerdicts() {
			w, err := r.verdict(numbers[i], v, now)
			if err != nil {
				return err
			}
			wait = max(wait, w)
		}
		pause(ctx, min(wait, time.Until(r.pace.end)))
	}
}

// failed is what a call that failed means: an error if there is no point in going on.
func (r *Run) failed(ctx context.Context, err error, events int) error {
	if ctx.Err() != nil {
		r.lose(events)
		return nil //nolint:nilerr // interrupted, or stopped by another producer, which says why
	}
	wait, err := r.refuse(err, int64(events))
	if err != nil {
		return err
	}
	pause(ctx, min(wait, time.Until(r.pace.end)))
	return nil
}

// verdict notes what was said of one event among several, and how long a closed loop should wait.
func (r *Run) verdict(n uint64, v *postriderv1.PublishVerdict, at time.Time) (time.Duration, error) {
	e := v.GetError()
	if e == nil {
		r.receipt(n, v.GetReceipt(), at)
		return 0, nil
	}
	err := fault.FromStatus(status.Error(codes.Code(e.GetCode()), e.GetMessage())) //nolint:gosec // a code is small
	refusal, ok := fault.As(err)
	if !ok {
		return r.refuse(err, 1)
	}
	return r.refuse(fault.New(refusal.Kind, e.GetReason(), e.GetMessage()).WithRetryAfter(e.GetRetryDelay().AsDuration()), 1)
}

// stream is a producer over one stream, or, if that breaks, one after the other.
func (r *Run) stream(ctx context.Context, client postriderv1.EventServiceClient) error {
	for time.Now().Before(r.pace.end) {
		s := &stream{run: r, window: make(chan struct{}, r.load.Size), open: map[uint64]time.Time{}}
		err := s.publish(ctx, client)
		if err == nil || ctx.Err() != nil {
			return nil //nolint:nilerr // as in failed
		}
		if stop := r.failed(ctx, err, 0); stop != nil {
			return stop
		}
		pause(ctx, min(retryPause, time.Until(r.pace.end))) // in an open loop too: nothing can be sent
	}
	return nil
}

// stream is one stream and what waits for an answer on it.
type stream struct {
	run    *Run
	window chan struct{}

	mu   sync.Mutex
	open map[uint64]time.Time // by the event's number: when it was due
}

// publish publishes until the time is over or the stream breaks. This goroutine sends, one other
// receives; it is waited for.
func (s *stream) publish(ctx context.Context, client postriderv1.EventServiceClient) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	calls, err := client.StreamEvents(ctx)
	if err != nil {
		return err
	}
	var received error
	var receiving sync.WaitGroup
	receiving.Go(func() {
		defer cancel() // wakes a sender that waits for an answer
		received = s.receive(ctx, calls.Recv)
	})
	s.send(ctx, calls.Send)
	_ = calls.CloseSend() // if it is broken, receiving says why
	late := time.AfterFunc(s.run.load.Patience, cancel)
	receiving.Wait()
	late.Stop()
	s.run.lose(len(s.open))
	return received
}

func (s *stream) send(ctx context.Context, send func(*postriderv1.StreamEventsRequest) error) {
	for {
		select {
		case s.window <- struct{}{}:
		case <-ctx.Done():
			return
		}
		due, ok := s.run.pace.next(ctx)
		if !ok {
			return
		}
		req, n := s.run.request()
		s.mu.Lock()
		s.open[n] = due
		s.mu.Unlock()
		if send(&postriderv1.StreamEventsRequest{Tag: n, Request: req}) != nil {
			return // receiving says why
		}
	}
}

func (s *stream) receive(ctx context.Context, recv func() (*postriderv1.StreamEventsResponse, error)) error {
	for {
		resp, err := recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		now := time.Now()
		s.mu.Lock()
		due, ok := s.open[resp.GetTag()]
		delete(s.open, resp.GetTag())
		s.mu.Unlock()
		if !ok {
			return fmt.Errorf("event %d was answered and was not open", resp.GetTag())
		}
		wait, err := s.run.verdict(resp.GetTag(), resp.GetVerdict(), now)
		if err != nil {
			return err
		}
		if resp.GetVerdict().GetError() == nil {
			s.run.acks.add(now.Sub(due))
		}
		pause(ctx, min(wait, time.Until(s.run.pace.end))) // its place stays taken
		<-s.window
	}
}
