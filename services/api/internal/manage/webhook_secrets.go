package manage

import (
	"context"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/profile"
	"github.com/postrider/postrider/pkg/seal"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// Bounds and defaults of rotation.
const (
	defaultOverlap = 24 * time.Hour
	maxOverlap     = 7 * 24 * time.Hour
	maxSecrets     = 5
)

// newSecret reads the given secret, or makes one. The sealed secret has no ciphertext yet.
func (s *Server) newSecret(prof profile.Profile, given, kind string) (text string, sealed *recordv1.SealedSecret, err error) {
	sealed = &recordv1.SealedSecret{Id: "sec_" + ulid.Make().String(), CreateTime: timestamppb.New(s.deps.Now())}
	text = given
	if text == "" {
		if text, _, err = prof.NewSecret(kind); err != nil {
			return "", nil, err
		}
	}
	secret, err := prof.ParseSecret(text)
	if err != nil {
		return "", nil, invalid("secret", err.Error())
	}
	if !secret.CanSign() {
		return "", nil, invalid("secret", "is a public key and cannot sign")
	}
	sealed.Kind, sealed.PublicKey = secret.Kind(), secret.PublicKey()
	return text, sealed, nil
}

// sealSecret encrypts the secret's text for this webhook: moved to another webhook's record it
// does not open.
func (s *Server) sealSecret(w *postriderv1.Webhook, sealed *recordv1.SealedSecret, text string) error {
	ciphertext, err := s.deps.Sealer.Seal([]byte(text), config.SecretContext(w.GetAccountId(), w.GetId(), sealed.GetId()))
	if err != nil {
		return fmt.Errorf("seal secret of %s: %w", w.GetId(), err)
	}
	sealed.Ciphertext = ciphertext
	return nil
}

// OpenSecret decrypts a webhook's secret.
func OpenSecret(sealer *seal.Sealer, account, webhook string, sealed *recordv1.SealedSecret) (string, error) {
	text, err := sealer.Open(sealed.GetCiphertext(), config.SecretContext(account, webhook, sealed.GetId()))
	if err != nil {
		return "", fmt.Errorf("open secret of %s: %w", webhook, err)
	}
	return string(text), nil
}

// RotateWebhookSecret puts a new secret before the old ones, which go on signing until the
// overlap ends.
func (s *Server) RotateWebhookSecret(ctx context.Context, req *postriderv1.RotateWebhookSecretRequest) (*postriderv1.RotateWebhookSecretResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	overlap := defaultOverlap
	if req.GetOverlap() != nil {
		overlap = req.GetOverlap().AsDuration()
	}
	if overlap < 0 || overlap > maxOverlap {
		return nil, invalid("overlap", "must be from 0 s to 7 days")
	}
	var text string
	rec, revision, err := s.changeWebhook(ctx, string(account), req.GetWebhookId(), "", func(rec *recordv1.Webhook) error {
		var err error
		text, err = s.rotate(rec, req.GetSecret(), overlap)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &postriderv1.RotateWebhookSecretResponse{Webhook: shownWebhook(rec, revision), Secret: text}, nil
}

func (s *Server) rotate(rec *recordv1.Webhook, given string, overlap time.Duration) (string, error) {
	prof, err := profile.For(rec.GetWebhook())
	if err != nil {
		return "", fault.New(fault.Precondition, "UNKNOWN_PROFILE", "this version does not have the webhook's profile").WithCause(err)
	}
	kind := ""
	if len(rec.GetSecrets()) > 0 && rec.GetSecrets()[0].GetPublicKey() != "" {
		kind = rec.GetSecrets()[0].GetKind()
	}
	text, sealed, err := s.newSecret(prof, given, kind)
	if err != nil {
		return "", err
	}
	if err := s.sealSecret(rec.GetWebhook(), sealed, text); err != nil {
		return "", err
	}
	now := s.deps.Now()
	secrets := []*recordv1.SealedSecret{sealed}
	for _, old := range rec.GetSecrets() {
		end := now.Add(overlap)
		if old.GetExpireTime() != nil && old.GetExpireTime().AsTime().Before(end) {
			end = old.GetExpireTime().AsTime()
		}
		if end.After(now) && len(secrets) < maxSecrets {
			old.ExpireTime = timestamppb.New(end)
			secrets = append(secrets, old)
		}
	}
	rec.Secrets = secrets
	return text, nil
}
