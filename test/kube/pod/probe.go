package pod

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/postrider/postrider/test/kube/manifest"
)

// probe asks for startup until it is answered, then for readiness and liveness until the context
// ends.
func (p *Pod) probe(ctx context.Context) {
	c := p.service()
	started := p.each(ctx, c.StartupProbe, func(ok bool, failures int) bool {
		if failures == c.StartupProbe.FailureThreshold {
			p.Report(fmt.Errorf("pod %s would be restarted: it has not started after %d probes\n%s", p.Name, failures, p.process.Tail(20)))
		}
		return !ok
	})
	if !started {
		return
	}
	p.probes.Go(func() {
		p.each(ctx, c.LivenessProbe, func(_ bool, failures int) bool {
			if failures == c.LivenessProbe.FailureThreshold {
				p.Report(fmt.Errorf("pod %s would be restarted: it is not alive", p.Name))
			}
			return true
		})
	})
	p.each(ctx, c.ReadinessProbe, func(ok bool, failures int) bool {
		if ok || failures >= c.ReadinessProbe.FailureThreshold {
			p.setReady(ok)
		}
		return true
	})
}

// each asks at once and then with the probe's period, until verdict says that it is enough; it
// reports whether it did. Failures are those in a row.
func (p *Pod) each(ctx context.Context, probe *manifest.Probe, verdict func(ok bool, failures int) (more bool)) bool {
	tick := time.NewTicker(time.Duration(probe.PeriodSeconds) * time.Second)
	defer tick.Stop()
	failures := 0
	for {
		err := p.ask(ctx, probe)
		if ctx.Err() != nil {
			return false
		}
		if err == nil {
			failures = 0
		} else {
			failures++
		}
		if !verdict(err == nil, failures) {
			return true
		}
		select {
		case <-tick.C:
		case <-p.process.Ended():
			if !p.Terminating() {
				p.Report(fmt.Errorf("pod %s ended by itself: %w\n%s", p.Name, p.process.Result(), p.process.Tail(20)))
			}
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// ask is one probe: a connection of its own, in clear text, within its timeout.
func (p *Pod) ask(ctx context.Context, probe *manifest.Probe) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(probe.TimeoutSeconds)*time.Second)
	defer cancel()
	conn, err := grpc.NewClient("passthrough:///"+p.At(probe.GRPC.Port), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	resp, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{Service: probe.GRPC.Service})
	if err != nil {
		return err
	}
	if resp.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		return errors.New(resp.GetStatus().String())
	}
	return nil
}

// watcher looks at a pod that stops, as fast as it can: whether it says that it is ready, and whether
// it takes connections.
type watcher struct {
	done chan struct{}

	mu      sync.Mutex
	ready   time.Time // when it was last asked and said yes
	refused time.Time // when it first refused
	fault   error
}

// watch begins to look at the pod until its process has ended.
func (p *Pod) watch(ctx context.Context) (*watcher, error) {
	c := p.service()
	conn, err := grpc.NewClient("passthrough:///"+p.At(c.ReadinessProbe.GRPC.Port), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	var ports []manifest.Port
	for _, port := range c.Ports {
		if port.Name != "health" && port.Name != "metrics" {
			ports = append(ports, port)
		}
	}
	w := &watcher{done: make(chan struct{})}
	go func() {
		defer close(w.done)
		defer func() { _ = conn.Close() }()
		client := healthv1.NewHealthClient(conn)
		tick := time.NewTicker(3 * time.Millisecond)
		defer tick.Stop()
		for {
			w.readiness(ctx, client, c.ReadinessProbe.GRPC.Service)
			for _, port := range ports {
				w.connect(ctx, p.At(port.ContainerPort))
			}
			select {
			case <-tick.C:
			case <-p.process.Ended():
				return
			case <-ctx.Done():
				return
			}
		}
	}()
	return w, nil
}

// readiness asks once. Who says that it is ready, asked after it refused a connection, withdrew its
// readiness too late.
func (w *watcher) readiness(ctx context.Context, client healthv1.HealthClient, service string) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	asked := time.Now()
	resp, err := client.Check(ctx, &healthv1.HealthCheckRequest{Service: service})
	ready := err == nil && resp.GetStatus() == healthv1.HealthCheckResponse_SERVING
	w.mu.Lock()
	defer w.mu.Unlock()
	if ready {
		w.ready = asked
	}
	if ready && !w.refused.IsZero() && asked.After(w.refused) {
		w.fault = errors.New("it said that it was ready after it had refused a connection")
	}
}

func (w *watcher) connect(ctx context.Context, address string) {
	d := net.Dialer{Timeout: time.Second}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err == nil {
		_ = conn.Close()
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refused.IsZero() {
		w.refused = time.Now()
	}
}

// closed reports whether a connection was refused.
func (w *watcher) closed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.refused.IsZero()
}

// result is what was seen, as times after a moment.
func (w *watcher) result(since time.Time) (ready, closed time.Duration, err error) {
	<-w.done
	w.mu.Lock()
	defer w.mu.Unlock()
	after := func(at time.Time) time.Duration {
		if at.IsZero() {
			return 0
		}
		return at.Sub(since)
	}
	return after(w.ready), after(w.refused), w.fault
}
