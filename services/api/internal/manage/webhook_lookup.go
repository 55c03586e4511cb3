package manage

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/fault"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// Index finds webhooks by what the store's keys do not hold.
type Index interface {
	ByUUID(account, uuid string) (id string)
	ByNumber(account string, number int64) (id string)
	List(account, after string, limit int) ([]config.Entry[*recordv1.Webhook], error)
	Get(account, id string) (*recordv1.Webhook, error)
}

// uuidNames is the kind of name under which UUIDs that callers chose are reserved.
const uuidNames = "webhook_uuid"

func uuidName(account, id string) string { return account + "/" + id }

// webhookID is the id of the webhook that a request names in one of three ways.
func (s *Server) webhookID(account string, req *postriderv1.GetWebhookRequest) (string, error) {
	ways := 0
	for _, given := range []bool{req.GetWebhookId() != "", req.GetUuid() != "", req.GetNumber() != 0} {
		if given {
			ways++
		}
	}
	if ways > 1 {
		return "", invalid("webhook_id", "must stand alone: a webhook is named by its id, its UUID or its number")
	}
	if req.GetUuid() == "" && req.GetNumber() == 0 {
		return req.GetWebhookId(), nil
	}
	if !s.deps.Fresh() {
		return "", fault.New(fault.Unavailable, "CONFIGURATION_STALE", "webhooks cannot be looked up now")
	}
	id, name := "", req.GetUuid()
	if name != "" {
		id = s.deps.Index.ByUUID(account, strings.ToLower(name))
	} else {
		name = strconv.FormatInt(req.GetNumber(), 10)
		id = s.deps.Index.ByNumber(account, req.GetNumber())
	}
	if id == "" {
		return "", stored(config.ErrNotFound, "webhook", name)
	}
	return id, nil
}

// listWebhooks reads a page of the account's webhooks: from memory while that is known to be
// current, else one by one from the store.
func (s *Server) listWebhooks(ctx context.Context, account, after string, limit int) ([]config.Entry[*recordv1.Webhook], error) {
	if s.deps.Fresh() {
		return s.deps.Index.List(account, after, limit)
	}
	return s.deps.Store.ListWebhooks(ctx, account, after, limit)
}

// readWebhook is listWebhooks for one that is only read.
func (s *Server) readWebhook(ctx context.Context, account, id string) (*recordv1.Webhook, error) {
	if s.deps.Fresh() {
		return s.deps.Index.Get(account, id)
	}
	rec, _, err := s.deps.Store.GetWebhook(ctx, account, id)
	return rec, err
}

// claimUUID gives a new webhook its UUID: a random one, or the one that the caller chose, which
// must be unique in the account.
//
// The index knows every webhook that is there; the reservation decides between those who create at
// once. It names the id of the webhook that is to be created, and is given back before a webhook is
// deleted, so a reservation without its webhook is a creation that goes on or was cut short. Whoever
// comes upon one creates under that id: the store lets one of them, and nobody waits for the dead.
func (s *Server) claimUUID(ctx context.Context, w *postriderv1.Webhook, chosen string) error {
	if chosen == "" {
		w.Uuid = uuid.NewString()
		return nil
	}
	parsed, err := uuid.Parse(chosen)
	if err != nil || !strings.EqualFold(parsed.String(), chosen) {
		return invalid("webhook.uuid", "must be a UUID such as 29ca152b-9f5e-4c1f-a8a5-1b8b5d9c3c0e")
	}
	w.Uuid = parsed.String()
	if err := s.freeUUID(w); err != nil {
		return err
	}
	name := uuidName(w.GetAccountId(), w.GetUuid())
	for range maxRetries {
		err := s.deps.Store.Reserve(ctx, uuidNames, name, w.GetId())
		if err == nil {
			return s.freeUUID(w) // whoever had it and is being deleted must be gone
		}
		if !errors.Is(err, config.ErrExists) {
			return stored(err, "webhook", w.GetUuid())
		}
		owner, err := s.deps.Store.Reserved(ctx, uuidNames, name)
		if errors.Is(err, config.ErrNotFound) {
			continue // given back meanwhile
		}
		if err != nil {
			return stored(err, "webhook", w.GetUuid())
		}
		w.Id = owner
		return nil
	}
	return stored(config.ErrConflict, "webhook", w.GetUuid())
}

// freeUUID says whether a webhook that is there has the UUID.
func (s *Server) freeUUID(w *postriderv1.Webhook) error {
	if !s.deps.Fresh() {
		return fault.New(fault.Unavailable, "CONFIGURATION_STALE", "whether the UUID is free cannot be told now")
	}
	if s.deps.Index.ByUUID(w.GetAccountId(), w.GetUuid()) != "" {
		return stored(config.ErrExists, "webhook", w.GetUuid())
	}
	return nil
}

// holdsUUID says whether a webhook that was just created still has its chosen UUID. It has not if
// another created it first under the same id, and deleted it, before this one did; then it goes.
func (s *Server) holdsUUID(ctx context.Context, w *postriderv1.Webhook, revision uint64) error {
	owner, err := s.deps.Store.Reserved(ctx, uuidNames, uuidName(w.GetAccountId(), w.GetUuid()))
	if err == nil && owner == w.GetId() {
		return nil
	}
	if err != nil && !errors.Is(err, config.ErrNotFound) {
		return stored(err, "webhook", w.GetUuid())
	}
	if _, err := s.deps.Store.DeleteWebhook(ctx, w.GetAccountId(), w.GetId(), revision); err != nil {
		return stored(err, "webhook", w.GetUuid())
	}
	return stored(config.ErrExists, "webhook", w.GetUuid())
}

// releaseUUID gives back the UUID of a webhook that is about to be deleted, if it was chosen. Until
// the webhook is gone, the index keeps the UUID from others.
func (s *Server) releaseUUID(ctx context.Context, w *postriderv1.Webhook) error {
	err := s.deps.Store.Release(ctx, uuidNames, uuidName(w.GetAccountId(), w.GetUuid()), w.GetId())
	return stored(err, "webhook", w.GetId())
}

// GetWebhookSecrets shows the values of the secrets in force.
func (s *Server) GetWebhookSecrets(ctx context.Context, req *postriderv1.GetWebhookSecretsRequest) (*postriderv1.GetWebhookSecretsResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	rec, err := s.readWebhook(ctx, string(account), req.GetWebhookId())
	if err != nil {
		return nil, stored(err, "webhook", req.GetWebhookId())
	}
	resp := &postriderv1.GetWebhookSecretsResponse{}
	for _, sealed := range rec.GetSecrets() {
		if expires := sealed.GetExpireTime(); expires != nil && !s.deps.Now().Before(expires.AsTime()) {
			continue
		}
		text, err := s.openSecret(string(account), req.GetWebhookId(), sealed)
		if err != nil {
			return nil, err
		}
		resp.Secrets = append(resp.Secrets, &postriderv1.RevealedSecret{Description: shownSecret(sealed), Secret: text})
	}
	return resp, nil
}

// openSecret decrypts a webhook's secret.
func (s *Server) openSecret(account, webhook string, sealed *recordv1.SealedSecret) (string, error) {
	return OpenSecret(s.deps.Sealer, account, webhook, sealed)
}

func shownSecret(sealed *recordv1.SealedSecret) *postriderv1.WebhookSecret {
	return &postriderv1.WebhookSecret{
		Id: sealed.GetId(), Kind: sealed.GetKind(), CreateTime: sealed.GetCreateTime(),
		ExpireTime: sealed.GetExpireTime(), PublicKey: sealed.GetPublicKey(),
	}
}

// shownWebhook is a webhook as callers see it: its etag, and its secrets without their values.
func shownWebhook(rec *recordv1.Webhook, revision uint64) *postriderv1.Webhook {
	w := proto.CloneOf(rec.GetWebhook())
	w.Etag, w.Secrets = etag(revision), nil
	for _, sealed := range rec.GetSecrets() {
		w.Secrets = append(w.Secrets, shownSecret(sealed))
	}
	return w
}
