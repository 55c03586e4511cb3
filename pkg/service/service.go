// Package service is the life cycle of a process: components start in order, stop in reverse
// within a bounded time, and a signal or a component that fails ends them all. It also serves what
// operators look at: health, metrics and profiles. It owns no state that outlives the process.
package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Component is a part of a process that runs until it is stopped.
//
// Start returns when the component works; what goes on in the background does not end with the
// context of Start, only with Stop. Stop waits for it, within its context, and must be safe to call
// when Start was not called or failed, and more than once.
type Component interface {
	Name() string
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
}

// Failing is a component that can end by itself. The channel gets at most one error, which ends
// the process.
type Failing interface {
	Failed() <-chan error
}

// Draining is a component that tells the outside that the process is about to stop, before
// anything does. Drain returns when the outside had the time to notice.
type Draining interface {
	Drain(ctx context.Context)
}

// Announcing is a component that wants to know that everything has started.
type Announcing interface {
	Started()
}

// rollbackGrace bounds the stop of what had started when a later component could not.
const rollbackGrace = 10 * time.Second

// Group starts and stops components together. Its zero value is ready for use. It is a Component
// itself but for its name, and is used once: started, then stopped.
type Group struct {
	mu         sync.Mutex
	components []Component
	started    []Component // in order of their start, the failed one included
	stopped    bool
	failed     chan error
	watchers   sync.WaitGroup
	quit       chan struct{}
}

// Add appends components; they start in this order.
func (g *Group) Add(components ...Component) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.components = append(g.components, components...)
}

// Start starts the components in order. When one cannot start, those before it are stopped again
// through Stop and its error is returned.
func (g *Group) Start(ctx context.Context) error {
	for _, c := range g.all() {
		if err := context.Cause(ctx); err != nil {
			return g.rollback(ctx, fmt.Errorf("start %s: %w", c.Name(), err))
		}
		g.mu.Lock()
		g.started = append(g.started, c)
		g.mu.Unlock()
		if err := c.Start(ctx); err != nil {
			return g.rollback(ctx, fmt.Errorf("start %s: %w", c.Name(), err))
		}
		g.watch(c)
	}
	for _, c := range g.all() {
		if a, ok := c.(Announcing); ok {
			a.Started()
		}
	}
	return nil
}

// all returns the components.
func (g *Group) all() []Component {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.components)
}

// rollback stops what has started, also when it was the context that ended the start.
func (g *Group) rollback(ctx context.Context, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackGrace)
	defer cancel()
	return errors.Join(cause, g.Stop(ctx))
}

// watch hands on the first failure of a component that can fail.
func (g *Group) watch(c Component) {
	f, ok := c.(Failing)
	if !ok {
		return
	}
	g.Failed() // makes the channels
	g.watchers.Go(func() {
		select {
		case err := <-f.Failed():
			if err == nil {
				return
			}
			select {
			case g.failed <- fmt.Errorf("%s: %w", c.Name(), err):
			default: // an earlier failure is being dealt with
			}
		case <-g.quit:
		}
	})
}

// Failed returns the channel that gets the first failure of a component.
func (g *Group) Failed() <-chan error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failed == nil {
		g.failed = make(chan error, 1)
		g.quit = make(chan struct{})
	}
	return g.failed
}

// Drain asks every component that can to tell the outside, in order.
func (g *Group) Drain(ctx context.Context) {
	for _, c := range g.all() {
		if d, ok := c.(Draining); ok {
			d.Drain(ctx)
		}
	}
}

// Stop stops what has started, the last first, and returns every error with the name of its
// component. All are stopped even when the context ends on the way.
func (g *Group) Stop(ctx context.Context) error {
	g.mu.Lock()
	started := g.started
	g.started = nil
	if !g.stopped && g.quit != nil {
		close(g.quit)
		g.stopped = true
	}
	g.mu.Unlock()

	var errs []error
	for _, c := range slices.Backward(started) {
		if err := c.Stop(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", c.Name(), err))
		}
	}
	g.watchers.Wait()
	return errors.Join(errs...)
}
