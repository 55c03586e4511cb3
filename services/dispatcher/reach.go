package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/services/dispatcher/internal/egress"
)

// Reached is what came of asking a receiver for a sign of life.
type Reached struct {
	// Status is the response's; 0: there was none, and Class and Message say why.
	Status  int
	Class   postrider.ErrorClass
	Message string
	Took    time.Duration
}

// CheckEgress says why receivers cannot be reached as configured, or nil. It sends nothing.
func CheckEgress(cfg EgressConfig) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	client, err := newClient(cfg, nil)
	if err != nil {
		return err
	}
	client.Close()
	return nil
}

// CheckResolver says why names cannot be resolved, or nil: it asks for one that no resolver knows, and
// wants to hear just that. Default resolver: that of attempts.
func CheckResolver(ctx context.Context, resolver *net.Resolver) error {
	if resolver == nil {
		resolver = &net.Resolver{PreferGo: true}
	}
	const timeout = 3 * time.Second
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err := resolver.LookupHost(ctx, "postrider-doctor.invalid.")
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		return nil
	}
	return err
}

// Opened are those of the allowed networks that hold addresses which are not public, all of which a
// webhook's URL may then name.
func (c EgressConfig) Opened() []string {
	guard, err := egress.NewGuard(nil)
	if err != nil {
		return nil
	}
	var open []string
	for _, network := range c.AllowNetworks {
		prefix, err := netip.ParsePrefix(network)
		if err != nil {
			addr, err := netip.ParseAddr(network)
			if err != nil {
				continue
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		if guard.Check(prefix.Addr()) != nil {
			open = append(open, network)
		}
	}
	return open
}

// Reach asks a URL with HEAD, through the guard, the resolver and the proxy that attempts go through,
// and over a connection of its own. Any response is a sign of life.
func Reach(ctx context.Context, cfg EgressConfig, rawURL string) (Reached, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return Reached{}, fmt.Errorf("%q is not an http or https URL", rawURL)
	}
	client, err := newClient(cfg, nil)
	if err != nil {
		return Reached{}, err
	}
	defer client.Close()
	const timeout = 10 * time.Second
	r := client.Do(ctx, &egress.Request{Method: http.MethodHead, URL: u, Header: http.Header{"User-Agent": {"postrider-doctor"}}, Timeout: timeout})
	return Reached{Status: r.Status, Class: r.Class, Message: r.Message, Took: r.Duration}, nil
}
