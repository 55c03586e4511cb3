package httpsig

import (
	"crypto"
	"errors"
	"net/http"
	"time"
)

var errTodo = errors.New("httpsig is being written")

// Signer signs with one key.
type Signer struct {
	alg   Algorithm
	keyID string
}

// NewSigner makes a signer. The key is a crypto.Signer, or the secret's bytes for HMAC.
func NewSigner(alg Algorithm, keyID string, _ any) (*Signer, error) {
	return &Signer{alg: alg, keyID: keyID}, nil
}

// KeyID is the keyid of its signatures.
func (s *Signer) KeyID() string { return s.keyID }

// Algorithm is the algorithm of its signatures.
func (s *Signer) Algorithm() Algorithm { return s.alg }

// Sign sets Signature-Input and Signature in m.Header, with labels sig1, sig2, ... in the order of
// the signers.
func Sign(*Message, *Params, ...*Signer) error { return errTodo }

// ContentDigest is the value of Content-Digest for the body.
func ContentDigest([]byte) string { return "" }

// CheckContentDigest checks the body against the Content-Digest in h.
func CheckContentDigest(http.Header, []byte) error { return errTodo }

// Key is a key that verifies: a public key, or the secret's bytes for HMAC.
type Key struct {
	Algorithm Algorithm
	Key       any
}

// Verifier holds a policy.
type Verifier struct {
	// Keys finds the key of a keyid.
	Keys func(keyID string) (Key, bool)
	// Components must be covered by each signature that counts.
	Components []string
	// BodyComponents must be covered too if there is a body.
	BodyComponents []string
	// Tag, if set, is the tag that the signature must have.
	Tag string
	// RequireExpires refuses signatures that do not say when they expire.
	RequireExpires bool
	// MaxAge is how long after its creation a signature counts at most. Default 300 s.
	MaxAge time.Duration
	// MaxSkew is how far in the future its creation may lie. Default 60 s.
	MaxSkew time.Duration
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Verified is the signature that was believed.
type Verified struct {
	Label, KeyID     string
	Algorithm        Algorithm
	Components       []string
	Created, Expires time.Time
	Nonce, Tag       string
}

// Verify finds a signature of the message that the policy believes.
func (v *Verifier) Verify(*Message, []byte) (*Verified, error) { return nil, errTodo }

// GenerateKey makes a private key.
func GenerateKey(Algorithm) (crypto.Signer, error) { return nil, errTodo }

// Thumbprint is the key's JWK thumbprint (RFC 7638), the keyid of our signatures.
func Thumbprint(crypto.PublicKey) (string, error) { return "", errTodo }

// ParsePublicKey reads PEM, base64 of PEM, or base64 of SubjectPublicKeyInfo (DER).
func ParsePublicKey(string) (crypto.PublicKey, Algorithm, error) { return nil, "", errTodo }

// EncodePublicKey is base64 of the key's SubjectPublicKeyInfo (DER).
func EncodePublicKey(crypto.PublicKey) (string, error) { return "", errTodo }

// PublishedKey is a key of a JWKS.
type PublishedKey struct {
	ID        string
	Algorithm Algorithm
	Key       crypto.PublicKey
}

// JWKS is the JSON of a JWK set.
func JWKS(...PublishedKey) ([]byte, error) { return nil, errTodo }
