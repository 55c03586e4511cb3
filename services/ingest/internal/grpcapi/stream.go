package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/services/ingest/internal/admission"
)

// eventStream is one open stream.
//
// A slot is taken before a message is read and given back after its answer was sent, so at most
// cap(slots) events are read and not answered. While none is free nothing is read, and gRPC's flow
// control makes the producer wait.
type eventStream struct {
	stream  grpc.BidiStreamingServer[postriderv1.StreamEventsRequest, postriderv1.StreamEventsResponse]
	events  acceptor
	caller  caller
	slots   chan struct{}
	answers chan *postriderv1.StreamEventsResponse // never full: there is a slot for each
}

// StreamEvents accepts events as they come.
func (s *Server) StreamEvents(stream grpc.BidiStreamingServer[postriderv1.StreamEventsRequest, postriderv1.StreamEventsResponse]) error {
	c, err := callerOf(stream.Context())
	if err != nil {
		return err
	}
	st := &eventStream{
		stream: stream, events: s.events, caller: c,
		slots:   make(chan struct{}, s.streamWindow),
		answers: make(chan *postriderv1.StreamEventsResponse, s.streamWindow),
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	sent := make(chan error, 1)
	go func() {
		defer cancel() // nobody is answered any more, so nothing more is read
		sent <- st.send(ctx)
	}()
	err = st.receive(ctx)
	if err == nil {
		err = st.drain(ctx)
	}
	cancel()
	// The sender has to be done before the handler returns.
	if sendErr := <-sent; sendErr != nil && (err == nil || errors.Is(err, context.Canceled)) {
		return sendErr
	}
	return err
}

// receive reads events until the producer has no more, and submits each.
func (s *eventStream) receive(ctx context.Context) error {
	for {
		select {
		case s.slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		req, err := s.stream.Recv()
		if errors.Is(err, io.EOF) {
			<-s.slots
			return nil
		}
		if err != nil {
			return err
		}
		tag := req.GetTag()
		done := func(v admission.Verdict) {
			s.answers <- &postriderv1.StreamEventsResponse{Tag: tag, Verdict: v.Public()}
		}
		r, err := s.caller.request(req.GetRequest(), "")
		if err != nil {
			done(admission.Verdict{Err: err})
			continue
		}
		s.events.Submit(ctx, r, done)
	}
}

// drain waits until everything that was read is answered.
func (s *eventStream) drain(ctx context.Context) error {
	for range cap(s.slots) {
		select {
		case s.slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// send sends answers as they come, until ctx ends or the producer is gone.
func (s *eventStream) send(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case answer := <-s.answers:
			if err := s.stream.Send(answer); err != nil {
				return fmt.Errorf("answer event: %w", err)
			}
			<-s.slots
		}
	}
}
