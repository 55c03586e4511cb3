package plane

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/postrider/postrider/test/kube/manifest"
	"github.com/postrider/postrider/test/kube/proxy"
)

// balancer is the address of a Service that is not headless: each connection goes to one of the pods
// that are ready at that moment.
type balancer struct {
	address netip.Addr
	ports   []*proxy.Proxy
}

// balance listens at the ports of a service.
func balance(s *manifest.Service, address netip.Addr, endpoints func() []netip.Addr) (*balancer, error) {
	b := &balancer{address: address}
	for _, port := range s.Spec.Ports {
		number := uint16(port.Port)
		p, err := proxy.Listen(netip.AddrPortFrom(address, number), func() []netip.AddrPort {
			var out []netip.AddrPort
			for _, pod := range endpoints() {
				out = append(out, netip.AddrPortFrom(pod, number))
			}
			return out
		})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("service %s: %w", s.Metadata.Name, err), b.close())
		}
		b.ports = append(b.ports, p)
	}
	return b, nil
}

func (b *balancer) close() error {
	var errs []error
	for _, p := range b.ports {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}
