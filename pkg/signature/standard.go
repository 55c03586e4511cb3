package signature

import (
	"crypto/ed25519"
	"crypto/hmac"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The headers of Standard Webhooks.
const (
	HeaderID        = "Webhook-Id"
	HeaderTimestamp = "Webhook-Timestamp"
	HeaderSignature = "Webhook-Signature"
)

// DefaultTolerance is how far a timestamp may be from the receiver's clock, either way.
const DefaultTolerance = 5 * time.Minute

// Why a request does not verify.
var (
	// ErrMissingHeader means that a header of the scheme is absent or repeated.
	ErrMissingHeader = errors.New("a signature header is missing")
	// ErrTimestamp means that the timestamp is not a number, too old, or in the future.
	ErrTimestamp = errors.New("the timestamp is outside of the tolerance")
	// ErrNoMatch means that no signature belongs to the message and one of the secrets.
	ErrNoMatch = errors.New("no signature matches")
)

const (
	versionHMAC    = "v1"
	versionEd25519 = "v1a"
)

// StandardWebhooks is the value of webhook-signature: one "version,base64" for each secret that
// can sign, in their order (newest first), over "id.timestamp.body". Id must hold no dot.
func StandardWebhooks(id string, ts time.Time, body []byte, secrets []Secret) string {
	buf := buffers.get()
	defer buffers.put(buf)
	prefix := appendPrefix(buf.prefix[:0], id, ts.Unix())
	buf.prefix = prefix
	out := buf.out[:0]
	for _, s := range secrets {
		if !s.CanSign() {
			continue
		}
		if len(out) > 0 {
			out = append(out, ' ')
		}
		out = s.key.appendStandard(out, prefix, body, buf)
	}
	buf.out = out
	return string(out)
}

// appendStandard appends "version,base64" over prefix and body.
func (k *key) appendStandard(out, prefix, body []byte, buf *buffer) []byte {
	if k.private != nil {
		buf.message = append(append(buf.message[:0], prefix...), body...)
		out = append(out, versionEd25519+","...)
		return base64.StdEncoding.AppendEncode(out, ed25519.Sign(k.private, buf.message))
	}
	out = append(out, versionHMAC+","...)
	return base64.StdEncoding.AppendEncode(out, k.sum(buf.sum[:0], prefix, body))
}

// sum appends the HMAC over the parts.
func (k *key) sum(dst []byte, parts ...[]byte) []byte {
	h := borrow(&k.states)
	defer giveBack(&k.states, h)
	for _, p := range parts {
		_, _ = h.Write(p) // a hash never refuses
	}
	return h.Sum(dst)
}

// appendPrefix appends what is signed before the body.
func appendPrefix(b []byte, id string, unix int64) []byte {
	b = append(b, id...)
	b = append(b, '.')
	b = strconv.AppendInt(b, unix, 10)
	return append(b, '.')
}

// VerifyStandardWebhooks says whether one of the request's signatures belongs to one of the
// secrets and its timestamp is within tolerance of now. It compares in constant time, skips
// unknown versions, and takes no key from the request. The error is ErrMissingHeader,
// ErrTimestamp or ErrNoMatch.
func VerifyStandardWebhooks(header http.Header, body []byte, secrets []Secret, now time.Time, tolerance time.Duration) error {
	id, ok1 := single(header, HeaderID)
	stamp, ok2 := single(header, HeaderTimestamp)
	list, ok3 := single(header, HeaderSignature)
	if !ok1 || !ok2 || !ok3 {
		return ErrMissingHeader
	}
	unix, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || stamp[0] == '+' {
		return ErrTimestamp
	}
	if d := now.Sub(time.Unix(unix, 0)); d > tolerance || d < -tolerance {
		return ErrTimestamp
	}
	// The receiver signs the header's own text, so that nothing is lost by reading it as a number.
	prefix := []byte(id + "." + stamp + ".")
	for entry := range strings.SplitSeq(list, " ") {
		version, encoded, ok := strings.Cut(entry, ",")
		if !ok {
			continue
		}
		sig, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			continue
		}
		for _, s := range secrets {
			if s.key != nil && s.key.verifyStandard(version, sig, prefix, body) {
				return nil
			}
		}
	}
	return ErrNoMatch
}

func (k *key) verifyStandard(version string, sig, prefix, body []byte) bool {
	switch {
	case version == versionHMAC && k.mac != nil:
		return hmac.Equal(sig, k.sum(nil, prefix, body))
	case version == versionEd25519 && k.public != nil:
		message := append(append(make([]byte, 0, len(prefix)+len(body)), prefix...), body...)
		return len(sig) == ed25519.SignatureSize && ed25519.Verify(k.public, message, sig)
	}
	return false
}

// single is the one value of a header.
func single(h http.Header, name string) (string, bool) {
	values := h.Values(name)
	if len(values) != 1 || values[0] == "" {
		return "", false
	}
	return values[0], true
}

// buffer is what signing one message needs.
type buffer struct {
	prefix, out, message []byte
	sum                  [64]byte
}

// maxKept is the largest message buffer that is kept for the next message.
const maxKept = 64 << 10

// bufferPool reuses buffers; it holds no keys, only what was signed and the signatures.
type bufferPool struct{ pool sync.Pool }

var buffers bufferPool

func (p *bufferPool) get() *buffer {
	if b, ok := p.pool.Get().(*buffer); ok {
		return b
	}
	return &buffer{prefix: make([]byte, 0, 64), out: make([]byte, 0, 256)}
}

func (p *bufferPool) put(b *buffer) {
	if cap(b.message) > maxKept {
		b.message = nil
	}
	p.pool.Put(b)
}
