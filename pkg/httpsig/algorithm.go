package httpsig

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"fmt"
	"math/big"
)

// What keys must have at least.
const (
	minSecretBytes = 16
	minRSABits     = 2048
	saltBytes      = 64 // of rsa-pss-sha512, RFC 9421, section 3.3.1
)

// curveOf is the curve of an ECDSA algorithm and how many bytes r and s have each.
func curveOf(alg Algorithm) (curve elliptic.Curve, size int, ok bool) {
	switch alg {
	case ECDSAP256:
		return elliptic.P256(), 32, true
	case ECDSAP384:
		return elliptic.P384(), 48, true
	case Ed25519, RSAPSS, HMAC:
	}
	return nil, 0, false
}

func digestOf(alg Algorithm, base []byte) ([]byte, crypto.Hash) {
	switch alg {
	case ECDSAP256:
		sum := sha256.Sum256(base)
		return sum[:], crypto.SHA256
	case ECDSAP384:
		sum := sha512.Sum384(base)
		return sum[:], crypto.SHA384
	case RSAPSS:
		sum := sha512.Sum512(base)
		return sum[:], crypto.SHA512
	case Ed25519, HMAC:
	}
	return base, 0
}

// checkKey holds a public key, or a secret, against the algorithm.
func checkKey(alg Algorithm, key any) error {
	misfit := fmt.Errorf("%w: %T for %s", ErrKey, key, alg)
	switch k := key.(type) {
	case ed25519.PublicKey:
		if alg != Ed25519 || len(k) != ed25519.PublicKeySize {
			return misfit
		}
	case *ecdsa.PublicKey:
		if curve, _, ok := curveOf(alg); !ok || k == nil || k.Curve != curve {
			return misfit
		}
	case *rsa.PublicKey:
		if alg != RSAPSS || k == nil {
			return misfit
		}
		if k.N.BitLen() < minRSABits {
			return fmt.Errorf("%w: an RSA key of less than %d bits", ErrKey, minRSABits)
		}
	case []byte:
		if alg != HMAC {
			return misfit
		}
		if len(k) < minSecretBytes {
			return fmt.Errorf("%w: a secret of less than %d bytes", ErrKey, minSecretBytes)
		}
	default:
		return misfit
	}
	return nil
}

// signFunc is how the key signs.
func signFunc(alg Algorithm, key any) (func([]byte) ([]byte, error), error) {
	if secret, ok := key.([]byte); ok {
		if err := checkKey(alg, secret); err != nil {
			return nil, err
		}
		return func(base []byte) ([]byte, error) { return mac(secret, base), nil }, nil
	}
	k, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%w: %T cannot sign", ErrKey, key)
	}
	if err := checkKey(alg, k.Public()); err != nil {
		return nil, err
	}
	switch alg {
	case Ed25519:
		return func(base []byte) ([]byte, error) { return k.Sign(rand.Reader, base, crypto.Hash(0)) }, nil
	case ECDSAP256, ECDSAP384:
		return func(base []byte) ([]byte, error) { return signECDSA(alg, k, base) }, nil
	case RSAPSS:
		return func(base []byte) ([]byte, error) {
			digest, hash := digestOf(alg, base)
			return k.Sign(rand.Reader, digest, &rsa.PSSOptions{SaltLength: saltBytes, Hash: hash})
		}, nil
	case HMAC:
	}
	return nil, fmt.Errorf("%w: algorithm %q", ErrUnsupported, alg)
}

// signECDSA is r and s, each with the full size, and not the DER that crypto.Signer makes.
func signECDSA(alg Algorithm, k crypto.Signer, base []byte) ([]byte, error) {
	digest, hash := digestOf(alg, base)
	der, err := k.Sign(rand.Reader, digest, hash)
	if err != nil {
		return nil, err
	}
	var point struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &point); err != nil {
		return nil, fmt.Errorf("read signature: %w", err)
	}
	_, size, _ := curveOf(alg)
	out := make([]byte, 2*size)
	point.R.FillBytes(out[:size])
	point.S.FillBytes(out[size:])
	return out, nil
}

// verifies reports whether sig is the key's signature of base. The key fits the algorithm.
func verifies(alg Algorithm, key any, base, sig []byte) bool {
	digest, hash := digestOf(alg, base)
	switch k := key.(type) {
	case []byte:
		return hmac.Equal(mac(k, base), sig)
	case ed25519.PublicKey:
		return len(sig) == ed25519.SignatureSize && ed25519.Verify(k, base, sig)
	case *ecdsa.PublicKey:
		_, size, _ := curveOf(alg)
		if len(sig) != 2*size {
			return false
		}
		return ecdsa.Verify(k, digest, new(big.Int).SetBytes(sig[:size]), new(big.Int).SetBytes(sig[size:]))
	case *rsa.PublicKey:
		return rsa.VerifyPSS(k, hash, digest, sig, &rsa.PSSOptions{SaltLength: saltBytes, Hash: hash}) == nil
	}
	return false
}

func mac(secret, base []byte) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write(base)
	return h.Sum(nil)
}
