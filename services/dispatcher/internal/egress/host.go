package egress

import (
	"fmt"
	"net/netip"
	"strings"
)

// literal returns the address if the host is an IP literal. A host that is no literal but ends in
// a number ("127.1", "0x7f.1", "2130706433", "127.0.0.1.") is refused: it is no DNS name, and some
// resolvers read an IPv4 address in it (the WHATWG URL standard, "ends in a number").
func literal(host string) (addr netip.Addr, ok bool, err error) {
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr, true, nil
	}
	if endsInNumber(host) {
		return netip.Addr{}, false, fmt.Errorf("%w: %q is an irregular form of an address", ErrBlocked, host)
	}
	return netip.Addr{}, false, nil
}

func endsInNumber(host string) bool {
	host = strings.TrimSuffix(host, ".")
	last := host[strings.LastIndexByte(host, '.')+1:]
	if last == "" {
		return host != ""
	}
	if rest, ok := strings.CutPrefix(strings.ToLower(last), "0x"); ok {
		return strings.Trim(rest, "0123456789abcdef") == ""
	}
	return strings.Trim(last, "0123456789") == ""
}
