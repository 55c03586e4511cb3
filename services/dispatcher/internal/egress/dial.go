package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"
)

// Resolver turns a name into addresses. *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// minAddressShare is the least time that one of several addresses gets to connect in.
const minAddressShare = 2 * time.Second

// errNoAddress says that a name exists and has no address.
var errNoAddress = errors.New("the name has no address")

// resolveError marks what went wrong before any address was known.
type resolveError struct{ err error }

func (e *resolveError) Error() string { return "resolve: " + e.err.Error() }
func (e *resolveError) Unwrap() error { return e.err }

// dialer connects to checked addresses only.
type dialer struct {
	guard    *Guard
	resolver Resolver
	timeout  time.Duration
	net      net.Dialer
}

func newDialer(guard *Guard, resolver Resolver, timeout time.Duration) *dialer {
	d := &dialer{guard: guard, resolver: resolver, timeout: timeout}
	d.net.KeepAlive = 30 * time.Second
	// The last word: what the socket is about to connect to, whatever led there.
	d.net.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("%w: %q", ErrBlocked, address)
		}
		return d.guard.Check(ap.Addr())
	}
	return d
}

// dial resolves the host, checks every address, and connects to the checked addresses in turn
// without looking the name up again: a name that changes between check and connection gains
// nothing.
func (d *dialer) dial(ctx context.Context, _, hostport string) (net.Conn, error) {
	host, portText, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, fmt.Errorf("%w: %q", ErrBlocked, hostport)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 {
		return nil, fmt.Errorf("%w: port %q", ErrBlocked, portText)
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	addrs, err := d.resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	if err := d.guard.checkAll(addrs); err != nil {
		return nil, err
	}
	return d.connect(ctx, addrs, uint16(port))
}

func (d *dialer) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	addr, ok, err := literal(host)
	if err != nil {
		return nil, err
	}
	if ok {
		return []netip.Addr{addr}, nil
	}
	begun := time.Now()
	addrs, err := d.resolver.LookupNetIP(ctx, "ip", host)
	noteDNS(ctx, begun)
	if err != nil {
		return nil, &resolveError{err}
	}
	if len(addrs) == 0 {
		return nil, &resolveError{errNoAddress}
	}
	return addrs, nil
}

func (d *dialer) connect(ctx context.Context, addrs []netip.Addr, port uint16) (net.Conn, error) {
	defer noteConnect(ctx, time.Now())
	var first error
	for i, addr := range addrs {
		conn, err := d.connectOne(ctx, netip.AddrPortFrom(addr.Unmap(), port), len(addrs)-i)
		if err == nil {
			return conn, nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, first
}

// connectOne gives one address its share of the time that is left, so that a dead first address
// leaves time for the others.
func (d *dialer) connectOne(ctx context.Context, addr netip.AddrPort, left int) (net.Conn, error) {
	if deadline, ok := ctx.Deadline(); ok && left > 1 {
		share := max(time.Until(deadline)/time.Duration(left), minAddressShare)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, share)
		defer cancel()
	}
	return d.net.DialContext(ctx, "tcp", addr.String())
}
