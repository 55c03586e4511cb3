package manage

import (
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/httpsig"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// maxClientKeys is how many public keys an account may have for its own requests.
const maxClientKeys = 16

// UploadClientKey adds a public key by which the account signs its requests.
func (s *Server) UploadClientKey(ctx context.Context, req *postriderv1.UploadClientKeyRequest) (*postriderv1.UploadClientKeyResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	key, err := clientKey(req.GetPublicKey())
	if err != nil {
		return nil, err
	}
	err = s.changeAccount(ctx, string(account), func(rec *recordv1.Account, now time.Time) error {
		for _, k := range rec.GetClientKeys() {
			if k.GetId() == key.GetId() {
				key = k
				return errUnconfirmedYet
			}
		}
		if len(rec.GetClientKeys()) >= maxClientKeys {
			return fault.New(fault.Precondition, "TOO_MANY_CLIENT_KEYS", "the account has 16 client keys; delete one first")
		}
		key.CreateTime = timestamppb.New(now)
		rec.ClientKeys = slices.Insert(rec.GetClientKeys(), 0, key)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &postriderv1.UploadClientKeyResponse{ClientKey: key}, nil
}

// clientKey reads a public key that may sign requests.
func clientKey(text string) (*postriderv1.ClientKey, error) {
	pub, alg, err := httpsig.ParsePublicKey(text)
	if err != nil {
		return nil, invalid("public_key", err.Error())
	}
	switch alg {
	case httpsig.ECDSAP384, httpsig.ECDSAP256, httpsig.Ed25519:
	case httpsig.RSAPSS, httpsig.HMAC:
		return nil, invalid("public_key", "must be an ECDSA P-384, ECDSA P-256 or ed25519 key")
	}
	id, err := httpsig.Thumbprint(pub)
	if err != nil {
		return nil, invalid("public_key", err.Error())
	}
	encoded, err := httpsig.EncodePublicKey(pub)
	if err != nil {
		return nil, invalid("public_key", err.Error())
	}
	return &postriderv1.ClientKey{Id: id, Algorithm: string(alg), PublicKey: encoded}, nil
}

// ListClientKeys lists the client keys, newest first.
func (s *Server) ListClientKeys(ctx context.Context, req *postriderv1.ListClientKeysRequest) (*postriderv1.ListClientKeysResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	// The store's leader answers: a key that was deleted is in no list after that.
	rec, _, err := s.deps.Store.GetAccount(ctx, string(account))
	if err != nil {
		return nil, stored(err, "account", string(account))
	}
	return &postriderv1.ListClientKeysResponse{ClientKeys: rec.GetClientKeys()}, nil
}

// DeleteClientKey removes a client key.
func (s *Server) DeleteClientKey(ctx context.Context, req *postriderv1.DeleteClientKeyRequest) (*postriderv1.DeleteClientKeyResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	err = s.changeAccount(ctx, string(account), func(rec *recordv1.Account, _ time.Time) error {
		before := len(rec.GetClientKeys())
		rec.ClientKeys = slices.DeleteFunc(rec.GetClientKeys(), func(k *postriderv1.ClientKey) bool { return k.GetId() == req.GetClientKeyId() })
		if len(rec.GetClientKeys()) == before {
			return fault.New(fault.NotFound, "NOT_FOUND", "no client key "+req.GetClientKeyId()).WithMetadata("id", req.GetClientKeyId())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &postriderv1.DeleteClientKeyResponse{}, nil
}
