package console

import (
	"fmt"
	"strings"
	"time"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// healthView is how attempts pass to a webhook now.
type healthView struct {
	*postriderv1.WebhookHealth
	Breaker string // "closed", "open" or "half_open"
	Class   string // how that looks
	Probing bool   // an open breaker waits for nothing but a delivery
	Busy    string // share of what is allowed in flight, of a hundred
}

// newHealthView is nil if nothing is known.
func newHealthView(h *postriderv1.WebhookHealth, now time.Time) *healthView {
	if h == nil {
		return nil
	}
	v := &healthView{WebhookHealth: h, Breaker: strings.ToLower(strings.TrimPrefix(h.GetBreakerState().String(), "BREAKER_STATE_"))}
	switch h.GetBreakerState() {
	case postriderv1.BreakerState_BREAKER_STATE_OPEN:
		v.Class, v.Probing = "bad", !now.Before(h.GetNextProbeTime().AsTime())
	case postriderv1.BreakerState_BREAKER_STATE_HALF_OPEN:
		v.Class = "warn"
	case postriderv1.BreakerState_BREAKER_STATE_CLOSED, postriderv1.BreakerState_BREAKER_STATE_UNSPECIFIED:
		v.Class = "good"
	}
	v.Busy = fmt.Sprintf("%.1f", 100*min(1, float64(h.GetInFlight())/float64(max(1, h.GetAllowedInFlight()))))
	return v
}
