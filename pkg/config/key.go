package config

import (
	"encoding/hex"
	"strings"

	"github.com/postrider/postrider/pkg/stream/bucket"
)

// adminOwner stands for the account in the keys of admin keys.
const adminOwner = "admin"

// spec is how a bucket of this package is made.
func spec(name string) bucket.Spec {
	s := bucket.Spec{Name: name, Description: "postrider configuration: " + name}
	switch name {
	case BucketCancellations:
		s.TTL, s.ExpiryMarkers = cancellationKept, markerKept
	case bucketIdempotency:
		s.TTL = idempotencyKept
	case bucketJobs:
		s.TTL = jobKept
	case bucketFailing:
		s.TTL = failingKept
	}
	return s
}

// key joins tokens to a key. Each is escaped so that it is one token of a NATS subject and cannot
// be a wildcard: an id that a caller made up finds nothing, and never another account's record.
func key(tokens ...string) string {
	escaped := make([]string, len(tokens))
	for i, t := range tokens {
		escaped[i] = escape(t, false)
	}
	return strings.Join(escaped, ".")
}

// typeKey is the key of an event type. The dots of its name stay, so that the names of an account
// read as they are written; the account's id has none.
func typeKey(account, name string) string { return key(account) + "." + escape(name, true) }

// splitKey is the inverse of key.
func splitKey(k string, tokens int) ([]string, bool) {
	parts := strings.Split(k, ".")
	if len(parts) != tokens {
		return nil, false
	}
	for i, p := range parts {
		t, ok := unescape(p)
		if !ok {
			return nil, false
		}
		parts[i] = t
	}
	return parts, true
}

// splitTypeKey is the inverse of typeKey.
func splitTypeKey(k string) (account, name string, ok bool) {
	a, n, found := strings.Cut(k, ".")
	account, okAccount := unescape(a)
	name, okName := unescape(n)
	return account, name, found && okAccount && okName
}

// keyOwner is the account's place in the key of an API key.
func keyOwner(account string) string {
	if account == "" {
		return adminOwner
	}
	return account
}

// hashOfKey reads the hash out of the key of an API key, <owner>.<id>.<hash>. It stands there so
// that the marker of a deletion still says which credential it ended.
func hashOfKey(k string) ([]byte, bool) {
	parts, ok := splitKey(k, 3)
	if !ok {
		return nil, false
	}
	hash, err := hex.DecodeString(parts[2])
	return hash, err == nil && len(hash) > 0
}

const upperHex = "0123456789ABCDEF"

// escape writes every byte that is not a letter, a digit, "-" or "_" as "=XX". With dots, a dot
// stays unless the token before or after it would be empty, which NATS does not allow. The empty
// string is "=".
func escape(s string, dots bool) string {
	if s == "" {
		return "="
	}
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
			b.WriteByte(c)
		case c == '.' && dots && i > 0 && i < len(s)-1 && s[i-1] != '.':
			b.WriteByte(c)
		default:
			b.WriteByte('=')
			b.WriteByte(upperHex[c>>4])
			b.WriteByte(upperHex[c&15])
		}
	}
	return b.String()
}

// unescape is the inverse of escape; false if no string escapes to s.
func unescape(s string) (string, bool) {
	if s == "=" {
		return "", true
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '=' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		d, err := hex.DecodeString(s[i+1 : i+3])
		if err != nil {
			return "", false
		}
		b.WriteByte(d[0])
		i += 2
	}
	out := b.String()
	return out, out != "" && (escape(out, true) == s || escape(out, false) == s)
}
