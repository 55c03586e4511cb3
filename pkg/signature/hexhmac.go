package signature

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// HexHMAC is the lower-case hexadecimal HMAC-SHA256 over the body. The zero Secret and an Ed25519
// secret give an empty string.
func HexHMAC(secret Secret, body []byte) string {
	if secret.key == nil || secret.key.mac == nil {
		return ""
	}
	var sum [sha256.Size]byte
	var text [2 * sha256.Size]byte
	hex.Encode(text[:], secret.key.sum(sum[:0], body))
	return string(text[:])
}

// VerifyHex says whether value, which is prefix (such as "sha256=") and a hexadecimal HMAC-SHA256
// over the body, belongs to one of the secrets. The error is ErrMissingHeader for an empty value,
// else ErrNoMatch.
func VerifyHex(value, prefix string, body []byte, secrets []Secret) error {
	if value == "" {
		return ErrMissingHeader
	}
	text, ok := strings.CutPrefix(value, prefix)
	if !ok {
		return ErrNoMatch
	}
	sig, err := hex.DecodeString(text)
	if err != nil {
		return ErrNoMatch
	}
	for _, s := range secrets {
		if s.key != nil && s.key.mac != nil && hmac.Equal(sig, s.key.sum(nil, body)) {
			return nil
		}
	}
	return ErrNoMatch
}
