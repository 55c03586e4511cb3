package verify

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/postrider/postrider/pkg/httpsig"
	"github.com/postrider/postrider/pkg/signature"
)

// messageTag is the tag of webhooks' message signatures.
const messageTag = "webhook"

// Coverage is what a message signature must cover at least.
type Coverage int

// The coverages, as a webhook's option message_signature names them.
const (
	// TargetURI is "target-uri": the method and the whole URL.
	TargetURI Coverage = iota
	// AuthorityParts is "authority-parts": the method, and host, path and query one by one.
	AuthorityParts
)

func (c Coverage) components() []string {
	if c == AuthorityParts {
		return []string{"@method", "@authority", "@path", "@query"}
	}
	return []string{"@method", "@target-uri"}
}

// Keys finds the key of a keyid. It must answer soon, and may not trust the keyid's text.
type Keys func(keyID string) (httpsig.Key, bool)

// PublicKeys are the keys of these texts, each PEM or the base64 of a SubjectPublicKeyInfo. A
// key's id is its JWK thumbprint (RFC 7638).
func PublicKeys(texts ...string) (Keys, error) {
	keys := make(map[string]httpsig.Key, len(texts))
	for i, text := range texts {
		public, alg, err := httpsig.ParsePublicKey(text)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		id, err := httpsig.Thumbprint(public)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		keys[id] = httpsig.Key{Algorithm: alg, Key: public}
	}
	return lookup(keys)
}

// JWKS are the keys of a JSON Web Key Set, such as the one below /.well-known. Keys of unknown
// types, and those that are not for signatures, are left out.
func JWKS(document []byte) (Keys, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(document, &set); err != nil {
		return nil, fmt.Errorf("read the key set: %w", err)
	}
	keys := make(map[string]httpsig.Key, len(set.Keys))
	for _, raw := range set.Keys {
		var jwk jose.JSONWebKey
		if err := json.Unmarshal(raw, &jwk); err != nil || !jwk.IsPublic() || jwk.Use != "" && jwk.Use != "sig" {
			continue
		}
		alg, err := httpsig.AlgorithmOf(jwk.Key)
		if err != nil {
			continue
		}
		keys[jwk.KeyID] = httpsig.Key{Algorithm: alg, Key: jwk.Key}
	}
	return lookup(keys)
}

func lookup(keys map[string]httpsig.Key) (Keys, error) {
	delete(keys, "")
	if len(keys) == 0 {
		return nil, errors.New("at least one key is needed")
	}
	return func(keyID string) (httpsig.Key, bool) {
		key, ok := keys[keyID]
		return key, ok
	}, nil
}

// MessageSignatures verifies HTTP message signatures (RFC 9421) with the tag "webhook". They must
// cover what coverage says, and Content-Digest if there is a body, which must match it; and they
// must state created, expires and keyid. Tolerance is how old a signature may be.
func MessageSignatures(keys Keys, coverage Coverage, opts Options) (*Verifier, error) {
	if keys == nil {
		return nil, errors.New("keys are needed")
	}
	opts = opts.withDefaults()
	policy := &httpsig.Verifier{
		Keys: keys, Components: coverage.components(), BodyComponents: []string{"content-digest"},
		Tag: messageTag, RequireExpires: true, MaxAge: opts.Tolerance, Now: opts.Now,
	}
	return &Verifier{opts, func(r *http.Request, body []byte) (Message, string, error) {
		m := &httpsig.Message{Method: r.Method, URL: opts.URL(r), Header: r.Header}
		got, err := policy.Verify(m, body)
		if err != nil {
			return Message{}, "", explain(err)
		}
		out := Message{Time: got.Created, KeyID: got.KeyID}
		if ids := r.Header.Values(signature.HeaderID); slices.Contains(got.Components, "webhook-id") {
			if len(ids) != 1 {
				return Message{}, "", ErrMissingHeader
			}
			out.ID = ids[0]
		}
		if out.ID == "" {
			// Nothing that can be changed without the key, nor which of several signatures was taken.
			return out, m.Method + " " + m.URL + " " + httpsig.ContentDigest(body), nil
		}
		return out, out.ID, nil
	}}, nil
}

// explain makes an error of httpsig one of this package.
func explain(err error) error {
	switch {
	case errors.Is(err, httpsig.ErrMissing), errors.Is(err, httpsig.ErrDigestMissing):
		return fmt.Errorf("%w: %w", ErrMissingHeader, err)
	case errors.Is(err, httpsig.ErrExpired), errors.Is(err, httpsig.ErrFuture):
		return fmt.Errorf("%w: %w", ErrTimestamp, err)
	}
	return fmt.Errorf("%w: %w", ErrNoMatch, err)
}

// unix reads a time that was verified.
func unix(text string) time.Time {
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}
