package httpsig

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// maxKeyText is how long a public key's text may be: an RSA key of 8192 bits fits, base64 of PEM.
const maxKeyText = 8 << 10

// generatedRSABits is the size of generated RSA keys.
const generatedRSABits = 3072

// GenerateKey makes a private key for the algorithm, which is none of HMAC's.
func GenerateKey(alg Algorithm) (crypto.Signer, error) {
	switch alg {
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case ECDSAP256, ECDSAP384:
		curve, _, _ := curveOf(alg)
		return ecdsa.GenerateKey(curve, rand.Reader)
	case RSAPSS:
		return rsa.GenerateKey(rand.Reader, generatedRSABits)
	case HMAC:
	}
	return nil, fmt.Errorf("%w: keys of algorithm %.64q", ErrUnsupported, string(alg))
}

// AlgorithmOf is the algorithm that a public key is for.
func AlgorithmOf(pub crypto.PublicKey) (Algorithm, error) {
	var alg Algorithm
	switch k := pub.(type) {
	case ed25519.PublicKey:
		alg = Ed25519
	case *rsa.PublicKey:
		alg = RSAPSS
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			alg = ECDSAP256
		case elliptic.P384():
			alg = ECDSAP384
		default:
			return "", fmt.Errorf("%w: keys on curve %s", ErrUnsupported, k.Params().Name)
		}
	default:
		return "", fmt.Errorf("%w: keys of type %T", ErrUnsupported, pub)
	}
	return alg, checkKey(alg, pub)
}

// Thumbprint is the key's JWK thumbprint by SHA-256 (RFC 7638), in base64url: the keyid of our
// signatures.
func Thumbprint(pub crypto.PublicKey) (string, error) {
	if _, err := AlgorithmOf(pub); err != nil {
		return "", err
	}
	sum, err := (&jose.JSONWebKey{Key: pub}).Thumbprint(crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("%w: thumbprint: %w", ErrKey, err)
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}

// ParsePublicKey reads a public key as PEM ("PUBLIC KEY"), as base64 of that PEM, or as base64 of
// its SubjectPublicKeyInfo (DER). Line breaks and spaces within base64 do not count.
func ParsePublicKey(text string) (crypto.PublicKey, Algorithm, error) {
	if len(text) > maxKeyText {
		return nil, "", fmt.Errorf("%w: a public key of more than %d bytes", ErrMalformed, maxKeyText)
	}
	text = strings.TrimSpace(text)
	der, ok := decodePEM(text)
	if !ok {
		raw, err := decodeBase64(text)
		if err != nil {
			return nil, "", fmt.Errorf("%w: a public key must be PEM or base64", ErrMalformed)
		}
		if der, ok = decodePEM(string(raw)); !ok {
			der = raw
		}
	}
	pub, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, "", fmt.Errorf("%w: a public key must be a SubjectPublicKeyInfo", ErrMalformed)
	}
	alg, err := AlgorithmOf(pub)
	if err != nil {
		return nil, "", err
	}
	return pub, alg, nil
}

// decodePEM is the content of the one block "PUBLIC KEY".
func decodePEM(text string) ([]byte, bool) {
	text = strings.TrimSpace(text)
	if !strings.HasPrefix(text, "-----BEGIN ") {
		return nil, false
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "PUBLIC KEY" || strings.TrimSpace(string(rest)) != "" {
		return nil, false
	}
	return block.Bytes, true
}

// decodeBase64 reads base64 in either alphabet, with or without padding, with white space in it.
func decodeBase64(text string) ([]byte, error) {
	text = strings.Join(strings.Fields(text), "")
	text = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	return base64.RawStdEncoding.DecodeString(text)
}

// EncodePublicKey is base64 of the key's SubjectPublicKeyInfo (DER).
func EncodePublicKey(pub crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return base64.StdEncoding.EncodeToString(der), nil
}

// PublishedKey is a key of a JWK set.
type PublishedKey struct {
	// ID is the keyid.
	ID string
	// Algorithm is what it verifies.
	Algorithm Algorithm
	// Key is the public key.
	Key crypto.PublicKey
}

// JWKS is the JSON of a JWK set (RFC 7517) of the keys, in their order.
func JWKS(keys ...PublishedKey) ([]byte, error) {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, k := range keys {
		alg, err := AlgorithmOf(k.Key) // which no secret has
		if err != nil {
			return nil, err
		}
		if alg != k.Algorithm {
			return nil, fmt.Errorf("%w: a key of %s as one of %s", ErrKey, alg, k.Algorithm)
		}
		set.Keys = append(set.Keys, jose.JSONWebKey{
			Key: k.Key, KeyID: k.ID, Algorithm: joseName(k.Algorithm), Use: "sig",
		})
	}
	out, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("encode JWK set: %w", err)
	}
	return out, nil
}

// joseName is the algorithm's name in JOSE.
func joseName(alg Algorithm) string {
	switch alg {
	case Ed25519:
		return string(jose.EdDSA)
	case ECDSAP256:
		return string(jose.ES256)
	case ECDSAP384:
		return string(jose.ES384)
	case RSAPSS:
		return string(jose.PS512)
	case HMAC:
	}
	return ""
}
