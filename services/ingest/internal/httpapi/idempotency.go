package httpapi

import (
	"net/http"
	"strings"
)

// idempotencyKey reads the header Idempotency-Key: a Structured Field string as in
// draft-ietf-httpapi-idempotency-key-header-07, or bare as most clients send it. Both give the
// same key. An absent header gives an empty key; one that is there has to name a key. Which
// characters a key may have is admission's rule.
func idempotencyKey(header http.Header) (key, rule string) {
	values := header.Values("Idempotency-Key")
	if len(values) == 0 {
		return "", ""
	}
	if len(values) > 1 {
		return "", "must come once as header Idempotency-Key"
	}
	key = strings.Trim(values[0], " \t")
	if strings.HasPrefix(key, `"`) {
		var ok bool
		if key, ok = structuredString(key); !ok {
			return "", "must be a Structured Field string, if it is quoted in header Idempotency-Key"
		}
	}
	if key == "" {
		return "", "must not be empty in header Idempotency-Key"
	}
	return key, ""
}

// structuredString reads an item that is a string (RFC 9651, 4.2.5); parameters after it are
// ignored.
func structuredString(s string) (string, bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			rest := s[i+1:]
			return b.String(), rest == "" || rest[0] == ';'
		case c == '\\':
			i++
			if i == len(s) || (s[i] != '"' && s[i] != '\\') {
				return "", false
			}
			b.WriteByte(s[i])
		case c < ' ' || c > '~':
			return "", false
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}
