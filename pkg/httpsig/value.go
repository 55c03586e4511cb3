package httpsig

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// derivedNames are the derived components that are known (RFC 9421, section 2.2).
var derivedNames = []string{
	"@method", "@target-uri", "@authority", "@scheme", "@request-target", "@path", "@query", "@query-param", "@status",
}

// target is a target URI in its parts, each exactly as it stands there.
type target struct {
	scheme, authority, path, query string
	hasQuery                       bool
}

// splitTarget takes the URI apart without decoding or encoding anything.
func splitTarget(uri string) (target, error) {
	for i := range len(uri) {
		if uri[i] <= ' ' || uri[i] >= 0x7f {
			return target{}, fmt.Errorf("%w: the target URI has characters that must be encoded", ErrMessage)
		}
	}
	scheme, rest, ok := strings.Cut(uri, "://")
	if !ok || scheme == "" || strings.Contains(uri, "#") {
		return target{}, fmt.Errorf("%w: the target URI must be absolute and without fragment", ErrMessage)
	}
	t := target{scheme: strings.ToLower(scheme)}
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	t.authority, rest = rest[:end], rest[end:]
	t.path, t.query, t.hasQuery = strings.Cut(rest, "?")
	if t.path == "" {
		t.path = "/"
	}
	t.authority = strings.ToLower(t.authority)
	switch t.scheme {
	case "https":
		t.authority = strings.TrimSuffix(t.authority, ":443")
	case "http":
		t.authority = strings.TrimSuffix(t.authority, ":80")
	}
	if t.authority == "" || strings.Contains(t.authority, "@") {
		return target{}, fmt.Errorf("%w: the target URI must have a host and no user information", ErrMessage)
	}
	return t, nil
}

// value is the component's value in the message.
func (c *component) value(m *Message) (string, error) {
	if c.req {
		if m.Status == 0 || m.Request == nil {
			return "", fmt.Errorf("%w: %s is for a response with its request", ErrMessage, c.text)
		}
		m = m.Request
	}
	if !c.derived() {
		return c.field(m.Header)
	}
	if c.name == "@status" {
		if m.Status < 100 || m.Status > 999 {
			return "", fmt.Errorf("%w: @status of a message without status", ErrMessage)
		}
		return strconv.Itoa(m.Status), nil
	}
	if m.Status != 0 {
		return "", fmt.Errorf("%w: a response has no %s", ErrMessage, c.name)
	}
	if c.name == "@method" {
		if !validToken(m.Method) {
			return "", fmt.Errorf("%w: no valid method", ErrMessage)
		}
		return m.Method, nil
	}
	return c.ofTarget(m)
}

// ofTarget is the value of a component that is derived from the target URI.
func (c *component) ofTarget(m *Message) (string, error) {
	t, err := splitTarget(m.URL)
	if err != nil {
		return "", err
	}
	switch c.name {
	case "@target-uri":
		return m.URL, nil
	case "@authority":
		return t.authority, nil
	case "@scheme":
		return t.scheme, nil
	case "@path":
		return t.path, nil
	case "@query":
		return "?" + t.query, nil
	case "@query-param":
		return queryParam(t.query, c.param)
	}
	// The origin form; those of CONNECT and `OPTIONS *` cannot be told from a target URI.
	if m.Method == http.MethodConnect {
		return "", fmt.Errorf("%w: @request-target of CONNECT", ErrUnsupported)
	}
	if t.hasQuery {
		return t.path + "?" + t.query, nil
	}
	return t.path, nil
}

// queryParam is the value of the one query parameter whose name, encoded as RFC 9421, section
// 2.2.8 says, is name.
func queryParam(query, name string) (string, error) {
	var found []string
	for pair := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if formEncode(formDecode(key)) == name && pair != "" {
			found = append(found, formEncode(formDecode(value)))
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("%w: no query parameter %.64q", ErrMessage, name)
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%w: more than one query parameter %.64q", ErrMessage, name)
}

// formDecode decodes as application/x-www-form-urlencoded does: what is no valid escape stays.
func formDecode(s string) string {
	if decoded, err := url.QueryUnescape(s); err == nil {
		return decoded
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '+':
			b.WriteByte(' ')
		case s[i] == '%' && i+2 < len(s) && hexDigit(s[i+1]) && hexDigit(s[i+2]):
			n, _ := strconv.ParseUint(s[i+1:i+3], 16, 8)
			b.WriteByte(byte(n))
			i += 2
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

func hexDigit(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// formEncode percent-encodes with the set of application/x-www-form-urlencoded; a space is %20.
func formEncode(s string) string {
	const hex = "0123456789ABCDEF"
	s = strings.ToValidUTF8(s, "\ufffd")
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("*-._", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hex[c>>4])
		b.WriteByte(hex[c&15])
	}
	return b.String()
}

// lines are the values of a field, each trimmed and on one line.
func lines(h http.Header, name string) ([]string, error) {
	values := h.Values(name)
	if values == nil {
		values = h[name] // a name that net/http does not write so
	}
	if len(values) == 0 {
		return nil, fmt.Errorf("%w: no field %s", ErrMessage, name)
	}
	out := make([]string, len(values))
	for i, v := range values {
		v = strings.Trim(unfold(v), " \t")
		for j := range len(v) {
			if c := v[j]; c < ' ' && c != '\t' || c == 0x7f {
				return nil, fmt.Errorf("%w: field %s has control characters", ErrMessage, name)
			}
		}
		out[i] = v
	}
	return out, nil
}

// folding is an obsolete line folding (RFC 9112, section 5.2).
var folding = regexp.MustCompile(`[ \t]*\r?\n[ \t]+`)

// unfold makes one space of each obsolete line folding.
func unfold(v string) string {
	if !strings.Contains(v, "\n") {
		return v
	}
	return folding.ReplaceAllString(v, " ")
}
