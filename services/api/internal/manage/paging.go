package manage

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
)

// Page sizes (AIP-158): 0 is the default, more than the maximum is the maximum.
const (
	defaultPageSize = 50
	maxPageSize     = 1000
	maxPageBytes    = 8 << 20
)

func pageSize(requested int32) (int, error) {
	switch {
	case requested < 0:
		return 0, invalid("page_size", "must not be negative")
	case requested == 0:
		return defaultPageSize, nil
	}
	return min(int(requested), maxPageSize), nil
}

// pageToken is a place in a list, bound to what else the list was asked with: a token that is
// sent with other arguments is refused. It carries no authority.
func pageToken(place string, arguments ...string) string {
	return base64.RawURLEncoding.EncodeToString(append(bindTo(arguments), place...))
}

// parsePageToken is the place in a token, empty for the first page.
func parsePageToken(token string, arguments ...string) (place string, err error) {
	if token == "" {
		return "", nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) <= bindingBytes {
		return "", invalid("page_token", "is not a token that a list gave")
	}
	if string(raw[:bindingBytes]) != string(bindTo(arguments)) {
		return "", invalid("page_token", "belongs to a list with other arguments")
	}
	return string(raw[bindingBytes:]), nil
}

const bindingBytes = 8

func bindTo(arguments []string) []byte {
	sum := sha256.Sum256([]byte(strings.Join(arguments, "\x00")))
	return sum[:bindingBytes]
}

// timePlace and its inverse write a time and an id as a place.
func timePlace(us int64, id string) string {
	return string(binary.BigEndian.AppendUint64(nil, uint64(us))) + id //nolint:gosec // both ways alike
}

func parseTimePlace(place string) (us int64, id string, ok bool) {
	if len(place) < 8 {
		return 0, "", false
	}
	return int64(binary.BigEndian.Uint64([]byte(place[:8]))), place[8:], true //nolint:gosec // both ways alike
}
