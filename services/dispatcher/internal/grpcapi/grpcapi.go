// Package grpcapi serves the dispatcher's gRPC API: attempts on request, and how webhooks are doing.
package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	dispatcherv1 "github.com/postrider/postrider/proto/gen/go/postrider/dispatcher/v1"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/services/dispatcher/internal/attempt"
	"github.com/postrider/postrider/services/dispatcher/internal/meters"
	"github.com/postrider/postrider/services/dispatcher/internal/registry"
)

// recordTimeout bounds how long an attempt that was made waits for the journal.
const recordTimeout = 10 * time.Second

// mirror tells whether the registry is what the configuration's leader has.
type mirror interface {
	Fresh() bool
	WaitFresh(ctx context.Context) error
}

// journalWriter is all that the API needs of the journal.
type journalWriter interface {
	Write(ctx context.Context, shard int, e *recordv1.JournalEntry, done func(error)) error
}

// Deps are what the API works with.
type Deps struct {
	Mirror   mirror
	Registry *registry.Registry
	Maker    *attempt.Maker
	Journal  journalWriter
	Records  records
	Letters  letters
	Events   events
	Lanes    lanes
	Meters   *meters.Meters
	Logger   *slog.Logger
	// Layout is into how many shards deliveries are split now, to find the journal of a webhook.
	Layout func() postrider.Layout
	// Slots is how many tests are made at once.
	Slots int
}

// Server is the dispatcher's gRPC API.
type Server struct {
	dispatcherv1.UnimplementedDispatcherServiceServer

	deps  Deps
	slots chan struct{}
}

// New returns the API.
func New(deps Deps) *Server { return &Server{deps: deps, slots: make(chan struct{}, deps.Slots)} }

// SendTest makes one attempt now. It is outside of the webhook's limits and of its state: an owner
// tests a paused webhook before resuming it.
func (s *Server) SendTest(ctx context.Context, req *dispatcherv1.SendTestRequest) (*dispatcherv1.SendTestResponse, error) {
	d := req.GetDelivery()
	if d.GetWebhookId() == "" || d.GetAccountId() == "" {
		return nil, fault.InvalidFields(fault.Violation{Field: "delivery", Rule: "must name its account and webhook"})
	}
	free, err := s.slot()
	if err != nil {
		return nil, err
	}
	defer free()
	w, err := s.webhook(ctx, d.GetAccountId(), d.GetWebhookId())
	if err != nil {
		return nil, err
	}
	prepared, result, err := s.prepare(ctx, s.input(d, w, d.GetData(), attempt.TriggerTest))
	if err != nil {
		return nil, err
	}
	if prepared != nil {
		result = s.deps.Maker.Send(ctx, prepared, time.Now())
	}
	if result.Aborted {
		return nil, fmt.Errorf("send test for %s: %w", d.GetWebhookId(), context.Cause(ctx))
	}
	s.deps.Meters.Attempt(ctx, accountClass(s.deps.Registry, d), result.Outcome, result.Class, "test", result.End.Sub(result.Start))
	if err := s.record(ctx, d, result, "test"); err != nil {
		return nil, err
	}
	return &dispatcherv1.SendTestResponse{Attempt: result.Record}, nil
}

// slot takes one of the slots for what is made on request.
func (s *Server) slot() (free func(), err error) {
	select {
	case s.slots <- struct{}{}:
		return func() { <-s.slots }, nil
	default:
		return nil, fault.New(fault.Exhausted, "TOO_MANY_TESTS", "too many attempts are being made on request").WithRetryAfter(time.Second)
	}
}

var errNoWebhook = fault.New(fault.NotFound, "WEBHOOK_NOT_FOUND", "there is no such webhook")

// webhook finds a webhook of the account in a fresh configuration.
func (s *Server) webhook(ctx context.Context, account, webhook string) (*registry.Webhook, error) {
	if !s.deps.Mirror.Fresh() {
		if err := s.deps.Mirror.WaitFresh(ctx); err != nil {
			return nil, fault.New(fault.Unavailable, "CONFIGURATION_STALE", "the configuration is not known to be current").WithCause(err)
		}
	}
	w := s.deps.Registry.Webhook(webhook)
	if w == nil || w.Config.GetAccountId() != account {
		return nil, errNoWebhook
	}
	return w, nil
}

func (s *Server) input(d *recordv1.Delivery, w *registry.Webhook, data []byte, trigger string) *attempt.Input {
	return &attempt.Input{Delivery: d, Webhook: w, Account: s.deps.Registry.Account(d.GetAccountId()), Data: data, Trigger: trigger}
}

// prepare renders and signs.
func (s *Server) prepare(ctx context.Context, in *attempt.Input) (*attempt.Prepared, *attempt.Result, error) {
	prepared, result, err := s.deps.Maker.Prepare(ctx, in)
	if errors.Is(err, attempt.ErrNotReady) {
		return nil, nil, fault.New(fault.Precondition, "WEBHOOK_NOT_READY", "the webhook cannot be attempted").WithCause(err)
	}
	return prepared, result, err
}

// record journals the attempt, also when the caller has gone: it was made.
func (s *Server) record(ctx context.Context, d *recordv1.Delivery, r *attempt.Result, what string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	stored := make(chan error, 1)
	err := s.deps.Journal.Write(ctx, s.deps.Layout().Home(postrider.WebhookID(d.GetWebhookId())), &recordv1.JournalEntry{
		Time: timestamppb.New(r.End), AccountId: d.GetAccountId(), EventId: d.GetEventId(), DeliveryId: d.GetId(),
		WebhookId: d.GetWebhookId(), EventType: d.GetEventType(), Series: d.GetProgress().GetSeries(), CreateTime: d.GetRouteTime(),
		What: &recordv1.JournalEntry_Attempted{Attempted: r.Record},
	}, func(err error) { stored <- err })
	if err == nil {
		select {
		case err = <-stored:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err != nil {
		return fault.New(fault.Unavailable, "NOT_RECORDED", "the "+what+" was sent and could not be recorded").WithCause(err)
	}
	return nil
}

func accountClass(r *registry.Registry, d *recordv1.Delivery) string {
	return r.Account(d.GetAccountId()).Class()
}
