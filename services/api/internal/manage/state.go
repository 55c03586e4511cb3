package manage

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/config"
	apiv1 "github.com/postrider/postrider/proto/gen/go/postrider/api/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// StateServer implements WebhookStateService: what rules do to webhooks. Only other services
// reach it.
type StateServer struct {
	apiv1.UnimplementedWebhookStateServiceServer
	server *Server
}

// States returns the state service over the same store.
func (s *Server) States() *StateServer { return &StateServer{server: s} }

// DisableWebhook disables a webhook that a rule found gone or failing, unless its configuration
// has changed since: its owner may have mended what the rule found.
func (s *StateServer) DisableWebhook(ctx context.Context, req *apiv1.DisableWebhookRequest) (*apiv1.DisableWebhookResponse, error) {
	deps := s.server.deps
	for range maxRetries {
		rec, revision, err := deps.Store.GetWebhook(ctx, req.GetAccountId(), req.GetWebhookId())
		if err != nil {
			return nil, stored(err, "webhook", req.GetWebhookId())
		}
		w := rec.GetWebhook()
		if w.GetState() != postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE {
			return &apiv1.DisableWebhookResponse{Disabled: true, WebhookRevision: revision}, nil
		}
		if revision != req.GetWebhookRevision() {
			return &apiv1.DisableWebhookResponse{WebhookRevision: revision}, nil
		}
		w.State, w.StateReason = postriderv1.WebhookState_WEBHOOK_STATE_DISABLED, req.GetReason()
		w.StateTime = timestamppb.New(deps.Now())
		w.UpdateTime = w.GetStateTime()
		notices := deps.Notices.State(w)
		if err := deps.Notices.Prepare(ctx, notices); err != nil {
			return nil, stored(err, "webhook", req.GetWebhookId())
		}
		revision, err = deps.Store.UpdateWebhook(ctx, rec, revision)
		if again(err, "") {
			deps.Notices.Withdraw(ctx, notices)
			continue // the next look finds what changed
		}
		if err != nil {
			return nil, stored(err, "webhook", req.GetWebhookId())
		}
		deps.Notices.Send(ctx, notices)
		deps.Logger.WarnContext(ctx, "webhook disabled", "webhook", req.GetWebhookId(), "reason", req.GetReason())
		if err := deps.Barrier.Confirm(ctx, config.BucketWebhooks, revision); err != nil {
			return nil, unconfirmed(err)
		}
		s.server.hold(ctx, req.GetAccountId(), req.GetWebhookId(), "disabled", revision)
		return &apiv1.DisableWebhookResponse{Disabled: true, WebhookRevision: revision}, nil
	}
	return nil, stored(config.ErrConflict, "webhook", req.GetWebhookId())
}
