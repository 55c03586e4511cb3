package manage

import (
	"context"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/profile"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// Reasons for which a webhook is disabled until its receiver has answered. What is accepted
// meanwhile is held.
const (
	reasonUnverified = "unverified"
	reasonNoConsent  = "no_consent"
)

// missing is what a webhook's receiver has still to answer before anything is delivered, or "".
func missing(w *postriderv1.Webhook) string {
	switch {
	case w.GetOptions().GetRequireVerification() && !w.GetVerification().GetValid():
		return reasonUnverified
	case w.GetOptions().GetHandshake() == profile.HandshakeRequired && !w.GetHandshake().GetConsented():
		return reasonNoConsent
	}
	return ""
}

// gate disables an active webhook whose receiver has still to answer, and makes one active that is
// disabled for no other reason than an answer that is there now.
func (s *Server) gate(w *postriderv1.Webhook) {
	reason := missing(w)
	gated := w.GetState() == postriderv1.WebhookState_WEBHOOK_STATE_DISABLED &&
		(w.GetStateReason() == reasonUnverified || w.GetStateReason() == reasonNoConsent)
	switch {
	case reason != "" && (w.GetState() == postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE || gated && w.GetStateReason() != reason):
		w.State, w.StateReason = postriderv1.WebhookState_WEBHOOK_STATE_DISABLED, reason
	case reason == "" && gated:
		w.State, w.StateReason = postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE, ""
	default:
		return
	}
	w.StateTime = timestamppb.New(s.deps.Now())
}

// asksAnew reports whether a change makes what the receiver answered worthless, and forgets it: it
// was said at another URL, or is asked for no more.
func asksAnew(before, w *postriderv1.Webhook) bool {
	moved := before.GetUrl() != w.GetUrl()
	if moved || !w.GetOptions().GetRequireVerification() && before.GetOptions().GetRequireVerification() {
		w.Verification = nil
	}
	if moved || before.GetOptions().GetHandshake() != w.GetOptions().GetHandshake() {
		w.Handshake = nil
		return true
	}
	return false
}

// errMissing refuses to make a webhook active whose receiver has still to answer.
func errMissing(w *postriderv1.Webhook) error {
	switch missing(w) {
	case reasonUnverified:
		return fault.New(fault.Precondition, "WEBHOOK_UNVERIFIED", "the receiver has to be verified first, as options.require_verification says")
	case reasonNoConsent:
		return fault.New(fault.Precondition, "WEBHOOK_WITHOUT_CONSENT", "the receiver has to consent first, as options.handshake says")
	}
	return nil
}

// passed lets the scheduler know of a change of state that gate made. It follows the configuration
// itself, so a failure costs only promptness.
func (s *Server) passed(ctx context.Context, before, after *postriderv1.Webhook, revision uint64) {
	if before.GetState() == after.GetState() {
		return
	}
	account, id := after.GetAccountId(), after.GetId()
	if after.GetState() == postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE {
		if _, err := s.deps.Scheduler.Resume(ctx, &schedulerv1.ResumeRequest{AccountId: account, WebhookId: id}); err != nil {
			s.deps.Logger.WarnContext(ctx, "releasing is left to the scheduler's own watch", "webhook", id, "error", err)
		}
		return
	}
	s.hold(ctx, account, id, "disabled", revision)
}

// same reports whether a webhook's receiver is still the one that was asked.
func same(asked, now *postriderv1.Webhook) bool {
	return asked.GetUrl() == now.GetUrl() && proto.Equal(asked.GetOptions(), now.GetOptions())
}

// errMoved refuses an answer that came for what the webhook is no more.
func errMoved(id string) error {
	return fault.New(fault.Aborted, "WEBHOOK_CHANGED", "the webhook was changed while its receiver was asked; ask again").WithMetadata("id", id)
}

// errNotOfProfile refuses what only one profile knows.
func errNotOfProfile(w *postriderv1.Webhook, want string) error {
	return fault.New(fault.Precondition, "NOT_OF_THIS_PROFILE", "only webhooks of the profile "+want+" can do this").
		WithMetadata("profile", w.GetProfile())
}
