// Package names answers for the names of a network of sandboxes.
package names

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

// Server answers with the addresses that a name has at that moment.
type Server struct {
	lookup func(name string) []netip.Addr

	mu     sync.Mutex
	fixed  map[string][]netip.Addr
	server []*dns.Server
	served sync.WaitGroup
}

// Serve answers at sandbox.DNS. Lookup is asked with a name in small letters and without a dot at its
// end, from several goroutines; nil is a name that is not there, and an empty list one that nobody
// answers to now.
func Serve(lookup func(name string) []netip.Addr) (*Server, error) {
	s := &Server{lookup: lookup, fixed: map[string][]netip.Addr{}}
	at := net.JoinHostPort(sandbox.DNS.String(), "53")
	packets, err := net.ListenPacket("udp", at) //nolint:noctx // a bind does not wait
	if err != nil {
		return nil, fmt.Errorf("serve names: %w", err)
	}
	stream, err := net.Listen("tcp", at) //nolint:noctx // a bind does not wait
	if err != nil {
		return nil, errors.Join(fmt.Errorf("serve names: %w", err), packets.Close())
	}
	s.server = []*dns.Server{{PacketConn: packets, Handler: s}, {Listener: stream, Handler: s}}
	for _, d := range s.server {
		s.served.Go(func() { _ = d.ActivateAndServe() }) // it ends when it is shut down
	}
	return s, nil
}

// Fix gives a name addresses of its own: that of a store, or of somebody outside.
func (s *Server) Fix(name string, addresses ...netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fixed[name] = addresses
}

// ServeDNS answers one question.
func (s *Server) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(r)
	m.Authoritative = true
	for _, q := range r.Question {
		found := s.Find(strings.TrimSuffix(strings.ToLower(q.Name), "."))
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

// Find is what a name stands for now.
func (s *Server) Find(name string) []netip.Addr {
	s.mu.Lock()
	fixed, ok := s.fixed[name]
	s.mu.Unlock()
	if ok {
		return fixed
	}
	return s.lookup(name)
}

// Stop ends the server.
func (s *Server) Stop() {
	for _, d := range s.server {
		_ = d.Shutdown() // it may not have begun
	}
	s.served.Wait()
}
