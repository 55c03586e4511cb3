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
	v := checkKey("", req.GetDisplayName(), req.GetScopes(), account)
	v.check(req.GetExpireTime() == nil || req.GetExpireTime().AsTime().After(s.deps.Now()), "expire_time", "must be in the future")
	if len(v) > 0 {
		return nil, fault.InvalidFields(v...)
	}
	if err := mayGrant(ctx, req.GetScopes()); err != nil {
		return nil, err
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

// mayGrant refuses scopes that the caller lacks itself.
func mayGrant(ctx context.Context, scopes []string) error {
	p, err := access.FromContext(ctx)
	if err != nil {
		return err
	}
	for _, scope := range scopes {
		if err := p.Require(postrider.Scope(scope)); err != nil {
			return err
		}
	}
	return nil
}

// checkKey says what is wrong with what a key of the account would be. The names of the fields begin
// with the prefix.
func checkKey(prefix, name string, scopes []string, account postrider.AccountID) violations {
	var v violations
	v.check(len(name) <= maxDisplayName, prefix+"display_name", "must be at most 255 bytes")
	v.check(len(scopes) > 0, prefix+"scopes", "at least one is required")
	if account == "" {
		v.check(len(scopes) == 0 || slices.Equal(scopes, []string{string(postrider.ScopeAdmin)}),
			prefix+"scopes", "a key without an account has the scope admin alone")
		return v
	}
	for _, scope := range scopes {
		v.check(slices.Contains(accountScopes, scope), prefix+"scopes", "must be publish, manage, read or payloads")
	}
	return v
}

// keyFields are those of a key that can be changed.
var keyFields = []string{"display_name", "scopes"}

// UpdateApiKey changes what a key may do, or its name. Only scopes that are added are the caller's to
// give: whoever may revoke a key may also leave it less.
func (s *Server) UpdateApiKey(ctx context.Context, req *postriderv1.UpdateApiKeyRequest) (*postriderv1.UpdateApiKeyResponse, error) { //nolint:revive // named by the proto
	account, err := s.keyAccount(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	fields, err := maskFields("key", req.GetApiKey(), req.GetUpdateMask(), keyFields)
	if err != nil {
		return nil, err
	}
	id := req.GetApiKey().GetId()
	for range maxRetries {
		rec, revision, err := s.deps.Store.GetKey(ctx, string(account), id)
		if err != nil {
			return nil, stored(err, "key", id)
		}
		before := rec.GetKey().GetScopes()
		if err := copyFields(rec.GetKey(), req.GetApiKey(), fields); err != nil {
			return nil, err
		}
		if v := checkKey("api_key.", rec.GetKey().GetDisplayName(), rec.GetKey().GetScopes(), account); len(v) > 0 {
			return nil, fault.InvalidFields(v...)
		}
		added := slices.DeleteFunc(slices.Clone(rec.GetKey().GetScopes()), func(scope string) bool { return slices.Contains(before, scope) })
		if err := mayGrant(ctx, added); err != nil {
			return nil, err
		}
		revision, err = s.deps.Store.UpdateKey(ctx, rec, revision)
		if again(err, "") {
			continue
		}
		if err != nil {
			return nil, stored(err, "key", id)
		}
		if err := s.deps.Barrier.Confirm(ctx, config.BucketKeys, revision); err != nil {
			return nil, unconfirmed(err)
		}
		return &postriderv1.UpdateApiKeyResponse{ApiKey: rec.GetKey()}, nil
	}
	return nil, stored(config.ErrConflict, "key", id)
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
