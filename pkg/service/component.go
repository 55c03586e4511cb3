package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Starter is a component without a name: what services are.
type Starter interface {
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
}

// Named gives a name to something that starts and stops.
func Named(name string, s Starter) Component {
	if f, ok := s.(Failing); ok {
		return &namedFailing{named: named{name: name, Starter: s}, Failing: f}
	}
	return &named{name: name, Starter: s}
}

// named is what Named returns.
type named struct {
	Starter
	name string
}

// Name returns the name.
func (n *named) Name() string { return n.name }

// namedFailing is what Named returns for something that can end by itself.
type namedFailing struct {
	named
	Failing
}

// Func makes a component of two functions, either of which may be nil. stop is called once, and
// only after start has been called.
func Func(name string, start, stop func(ctx context.Context) error) Component {
	return &function{name: name, start: start, stop: stop}
}

// function is what Func returns.
type function struct {
	name        string
	start, stop func(ctx context.Context) error

	mu      sync.Mutex
	running bool
}

// Name returns the name.
func (f *function) Name() string { return f.name }

// Start calls the function, if there is one.
func (f *function) Start(ctx context.Context) error {
	f.mu.Lock()
	f.running = true
	f.mu.Unlock()
	if f.start == nil {
		return nil
	}
	return f.start(ctx)
}

// Stop calls the function, if there is one, the first time after Start.
func (f *function) Stop(ctx context.Context) error {
	f.mu.Lock()
	running := f.running
	f.running = false
	f.mu.Unlock()
	if !running || f.stop == nil {
		return nil
	}
	return f.stop(ctx)
}

// errStopped is the cause by which a loop's context ends.
var errStopped = errors.New("the loop was stopped")

// Loop makes a component of a function that runs until its context ends: Start runs it in a
// goroutine of its own, Stop cancels its context and waits for it. What it returns before it was
// stopped, nil excepted, is a failure that ends the process; what it returns because it was
// stopped is not.
func Loop(name string, run func(ctx context.Context) error) Component {
	return &loop{name: name, run: run, failed: make(chan error, 1)}
}

// loop is what Loop returns.
type loop struct {
	name   string
	run    func(ctx context.Context) error
	failed chan error

	mu     sync.Mutex
	cancel context.CancelCauseFunc
	done   chan struct{}
}

// Name returns the name.
func (l *loop) Name() string { return l.name }

// Failed returns the channel that gets the error the function ended with by itself.
func (l *loop) Failed() <-chan error { return l.failed }

// Start runs the function. Starting twice is an error.
func (l *loop) Start(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done != nil {
		return errors.New("the loop was started before")
	}
	// The loop keeps the values of the context that starts it, not its end: that bounds the start.
	ctx, l.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	done := make(chan struct{})
	l.done = done
	go func() {
		defer close(done)
		err := l.run(ctx)
		if err != nil && ctx.Err() == nil {
			l.failed <- err
		}
	}()
	return nil
}

// Stop cancels the function's context and waits until it has returned, or the given one ends.
func (l *loop) Stop(ctx context.Context) error {
	l.mu.Lock()
	cancel, done := l.cancel, l.done
	l.mu.Unlock()
	if done == nil {
		return nil
	}
	cancel(errStopped)
	select {
	case <-done:
		return nil
	default:
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the loop is still running: %w", context.Cause(ctx))
	}
}
