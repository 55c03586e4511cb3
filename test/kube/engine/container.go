package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/postrider/postrider/test/kube/composefile"
	"github.com/postrider/postrider/test/kube/sandbox"
)

// Container is one replica of a service, or what was run once.
type Container struct {
	Name    string
	Service *composefile.Service
	Address netip.Addr

	image       *image
	command     []string
	environment map[string]string
	restart     bool
	stopping    chan struct{} // closed when it was told to stop
	done        chan struct{} // closed when it has ended and is not started again
	changed     func()        // called when it has

	mu       sync.Mutex
	process  *sandbox.Process
	first    time.Time // when it first started
	well     time.Time // when its check first succeeded since it started last
	healthy  time.Time // when its check first succeeded at all
	failures int       // of its check, in a row
	restarts int
}

// An engine waits before it starts a container again, twice as long each time, unless it had run for
// a while.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = time.Minute
	longRun    = 10 * time.Second
)

// supervise starts the program again when it ends, as the policy says, until it is told to stop.
func (c *Container) supervise(n *sandbox.Network, cfg *sandbox.Config, report func(error)) {
	defer close(c.done)
	pause := firstPause
	for {
		p, since := c.Process(), time.Now()
		if c.told() { // while it was being started
			p.Signal(c.image.stop)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var check sync.WaitGroup
		if c.Service.Health != nil {
			check.Go(func() { c.check(ctx, p) })
		}
		<-p.Ended()
		cancel()
		check.Wait()
		c.changed()
		if !c.restart || c.told() {
			return
		}
		if time.Since(since) >= longRun {
			pause = firstPause
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-c.stopping:
			timer.Stop()
			return
		}
		pause = min(2*pause, lastPause)
		if err := c.start(n, cfg); err != nil {
			report(fmt.Errorf("start %s again: %w", c.Name, err))
			return
		}
		c.mu.Lock()
		c.restarts++
		c.mu.Unlock()
		c.changed()
	}
}

func (c *Container) start(n *sandbox.Network, cfg *sandbox.Config) error {
	p, err := n.Start(*cfg)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.process, c.well, c.failures = p, time.Time{}, 0
	if c.first.IsZero() {
		c.first = time.Now()
	}
	return nil
}

// check runs the health check, first when an interval has passed.
func (c *Container) check(ctx context.Context, p *sandbox.Process) {
	h := c.Service.Health
	tick := time.NewTicker(time.Duration(h.Interval))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		attempt, cancel := context.WithTimeout(ctx, time.Duration(h.Timeout))
		err := p.Exec(attempt, h.Test[1], h.Test[2:]...)
		cancel()
		if ctx.Err() != nil {
			return
		}
		c.mu.Lock()
		c.failures++
		if err == nil {
			c.failures = 0
			c.well = cmp.Or(c.well, time.Now())
			c.healthy = cmp.Or(c.healthy, c.well)
		}
		c.mu.Unlock()
		c.changed()
	}
}

// Process is what runs in it, or ran last.
func (c *Container) Process() *sandbox.Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.process
}

// Running reports whether its program is there.
func (c *Container) Running() bool {
	select {
	case <-c.Process().Ended():
		return false
	default:
		return true
	}
}

// Up reports whether it runs, and is well if it has a check. The error says that it will not be.
func (c *Container) Up() (bool, error) {
	running := c.Running()
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.Service.Health
	if h != nil && c.failures >= h.Retries {
		return false, fmt.Errorf("%s is unhealthy", c.Name)
	}
	return running && (h == nil || !c.well.IsZero() && c.failures == 0), nil
}

// Restarts is how often it was started again.
func (c *Container) Restarts() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.restarts
}

// First is when it was started, and when it was first well; the zero time if it never was.
func (c *Container) First() (started, healthy time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.first, c.healthy
}

// Kill ends its program as if it had crashed.
func (c *Container) Kill() { c.Process().Signal(syscall.SIGKILL) }

// Output is all that it has printed, in all its runs.
func (c *Container) Output() string {
	text, err := os.ReadFile(c.Process().Config.Log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (c *Container) told() bool {
	select {
	case <-c.stopping:
		return true
	default:
		return false
	}
}

// defaultGrace is what an engine gives to a container that names no grace.
const defaultGrace = 10 * time.Second

// stop asks the program to end, and kills it when its grace has passed. What is wrong with how it
// ended is the error.
func (c *Container) stop() error {
	close(c.stopping)
	c.Process().Signal(c.image.stop)
	grace := time.Duration(c.Service.StopGrace)
	if grace == 0 {
		grace = defaultGrace
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C:
		c.Process().Kill()
		<-c.done
		return fmt.Errorf("%s did not stop within %s and was killed", c.Name, grace)
	}
	if p := c.Process(); p.Result() != nil {
		return fmt.Errorf("%s ended with %w:\n%s", c.Name, p.Result(), p.Tail(5))
	}
	return nil
}

// Verify asks the kernel whether it runs as the file says.
func (c *Container) Verify() error {
	p := c.Process()
	want := p.Config
	want.ReadOnlyRoot, want.NoNewPrivileges = c.Service.ReadOnly, len(c.Service.SecurityOpt) > 0
	var errs []error
	for key, value := range c.Service.Environment {
		if !strings.Contains("\x00"+strings.Join(want.Env, "\x00")+"\x00", "\x00"+key+"="+value+"\x00") {
			errs = append(errs, fmt.Errorf("%s is not in its environment", key))
		}
	}
	if err := errors.Join(append(errs, p.Verify(&want))...); err != nil {
		return fmt.Errorf("%s: %w", c.Name, err)
	}
	return nil
}
