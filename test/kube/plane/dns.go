package plane

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"

	"github.com/miekg/dns"

	"github.com/postrider/postrider/test/kube/sandbox"
)

// Names answers for the cluster's names: a headless Service is the pods that are ready behind it,
// any other has an address of its own.
type Names struct {
	lookup func(service, namespace string) []netip.Addr

	mu     sync.Mutex
	fixed  map[string][]netip.Addr
	server []*dns.Server
	served sync.WaitGroup
}

const clusterDomain = ".svc.cluster.local."

// startNames serves at the cluster's DNS address.
func startNames(lookup func(service, namespace string) []netip.Addr) (*Names, error) {
	n := &Names{lookup: lookup, fixed: map[string][]netip.Addr{}}
	at := net.JoinHostPort(sandbox.DNS.String(), "53")
	packets, err := net.ListenPacket("udp", at) //nolint:noctx // a bind does not wait
	if err != nil {
		return nil, fmt.Errorf("serve names: %w", err)
	}
	stream, err := net.Listen("tcp", at) //nolint:noctx // a bind does not wait
	if err != nil {
		return nil, errors.Join(fmt.Errorf("serve names: %w", err), packets.Close())
	}
	n.server = []*dns.Server{{PacketConn: packets, Handler: n}, {Listener: stream, Handler: n}}
	for _, s := range n.server {
		n.served.Go(func() { _ = s.ActivateAndServe() }) // it ends when it is shut down
	}
	return n, nil
}

// Fix gives a name addresses of its own: that of a store, or of somebody outside.
func (n *Names) Fix(name string, addresses ...netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fixed[name+"."] = addresses
}

// ServeDNS answers one question.
func (n *Names) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(r)
	m.Authoritative = true
	for _, q := range r.Question {
		found := n.find(strings.ToLower(q.Name))
		if found == nil {
			m.Rcode = dns.RcodeNameError
		}
		for _, a := range found {
			if q.Qtype == dns.TypeA {
				m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 5}, A: a.AsSlice()})
			}
		}
	}
	_ = w.WriteMsg(m) // who asked may be gone
}

func (n *Names) find(name string) []netip.Addr {
	n.mu.Lock()
	fixed, ok := n.fixed[name]
	n.mu.Unlock()
	if ok {
		return fixed
	}
	inner, ok := strings.CutSuffix(name, clusterDomain)
	if !ok {
		return nil
	}
	service, namespace, ok := strings.Cut(inner, ".")
	if !ok {
		return nil
	}
	return n.lookup(service, namespace)
}

// stop ends the servers.
func (n *Names) stop() {
	for _, s := range n.server {
		_ = s.Shutdown() // it may not have begun
	}
	n.served.Wait()
}
