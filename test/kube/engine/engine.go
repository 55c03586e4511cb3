// Package engine runs a compose file without a container engine: each container is a process in a
// sandbox, with the command, the environment, the user, the root and the volumes that the file and
// the image give it, its health check, its policy of restarts, and the name by which others find it.
package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/postrider/postrider/test/kube/composefile"
	"github.com/postrider/postrider/test/kube/names"
	"github.com/postrider/postrider/test/kube/proxy"
	"github.com/postrider/postrider/test/kube/sandbox"
)

// Options are what an engine runs on.
type Options struct {
	Root    string // of the checkout
	Bin     string // of the static binaries
	Dir     string // of logs and volumes; others may look into it
	Network *sandbox.Network
}

// Engine is a compose file, running.
type Engine struct {
	Names *names.Server

	opts Options
	file *composefile.File

	mu         sync.Mutex
	containers map[string][]*Container // by service; what was run once is under ""
	published  []*proxy.Proxy
	numbered   int
	down       bool
	faults     []error
	changed    chan struct{} // closed and made anew when a container has changed
}

// New serves names; nothing runs yet.
func New(file *composefile.File, opts Options) (*Engine, error) {
	e := &Engine{opts: opts, file: file, containers: map[string][]*Container{}, changed: make(chan struct{})}
	var err error
	e.Names, err = names.Serve(e.resolve)
	return e, err
}

// resolve is what a name of the network stands for: a service is all its containers that run, and a
// container itself.
func (e *Engine) resolve(name string) []netip.Addr {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []netip.Addr
	for service, list := range e.containers {
		for _, c := range list {
			if (c.Name == name || service != "" && service == name) && c.Running() {
				out = append(out, c.Address)
			}
		}
	}
	return out
}

// Services are those that are started together, by name: without those of a profile.
func (e *Engine) Services() []string {
	var out []string
	for name, s := range e.file.Services {
		if len(s.Profiles) == 0 && runs(s) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// NotRun are services that would be started, and whose programs are not here.
func (e *Engine) NotRun() []*composefile.Service {
	var out []*composefile.Service
	for _, name := range slices.Sorted(maps.Keys(e.file.Services)) {
		if s := e.file.Services[name]; !runs(s) {
			out = append(out, s)
		}
	}
	return out
}

// Containers are the replicas of a service.
func (e *Engine) Containers(service string) []*Container {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.containers[service])
}

func (e *Engine) notify() {
	e.mu.Lock()
	defer e.mu.Unlock()
	close(e.changed)
	e.changed = make(chan struct{})
}

func (e *Engine) report(err error) {
	e.mu.Lock()
	e.faults = append(e.faults, err)
	e.mu.Unlock()
	e.notify()
}

// Up is `docker compose up --wait`: each service starts when those that it depends on are as it wants
// them, and it returns when everything runs and what has a check is well.
func (e *Engine) Up(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	for _, name := range e.Services() {
		all.Go(func() {
			if err := e.up(ctx, e.file.Services[name]); err != nil {
				cancel(fmt.Errorf("service %s: %w", name, err)) // of the first alone
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

func (e *Engine) up(ctx context.Context, s *composefile.Service) error {
	for name, d := range s.DependsOn {
		if err := e.await(ctx, name, d.Condition); err != nil {
			return fmt.Errorf("wait for %s: %w", name, err)
		}
	}
	for i := range s.Replicas() {
		name := fmt.Sprintf("%s-%s-%d", e.file.Project, s.Name, i+1)
		c, err := e.create(s, name, s.Name, s.Command, s.Environment, s.Restart == "unless-stopped") //nolint:contextcheck // it lives on when all are up
		if err != nil {
			return err
		}
		if err := e.publish(c, i); err != nil {
			return err
		}
	}
	return e.await(ctx, s.Name, composefile.Healthy)
}

// await returns when all containers of a service are there and, if the condition is health, those with
// a check are well.
func (e *Engine) await(ctx context.Context, service, condition string) error {
	s, ok := e.file.Services[service]
	if !ok || !runs(s) {
		return errors.New("nobody runs it")
	}
	for {
		e.mu.Lock()
		list, changed, fault := slices.Clone(e.containers[service]), e.changed, errors.Join(e.faults...)
		e.mu.Unlock()
		ready := len(list) == s.Replicas()
		for _, c := range list {
			up, err := c.Up()
			if err != nil {
				return fmt.Errorf("%w\n%s", err, c.Process().Tail(20))
			}
			ready = ready && (up || condition == composefile.Started)
		}
		if ready || fault != nil {
			return fault
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// create starts one container.
func (e *Engine) create(s *composefile.Service, name, under string, command []string, env map[string]string, restart bool) (*Container, error) {
	i, err := e.image(s)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	e.numbered++
	address := netip.AddrFrom4([4]byte{10, 1, 1, byte(e.numbered)})
	e.mu.Unlock()
	c := &Container{
		Name: name, Service: s, Address: address, image: i, command: command, environment: env, restart: restart,
		done: make(chan struct{}), stopping: make(chan struct{}), changed: e.notify,
	}
	cfg, err := e.config(c)
	if err != nil {
		return nil, err
	}
	if err := c.start(e.opts.Network, cfg); err != nil {
		return nil, err
	}
	e.mu.Lock()
	e.containers[under] = append(e.containers[under], c)
	e.mu.Unlock()
	e.notify()
	go c.supervise(e.opts.Network, cfg, e.report)
	return c, nil
}

// Run is `docker compose run`: one more container of a service with a command and a name of its own,
// and variables beside those of the service. It is not started again.
func (e *Engine) Run(service, name string, env map[string]string, command ...string) (*Container, error) {
	s, ok := e.file.Services[service]
	if !ok {
		return nil, fmt.Errorf("there is no service %s", service)
	}
	all := maps.Clone(s.Environment)
	maps.Copy(all, env)
	return e.create(s, name, "", command, all, false)
}

// publish makes the ports of a service's container number i reachable from outside.
func (e *Engine) publish(c *Container, i int) error {
	for _, port := range c.Service.Ports {
		host, err := netip.ParseAddr(port.HostIP)
		if err != nil {
			return err
		}
		first, _, err := port.Range()
		if err != nil {
			return err
		}
		p, err := proxy.Listen(netip.AddrPortFrom(host, first+uint16(i)), func() []netip.AddrPort {
			if !c.Running() {
				return nil
			}
			return []netip.AddrPort{netip.AddrPortFrom(c.Address, port.Target)}
		})
		if err != nil {
			return fmt.Errorf("publish %s: %w", port.Published, err)
		}
		e.mu.Lock()
		e.published = append(e.published, p)
		e.mu.Unlock()
	}
	return nil
}

// Down stops what was run once, and then every service after those that depend on it. What did not
// stop cleanly, or went wrong meanwhile, is the error. The second time it does nothing.
func (e *Engine) Down() error {
	e.mu.Lock()
	down := e.down
	e.down = true
	e.mu.Unlock()
	if down {
		return nil
	}
	errs := stopAll(e.Containers(""))
	left := e.Services()
	for len(left) > 0 {
		last := slices.DeleteFunc(slices.Clone(left), func(name string) bool {
			return slices.ContainsFunc(left, func(other string) bool { _, needs := e.file.Services[other].DependsOn[name]; return needs })
		})
		var list []*Container
		for _, name := range last {
			list = append(list, e.Containers(name)...)
		}
		errs = append(errs, stopAll(list)...)
		left = slices.DeleteFunc(left, func(name string) bool { return slices.Contains(last, name) })
	}
	for _, p := range e.published {
		errs = append(errs, p.Close())
	}
	e.Names.Stop()
	e.mu.Lock()
	defer e.mu.Unlock()
	return errors.Join(append(errs, e.faults...)...)
}

// stopAll stops containers at the same time.
func stopAll(list []*Container) []error {
	errs := make([]error, len(list))
	var all sync.WaitGroup
	for i, c := range list {
		all.Go(func() { errs[i] = c.stop() })
	}
	all.Wait()
	return errs
}
