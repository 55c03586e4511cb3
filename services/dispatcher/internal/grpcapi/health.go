package grpcapi

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	dispatcherv1 "github.com/postrider/postrider/proto/gen/go/postrider/dispatcher/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/services/dispatcher/internal/breaker"
	"github.com/postrider/postrider/services/dispatcher/internal/lane"
	"github.com/postrider/postrider/services/dispatcher/internal/order"
	"github.com/postrider/postrider/services/dispatcher/internal/quota"
	"github.com/postrider/postrider/services/dispatcher/internal/registry"
)

// lanes is all that the API needs of the pipeline. *pipeline.Pipeline is one.
type lanes interface {
	Lane(w *registry.Webhook, shard int, now time.Time) (lane.View, bool)
	Account(account string, now time.Time) (quota.View, bool)
	Ordering(webhook string, shard int) (order.View, bool)
}

// GetWebhookHealth tells how attempts pass to a webhook now. It does not wait for a configuration
// that is current: it tells what is, also while nothing may begin.
func (s *Server) GetWebhookHealth(_ context.Context, req *dispatcherv1.GetWebhookHealthRequest) (*dispatcherv1.GetWebhookHealthResponse, error) {
	w := s.deps.Registry.Webhook(req.GetWebhookId())
	if w == nil || w.Config.GetAccountId() != req.GetAccountId() {
		return nil, errNoWebhook
	}
	now := time.Now()
	home := s.deps.Layout().Home(postrider.WebhookID(req.GetWebhookId()))
	v, held := s.deps.Lanes.Lane(w, home, now)
	if !held {
		return &dispatcherv1.GetWebhookHealthResponse{}, nil
	}
	health := shownHealth(&v)
	if use, limited := s.deps.Lanes.Account(req.GetAccountId(), now); limited {
		health.Account = &postriderv1.AccountUse{
			InFlight: int32(use.InFlight), Queued: int32(use.Queued), //nolint:gosec // bounded by configuration
			MaxInFlight: int32(use.MaxInFlight), RateLimit: use.Rate, //nolint:gosec // bounded by configuration
		}
	}
	if lines, ordered := s.deps.Lanes.Ordering(req.GetWebhookId(), home); ordered {
		health.Ordering = shownOrdering(&lines)
	}
	return &dispatcherv1.GetWebhookHealthResponse{Health: health}, nil
}

func shownOrdering(v *order.View) *postriderv1.OrderingHealth {
	out := &postriderv1.OrderingHealth{
		Settling: v.Settling, Lines: int32(v.Lines), BlockedLines: int32(v.Blocked), //nolint:gosec // bounded by configuration
		Waiting: int64(v.Waiting), More: v.More,
	}
	for _, h := range v.Heads {
		out.Blocked = append(out.Blocked, &postriderv1.BlockedLine{
			OrderingKey: h.Key, DeliveryId: h.Delivery, EventId: h.Event, Since: shownTime(h.Since), NextAttemptTime: shownTime(h.Due),
			Reason: h.Reason, Behind: int64(h.Behind), More: h.More,
		})
	}
	return out
}

func shownHealth(v *lane.View) *postriderv1.WebhookHealth {
	return &postriderv1.WebhookHealth{
		BreakerState: shownBreaker(v.Breaker), BreakerOpenTime: shownTime(v.Opened), NextProbeTime: shownTime(v.NextProbe),
		ConsecutiveFailures: int32(v.Failures), InFlight: int32(v.InFlight), Queued: int32(v.Queued), //nolint:gosec // bounded by configuration
		AllowedInFlight: int32(v.Allowed), MaxInFlight: int32(v.MaxInFlight), RateLimit: v.Rate, //nolint:gosec // bounded by configuration
		PauseTime: shownTime(v.PausedUntil),
	}
}

func shownBreaker(s breaker.State) postriderv1.BreakerState {
	switch s {
	case breaker.Open:
		return postriderv1.BreakerState_BREAKER_STATE_OPEN
	case breaker.HalfOpen:
		return postriderv1.BreakerState_BREAKER_STATE_HALF_OPEN
	case breaker.Closed:
	}
	return postriderv1.BreakerState_BREAKER_STATE_CLOSED
}

// shownTime is absent for the zero time.
func shownTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
