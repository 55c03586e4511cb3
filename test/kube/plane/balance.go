package plane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/postrider/postrider/test/kube/manifest"
)

// balancer is the address of a Service that is not headless: each connection goes to one of the pods
// that are ready at that moment, and stays there, as it does through a node's rules.
type balancer struct {
	address   netip.Addr
	endpoints func() []netip.Addr
	listeners []net.Listener
	running   sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
}

// balance listens at the ports of a service.
func balance(s *manifest.Service, address netip.Addr, endpoints func() []netip.Addr) (*balancer, error) {
	b := &balancer{address: address, endpoints: endpoints, conns: map[net.Conn]bool{}}
	for _, p := range s.Spec.Ports {
		l, err := net.Listen("tcp", net.JoinHostPort(address.String(), strconv.Itoa(p.Port))) //nolint:noctx // a bind does not wait
		if err != nil {
			return nil, errors.Join(fmt.Errorf("service %s: %w", s.Metadata.Name, err), b.close())
		}
		b.listeners = append(b.listeners, l)
		b.running.Go(func() { b.accept(l, p.Port) })
	}
	return b, nil
}

func (b *balancer) accept(l net.Listener, port int) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		b.running.Go(func() { b.serve(conn, port) })
	}
}

// serve connects a client to a pod, and both ways end when one does.
func (b *balancer) serve(client net.Conn, port int) {
	defer func() { _ = client.Close() }()
	pods := b.endpoints()
	if len(pods) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var d net.Dialer
	pod, err := d.DialContext(ctx, "tcp", net.JoinHostPort(pods[rand.IntN(len(pods))].String(), strconv.Itoa(port)))
	if err != nil {
		return
	}
	b.keep(client, pod, true)
	defer b.keep(client, pod, false)
	b.running.Go(func() {
		_, _ = io.Copy(pod, client) // an end of either is the end of both
		_ = pod.Close()
	})
	_, _ = io.Copy(client, pod)
	_ = pod.Close()
}

func (b *balancer) keep(client, pod net.Conn, open bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range []net.Conn{client, pod} {
		if open {
			b.conns[c] = true
		} else {
			delete(b.conns, c)
		}
	}
}

func (b *balancer) close() error {
	var errs []error
	for _, l := range b.listeners {
		errs = append(errs, l.Close())
	}
	b.mu.Lock()
	for c := range b.conns {
		_ = c.Close() // its other end may have done so
	}
	b.mu.Unlock()
	b.running.Wait()
	return errors.Join(errs...)
}
