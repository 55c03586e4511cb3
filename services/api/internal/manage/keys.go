package manage

import (
	"context"
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/access"
	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

var accountScopes = []string{string(postrider.ScopePublish), string(postrider.ScopeManage), string(postrider.ScopeRead), string(postrider.ScopePayloads)}

// CreateApiKey makes a credential and shows its value once. An account's key may make keys of its
// own account with no scope that it lacks itself.
func (s *Server) CreateApiKey(ctx context.Context, req *postriderv1.CreateApiKeyRequest) (*postriderv1.CreateApiKeyResponse, error) { //nolint:revive // named by the proto
	account, err := s.keyAccount(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	if violations := s.checkKey(req, account); len(violations) > 0 {
		return nil, fault.InvalidFields(violations...)
	}
	principal, err := access.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	for _, scope := range req.GetScopes() {
		if err := principal.Require(postrider.Scope(scope)); err != nil {
			return nil, err
		}
	}
	if account != "" {
		if _, _, err := s.deps.Store.GetAccount(ctx, string(account)); err != nil {
			return nil, stored(err, "account", string(account))
		}
	}
	id, secret := access.NewKeySecret()
	key := &postriderv1.ApiKey{
		Id: id, AccountId: string(account), DisplayName: req.GetDisplayName(), Scopes: req.GetScopes(),
		CreateTime: timestamppb.New(s.deps.Now()), ExpireTime: req.GetExpireTime(),
	}
	revision, err := s.deps.Store.CreateKey(ctx, &recordv1.Key{Key: key, Hash: access.HashKey(secret)})
	if err != nil {
		return nil, stored(err, "key", id)
	}
	if err := s.deps.Barrier.Confirm(ctx, config.BucketKeys, revision); err != nil {
		return nil, unconfirmed(err)
	}
	return &postriderv1.CreateApiKeyResponse{ApiKey: key, Secret: secret}, nil
}

// keyAccount is the account of a key: empty for admin keys, which only an admin may name.
func (s *Server) keyAccount(ctx context.Context, requested string) (postrider.AccountID, error) {
	p, err := access.FromContext(ctx)
	if err != nil {
		return "", err
	}
	if p.Admin && requested == "" {
		return "", nil
	}
	return p.For(requested)
}

func (s *Server) checkKey(req *postriderv1.CreateApiKeyRequest, account postrider.AccountID) []fault.Violation {
	var v violations
	v.check(len(req.GetDisplayName()) <= maxDisplayName, "display_name", "must be at most 255 bytes")
	v.check(len(req.GetScopes()) > 0, "scopes", "at least one is required")
	if account == "" {
		v.check(len(req.GetScopes()) == 0 || slices.Equal(req.GetScopes(), []string{string(postrider.ScopeAdmin)}),
			"scopes", "a key without an account has the scope admin alone")
	} else {
		for _, scope := range req.GetScopes() {
			v.check(slices.Contains(accountScopes, scope), "scopes", "must be publish, manage, read or payloads")
		}
	}
	v.check(req.GetExpireTime() == nil || req.GetExpireTime().AsTime().After(s.deps.Now()), "expire_time", "must be in the future")
	return v
}

// ListApiKeys lists an account's keys without their values.
func (s *Server) ListApiKeys(ctx context.Context, req *postriderv1.ListApiKeysRequest) (*postriderv1.ListApiKeysResponse, error) { //nolint:revive // named by the proto
	account, err := s.keyAccount(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	after, err := parsePageToken(req.GetPageToken(), "keys", string(account))
	if err != nil {
		return nil, err
	}
	page, err := s.deps.Store.ListKeys(ctx, string(account), after, size+1)
	if err != nil {
		return nil, stored(err, "keys", "")
	}
	resp := &postriderv1.ListApiKeysResponse{}
	for i, item := range page {
		if i == size {
			resp.NextPageToken = pageToken(page[i-1].Record.GetKey().GetId(), "keys", string(account))
			break
		}
		resp.ApiKeys = append(resp.ApiKeys, item.Record.GetKey())
	}
	return resp, nil
}

// DeleteApiKey revokes a key.
func (s *Server) DeleteApiKey(ctx context.Context, req *postriderv1.DeleteApiKeyRequest) (*postriderv1.DeleteApiKeyResponse, error) { //nolint:revive // named by the proto
	account, err := s.keyAccount(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	revision, err := s.deps.Store.DeleteKey(ctx, string(account), req.GetApiKeyId())
	if err != nil {
		return nil, stored(err, "key", req.GetApiKeyId())
	}
	if err := s.deps.Barrier.Confirm(ctx, config.BucketKeys, revision); err != nil {
		return nil, unconfirmed(err)
	}
	return &postriderv1.DeleteApiKeyResponse{}, nil
}
