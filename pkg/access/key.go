package access

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"strings"

	"github.com/oklog/ulid/v2"
)

// The form of a credential is "prk_" + the ULID of its key's id + "_" + 32 random bytes. The
// prefix lets secret scanners find it in the wild; the id lets its owner see which key it is.
const (
	credentialPrefix = "prk_"
	keyIDPrefix      = "key_"
	secretBytes      = 32
	// maxCredential bounds what is hashed for a caller that nobody knows yet.
	maxCredential = 512
)

// secretEncoding has letters and digits only, so a double click selects the whole credential.
var secretEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewKeySecret makes a key's id and its credential. The credential is shown once and never stored.
func NewKeySecret() (id, secret string) {
	u := ulid.Make().String()
	b := make([]byte, secretBytes)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	return keyIDPrefix + u, credentialPrefix + u + "_" + secretEncoding.EncodeToString(b)
}

// HashKey is what is stored of a credential: its SHA-256. No salt and no slow hash, because a
// credential is 256 random bits: there is nothing to guess.
func HashKey(secret string) []byte {
	h := sha256.Sum256([]byte(secret))
	return h[:]
}

// bearer cuts the credential out of an Authorization header (RFC 6750 section 2.1; the scheme's
// name is case-insensitive, RFC 9110 section 11.1).
func bearer(header string) (credential string, ok bool) {
	scheme, rest, found := strings.Cut(strings.TrimSpace(header), " ")
	if !found || !strings.EqualFold(scheme, "bearer") {
		return "", false
	}
	credential = strings.TrimSpace(rest)
	if credential == "" || len(credential) > maxCredential || strings.ContainsAny(credential, " \t") {
		return "", false
	}
	return credential, true
}
