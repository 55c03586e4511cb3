package manage

import (
	"context"
	"fmt"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/profile"
)

// bind is the valid webhook's profile with its options read. If its deliveries carry HTTP message
// signatures, the account has the key that they need when this returns: a webhook that is stored
// can be attempted.
func (s *Server) bind(ctx context.Context, w *postriderv1.Webhook, account string) (profile.Profile, error) {
	prof, err := profile.For(w)
	if err != nil {
		return nil, fmt.Errorf("read the profile of webhook %s: %w", w.GetId(), err)
	}
	if alg, signed := profile.SigningAlgorithm(w); signed {
		if _, err := s.ensureSigningKey(ctx, account, alg); err != nil {
			return nil, err
		}
	}
	return prof, nil
}

// keepsSecrets refuses options with which the webhook's secrets could not be read any more.
func (s *Server) keepsSecrets(rec *recordv1.Webhook, prof profile.Profile) error {
	for _, sealed := range rec.GetSecrets() {
		text, err := OpenSecret(s.deps.Sealer, rec.GetWebhook().GetAccountId(), rec.GetWebhook().GetId(), sealed)
		if err != nil {
			return err
		}
		if _, err := prof.ParseSecret(text); err != nil {
			return invalid("webhook.options.signature_scheme", "must fit the webhook's secrets: "+err.Error())
		}
	}
	return nil
}
