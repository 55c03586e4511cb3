package profile

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

const (
	headerContentType = "Content-Type"
	jsonType          = "application/json"

	// MaxHeaders is the most custom headers that a webhook has.
	MaxHeaders = 20
	// MaxHeaderBytes is the longest custom header, name and value.
	MaxHeaderBytes = 4096
)

// reservedHeaders belong to the connection, to HTTP's framing, or to Postrider.
var reservedHeaders = []string{
	"Connection", "Expect", "Host", "Http2-Settings", "Keep-Alive", "Te", "Trailer", "Traceparent",
	"Tracestate", "Transfer-Encoding", "Upgrade",
}

// reservedPrefixes are families of the same.
var reservedPrefixes = []string{"Content-", "Proxy-", "Signature", "Webhook-"}

// CheckHeader says what is wrong with a custom header: it must be a field of HTTP (RFC 9110
// section 5), and not one that Postrider or the connection sets.
func CheckHeader(name, value string) error {
	if !httpguts.ValidHeaderFieldName(name) {
		return errors.New("the name must be a token")
	}
	canonical := http.CanonicalHeaderKey(name)
	if slices.Contains(reservedHeaders, canonical) ||
		slices.ContainsFunc(reservedPrefixes, func(p string) bool { return strings.HasPrefix(canonical, p) }) {
		return errors.New("the header is reserved")
	}
	if !httpguts.ValidHeaderFieldValue(value) || strings.Trim(value, " \t") != value {
		return errors.New("the value must hold no control characters and no space at its ends")
	}
	if len(name)+len(value) > MaxHeaderBytes {
		return fmt.Errorf("name and value must have at most %d bytes", MaxHeaderBytes)
	}
	return nil
}

// MergeHeaders adds a webhook's custom headers to dst. It skips those that dst has already and
// those that CheckHeader refuses, so that no stored header ever overrides one of ours.
func MergeHeaders(dst http.Header, custom map[string]string) {
	for name, value := range custom {
		canonical := http.CanonicalHeaderKey(name)
		if _, ours := dst[canonical]; ours || CheckHeader(name, value) != nil {
			continue
		}
		dst[canonical] = []string{value}
	}
}
