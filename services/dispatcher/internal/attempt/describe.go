package attempt

import (
	"bytes"
	"net/http"
	"strings"
	"unicode/utf8"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"

	"github.com/postrider/postrider/services/dispatcher/internal/egress"
)

// Bounds of what is recorded of an attempt.
const (
	maxHeaders     = 32
	maxHeaderName  = 128
	maxHeaderValue = 512
	maxMessage     = 512
)

// mask stands in for what may be secret.
const mask = "***"

// secretWords are what the names of headers with credentials hold.
var secretWords = []string{"auth", "token", "secret", "key", "password", "cookie", "credential", "session"}

// requestHeaders describes what was sent. Of the owner's own headers, those whose name speaks of
// a credential are masked; ours hold none.
func requestHeaders(sent http.Header, custom map[string]string) map[string]string {
	out := make(map[string]string, min(len(sent), maxHeaders))
	for name, values := range sent {
		if len(out) == maxHeaders {
			break
		}
		out[clean(name, maxHeaderName)] = clean(strings.Join(values, ", "), maxHeaderValue)
	}
	for name := range custom {
		canonical := clean(http.CanonicalHeaderKey(name), maxHeaderName)
		if _, ok := out[canonical]; ok && speaksOfSecrets(name) {
			out[canonical] = mask
		}
	}
	return out
}

// responseHeaders describes what was answered.
func responseHeaders(answered http.Header) map[string]string {
	if len(answered) == 0 {
		return nil
	}
	out := make(map[string]string, min(len(answered), maxHeaders))
	for name, values := range answered {
		if len(out) == maxHeaders {
			break
		}
		value := mask
		if name != "Set-Cookie" {
			value = clean(strings.Join(values, ", "), maxHeaderValue)
		}
		out[clean(name, maxHeaderName)] = value
	}
	return out
}

func speaksOfSecrets(name string) bool {
	name = strings.ToLower(name)
	for _, word := range secretWords {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}

// clean cuts a text and makes it valid UTF-8: a record that is not could not be stored at all.
func clean(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit]
	}
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// maxRequestBody is how much of a request's body is recorded.
const maxRequestBody = 16 << 10

// recordBody describes the body that was sent. One that is the event's data is not kept twice.
func recordBody(a *recordv1.Attempted, body, data []byte) {
	a.RequestBodySize = int64(len(body))
	switch {
	case len(body) == 0:
	case bytes.Equal(body, data):
		a.RequestBodyIsData = true
	default:
		a.RequestBodyTruncated = len(body) > maxRequestBody
		a.RequestBody = body[:min(len(body), maxRequestBody)]
	}
}

// timings is where the time of an exchange went.
func timings(t *egress.Trace) *recordv1.Timings {
	return &recordv1.Timings{
		DnsUs: t.DNS.Microseconds(), ConnectUs: t.Connect.Microseconds(), TlsUs: t.TLS.Microseconds(),
		FirstByteUs: t.FirstByte.Microseconds(), Reused: t.Reused, RemoteAddress: t.Remote,
	}
}
