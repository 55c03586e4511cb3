package fault

import (
	"cmp"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// ProblemContentType is the media type of Problem's body (RFC 9457).
const ProblemContentType = "application/problem+json"

// problem is the body. Its type is about:blank, so the title is the status's own phrase; Reason
// tells programs what happened.
type problem struct {
	Type      string            `json:"type"`
	Title     string            `json:"title"`
	Status    int               `json:"status"`
	Detail    string            `json:"detail,omitempty"`
	Reason    string            `json:"reason"`
	Errors    []problemField    `json:"errors,omitempty"`
	Metadata  map[string]string `json:"metadata,omitempty"`
	RequestID string            `json:"request_id,omitempty"`
}

type problemField struct {
	Pointer string `json:"pointer"`
	Detail  string `json:"detail"`
}

// Problem is err as RFC 9457 problem details, with the same fields visible as over gRPC.
func Problem(err error, requestID string) (code int, body []byte) {
	e := resolve(err)
	p := problem{
		Type: "about:blank", Status: cmp.Or(e.Status, e.Kind.HTTP()), Detail: e.Message, Reason: e.Reason,
		Metadata: e.Metadata, RequestID: requestID,
	}
	p.Title = http.StatusText(p.Status)
	if p.Status == statusClientClosedRequest {
		p.Title = "Client Closed Request"
	}
	for _, v := range e.Violations {
		p.Errors = append(p.Errors, problemField{Pointer: pointer(v.Field), Detail: v.Rule})
	}
	body, merr := json.Marshal(p)
	if merr != nil { // strings and ints only: cannot happen, and must not hide the status
		return p.Status, []byte(`{"type":"about:blank","status":` + strconv.Itoa(p.Status) + `}`)
	}
	return p.Status, body
}

// WriteProblem answers a request with Problem's body, Retry-After where the error has one, and
// the challenge that RFC 9110 wants of a 401.
func WriteProblem(w http.ResponseWriter, err error, requestID string) {
	code, body := Problem(err, requestID)
	h := w.Header()
	h.Set("Content-Type", ProblemContentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Content-Type-Options", "nosniff")
	if code == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
	if e, ok := As(err); ok && e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10))
	}
	w.WriteHeader(code)
	_, _ = w.Write(body) // the client may be gone; there is nobody left to tell
}

// pointer turns a field path ("webhook.event_types[2]", `labels["a.b"]`) into a JSON pointer as a
// URI fragment (RFC 6901 section 6): "#/webhook/event_types/2".
func pointer(field string) string {
	var b strings.Builder
	b.WriteByte('#')
	for field != "" {
		var token string
		token, field = nextToken(field)
		b.WriteByte('/')
		b.WriteString(escapeToken(token))
	}
	return b.String()
}

// nextToken cuts the first name or subscript off a field path.
func nextToken(path string) (token, rest string) {
	if strings.HasPrefix(path, "[") {
		if q, err := strconv.QuotedPrefix(path[1:]); err == nil {
			if t, err := strconv.Unquote(q); err == nil {
				rest = strings.TrimPrefix(path[1+len(q):], "]")
				return t, strings.TrimPrefix(rest, ".")
			}
		}
		token, rest, _ = strings.Cut(path[1:], "]")
		return token, strings.TrimPrefix(rest, ".")
	}
	i := strings.IndexAny(path, ".[")
	if i < 0 {
		return path, ""
	}
	return path[:i], strings.TrimPrefix(path[i:], ".")
}

// escapeToken escapes for RFC 6901 and then for a URI fragment (RFC 3986).
func escapeToken(s string) string {
	s = strings.NewReplacer("~", "~0", "/", "~1").Replace(s)
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~!$&'()*+,;=:@", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hex[c>>4])
		b.WriteByte(hex[c&15])
	}
	return b.String()
}
