package manage

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/httpsig"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// Bounds and defaults of signing keys.
const (
	defaultPublishDelay = time.Hour // as long as receivers may keep the published keys
	maxPublishDelay     = 7 * 24 * time.Hour
	// keptPublished is how long a key is published after it has stopped signing: until the last of its
	// signatures, which count for 5 minutes, has expired by everybody's clock. Not longer, because the
	// key may be one that is not secret any more.
	keptPublished  = 10 * time.Minute
	maxSigningKeys = 8
	// clockSlack is how far dispatchers' clocks may be behind and a first key still sign at once.
	clockSlack = time.Minute
	// justMade is how long after a key was made its maker may still wait for the confirmation.
	justMade = 10 * time.Second
)

// GetSigningKey reads the key that signs deliveries now, and makes one if there is none.
func (s *Server) GetSigningKey(ctx context.Context, req *postriderv1.GetSigningKeyRequest) (*postriderv1.GetSigningKeyResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	alg, err := signingAlgorithm(req.GetAlgorithm())
	if err != nil {
		return nil, err
	}
	key, err := s.ensureSigningKey(ctx, string(account), alg)
	if err != nil {
		return nil, err
	}
	return &postriderv1.GetSigningKeyResponse{SigningKey: key}, nil
}

// ListSigningKeys lists the published keys, newest first.
func (s *Server) ListSigningKeys(ctx context.Context, req *postriderv1.ListSigningKeysRequest) (*postriderv1.ListSigningKeysResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	keys, err := s.PublishedKeys(ctx, string(account))
	if err != nil {
		return nil, err
	}
	return &postriderv1.ListSigningKeysResponse{SigningKeys: keys}, nil
}

// PublishedKeys are the public keys that the account publishes, newest first. They are no secret:
// whoever knows the account's id may read them.
func (s *Server) PublishedKeys(ctx context.Context, account string) ([]*postriderv1.SigningKey, error) {
	rec, _, err := s.deps.Store.GetAccount(ctx, account)
	if err != nil {
		return nil, stored(err, "account", account)
	}
	var keys []*postriderv1.SigningKey
	for _, k := range unexpired(rec.GetSigningKeys(), s.deps.Now()) {
		keys = append(keys, k.GetKey())
	}
	return keys, nil
}

// RotateSigningKey publishes a new key, which signs after the delay; those before it sign for the
// overlap beside it, and are published for a while longer.
func (s *Server) RotateSigningKey(ctx context.Context, req *postriderv1.RotateSigningKeyRequest) (*postriderv1.RotateSigningKeyResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	alg, err := signingAlgorithm(req.GetAlgorithm())
	if err != nil {
		return nil, err
	}
	delay, overlap := durationOr(req.GetPublishDelay(), defaultPublishDelay), durationOr(req.GetOverlap(), defaultOverlap)
	var v violations
	v.check(delay >= 0 && delay <= maxPublishDelay, "publish_delay", "must be from 0 s to 7 days")
	v.check(overlap >= 0 && overlap <= maxOverlap, "overlap", "must be from 0 s to 7 days")
	if len(v) > 0 {
		return nil, fault.InvalidFields(v...)
	}
	fresh, err := s.newSigningKey(string(account), alg)
	if err != nil {
		return nil, err
	}
	err = s.changeAccount(ctx, string(account), func(rec *recordv1.Account, now time.Time) error {
		keys := unexpired(rec.GetSigningKeys(), now)
		if len(keys) >= maxSigningKeys {
			return fault.New(fault.Precondition, "TOO_MANY_SIGNING_KEYS", "too many signing keys are published; the oldest must expire first")
		}
		sign := now.Add(delay)
		if signsNow(keys, alg, now) == nil {
			sign = now.Add(-clockSlack) // there is nothing to go on with until then
		}
		retire(keys, alg, sign, overlap)
		fresh.Key.CreateTime, fresh.Key.SignTime = timestamppb.New(now), timestamppb.New(sign)
		rec.SigningKeys = slices.Insert(keys, 0, fresh)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &postriderv1.RotateSigningKeyResponse{SigningKey: fresh.GetKey()}, nil
}

// retire ends the keys of the algorithm that have no earlier end: they sign for the overlap after
// the new key has begun to.
func retire(keys []*recordv1.SealedSigningKey, alg httpsig.Algorithm, begin time.Time, overlap time.Duration) {
	end := begin.Add(overlap)
	for _, k := range keys {
		key := k.GetKey()
		if key.GetAlgorithm() != string(alg) || key.GetRetireTime() != nil && !key.GetRetireTime().AsTime().After(end) {
			continue
		}
		key.RetireTime = timestamppb.New(end)
		key.ExpireTime = timestamppb.New(end.Add(keptPublished))
	}
}

// ensureSigningKey is the account's key that signs by the algorithm now. If there is none it makes
// one, which signs at once: nobody can have read of another. Of two who make the first at once one
// wins the write, and the other finds its key. When it returns, every dispatcher knows the key.
func (s *Server) ensureSigningKey(ctx context.Context, account string, alg httpsig.Algorithm) (*postriderv1.SigningKey, error) {
	var found *postriderv1.SigningKey
	var fresh *recordv1.SealedSigningKey
	err := s.changeAccount(ctx, account, func(rec *recordv1.Account, now time.Time) error {
		if found = signsNow(rec.GetSigningKeys(), alg, now); found != nil {
			if now.Sub(found.GetCreateTime().AsTime()) < justMade {
				return errUnconfirmedYet
			}
			return errNoChange
		}
		if fresh == nil { // one try costs one key, however often the write meets another
			var err error
			if fresh, err = s.newSigningKey(account, alg); err != nil {
				return err
			}
		}
		fresh.Key.CreateTime, fresh.Key.SignTime = timestamppb.New(now), timestamppb.New(now.Add(-clockSlack))
		found = fresh.GetKey()
		rec.SigningKeys = slices.Insert(unexpired(rec.GetSigningKeys(), now), 0, fresh)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// newSigningKey makes a key and seals it for the account.
func (s *Server) newSigningKey(account string, alg httpsig.Algorithm) (*recordv1.SealedSigningKey, error) {
	private, err := httpsig.GenerateKey(alg)
	if err != nil {
		return nil, fmt.Errorf("make signing key: %w", err)
	}
	id, err := httpsig.Thumbprint(private.Public())
	if err != nil {
		return nil, fmt.Errorf("make signing key: %w", err)
	}
	public, err := httpsig.EncodePublicKey(private.Public())
	if err != nil {
		return nil, fmt.Errorf("make signing key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("encode signing key: %w", err)
	}
	ciphertext, err := s.deps.Sealer.Seal(der, config.SigningKeyContext(account, id))
	clear(der)
	if err != nil {
		return nil, fmt.Errorf("seal signing key of %s: %w", account, err)
	}
	return &recordv1.SealedSigningKey{
		Key:        &postriderv1.SigningKey{Id: id, Algorithm: string(alg), PublicKey: public},
		Ciphertext: ciphertext,
	}, nil
}

// signsNow is the newest key of the algorithm that signs, or nil.
func signsNow(keys []*recordv1.SealedSigningKey, alg httpsig.Algorithm, now time.Time) *postriderv1.SigningKey {
	for _, k := range keys {
		key := k.GetKey()
		begun := !key.GetSignTime().AsTime().After(now)
		retired := key.GetRetireTime() != nil && !key.GetRetireTime().AsTime().After(now)
		if key.GetAlgorithm() == string(alg) && begun && !retired {
			return key
		}
	}
	return nil
}

// unexpired are the keys that are published.
func unexpired(keys []*recordv1.SealedSigningKey, now time.Time) []*recordv1.SealedSigningKey {
	var out []*recordv1.SealedSigningKey
	for _, k := range keys {
		if end := k.GetKey().GetExpireTime(); end == nil || end.AsTime().After(now) {
			out = append(out, k)
		}
	}
	return out
}

// signingAlgorithm reads the algorithm of a request.
func signingAlgorithm(name string) (httpsig.Algorithm, error) {
	switch alg := httpsig.Algorithm(orDefault(name, string(httpsig.Ed25519))); alg {
	case httpsig.Ed25519, httpsig.ECDSAP384:
		return alg, nil
	case httpsig.ECDSAP256, httpsig.RSAPSS, httpsig.HMAC:
	}
	return "", invalid("algorithm", "must be ed25519 or ecdsa-p384-sha384")
}

func durationOr(d *durationpb.Duration, def time.Duration) time.Duration {
	if d == nil {
		return def
	}
	return d.AsDuration()
}

// What a change of an account may say instead of changing it.
var (
	errNoChange = errors.New("there is nothing to change")
	// errUnconfirmedYet is errNoChange where the last change may not have reached everybody.
	errUnconfirmedYet = errors.New("there is nothing to change, but somebody just changed it")
)

// changeAccount changes the account's record, on top of what others change meanwhile, and waits
// until the change is in force everywhere. The change may be tried more than once.
func (s *Server) changeAccount(ctx context.Context, account string, change func(*recordv1.Account, time.Time) error) error {
	for range maxRetries {
		rec, revision, err := s.deps.Store.GetAccount(ctx, account)
		if err != nil {
			return stored(err, "account", account)
		}
		switch err := change(rec, s.deps.Now()); {
		case errors.Is(err, errNoChange):
			return nil
		case errors.Is(err, errUnconfirmedYet):
		case err != nil:
			return err
		default:
			revision, err = s.deps.Store.UpdateAccount(ctx, rec, revision)
			if again(err, "") {
				continue
			}
			if err != nil {
				return stored(err, "account", account)
			}
		}
		if err := s.deps.Barrier.Confirm(ctx, config.BucketAccounts, revision); err != nil {
			return unconfirmed(err)
		}
		return nil
	}
	return stored(config.ErrConflict, "account", account)
}
