// Package grpcapi serves the EventService of the public API over gRPC: one event, a batch, a
// stream of events, and reading one back. It checks nothing about events itself and holds nothing
// but the streams that are open, of which each has a bounded number of events under way.
package grpcapi

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/pkg/access"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/services/ingest/internal/admission"
)

// Limits of a batch.
const (
	MaxBatch      = 1000
	MaxBatchBytes = 16 << 20
)

// acceptor is all that the API needs of admission.
type acceptor interface {
	Accept(ctx context.Context, req *admission.Request) (*postriderv1.Receipt, error)
	AcceptAll(ctx context.Context, reqs []*admission.Request) []admission.Verdict
	Submit(ctx context.Context, req *admission.Request, done func(admission.Verdict))
	Read(ctx context.Context, account postrider.AccountID, id postrider.EventID, sequence uint64) (*postriderv1.Event, error)
}

// Server is the EventService.
type Server struct {
	postriderv1.UnimplementedEventServiceServer

	events       acceptor
	streamWindow int
}

// New returns the service; streamWindow is how many events of one stream may be under way.
func New(events acceptor, streamWindow int) (*Server, error) {
	if events == nil || streamWindow < 1 {
		return nil, errors.New("event service: admission and a positive window are required")
	}
	return &Server{events: events, streamWindow: streamWindow}, nil
}

// Register adds the service to a server whose interceptors authenticate by Rules.
func (s *Server) Register(r grpc.ServiceRegistrar) { postriderv1.RegisterEventServiceServer(r, s) }

// Rules says which scope each method needs.
func Rules() map[string]postrider.Scope {
	return map[string]postrider.Scope{
		postriderv1.EventService_PublishEvent_FullMethodName:       postrider.ScopePublish,
		postriderv1.EventService_BatchPublishEvents_FullMethodName: postrider.ScopePublish,
		postriderv1.EventService_StreamEvents_FullMethodName:       postrider.ScopePublish,
		postriderv1.EventService_GetEvent_FullMethodName:           postrider.ScopeRead,
	}
}

// eventFields stands before the names of an event's fields in errors.
const eventFields = "event."

// PublishEvent accepts one event.
func (s *Server) PublishEvent(ctx context.Context, req *postriderv1.PublishEventRequest) (*postriderv1.PublishEventResponse, error) {
	c, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	r, err := c.request(req, "")
	if err != nil {
		return nil, err
	}
	receipt, err := s.events.Accept(ctx, r)
	if err != nil {
		return nil, err
	}
	return &postriderv1.PublishEventResponse{Receipt: receipt}, nil
}

// BatchPublishEvents accepts each event on its own.
func (s *Server) BatchPublishEvents(ctx context.Context, req *postriderv1.BatchPublishEventsRequest) (*postriderv1.BatchPublishEventsResponse, error) {
	c, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	if len(req.GetRequests()) > MaxBatch {
		return nil, fault.InvalidFields(fault.Violation{Field: "requests", Rule: fmt.Sprintf("must be at most %d", MaxBatch)})
	}
	if size := proto.Size(req); size > MaxBatchBytes {
		return nil, fault.InvalidFields(fault.Violation{Field: "requests", Rule: fmt.Sprintf("must be at most %d bytes in all", MaxBatchBytes)})
	}
	verdicts := make([]*postriderv1.PublishVerdict, len(req.GetRequests()))
	reqs := make([]*admission.Request, 0, len(verdicts))
	places := make([]int, 0, len(verdicts))
	for i, one := range req.GetRequests() {
		r, err := c.request(one, req.GetAccountId())
		if err != nil {
			verdicts[i] = admission.Verdict{Err: err}.Public()
			continue
		}
		reqs, places = append(reqs, r), append(places, i)
	}
	for i, v := range s.events.AcceptAll(ctx, reqs) {
		verdicts[places[i]] = v.Public()
	}
	return &postriderv1.BatchPublishEventsResponse{Verdicts: verdicts}, nil
}

// GetEvent reads an accepted event.
func (s *Server) GetEvent(ctx context.Context, req *postriderv1.GetEventRequest) (*postriderv1.GetEventResponse, error) {
	p, err := access.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	account, err := p.For(req.GetAccountId())
	if err != nil {
		return nil, err
	}
	id := postrider.EventID(req.GetEventId())
	if !id.Valid() {
		return nil, fault.InvalidFields(fault.Violation{Field: "event_id", Rule: `must be "evt_" and a ULID`})
	}
	ev, err := s.events.Read(ctx, account, id, req.GetSequence())
	if err != nil {
		return nil, err
	}
	if !admission.ShowsData(p) {
		ev.Data = nil
	}
	return &postriderv1.GetEventResponse{Event: ev}, nil
}

// caller is what all requests of one call share.
type caller struct {
	principal   access.Principal
	traceparent string
}

func callerOf(ctx context.Context) (caller, error) {
	p, err := access.FromContext(ctx)
	if err != nil {
		return caller{}, err
	}
	sent := ""
	if values := metadata.ValueFromIncomingContext(ctx, "traceparent"); len(values) > 0 {
		sent = values[0]
	}
	return caller{principal: p, traceparent: admission.Traceparent(ctx, sent)}, nil
}

// request is what admission is asked; account stands for requests that name none.
func (c caller) request(req *postriderv1.PublishEventRequest, account string) (*admission.Request, error) {
	if req.GetAccountId() != "" {
		account = req.GetAccountId()
	}
	id, err := c.principal.For(account)
	if err != nil {
		return nil, err
	}
	return &admission.Request{
		Account: id, Event: req.GetEvent(), IdempotencyKey: req.GetIdempotencyKey(),
		Traceparent: c.traceparent, FieldPrefix: eventFields,
	}, nil
}
