package httpsig

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net/http"

	"github.com/dunglas/httpsfv"
)

// ContentDigest is the value of Content-Digest for the body, by sha-256.
func ContentDigest(body []byte) string {
	sum := sha256.Sum256(body)
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

// CheckContentDigest checks the body against the Content-Digest in h (RFC 9530): each digest of
// sha-256 and sha-512 that is there must match, and one of them must be there. What others promise,
// those that are broken among them, counts for nothing.
func CheckContentDigest(h http.Header, body []byte) error {
	values := h.Values(HeaderContentDigest)
	if len(values) == 0 {
		return ErrDigestMissing
	}
	digests, err := httpsfv.UnmarshalDictionary(values)
	if err != nil {
		return fmt.Errorf("%w: Content-Digest: %w", ErrMalformed, err)
	}
	known := 0
	for _, name := range digests.Names() {
		member, _ := digests.Get(name)
		it, ok := member.(httpsfv.Item)
		if !ok {
			return fmt.Errorf("%w: Content-Digest: %.32q is no byte sequence", ErrMalformed, name)
		}
		given, ok := it.Value.([]byte)
		if !ok {
			return fmt.Errorf("%w: Content-Digest: %.32q is no byte sequence", ErrMalformed, name)
		}
		want := digest(name, body)
		if want == nil {
			continue
		}
		if subtle.ConstantTimeCompare(given, want) != 1 {
			return ErrDigest
		}
		known++
	}
	if known == 0 {
		return ErrDigestMissing
	}
	return nil
}

// digest is nil for algorithms that are unknown or broken.
func digest(name string, body []byte) []byte {
	switch name {
	case "sha-256":
		sum := sha256.Sum256(body)
		return sum[:]
	case "sha-512":
		sum := sha512.Sum512(body)
		return sum[:]
	}
	return nil
}
