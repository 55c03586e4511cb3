// Package plane is what a cluster's control plane does with rendered manifests, as far as services
// see it: Secrets are made, Services are names of pods that are ready, deployments have two replicas
// each and are rolled as their strategy says.
package plane

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/postrider/postrider/test/kube/manifest"
	"github.com/postrider/postrider/test/kube/names"
	"github.com/postrider/postrider/test/kube/pod"
	"github.com/postrider/postrider/test/kube/sandbox"
)

// replicas is how many there are of each deployment.
const replicas = 2

// Options are what a cluster runs on.
type Options struct {
	Dir       string // of logs and volumes
	Bin       string // of the services' static binaries
	Network   *sandbox.Network
	Authority *Authority
	// Store is what the SecretStore holds, by key.
	Store map[string]string
	// Secrets are those that somebody makes by hand.
	Secrets map[string]map[string][]byte
}

// Cluster is the objects of an overlay, running.
type Cluster struct {
	Names *names.Server

	opts Options
	set  *manifest.Set

	mu       sync.Mutex
	secrets  map[string]map[string][]byte
	pods     map[string][]*pod.Pod // by deployment
	balanced map[string]*balancer  // services that are not headless
	numbered int
	faults   []error
	changed  chan struct{} // closed and made anew when a pod's readiness may have changed
}

// New makes the Secrets and serves names; nothing runs yet.
func New(set *manifest.Set, opts Options) (*Cluster, error) {
	c := &Cluster{opts: opts, set: set, secrets: map[string]map[string][]byte{}, pods: map[string][]*pod.Pod{}, balanced: map[string]*balancer{}, changed: make(chan struct{})}
	if err := errors.Join(c.ports(), c.issue()); err != nil {
		return nil, err
	}
	if err := c.expose(); err != nil {
		return nil, err
	}
	var err error
	c.Names, err = names.Serve(c.resolve)
	return c, err
}

// ports returns the ports of services that are not those of their pods: nobody here translates one
// into the other.
func (c *Cluster) ports() error {
	var errs []error
	for _, s := range c.set.Services {
		selector := manifest.Selector{MatchLabels: s.Spec.Selector}
		for _, d := range c.set.Deployments {
			for _, p := range s.Spec.Ports {
				if !selector.Matches(d.Spec.Template.Metadata.Labels) {
					continue
				}
				number, err := d.Spec.Template.Spec.Containers[0].Port(p.TargetPort)
				if err != nil || number != p.Port {
					errs = append(errs, err, fmt.Errorf("service %s: port %s is %d, and %d in the pods of %s", s.Metadata.Name, p.Name, p.Port, number, d.Metadata.Name))
				}
			}
		}
		if ip := s.Spec.ClusterIP; ip != "" && ip != "None" {
			errs = append(errs, fmt.Errorf("service %s: nobody gives it the address %s", s.Metadata.Name, ip))
		}
	}
	return errors.Join(errs...)
}

// Deployments are all of them, by name.
func (c *Cluster) Deployments() []string { return slices.Sorted(maps.Keys(c.set.Deployments)) }

// Pods are those of a deployment that run, or are on their way out.
func (c *Cluster) Pods(deployment string) []*pod.Pod {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.pods[deployment])
}

// notify wakes those who wait for pods.
func (c *Cluster) notify() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *Cluster) report(err error) {
	c.mu.Lock()
	c.faults = append(c.faults, err)
	c.mu.Unlock()
	c.notify()
}

// Faults are what happened and should not have.
func (c *Cluster) Faults() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(c.faults...)
}

// expose gives every service that is not headless an address.
func (c *Cluster) expose() error {
	for i, name := range slices.Sorted(maps.Keys(c.set.Services)) {
		s := c.set.Services[name]
		if s.Spec.ClusterIP == "None" {
			continue
		}
		address := netip.AddrFrom4([4]byte{10, 1, 250, byte(i + 1)})
		if err := c.opts.Network.Take(address); err != nil {
			return fmt.Errorf("service %s: %w", name, err)
		}
		b, err := balance(s, address, func() []netip.Addr { return c.endpoints(s) })
		if err != nil {
			return err
		}
		c.balanced[name] = b
	}
	return nil
}

const clusterDomain = ".svc.cluster.local"

// resolve is what a name of the cluster stands for: a headless Service is the pods that are ready
// behind it, any other has an address of its own.
func (c *Cluster) resolve(name string) []netip.Addr {
	inner, ok := strings.CutSuffix(name, clusterDomain)
	if !ok {
		return nil
	}
	service, namespace, ok := strings.Cut(inner, ".")
	if !ok {
		return nil
	}
	s, ok := c.set.Services[service]
	if !ok || s.Metadata.Namespace != namespace {
		return nil
	}
	if b, ok := c.balanced[service]; ok {
		return []netip.Addr{b.address}
	}
	return c.endpoints(s)
}

// endpoints are the pods behind a service that are ready and not on their way out.
func (c *Cluster) endpoints(s *manifest.Service) []netip.Addr {
	selector := manifest.Selector{MatchLabels: s.Spec.Selector}
	out := []netip.Addr{}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, list := range c.pods {
		for _, p := range list {
			if _, ready := p.ReadyFor(); ready && selector.Matches(p.Template.Metadata.Labels) {
				out = append(out, p.Address)
			}
		}
	}
	return out
}

// create starts one more pod of a deployment.
func (c *Cluster) create(d *manifest.Deployment) (*pod.Pod, error) {
	t := &d.Spec.Template
	if !d.Spec.Selector.Matches(t.Metadata.Labels) {
		return nil, fmt.Errorf("deployment %s does not select its own pods", d.Metadata.Name)
	}
	c.mu.Lock()
	c.numbered++
	number := c.numbered
	c.mu.Unlock()
	name := fmt.Sprintf("%s-%d", d.Metadata.Name, number)
	address := netip.AddrFrom4([4]byte{10, 1, byte(1 + number/250), byte(1 + number%250)})
	env, err := c.environment(&t.Spec.Containers[0], name, address)
	if err != nil {
		return nil, fmt.Errorf("pod %s: %w", name, err)
	}
	volumes, err := c.volumes(name, &t.Spec)
	if err != nil {
		return nil, fmt.Errorf("pod %s: %w", name, err)
	}
	p, err := pod.Start(c.opts.Network, pod.Spec{
		Name: name, Address: address, Template: t, Env: env, Volumes: volumes, Binary: filepath.Join(c.opts.Bin, pod.Image(t)),
		Log: filepath.Join(c.opts.Dir, name+".log"), Changed: c.notify, Report: c.report,
	})
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.pods[d.Metadata.Name] = append(c.pods[d.Metadata.Name], p)
	c.mu.Unlock()
	return p, nil
}

// environment resolves a container's variables in the order of the kubelet: sets first, then single
// ones, which may refer to what is before them.
func (c *Cluster) environment(container *manifest.Container, name string, address netip.Addr) ([]string, error) {
	values := map[string]string{}
	for _, from := range container.EnvFrom {
		m, ok := c.set.ConfigMaps[from.ConfigMapRef.Name]
		if !ok {
			return nil, fmt.Errorf("there is no config map %s", from.ConfigMapRef.Name)
		}
		maps.Copy(values, m.Data)
	}
	for _, e := range container.Env {
		switch {
		case e.ValueFrom == nil:
			values[e.Name] = expand(e.Value, values)
		case e.ValueFrom.FieldRef.FieldPath == "metadata.name":
			values[e.Name] = name
		case e.ValueFrom.FieldRef.FieldPath == "status.podIP":
			values[e.Name] = address.String()
		default:
			return nil, fmt.Errorf("%s: this does not know %s", e.Name, e.ValueFrom.FieldRef.FieldPath)
		}
	}
	out := make([]string, 0, len(values))
	for key, value := range values {
		out = append(out, key+"="+value)
	}
	return out, nil
}

// expand replaces $(NAME) by what NAME is; what is not there stays as it is written.
func expand(text string, values map[string]string) string {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, "$(")
		out.WriteString(before)
		if !found {
			return out.String()
		}
		name, after, closed := strings.Cut(rest, ")")
		value, known := values[name]
		if !closed || !known {
			out.WriteString("$(")
			text = rest
			continue
		}
		out.WriteString(value)
		text = after
	}
}

// remove forgets a pod that has ended.
func (c *Cluster) remove(deployment string, p *pod.Pod) error {
	c.mu.Lock()
	c.pods[deployment] = slices.DeleteFunc(c.pods[deployment], func(o *pod.Pod) bool { return o == p })
	c.mu.Unlock()
	c.notify()
	return os.RemoveAll(filepath.Join(c.opts.Dir, p.Name))
}

// Stop terminates every pod, all at the same time, and ends the names.
func (c *Cluster) Stop(ctx context.Context) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for _, d := range c.Deployments() {
		for _, p := range c.Pods(d) {
			wg.Go(func() {
				_, err := p.Terminate(ctx, make(chan struct{}))
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			})
		}
	}
	wg.Wait()
	c.Names.Stop()
	for _, b := range c.balanced {
		errs = append(errs, b.close())
	}
	return errors.Join(errs...)
}
