package idempotency

import (
	"crypto/sha256"
	"fmt"
	"net/http"

	"github.com/dunglas/httpsfv"
)

// Header names the key of a request (draft-ietf-httpapi-idempotency-key-header-07).
const Header = "Idempotency-Key"

// ReplayedHeader marks an answer that was given before.
const ReplayedHeader = "Idempotency-Replayed"

// maxKeyBytes is how long a key may be.
const maxKeyBytes = 255

// ParseKey reads the request's key. The draft wants a string of a structured field, in quotes; most
// clients send it bare. Both are the same key.
func ParseKey(h http.Header) (string, error) {
	values := h.Values(Header)
	if len(values) == 0 {
		return "", ErrMissing
	}
	if len(values) > 1 {
		return "", fmt.Errorf("%w: there is more than one", ErrMalformed)
	}
	key := values[0]
	if len(key) > 0 && key[0] == '"' {
		item, err := httpsfv.UnmarshalItem(values)
		text, ok := item.Value.(string)
		if err != nil || !ok {
			return "", fmt.Errorf("%w: it begins like a string and is none", ErrMalformed)
		}
		key = text
	}
	if len(key) == 0 || len(key) > maxKeyBytes {
		return "", fmt.Errorf("%w: it must have 1 to %d characters", ErrMalformed, maxKeyBytes)
	}
	for i := range len(key) {
		if key[i] <= ' ' || key[i] >= 0x7f {
			return "", fmt.Errorf("%w: it must be visible ASCII", ErrMalformed)
		}
	}
	return key, nil
}

// Fingerprint tells whether two requests under one key are one: by method, target and body.
func Fingerprint(method, target string, body []byte) []byte {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%s %s\n%d\n", method, target, len(body)) // a hash takes everything
	h.Write(body)
	return h.Sum(nil)
}
