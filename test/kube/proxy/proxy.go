// Package proxy leads connections to somebody else: those to the address of a Service that is not
// headless, and those to a port that a container publishes.
package proxy

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Proxy takes connections. Each goes to one of those that are there at that moment, and stays there,
// as it does through a node's rules.
type Proxy struct {
	backends func() []netip.AddrPort
	listener net.Listener
	running  sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
}

// Listen begins to take connections. Backends is asked for each one; without any it is closed at once.
func Listen(at netip.AddrPort, backends func() []netip.AddrPort) (*Proxy, error) {
	l, err := net.Listen("tcp", at.String()) //nolint:noctx // a bind does not wait
	if err != nil {
		return nil, err
	}
	p := &Proxy{backends: backends, listener: l, conns: map[net.Conn]bool{}}
	p.running.Go(p.accept)
	return p, nil
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.serve(conn) })
	}
}

// serve connects a client to a backend, and both ways end when one does.
func (p *Proxy) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	backends := p.backends()
	if len(backends) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var d net.Dialer
	backend, err := d.DialContext(ctx, "tcp", backends[rand.IntN(len(backends))].String())
	if err != nil {
		return
	}
	p.keep(client, backend, true)
	defer p.keep(client, backend, false)
	p.running.Go(func() {
		_, _ = io.Copy(backend, client) // an end of either is the end of both
		_ = backend.Close()
	})
	_, _ = io.Copy(client, backend)
	_ = backend.Close()
}

func (p *Proxy) keep(client, backend net.Conn, open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range []net.Conn{client, backend} {
		if open {
			p.conns[c] = true
		} else {
			delete(p.conns, c)
		}
	}
}

// Close ends every connection and waits for them.
func (p *Proxy) Close() error {
	errs := []error{p.listener.Close()}
	p.mu.Lock()
	for c := range p.conns {
		_ = c.Close() // its other end may have done so
	}
	p.mu.Unlock()
	p.running.Wait()
	return errors.Join(errs...)
}
