package manage

import (
	"context"
	"time"

	"github.com/postrider/postrider/pkg/rpc"
	dispatcherv1 "github.com/postrider/postrider/proto/gen/go/postrider/dispatcher/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// healthTime bounds how long dispatchers are asked: somebody looks at a page that would show the rest.
const healthTime = time.Second

// GetWebhookHealth asks the dispatchers, one after another, until one holds the webhook's shard. If
// none says so in time the answer is that it is not known, which is no error.
func (s *Server) GetWebhookHealth(ctx context.Context, req *postriderv1.GetWebhookHealthRequest) (*postriderv1.GetWebhookHealthResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	if _, _, err := s.deps.Store.GetWebhook(ctx, string(account), req.GetWebhookId()); err != nil {
		return nil, stored(err, "webhook", req.GetWebhookId())
	}
	asking, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	call := &dispatcherv1.GetWebhookHealthRequest{AccountId: string(account), WebhookId: req.GetWebhookId()}
	for tour := rpc.NewTour(); !tour.Over() && asking.Err() == nil; {
		resp, err := s.deps.Dispatcher.GetWebhookHealth(tour.Context(asking), call)
		if err != nil {
			s.deps.Logger.DebugContext(ctx, "a dispatcher does not say how a webhook is", "webhook", req.GetWebhookId(), "error", err)
			continue
		}
		if resp.GetHealth() != nil {
			return &postriderv1.GetWebhookHealthResponse{Health: resp.GetHealth()}, nil
		}
	}
	return &postriderv1.GetWebhookHealthResponse{}, ctx.Err()
}
