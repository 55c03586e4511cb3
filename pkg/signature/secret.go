// Package signature signs and verifies what is delivered: Standard Webhooks 1.0.0 (v1, HMAC-SHA256;
// v1a, Ed25519), the hexadecimal HMAC of older systems, and schemes that are data: those of well-known
// systems, and those that a webhook describes itself (Scheme). It is pure, and holds secrets only in
// Secret values, which print themselves as masked.
package signature

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // HMAC-SHA1 is what Twilio and GitHub's older header are made of
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"strings"
	"sync"
	"unicode/utf8"
)

// The kinds of secrets.
const (
	// KindHMAC is "whsec_" and the base64 of the key, 24 to 64 bytes.
	KindHMAC = "hmac"
	// KindEd25519 is "whsk_" and the base64 of a seed (32 bytes), or of seed and public key (64).
	KindEd25519 = "ed25519"
	// KindText is a text of 1 to 255 characters, whose UTF-8 bytes are an HMAC key.
	KindText = "text"
)

const (
	hmacPrefix    = "whsec_"
	privatePrefix = "whsk_"
	publicPrefix  = "whpk_"

	minHMACKey    = 24
	maxHMACKey    = 64
	newHMACKey    = 32
	maxTextLength = 255

	masked = "secret(masked)"
)

// Secret is a parsed secret, ready to sign. It is safe for concurrent use; copies share their
// state. The zero Secret signs nothing.
type Secret struct{ key *key }

// key is what all copies of a Secret share.
type key struct {
	kind    string
	mac     []byte             // of hmac and text
	states  sync.Pool          // HMAC-SHA256
	legacy  sync.Pool          // HMAC-SHA1, for systems that still use it
	private ed25519.PrivateKey // nil if only the public half is known
	public  ed25519.PublicKey
}

// ParseSecret reads a secret of a kind (KindHMAC, KindEd25519, KindText). Errors do not repeat
// the text.
func ParseSecret(text, kind string) (Secret, error) {
	switch kind {
	case KindHMAC:
		return parseHMAC(text)
	case KindEd25519:
		return parsePrivate(text)
	case KindText:
		return parseText(text)
	}
	return Secret{}, fmt.Errorf("unknown kind of secret %q", kind)
}

// ParseVerificationKey reads whatever a receiver may hold of a Standard Webhooks secret:
// "whsec_...", "whsk_...", or the public "whpk_...", with which Verify works and signing does not.
func ParseVerificationKey(text string) (Secret, error) {
	switch {
	case strings.HasPrefix(text, publicPrefix):
		return parsePublic(text)
	case strings.HasPrefix(text, privatePrefix):
		return parsePrivate(text)
	}
	return parseHMAC(text)
}

// KindOf is the kind that the text's prefix announces, KindHMAC or KindEd25519; ok is false if
// it has neither prefix.
func KindOf(text string) (kind string, ok bool) {
	switch {
	case strings.HasPrefix(text, hmacPrefix):
		return KindHMAC, true
	case strings.HasPrefix(text, privatePrefix):
		return KindEd25519, true
	}
	return "", false
}

func parseHMAC(text string) (Secret, error) {
	raw, err := decode(text, hmacPrefix)
	if err != nil {
		return Secret{}, err
	}
	if len(raw) < minHMACKey || len(raw) > maxHMACKey {
		return Secret{}, fmt.Errorf("the key must have %d to %d bytes, not %d", minHMACKey, maxHMACKey, len(raw))
	}
	return macSecret(KindHMAC, raw), nil
}

func parseText(text string) (Secret, error) {
	if !utf8.ValidString(text) {
		return Secret{}, errors.New("must be valid UTF-8")
	}
	if n := utf8.RuneCountInString(text); n < 1 || n > maxTextLength {
		return Secret{}, fmt.Errorf("must have 1 to %d characters, not %d", maxTextLength, n)
	}
	return macSecret(KindText, []byte(text)), nil
}

func parsePrivate(text string) (Secret, error) {
	raw, err := decode(text, privatePrefix)
	if err != nil {
		return Secret{}, err
	}
	return privateKey(raw)
}

func privateKey(raw []byte) (Secret, error) {
	if len(raw) != ed25519.SeedSize && len(raw) != ed25519.PrivateKeySize {
		return Secret{}, fmt.Errorf("the key must have %d bytes (seed) or %d (seed and public key), not %d",
			ed25519.SeedSize, ed25519.PrivateKeySize, len(raw))
	}
	private := ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize])
	if len(raw) == ed25519.PrivateKeySize && !bytes.Equal(private, raw) {
		return Secret{}, errors.New("the public half does not belong to the seed")
	}
	public, _ := private.Public().(ed25519.PublicKey)
	return Secret{&key{kind: KindEd25519, private: private, public: public}}, nil
}

func parsePublic(text string) (Secret, error) {
	raw, err := decode(text, publicPrefix)
	if err != nil {
		return Secret{}, err
	}
	return publicKey(raw)
}

func publicKey(raw []byte) (Secret, error) {
	if len(raw) != ed25519.PublicKeySize {
		return Secret{}, fmt.Errorf("the public key must have %d bytes, not %d", ed25519.PublicKeySize, len(raw))
	}
	return Secret{&key{kind: KindEd25519, public: raw}}, nil
}

// decode is the bytes of prefix + base64. It is strict: one text for one key.
func decode(text, prefix string) ([]byte, error) {
	rest, ok := strings.CutPrefix(text, prefix)
	if !ok {
		return nil, fmt.Errorf("must begin with %q", prefix)
	}
	return decodeBase64(rest)
}

// decodeBase64 is strict, too.
func decodeBase64(text string) ([]byte, error) {
	// The decoder skips line ends, which no secret has.
	if strings.ContainsAny(text, "\r\n") {
		return nil, errors.New("must be base64 after its prefix")
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, errors.New("must be base64 after its prefix")
	}
	return raw, nil
}

func macSecret(kind string, mac []byte) Secret {
	k := &key{kind: kind, mac: mac}
	k.states.New = func() any { return hmac.New(sha256.New, k.mac) }
	k.legacy.New = func() any { return hmac.New(sha1.New, k.mac) }
	return Secret{k}
}

// borrow takes an HMAC state that has the key in it already; give it back with giveBack.
func borrow(states *sync.Pool) hash.Hash {
	h, _ := states.Get().(hash.Hash)
	return h
}

func giveBack(states *sync.Pool, h hash.Hash) {
	h.Reset()
	states.Put(h)
}

// GenerateHMAC makes a secret: "whsec_" and the base64 of 32 random bytes.
func GenerateHMAC() string {
	return hmacPrefix + base64.StdEncoding.EncodeToString(random())
}

// GenerateText makes a secret for systems that take the text itself as the key: 64 hexadecimal
// digits, of 32 random bytes.
func GenerateText() string { return hex.EncodeToString(random()) }

// GenerateEd25519 makes a key pair: "whsk_" and the base64 of seed and public key, "whpk_" and the
// base64 of the public key.
func GenerateEd25519() (secret, public string) {
	private := ed25519.NewKeyFromSeed(random())
	return privatePrefix + base64.StdEncoding.EncodeToString(private),
		publicPrefix + base64.StdEncoding.EncodeToString(private[ed25519.SeedSize:])
}

// random is a new key: of HMAC, or the seed of Ed25519, which are of one length.
func random() []byte {
	b := make([]byte, newHMACKey)
	_, _ = rand.Read(b) // never fails: it ends the process instead
	return b
}

// Kind is what the secret is called where it is stored: KindHMAC, also for a text, or KindEd25519.
func (s Secret) Kind() string {
	if s.key == nil {
		return ""
	}
	if s.key.kind == KindText {
		return KindHMAC
	}
	return s.key.kind
}

// PublicKey is "whpk_" and the base64 of the public key, or empty for a symmetric secret.
func (s Secret) PublicKey() string {
	if s.key == nil || s.key.public == nil {
		return ""
	}
	return publicPrefix + base64.StdEncoding.EncodeToString(s.key.public)
}

// CanSign is false for the zero Secret and for one that is only a public key.
func (s Secret) CanSign() bool {
	return s.key != nil && (s.key.mac != nil || s.key.private != nil)
}

// String masks the secret.
func (s Secret) String() string { return masked }

// GoString masks the secret.
func (s Secret) GoString() string { return masked }

// LogValue masks the secret.
func (s Secret) LogValue() slog.Value { return slog.StringValue(masked) }

// MarshalText masks the secret.
func (s Secret) MarshalText() ([]byte, error) { return []byte(masked), nil }
