// Package pod runs one pod as the kubelet would, in a sandbox: its environment, its user, its root,
// its volumes, its probes, and how it is stopped. What happens to it that should not is reported, not
// mended: a container that would be restarted is a fault here.
package pod

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/postrider/postrider/test/kube/manifest"
	"github.com/postrider/postrider/test/kube/sandbox"
)

// Spec is a pod and what it was given.
type Spec struct {
	Name     string
	Address  netip.Addr
	Template *manifest.PodTemplate
	Env      []string
	Volumes  map[string]string // folders by the names of volumes
	Binary   string            // the file that its image holds
	Log      string
	Changed  func()      // called when its readiness may have changed
	Report   func(error) // called with what should not have happened
}

// Pod is a pod that runs or has run.
type Pod struct {
	Spec

	process *sandbox.Process
	cancel  context.CancelFunc
	probes  sync.WaitGroup

	mu          sync.Mutex
	ready       time.Time // zero: it is not
	terminating bool
}

// service is the container that every pod of ours has, and no other.
func (s *Spec) service() *manifest.Container { return &s.Template.Spec.Containers[0] }

// Start runs the pod's process and begins to probe it.
func Start(n *sandbox.Network, spec Spec) (*Pod, error) {
	if err := refusals(&spec); err != nil {
		return nil, fmt.Errorf("pod %s: %w", spec.Name, err)
	}
	c, sec := spec.service(), spec.Template.Spec.SecurityContext
	mounts := []sandbox.Mount{{Source: spec.Binary, Target: "/service", ReadOnly: true}}
	for _, m := range c.VolumeMounts {
		source, ok := spec.Volumes[m.Name]
		if !ok {
			return nil, fmt.Errorf("pod %s: there is no volume %s", spec.Name, m.Name)
		}
		mounts = append(mounts, sandbox.Mount{Source: source, Target: m.MountPath, ReadOnly: m.ReadOnly})
	}
	process, err := n.Start(sandbox.Config{
		Name: spec.Name, Address: spec.Address, Path: "/service",
		// What the runtime of containers adds to any environment.
		Env: append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=" + spec.Name}, spec.Env...),
		UID: sec.RunAsUser, GID: sec.RunAsGroup, Groups: []int{sec.FSGroup}, Mounts: mounts,
		ReadOnlyRoot:     c.SecurityContext.ReadOnlyRootFilesystem,
		NoNewPrivileges:  no(c.SecurityContext.AllowPrivilegeEscalation),
		DropCapabilities: slices.Equal(c.SecurityContext.Capabilities.Drop, []string{"ALL"}),
		Memory:           int64(c.Resources.Limits.Memory), Log: spec.Log,
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Pod{Spec: spec, process: process, cancel: cancel}
	p.probes.Go(func() { p.probe(ctx) })
	return p, nil
}

// refusals are what the runner would do otherwise than it is written.
func refusals(s *Spec) error {
	spec := &s.Template.Spec
	if len(spec.Containers) != 1 {
		return fmt.Errorf("it has %d containers, and this runs one", len(spec.Containers))
	}
	c := s.service()
	var errs []error
	rule := func(ok bool, text string) {
		if !ok {
			errs = append(errs, errors.New(text))
		}
	}
	rule(spec.SecurityContext.RunAsNonRoot && spec.SecurityContext.RunAsUser > 0, "this runs nothing as root")
	rule(no(spec.AutomountServiceAccountToken) && spec.ServiceAccountName != "", "this has no token to mount")
	rule(no(spec.EnableServiceLinks), "this adds no variables of services")
	rule(spec.TerminationGracePeriodSeconds > 0, "this knows no default grace")
	rule(c.StartupProbe != nil && c.ReadinessProbe != nil && c.LivenessProbe != nil, "this runs all three probes")
	for _, probe := range []*manifest.Probe{c.StartupProbe, c.ReadinessProbe, c.LivenessProbe} {
		rule(probe == nil || probe.PeriodSeconds > 0 && probe.TimeoutSeconds > 0 && probe.FailureThreshold > 0, "this knows no defaults of probes")
	}
	return errors.Join(errs...)
}

// no reports whether a switch is there and off.
func no(value *bool) bool { return value != nil && !*value }

// Image is the service that the pod's image is of.
func Image(t *manifest.PodTemplate) string {
	name, _, _ := strings.Cut(path.Base(t.Spec.Containers[0].Image), ":")
	return name
}

// ReadyFor is for how long the pod has been ready; false if it is not, or is on its way out.
func (p *Pod) ReadyFor() (time.Duration, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ready.IsZero() || p.terminating {
		return 0, false
	}
	return time.Since(p.ready), true
}

func (p *Pod) setReady(ready bool) {
	p.mu.Lock()
	changed := ready == p.ready.IsZero()
	if changed && ready {
		p.ready = time.Now()
	} else if !ready {
		p.ready = time.Time{}
	}
	p.mu.Unlock()
	if changed {
		p.Changed()
	}
}

// Terminating reports whether the pod was told to stop.
func (p *Pod) Terminating() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.terminating
}

// Process is what runs in it.
func (p *Pod) Process() *sandbox.Process { return p.process }

// Drain is how a pod stopped.
type Drain struct {
	Pod     string
	PreStop time.Duration // how long it went on after its name was taken from the services
	Stop    time.Duration // from SIGTERM to the end of the process
	Grace   time.Duration // what it had for both
	// Ready and Closed are when, after SIGTERM, it was last asked and said that it was ready, and
	// when it first refused a connection.
	Ready, Closed time.Duration
	Peak          int64  // bytes of memory at most
	Log           string // its last lines
}

// Terminate stops the pod: it leaves its services, the sleep before the stop passes, then it gets
// SIGTERM, and SIGKILL when its grace has passed since the beginning. Meanwhile it is watched from
// outside. The channel is closed when it has left its services.
func (p *Pod) Terminate(ctx context.Context, left chan<- struct{}) (Drain, error) {
	began := time.Now()
	c, grace := p.service(), time.Duration(p.Template.Spec.TerminationGracePeriodSeconds)*time.Second
	ctx, cancel := context.WithDeadlineCause(ctx, began.Add(grace), errors.New("its grace has passed"))
	defer cancel()
	p.mu.Lock()
	p.terminating = true
	p.mu.Unlock()
	close(left)
	p.Changed()
	d := Drain{Pod: p.Name, Grace: grace, PreStop: time.Duration(c.Lifecycle.PreStop.Sleep.Seconds) * time.Second}
	watcher, err := p.watch(ctx)
	if err != nil {
		return d, err
	}
	pause := time.NewTimer(d.PreStop)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-p.process.Ended():
		return d, fmt.Errorf("pod %s ended before it was told to: %w", p.Name, p.process.Result())
	}
	if watcher.closed() {
		return d, fmt.Errorf("pod %s refused a connection before it was told to stop", p.Name)
	}
	d.Peak = p.peak()
	p.cancel() // the kubelet's probes of readiness go on, but nobody asks for their answer
	told := time.Now()
	p.process.Signal(syscall.SIGTERM)
	select {
	case <-p.process.Ended():
	case <-ctx.Done():
		p.process.Kill()
		return d, fmt.Errorf("pod %s was killed after %s", p.Name, grace)
	}
	d.Stop = time.Since(told)
	d.Log = p.process.Tail(12)
	if err := p.process.Result(); err != nil {
		return d, fmt.Errorf("pod %s ended with %w", p.Name, err)
	}
	d.Ready, d.Closed, err = watcher.result(told)
	p.probes.Wait()
	if limit := int64(c.Resources.Limits.Memory); d.Peak > limit {
		err = errors.Join(err, fmt.Errorf("pod %s took %d bytes of memory, and would have been killed at %d", p.Name, d.Peak, limit))
	}
	return d, err
}

// Kill ends the pod as a crash of its node would.
func (p *Pod) Kill() {
	p.mu.Lock()
	p.terminating = true
	p.mu.Unlock()
	p.cancel()
	p.process.Kill()
	p.probes.Wait()
	p.Changed()
}

// peak is the most memory that the process had.
func (p *Pod) peak() int64 {
	text, err := p.process.Status("VmHWM")
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(text, " kB"), 10, 64)
	if err != nil {
		return 0
	}
	return n << 10
}

// At is a port of the pod.
func (p *Pod) At(port int) string { return net.JoinHostPort(p.Address.String(), strconv.Itoa(port)) }
