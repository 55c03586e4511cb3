package profile

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// MaxURLBytes is the longest URL of a webhook, before and after normalisation.
const MaxURLBytes = 2048

// The rules of URLs. Their texts never repeat the URL, which may hold a secret.
var (
	errURLLength   = fmt.Errorf("must have at most %d bytes", MaxURLBytes)
	errURLSyntax   = errors.New("must be an absolute URL")
	errURLControl  = errors.New("must hold no control characters and no outer spaces")
	errURLHTTPS    = errors.New("must begin with https://")
	errURLScheme   = errors.New("must begin with https:// or http://")
	errURLUserinfo = errors.New("must hold no user name and no password")
	errURLHost     = errors.New("must have a valid host")
	errURLPort     = errors.New("must have a port from 1 to 65535, or none")
)

// NormalizeURL is the one form of a webhook's URL that is stored, signed and dialled: absolute,
// https (or http, if allowed), lower-case ASCII host (IDNA), no default port, a path, no fragment
// and no user information. Path and query stay as they were given, except that what may not stand
// in a request line (spaces, quotes, anything that is not ASCII) is percent-encoded. Normalising
// twice changes nothing more. Where the host may lie is not judged here but at each attempt.
func NormalizeURL(raw string, allowHTTP bool) (string, error) {
	if len(raw) > MaxURLBytes {
		return "", errURLLength
	}
	if !utf8.ValidString(raw) || strings.TrimSpace(raw) != raw || strings.ContainsFunc(raw, unicode.IsControl) {
		return "", errURLControl
	}
	raw, _, _ = strings.Cut(raw, "#")
	u, err := url.Parse(raw)
	if err != nil {
		return "", classifyParse(err)
	}
	if err := checkScheme(u, allowHTTP); err != nil {
		return "", err
	}
	if u.User != nil {
		return "", errURLUserinfo
	}
	host, err := normalizeHost(u)
	if err != nil {
		return "", err
	}
	path := u.RawPath // set where the default encoding differs from what was given
	if path == "" {
		path = u.EscapedPath()
	}
	if path == "" {
		path = "/"
	}
	out := u.Scheme + "://" + host + percentEncode(path)
	if u.RawQuery != "" || u.ForceQuery {
		out += "?" + percentEncode(u.RawQuery)
	}
	if len(out) > MaxURLBytes {
		return "", errURLLength
	}
	return out, nil
}

// classifyParse keeps url.Parse's own text, which repeats the URL, to itself.
func classifyParse(err error) error {
	if _, ok := errors.AsType[url.InvalidHostError](err); ok {
		return errURLHost
	}
	return errURLSyntax
}

func checkScheme(u *url.URL, allowHTTP bool) error {
	switch {
	case u.Scheme == "":
		return errURLSyntax
	case u.Scheme == "https", u.Scheme == "http" && allowHTTP:
	case allowHTTP:
		return errURLScheme
	default:
		return errURLHTTPS
	}
	if u.Opaque != "" || u.Host == "" {
		return errURLHost
	}
	return nil
}

// normalizeHost is host and port as they stand in the URL.
func normalizeHost(u *url.URL) (string, error) {
	host, err := normalizeName(u.Hostname(), strings.HasPrefix(u.Host, "["))
	if err != nil {
		return "", err
	}
	text := u.Port()
	if text == "" {
		return host, nil
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return "", errURLPort
	}
	if u.Scheme == "https" && port == 443 || u.Scheme == "http" && port == 80 {
		return host, nil
	}
	return host + ":" + strconv.FormatUint(port, 10), nil
}

// hostProfile maps names as look-ups do (UTS 46, not transitional). The characters of the result
// are checked by checkName, which lets '_' pass: names of containers have it.
func hostProfile() *idna.Profile {
	return idna.New(idna.MapForLookup(), idna.Transitional(false), idna.BidiRule(), idna.StrictDomainName(false))
}

func normalizeName(name string, bracketed bool) (string, error) {
	if bracketed {
		ip, err := netip.ParseAddr(name)
		if err != nil || !ip.Is6() || ip.Zone() != "" {
			return "", errURLHost
		}
		return "[" + ip.String() + "]", nil
	}
	name = strings.ToLower(name)
	if !isASCII(name) || strings.Contains(name, "xn--") {
		mapped, err := hostProfile().ToASCII(name)
		if err != nil {
			return "", errURLHost
		}
		name = mapped
	}
	if !validName(name) {
		return "", errURLHost
	}
	return name, nil
}

// validName reports whether the lower-case ASCII name has the form of a host name: labels of 1 to
// 63 letters, digits, '-' and '_', 253 bytes in all, and perhaps a final dot.
func validName(name string) bool {
	name = strings.TrimSuffix(name, ".")
	if len(name) == 0 || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if len(label) == 0 || len(label) > 63 {
			return false
		}
		for i := range len(label) {
			if c := label[i]; !lowerAlnum(c) && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

func lowerAlnum(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// percentEncode encodes what RFC 3986 keeps out of paths and queries, except '[' and ']', which
// the names of parameters commonly have. What is encoded already stays as it is.
func percentEncode(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}", c) >= 0 {
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}
