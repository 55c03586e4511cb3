package manage

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/match"
	"github.com/postrider/postrider/pkg/postrider"
	dispatcherv1 "github.com/postrider/postrider/proto/gen/go/postrider/dispatcher/v1"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	routerv1 "github.com/postrider/postrider/proto/gen/go/postrider/router/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// TestWebhook makes one signed attempt now, outside every schedule.
func (s *Server) TestWebhook(ctx context.Context, req *postriderv1.TestWebhookRequest) (*postriderv1.TestWebhookResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	rec, _, err := s.deps.Store.GetWebhook(ctx, string(account), req.GetWebhookId())
	if err != nil {
		return nil, stored(err, "webhook", req.GetWebhookId())
	}
	ev := req.GetEvent()
	if ev == nil {
		if ev, err = s.example(ctx, rec.GetWebhook()); err != nil {
			return nil, err
		}
	}
	if err := match.CheckEventType(ev.GetType()); err != nil {
		return nil, invalid("event.type", err.Error())
	}
	delivery := s.testDelivery(rec.GetWebhook(), ev)
	resp, err := s.deps.Dispatcher.SendTest(ctx, &dispatcherv1.SendTestRequest{Delivery: delivery})
	if err != nil {
		return nil, err
	}
	shown := shownTest(resp.GetAttempt())
	shown.DeliveryId = delivery.GetId()
	return shown, nil
}

// example is the event that a test sends if the caller gave none: the catalogue's example of the
// first event type that the webhook wants, or an empty object of it.
func (s *Server) example(ctx context.Context, w *postriderv1.Webhook) (*postriderv1.EventInput, error) {
	patterns := make([]match.Pattern, 0, len(w.GetEventTypes()))
	for _, text := range w.GetEventTypes() {
		if p, err := match.ParsePattern(text); err == nil {
			patterns = append(patterns, p)
		}
	}
	types, err := s.deps.Store.ListEventTypes(ctx, w.GetAccountId(), "", maxPageSize)
	if err != nil {
		return nil, stored(err, "event types", "")
	}
	for _, entry := range types {
		e := entry.Record.GetEventType()
		for _, p := range patterns {
			if p.Match(e.GetName()) && len(e.GetExample()) > 0 {
				return &postriderv1.EventInput{Type: e.GetName(), Data: e.GetExample(), ContentType: e.GetExampleContentType()}, nil
			}
		}
	}
	name := "postrider.test"
	if err := match.CheckEventType(w.GetEventTypes()[0]); err == nil {
		name = w.GetEventTypes()[0]
	}
	return &postriderv1.EventInput{Type: name, Data: []byte("{}")}, nil
}

func (s *Server) testDelivery(w *postriderv1.Webhook, ev *postriderv1.EventInput) *recordv1.Delivery {
	event := postrider.NewEventID()
	now := timestamppb.New(s.deps.Now())
	when := ev.GetTime()
	if when == nil {
		when = now
	}
	return &recordv1.Delivery{
		Id:        string(postrider.DeliveryIDFor(event, postrider.WebhookID(w.GetId()), "test")),
		AccountId: w.GetAccountId(), WebhookId: w.GetId(), EventId: string(event), EventType: ev.GetType(), EventTime: when,
		EventSource: ev.GetSource(), EventGivenId: ev.GetId(), OrderingKey: ev.GetOrderingKey(), AcceptTime: now, RouteTime: now,
		Extensions: ev.GetExtensions(), ContentType: orDefault(ev.GetContentType(), "application/json"), Data: ev.GetData(),
	}
}

func shownTest(at *recordv1.Attempted) *postriderv1.TestWebhookResponse {
	resp := &postriderv1.TestWebhookResponse{
		Success: at.GetOutcome() == string(postrider.Succeeded), StatusCode: at.GetStatusCode(), ErrorClass: at.GetErrorClass(),
		Duration: durationpb.New(time.Duration(at.GetDurationUs()) * time.Microsecond), ResponseBody: at.GetResponseBody(),
	}
	took := resp.GetDuration().AsDuration().Round(time.Millisecond)
	if at.GetStatusCode() > 0 {
		resp.Message = fmt.Sprintf("the receiver answered %d %s in %s", at.GetStatusCode(), http.StatusText(int(at.GetStatusCode())), took)
	} else {
		resp.Message = fmt.Sprintf("%s after %s: %s", at.GetErrorClass(), took, at.GetErrorMessage())
	}
	return resp
}

// ExplainMatch asks a router which webhooks an event would reach, and why not the others.
func (s *Server) ExplainMatch(ctx context.Context, req *postriderv1.ExplainMatchRequest) (*postriderv1.ExplainMatchResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	resp, err := s.deps.Router.ExplainMatch(ctx, &routerv1.ExplainMatchRequest{AccountId: string(account), Event: req.GetEvent()})
	if err != nil {
		return nil, err
	}
	return &postriderv1.ExplainMatchResponse{Explanations: resp.GetExplanations(), Revision: resp.GetRevision(), Total: resp.GetTotal()}, nil
}
