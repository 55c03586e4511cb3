package signature

import (
	"crypto/ed25519"
	"crypto/sha1" //nolint:gosec // HMAC-SHA1 is what Twilio and GitHub's older header are made of
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// ErrNoSecret means that none of the secrets can sign in the scheme.
var ErrNoSecret = errors.New("no secret can sign in this scheme")

// Scheme is how a system signs its webhooks: what is signed, with which algorithm, and in which
// header it is told. It is made once, by ParseScheme or LookupScheme, and is safe for concurrent
// use; signing reads it only.
type Scheme struct {
	algorithm   algorithm
	keyEncoding string
	keyPrefix   string // of secrets: made with it, and read with it where the key is encoded
	content     template
	base64      bool
	header      string // as http.Header spells it
	value       valueForm
	timestamp   string // header of the time, or empty
	id          string // header of the id, or empty
	older       *older
	bodyHash    string // parameter of the URL that holds the body's hash, or empty
	extra       []extra
}

// older is a second signature, HMAC-SHA1 in hexadecimal, that a system still sends.
type older struct {
	header string
	value  template
}

// extra is a header that a system has besides its signature.
type extra struct {
	header string
	value  template
}

// valueForm is the value of the signature's header: before, then item for each signature with
// separator between them, then after.
type valueForm struct {
	before, item, after template
	separator           byte       // 0: one signature, the newest secret's
	others              []template // what stands before and after, by its items
}

// SchemeMessage is what a scheme signs, and what it tells beside the signature.
type SchemeMessage struct {
	// ID is the message's id, the same for every attempt.
	ID string
	// Type is the event's type. Some schemes tell it.
	Type string
	// Delivery is the delivery's id. Some schemes tell it.
	Delivery string
	// Time is when the attempt starts.
	Time time.Time
	// Method and URL are as they are sent; for URL see Target.
	Method, URL string
	// ContentType is that of the body.
	ContentType string
	// Body is sent byte for byte.
	Body []byte
}

type algorithm int

const (
	hmacSHA256 algorithm = iota + 1
	hmacSHA1
	ed25519Signature
)

// size is the length of a signature before it is encoded.
func (a algorithm) size() int {
	switch a {
	case hmacSHA256:
		return sha256.Size
	case hmacSHA1:
		return sha1.Size
	case ed25519Signature:
		return ed25519.SignatureSize
	}
	return 0
}

// fits says whether the key can be used with the algorithm: to sign, or only to verify.
func (k *key) fits(a algorithm, signing bool) bool {
	switch {
	case k == nil:
		return false
	case a != ed25519Signature:
		return k.mac != nil
	case signing:
		return k.private != nil
	}
	return k.public != nil
}

// Target is the URL that a message goes to: the webhook's own, with the hash of the body as its
// last parameter where the scheme has it there; one that is there already is replaced. The error
// says that the body is not one that the scheme can sign.
func (s *Scheme) Target(url, contentType string, body []byte) (string, error) {
	form := isForm(contentType)
	if form && s.content.holds(tokenForm) {
		if _, err := parseForm(body); err != nil {
			return "", err
		}
	}
	if s.bodyHash == "" || form {
		return url, nil
	}
	sum := sha256.Sum256(body)
	if i := strings.LastIndexAny(url, "?&"); i >= 0 && strings.HasPrefix(url[i+1:], s.bodyHash+"=") {
		url = url[:i]
	}
	sep := "?"
	if strings.Contains(url, "?") {
		sep = "&"
	}
	return url + sep + s.bodyHash + "=" + hex.EncodeToString(sum[:]), nil
}

// Headers are the names of all headers that Sign sets, as http.Header spells them.
func (s *Scheme) Headers() []string {
	names := []string{s.header}
	for _, name := range []string{s.timestamp, s.id} {
		if name != "" {
			names = append(names, name)
		}
	}
	if s.older != nil {
		names = append(names, s.older.header)
	}
	for _, e := range s.extra {
		names = append(names, e.header)
	}
	return names
}

// Sign sets the scheme's headers in h, in place of what they were. Secrets are those in force,
// newest first. Schemes whose receivers take one signature get the newest secret's. The error is
// ErrNoSecret.
func (s *Scheme) Sign(h http.Header, m SchemeMessage, secrets []Secret) error {
	buf := buffers.get()
	defer buffers.put(buf)
	out, newest := s.appendValue(buf.out[:0], &m, secrets, buf)
	buf.out = out
	if newest == nil {
		return ErrNoSecret
	}
	h[s.header] = []string{string(out)}
	if s.timestamp != "" {
		h[s.timestamp] = []string{strconv.FormatInt(m.Time.Unix(), 10)}
	}
	if s.id != "" {
		h[s.id] = []string{m.ID}
	}
	if s.older != nil {
		var text [2 * sha1.Size]byte
		hex.Encode(text[:], newest.digest(hmacSHA1, s.content, &m, buf))
		out = s.older.value.append(out[:0], &m, text[:])
		buf.out = out
		h[s.older.header] = []string{string(out)}
	}
	for _, e := range s.extra {
		out = e.value.append(out[:0], &m, nil)
		buf.out = out
		h[e.header] = []string{string(out)}
	}
	return nil
}

// appendValue appends the value of the signature's header. Newest is the first key that signed.
func (s *Scheme) appendValue(out []byte, m *SchemeMessage, secrets []Secret, buf *buffer) (value []byte, newest *key) {
	out = s.value.before.append(out, m, nil)
	for _, secret := range secrets {
		if !secret.key.fits(s.algorithm, true) {
			continue
		}
		if newest != nil {
			out = append(out, s.value.separator)
		} else {
			newest = secret.key
		}
		var text [2 * ed25519.SignatureSize]byte
		sig := s.encode(text[:0], secret.key.digest(s.algorithm, s.content, m, buf))
		out = s.value.item.append(out, m, sig)
		if s.value.separator == 0 {
			break
		}
	}
	return s.value.after.append(out, m, nil), newest
}

func (s *Scheme) encode(dst, sig []byte) []byte {
	if s.base64 {
		return base64.StdEncoding.AppendEncode(dst, sig)
	}
	return hex.AppendEncode(dst, sig)
}

// encodedLength is the length of the signature's text.
func (s *Scheme) encodedLength() int {
	if s.base64 {
		return base64.StdEncoding.EncodedLen(s.algorithm.size())
	}
	return hex.EncodedLen(s.algorithm.size())
}

func (s *Scheme) decode(text string) ([]byte, error) {
	if s.base64 {
		return base64.StdEncoding.Strict().DecodeString(text)
	}
	return hex.DecodeString(text)
}

// digest is the signature over the content of a message. It is valid until buf is used again.
func (k *key) digest(a algorithm, content template, m *SchemeMessage, buf *buffer) []byte {
	if a == ed25519Signature {
		buf.message = content.append(buf.message[:0], m, nil)
		return append(buf.sum[:0], ed25519.Sign(k.private, buf.message)...)
	}
	pool := &k.states
	if a == hmacSHA1 {
		pool = &k.legacy
	}
	h := borrow(pool)
	defer giveBack(pool, h)
	content.writeTo(h, m, buf)
	return h.Sum(buf.sum[:0])
}

// ParseSecret reads a secret in the scheme's form. Errors do not repeat the text.
func (s *Scheme) ParseSecret(text string) (Secret, error) {
	if s.keyEncoding == keyUTF8 {
		return parseText(text)
	}
	raw, err := s.decodeKey(text, s.keyPrefix)
	if err != nil {
		return Secret{}, err
	}
	if s.algorithm == ed25519Signature {
		return privateKey(raw)
	}
	if len(raw) < 1 || len(raw) > maxTextLength {
		return Secret{}, fmt.Errorf("the key must have 1 to %d bytes, not %d", maxTextLength, len(raw))
	}
	return macSecret(KindHMAC, raw), nil
}

// ParseVerificationKey reads what a receiver may hold: the secret, or of Ed25519 the public key.
func (s *Scheme) ParseVerificationKey(text string) (Secret, error) {
	if s.algorithm != ed25519Signature {
		return s.ParseSecret(text)
	}
	if strings.HasPrefix(text, publicPrefix) {
		return parsePublic(text)
	}
	if raw, err := s.decodeKey(text, ""); err == nil && len(raw) == ed25519.PublicKeySize {
		return publicKey(raw)
	}
	return s.ParseSecret(text)
}

// decodeKey reads base64 or hexadecimal, with or without the prefix.
func (s *Scheme) decodeKey(text, prefix string) ([]byte, error) {
	text = strings.TrimPrefix(text, prefix)
	if s.keyEncoding == keyHex {
		raw, err := hex.DecodeString(text)
		if err != nil {
			return nil, errors.New("must be hexadecimal")
		}
		return raw, nil
	}
	return decodeBase64(text)
}

// GenerateSecret makes a secret in the scheme's form. The public key is "whpk_" and its base64 for
// Ed25519, else empty.
func (s *Scheme) GenerateSecret() (text, public string) {
	raw := random()
	if s.algorithm == ed25519Signature {
		private := ed25519.NewKeyFromSeed(raw)
		public = publicPrefix + base64.StdEncoding.EncodeToString(private[ed25519.SeedSize:])
		raw = private
	}
	if s.keyEncoding == keyBase64 {
		return s.keyPrefix + base64.StdEncoding.EncodeToString(raw), public
	}
	return s.keyPrefix + hex.EncodeToString(raw), public
}

// Kind is that of the scheme's secrets, KindHMAC or KindEd25519.
func (s *Scheme) Kind() string {
	if s.algorithm == ed25519Signature {
		return KindEd25519
	}
	return KindHMAC
}
