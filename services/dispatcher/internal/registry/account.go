package registry

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/httpsig"
	"github.com/postrider/postrider/pkg/postrider"
)

// Account is an account at one revision. It is safe for concurrent use; a nil one is an account
// that is not known.
type Account struct {
	// Config is what its owner configured.
	Config *postriderv1.Account

	record *recordv1.Account
	opts   *Options
	once   sync.Once
	keys   []signingKey
	err    error
}

// signingKey is a key that signs in [from, until).
type signingKey struct {
	signer      *httpsig.Signer
	from, until time.Time // until is zero for ever
}

// GetConfig is what the owner configured, nil for an account that is not known.
func (a *Account) GetConfig() *postriderv1.Account {
	if a == nil {
		return nil
	}
	return a.Config
}

// Class is the class of service, for metrics.
func (a *Account) Class() string {
	return postrider.AccountClass(a.GetConfig().GetAccountClass())
}

// Signers are the keys of the algorithm that sign at a time, newest first. An error is our own
// trouble, such as a key sealed under an unknown one, and no fault of a delivery.
func (a *Account) Signers(alg httpsig.Algorithm, at time.Time) ([]*httpsig.Signer, error) {
	if a == nil {
		return nil, nil
	}
	a.once.Do(a.openKeys)
	if a.err != nil {
		return nil, a.err
	}
	var out []*httpsig.Signer
	for _, k := range a.keys {
		if k.signer.Algorithm() == alg && !at.Before(k.from) && (k.until.IsZero() || at.Before(k.until)) {
			out = append(out, k.signer)
		}
	}
	return out, nil
}

func (a *Account) openKeys() {
	var errs []error
	for _, sealed := range a.record.GetSigningKeys() {
		k, err := a.open(sealed)
		if err != nil {
			errs = append(errs, fmt.Errorf("account %s: signing key %s: %w", a.Config.GetId(), sealed.GetKey().GetId(), err))
			continue
		}
		a.keys = append(a.keys, k)
	}
	a.err = errors.Join(errs...)
}

func (a *Account) open(sealed *recordv1.SealedSigningKey) (signingKey, error) {
	key := sealed.GetKey()
	der, err := a.opts.Opener.Open(sealed.GetCiphertext(), config.SigningKeyContext(a.Config.GetId(), key.GetId()))
	if err != nil {
		return signingKey{}, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return signingKey{}, errors.New("it is no PKCS #8") // the error may tell of the key
	}
	private, ok := parsed.(crypto.Signer)
	if !ok {
		return signingKey{}, errors.New("it cannot sign")
	}
	signer, err := httpsig.NewSigner(httpsig.Algorithm(key.GetAlgorithm()), key.GetId(), private)
	if err != nil {
		return signingKey{}, err
	}
	k := signingKey{signer: signer}
	if key.GetSignTime() != nil {
		k.from = key.GetSignTime().AsTime()
	}
	if key.GetRetireTime() != nil {
		k.until = key.GetRetireTime().AsTime()
	}
	return k, nil
}
