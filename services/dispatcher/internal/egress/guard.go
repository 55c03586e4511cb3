// Package egress makes the HTTP requests that leave for receivers. It owns the rule of which
// addresses may be contacted: every address of a name is checked, and the very address that was
// checked is dialled. It holds nothing that may not be lost: connections only.
package egress

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// ErrBlocked is wrapped by every refusal to contact an address. No packet has left.
var ErrBlocked = errors.New("forbidden address")

// blocked4 lists IPv4 prefixes that no receiver may live in: the special-purpose registry of
// RFC 6890 and its successors, and the metadata address that is outside of it.
var blocked4 = prefixes(
	"0.0.0.0/8",          // this network, RFC 791
	"10.0.0.0/8",         // private, RFC 1918
	"100.64.0.0/10",      // carrier-grade NAT, RFC 6598
	"127.0.0.0/8",        // loopback
	"168.63.129.16/32",   // Azure's platform address, outside every special block
	"169.254.0.0/16",     // link-local and the metadata services
	"172.16.0.0/12",      // private, RFC 1918
	"192.0.0.0/24",       // IETF protocol assignments
	"192.0.2.0/24",       // documentation
	"192.88.99.0/24",     // 6to4 relay anycast, RFC 7526
	"192.168.0.0/16",     // private, RFC 1918
	"198.18.0.0/15",      // benchmarks
	"198.51.100.0/24",    // documentation
	"203.0.113.0/24",     // documentation
	"224.0.0.0/4",        // multicast
	"240.0.0.0/4",        // reserved
	"255.255.255.255/32", // broadcast
)

// global6 is the only IPv6 space that is global unicast (RFC 4291 section 2.4, IANA): loopback,
// unspecified, IPv4-compatible, NAT64, discard, unique local, link-local, site-local and
// multicast are all outside of it.
var global6 = netip.MustParsePrefix("2000::/3")

// blocked6 lists what is forbidden inside global6.
var blocked6 = prefixes(
	"2001::/23",     // IETF protocol assignments, with Teredo 2001::/32 and ORCHID
	"2001:db8::/32", // documentation
	"2002::/16",     // 6to4: the packet goes to the IPv4 address inside
	"3fff::/20",     // documentation, RFC 9637
)

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

// Guard decides which addresses may be contacted. The zero value allows public addresses only.
type Guard struct {
	allowed []netip.Prefix
}

// NewGuard returns a guard that also allows the prefixes of an operator's list, each a CIDR or a
// single address. The default is none.
func NewGuard(allow []string) (*Guard, error) {
	g := &Guard{}
	var errs []error
	for _, s := range allow {
		p, err := parsePrefix(strings.TrimSpace(s))
		if err != nil {
			errs = append(errs, fmt.Errorf("allowed network %q: %w", s, err))
			continue
		}
		g.allowed = append(g.allowed, p)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return g, nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	// A prefix of the IPv4-mapped space names IPv4 addresses; they are judged in that form.
	if a := p.Addr(); a.Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, errors.New("reaches beyond the IPv4-mapped space")
		}
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}

// Check returns an error that wraps ErrBlocked if the address may not be contacted. An
// IPv4-mapped address is judged by the IPv4 address inside, because that is where packets go.
func (g *Guard) Check(addr netip.Addr) error {
	if !addr.IsValid() {
		return fmt.Errorf("%w: no address", ErrBlocked)
	}
	// Prefixes contain no address with a zone, so a zone would slip past them.
	addr = addr.Unmap().WithZone("")
	for _, p := range g.allowed {
		if p.Contains(addr) {
			return nil
		}
	}
	list := blocked6
	if addr.Is4() {
		list = blocked4
	} else if !global6.Contains(addr) {
		return fmt.Errorf("%w: %s is not a public address", ErrBlocked, addr)
	}
	for _, p := range list {
		if p.Contains(addr) {
			return fmt.Errorf("%w: %s is in %s", ErrBlocked, addr, p)
		}
	}
	return nil
}

// checkAll refuses a name if any of its addresses is forbidden: a receiver has no reason to mix
// public and internal addresses, and an attacker has.
func (g *Guard) checkAll(addrs []netip.Addr) error {
	for _, a := range addrs {
		if err := g.Check(a); err != nil {
			return err
		}
	}
	return nil
}
