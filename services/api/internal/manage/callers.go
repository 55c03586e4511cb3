package manage

import (
	"context"
	"net/url"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/access"
	"github.com/postrider/postrider/pkg/postrider"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/ticket"
)

// GetCaller says who the credential of the call is.
func (s *Server) GetCaller(ctx context.Context, _ *postriderv1.GetCallerRequest) (*postriderv1.GetCallerResponse, error) {
	p, err := access.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	resp := &postriderv1.GetCallerResponse{
		AccountId: string(p.Account), ApiKeyId: p.KeyID, ExpireTime: shownTime(p.Expires), Portal: p.KeyID == ticket.KeyID,
	}
	for _, scope := range p.Scopes {
		resp.Scopes = append(resp.Scopes, string(scope))
	}
	return resp, nil
}

// Lifetimes of portal links.
const (
	portalPath        = "/portal/enter"
	minPortalLife     = time.Minute
	maxPortalLife     = 24 * time.Hour
	defaultPortalLife = time.Hour
)

// CreatePortalLink makes a link that opens the portal of one account.
func (s *Server) CreatePortalLink(ctx context.Context, req *postriderv1.CreatePortalLinkRequest) (*postriderv1.CreatePortalLinkResponse, error) {
	acc, err := s.existingAccount(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	life := defaultPortalLife
	if req.GetLifetime() != nil {
		life = req.GetLifetime().AsDuration()
	}
	if life < minPortalLife || life > maxPortalLife {
		return nil, invalid("lifetime", "must be 1 min to 24 h")
	}
	expires := s.deps.Now().Add(life).Truncate(time.Second)
	token, err := s.deps.Tickets.New(postrider.AccountID(acc.GetId()), expires, req.GetReadOnly())
	if err != nil {
		return nil, err
	}
	return &postriderv1.CreatePortalLinkResponse{
		Url:   s.deps.PublicURL + portalPath + "?token=" + url.QueryEscape(token),
		Token: token, ExpireTime: timestamppb.New(expires),
	}, nil
}
