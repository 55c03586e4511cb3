// Package grpcapi serves SchedulerService. It owns nothing; what it promises is in the order of
// its steps: a record is stored before it is indexed, and indexed before the answer.
package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	"github.com/postrider/postrider/services/scheduler/internal/cancel"
	"github.com/postrider/postrider/services/scheduler/internal/retryset"
	"github.com/postrider/postrider/services/scheduler/internal/webhooks"
)

// records is all that is needed of RETRIES.
type records interface {
	Put(ctx context.Context, r *recordv1.Retry, done func(at retrystream.Place, err error)) error
	Last(ctx context.Context, account postrider.AccountID, webhook postrider.WebhookID, delivery postrider.DeliveryID) (*retrystream.Record, error)
	Release(ctx context.Context, r retrystream.Record, done func(error)) error
	ScanWebhook(ctx context.Context, account postrider.AccountID, webhook postrider.WebhookID, from retrystream.Place, fn func(retrystream.Record) error) error
	GetAll(ctx context.Context, shard int, sequences []uint64) ([]*retrystream.Record, error)
	Layout() postrider.Layout
}

// index is all that is needed of the index.
type index interface {
	Add(ctx context.Context, entries ...retryset.Entry) error
	Drop(ctx context.Context, members ...retryset.Member) error
	Missing(ctx context.Context, members []retryset.Member) ([]retryset.Member, error)
	Distrust(members ...retryset.Member)
}

// journal is all that is needed of the journal.
type journal interface {
	Released(ctx context.Context, records []retrystream.Record, reason string) error
}

// holder holds and releases what waits for a webhook.
type holder interface {
	Check(id postrider.WebhookID)
	Hold(ctx context.Context, w webhooks.Webhook) (int64, error)
	CountHeld(ctx context.Context, w webhooks.Webhook) (int64, error)
}

// canceller ends deliveries.
type canceller interface {
	Delivery(ctx context.Context, account postrider.AccountID, webhook postrider.WebhookID, delivery postrider.DeliveryID, reason string) (int64, error)
	Webhook(ctx context.Context, account postrider.AccountID, webhook postrider.WebhookID, reason string) (int64, error)
	Waiting(ctx context.Context, account postrider.AccountID, webhook postrider.WebhookID, reason string) (removed, marked int64, more bool, err error)
	Records(ctx context.Context, list []retrystream.Record, reason string) (int64, error)
	Event(ctx context.Context, account postrider.AccountID, event postrider.EventID, targets []cancel.Target, reason string) (int64, error)
}

// marks says which deliveries are cancelled.
type marks interface {
	Covers(d *recordv1.Delivery) bool
}

// Deps is what a Server works with.
type Deps struct {
	Records  records
	Index    index
	Journal  journal
	Hold     holder
	Cancel   canceller
	Marks    marks
	Registry *webhooks.Registry
	// Wake is told of what was indexed. It must not block.
	Wake    func(due time.Time)
	Metrics *Metrics
	Logger  *slog.Logger
	Now     func() time.Time
}

// Server implements SchedulerService.
type Server struct {
	schedulerv1.UnimplementedSchedulerServiceServer

	deps Deps
	gate gate
}

// New returns a server.
func New(deps Deps) *Server { return &Server{deps: deps} }

// awaitRevision is how long a call waits for the configuration that it names to arrive.
const awaitRevision = 2 * time.Second

// Hold turns what waits for an inactive webhook into held records.
func (s *Server) Hold(ctx context.Context, req *schedulerv1.HoldRequest) (*schedulerv1.HoldResponse, error) {
	if err := check(webhookFields(req)...); err != nil {
		return nil, err
	}
	w, err := s.webhook(ctx, req, req.GetWebhookRevision())
	if err != nil {
		return nil, err
	}
	if w.Revision < req.GetWebhookRevision() {
		return nil, fault.New(fault.Unavailable, "CONFIGURATION_BEHIND", "the scheduler has not seen that revision of the webhook yet").
			WithRetryAfter(time.Second)
	}
	if w.Active() || w.State == postrider.WebhookDeleted {
		return &schedulerv1.HoldResponse{}, nil // a later change has overtaken the call
	}
	n, err := s.deps.Hold.Hold(ctx, w)
	if err != nil {
		return nil, unavailable(err)
	}
	return &schedulerv1.HoldResponse{Held: n}, nil
}

// Resume begins to release what an active webhook holds.
func (s *Server) Resume(ctx context.Context, req *schedulerv1.ResumeRequest) (*schedulerv1.ResumeResponse, error) {
	if err := check(webhookFields(req)...); err != nil {
		return nil, err
	}
	w, err := s.webhook(ctx, req, 0)
	if err != nil {
		return nil, err
	}
	if !w.Active() {
		return nil, fault.New(fault.Precondition, "WEBHOOK_NOT_ACTIVE", "the webhook is "+string(w.State)+": what it holds stays held")
	}
	n, err := s.deps.Hold.CountHeld(ctx, w)
	if err != nil {
		return nil, unavailable(err)
	}
	s.deps.Hold.Check(w.ID)
	return &schedulerv1.ResumeResponse{Released: n}, nil
}

// CancelWaiting ends some of what waits for a webhook that lives on.
func (s *Server) CancelWaiting(ctx context.Context, req *schedulerv1.CancelWaitingRequest) (*schedulerv1.CancelWaitingResponse, error) {
	violations := webhookFields(req)
	if req.GetReason() == "" {
		violations = append(violations, reasonUnset)
	}
	if err := check(violations...); err != nil {
		return nil, err
	}
	removed, marked, more, err := s.deps.Cancel.Waiting(ctx, postrider.AccountID(req.GetAccountId()), postrider.WebhookID(req.GetWebhookId()), req.GetReason())
	if err != nil {
		return nil, unavailable(err)
	}
	return &schedulerv1.CancelWaitingResponse{Cancelled: removed, Marked: marked, More: more}, nil
}

// reasonUnset is the fault of a cancel without a reason.
var reasonUnset = fault.Violation{Field: "reason", Rule: "must be set"}

// Cancel ends a delivery, or everything that waits for a webhook that was deleted.
func (s *Server) Cancel(ctx context.Context, req *schedulerv1.CancelRequest) (*schedulerv1.CancelResponse, error) {
	violations := webhookFields(req)
	if req.GetDeliveryId() != "" {
		violations = append(violations, deliveryField(req.GetDeliveryId())...)
	}
	if req.GetReason() == "" {
		violations = append(violations, reasonUnset)
	}
	if err := check(violations...); err != nil {
		return nil, err
	}
	account, webhook := postrider.AccountID(req.GetAccountId()), postrider.WebhookID(req.GetWebhookId())
	var n int64
	var err error
	if req.GetDeliveryId() == "" {
		n, err = s.deps.Cancel.Webhook(ctx, account, webhook, req.GetReason())
	} else {
		n, err = s.deps.Cancel.Delivery(ctx, account, webhook, postrider.DeliveryID(req.GetDeliveryId()), req.GetReason())
	}
	if err != nil {
		return nil, unavailable(err)
	}
	return &schedulerv1.CancelResponse{Cancelled: n}, nil
}

// maxTargets bounds the deliveries that one call names.
const maxTargets = 1000

// CancelEvent ends what routing made of an event, and the named deliveries.
func (s *Server) CancelEvent(ctx context.Context, req *schedulerv1.CancelEventRequest) (*schedulerv1.CancelEventResponse, error) {
	var v []fault.Violation
	fail := func(field, rule string) { v = append(v, fault.Violation{Field: field, Rule: rule}) }
	if !postrider.AccountID(req.GetAccountId()).Valid() {
		fail("account_id", "must be the id of an account")
	}
	if !postrider.EventID(req.GetEventId()).Valid() {
		fail("event_id", "must be the id of an event")
	}
	if req.GetReason() == "" {
		fail("reason", "must be set")
	}
	if len(req.GetDeliveries()) > maxTargets {
		fail("deliveries", "must be at most 1000")
	}
	targets := make([]cancel.Target, 0, len(req.GetDeliveries()))
	for i, d := range req.GetDeliveries() {
		t := cancel.Target{Webhook: postrider.WebhookID(d.GetWebhookId()), Delivery: postrider.DeliveryID(d.GetDeliveryId()), Apart: d.GetApart()}
		if !t.Webhook.Valid() || !t.Delivery.Valid() {
			fail(fmt.Sprintf("deliveries[%d]", i), "must be the ids of a webhook and a delivery")
		}
		targets = append(targets, t)
	}
	if err := check(v...); err != nil {
		return nil, err
	}
	n, err := s.deps.Cancel.Event(ctx, postrider.AccountID(req.GetAccountId()), postrider.EventID(req.GetEventId()), targets, req.GetReason())
	if err != nil {
		return nil, unavailable(err)
	}
	return &schedulerv1.CancelEventResponse{Cancelled: n}, nil
}

// errNotWaiting is the answer for a delivery that does not wait.
var errNotWaiting = fault.New(fault.NotFound, "NOT_WAITING", "the delivery does not wait for a retry")

// RetryNow releases a waiting delivery at once.
//
// Journal, then release: a crash in between leaves a delivery that waits and is said to be
// pending, until its retry puts that right.
func (s *Server) RetryNow(ctx context.Context, req *schedulerv1.RetryNowRequest) (*schedulerv1.RetryNowResponse, error) {
	if err := check(append(webhookFields(req), deliveryField(req.GetDeliveryId())...)...); err != nil {
		return nil, err
	}
	rec, err := s.deps.Records.Last(ctx, postrider.AccountID(req.GetAccountId()), postrider.WebhookID(req.GetWebhookId()), postrider.DeliveryID(req.GetDeliveryId()))
	if errors.Is(err, retrystream.ErrGone) {
		return nil, errNotWaiting
	}
	if err != nil {
		return nil, unavailable(fmt.Errorf("read the record of %s: %w", req.GetDeliveryId(), err))
	}
	if w, ok := s.deps.Registry.Lookup(postrider.WebhookID(req.GetWebhookId())); ok && !w.Active() {
		return nil, fault.New(fault.Precondition, "WEBHOOK_NOT_ACTIVE", "the webhook is "+string(w.State)+": the delivery is held until it is active again")
	}
	if err := s.deps.Journal.Released(ctx, []retrystream.Record{*rec}, "retry_now"); err != nil {
		return nil, unavailable(err)
	}
	result := make(chan error, 1)
	if err := s.deps.Records.Release(ctx, *rec, func(err error) { result <- err }); err != nil {
		return nil, unavailable(fmt.Errorf("release %s: %w", req.GetDeliveryId(), err))
	}
	switch err := <-result; {
	case errors.Is(err, retrystream.ErrGone):
		return nil, errNotWaiting // released or ended since it was read
	case err != nil:
		return nil, unavailable(fmt.Errorf("release %s: %w", req.GetDeliveryId(), err))
	}
	member := retryset.Member{Shard: rec.Shard, Sequence: rec.Sequence}
	if err := s.deps.Index.Drop(ctx, member); err != nil {
		s.deps.Logger.DebugContext(ctx, "a released retry stays in the index until it is due", "error", err)
	}
	return &schedulerv1.RetryNowResponse{}, nil
}

// webhookRequest is a request that names a webhook.
type webhookRequest interface {
	GetAccountId() string
	GetWebhookId() string
}

// webhook returns what is known of the request's webhook, if it can be at that revision.
func (s *Server) webhook(ctx context.Context, req webhookRequest, revision uint64) (webhooks.Webhook, error) {
	ctx, cancel := context.WithTimeout(ctx, awaitRevision)
	defer cancel()
	w, ok := s.deps.Registry.Await(ctx, postrider.WebhookID(req.GetWebhookId()), revision)
	if !ok || w.Account != postrider.AccountID(req.GetAccountId()) {
		return webhooks.Webhook{}, fault.New(fault.NotFound, "NOT_FOUND", "there is no such webhook")
	}
	return w, nil
}

func webhookFields(req webhookRequest) []fault.Violation {
	var v []fault.Violation
	if !postrider.AccountID(req.GetAccountId()).Valid() {
		v = append(v, fault.Violation{Field: "account_id", Rule: "must be the id of an account"})
	}
	if !postrider.WebhookID(req.GetWebhookId()).Valid() {
		v = append(v, fault.Violation{Field: "webhook_id", Rule: "must be the id of a webhook"})
	}
	return v
}

func deliveryField(id string) []fault.Violation {
	if postrider.DeliveryID(id).Valid() {
		return nil
	}
	return []fault.Violation{{Field: "delivery_id", Rule: "must be the id of a delivery"}}
}

func check(v ...fault.Violation) error {
	if len(v) == 0 {
		return nil
	}
	return fault.InvalidFields(v...)
}

// unavailable is an error of a store, which passes: every call may be repeated. An error that
// has a kind already keeps it.
func unavailable(err error) error {
	if _, ok := fault.As(err); ok {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fault.New(fault.Unavailable, "STORE_UNAVAILABLE", "the scheduler's store did not answer").WithCause(err).WithRetryAfter(time.Second)
}
