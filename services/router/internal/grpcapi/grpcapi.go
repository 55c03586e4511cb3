// Package grpcapi answers other services' questions about matching. It holds no state.
package grpcapi

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/match"
	"github.com/postrider/postrider/pkg/postrider"
	routerv1 "github.com/postrider/postrider/proto/gen/go/postrider/router/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/router/internal/fanout"
	"github.com/postrider/postrider/services/router/internal/index"
)

// maxExplanations bounds an answer.
const maxExplanations = 1000

// Configuration is the change feed that the index is kept by.
type Configuration interface {
	WaitFresh(ctx context.Context) error
}

// Server implements RouterService.
type Server struct {
	routerv1.UnimplementedRouterServiceServer
	index    *index.Index
	feed     Configuration
	revision func() uint64
}

// New returns the server. revision is the index's configuration revision.
func New(x *index.Index, feed Configuration, revision func() uint64) *Server {
	return &Server{index: x, feed: feed, revision: revision}
}

// ExplainMatch says which webhooks of the account an event would reach, and why not the others.
// It answers from an index that is as fresh as the one that routes.
func (s *Server) ExplainMatch(ctx context.Context, req *routerv1.ExplainMatchRequest) (*routerv1.ExplainMatchResponse, error) {
	if req.GetAccountId() == "" {
		return nil, fault.InvalidFields(fault.Violation{Field: "account_id", Rule: "is required"})
	}
	if err := match.CheckEventType(req.GetEvent().GetType()); err != nil {
		return nil, fault.InvalidFields(fault.Violation{Field: "event.type", Rule: err.Error()})
	}
	if err := s.feed.WaitFresh(ctx); err != nil {
		return nil, fault.New(fault.Unavailable, "CONFIGURATION_STALE", "the webhook index is not up to date").WithCause(err)
	}
	explanations, total := s.index.Explain(postrider.AccountID(req.GetAccountId()), attributes(req.GetEvent()), maxExplanations)
	resp := &routerv1.ExplainMatchResponse{Revision: s.revision(), Total: int32(total)} //nolint:gosec // webhooks of one account
	for _, e := range explanations {
		resp.Explanations = append(resp.Explanations, &postriderv1.MatchExplanation{
			WebhookId: string(e.Hook.ID), Matched: e.Matched, Reason: e.Reason, Detail: e.Detail,
			State: e.Hook.State, CreateTime: timestamppb.New(e.Hook.CreateTime),
		})
	}
	return resp, nil
}

// maxMatched bounds the events of one call.
const maxMatched = 256

// MatchEvents says which webhooks want each of the stored events, as routing would find now.
func (s *Server) MatchEvents(ctx context.Context, req *routerv1.MatchEventsRequest) (*routerv1.MatchEventsResponse, error) {
	if req.GetAccountId() == "" {
		return nil, fault.InvalidFields(fault.Violation{Field: "account_id", Rule: "is required"})
	}
	if n := len(req.GetEvents()); n > maxMatched {
		return nil, fault.InvalidFields(fault.Violation{Field: "events", Rule: "must be at most 256"})
	}
	if err := s.feed.WaitFresh(ctx); err != nil {
		return nil, fault.New(fault.Unavailable, "CONFIGURATION_STALE", "the webhook index is not up to date").WithCause(err)
	}
	resp := &routerv1.MatchEventsResponse{}
	var result index.Result
	for _, ev := range req.GetEvents() {
		s.index.Match(postrider.AccountID(req.GetAccountId()), fanout.Attributes(ev), &result)
		found := &routerv1.EventMatch{}
		for _, hook := range result.Matched {
			found.WebhookIds = append(found.WebhookIds, string(hook.ID))
		}
		resp.Matches = append(resp.Matches, found)
	}
	return resp, nil
}

func attributes(ev *postriderv1.EventInput) *match.Attributes {
	return &match.Attributes{
		ID: ev.GetId(), Type: ev.GetType(), Source: ev.GetSource(), Time: ev.GetTime().AsTime(),
		Labels: ev.GetLabels(), Data: ev.GetData, ContentType: ev.GetContentType(),
	}
}
