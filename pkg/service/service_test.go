package service_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/postrider/postrider/pkg/service"
	"github.com/postrider/postrider/test/fixture/logtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// diary keeps what happened, in order.
type diary struct {
	mu      sync.Mutex
	entries []string
}

// write adds an entry.
func (d *diary) write(entry string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = append(d.entries, entry)
}

// String returns every entry.
func (d *diary) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.entries, " ")
}

// part returns a component that writes down what is done to it.
func (d *diary) part(name string, startErr, stopErr error) service.Component {
	return service.Func(name,
		func(context.Context) error { d.write("+" + name); return startErr },
		func(context.Context) error { d.write("-" + name); return stopErr })
}

var errBroken = errors.New("broken")

// Components start in order and stop in reverse, once.
func TestGroupStartsInOrderAndStopsInReverse(t *testing.T) {
	t.Parallel()
	var d diary
	var g service.Group
	g.Add(d.part("a", nil, nil), d.part("b", nil, nil))
	g.Add(d.part("c", nil, nil))
	require.NoError(t, g.Start(t.Context()))
	require.NoError(t, g.Stop(t.Context()))
	require.NoError(t, g.Stop(t.Context()))
	require.Equal(t, "+a +b +c -c -b -a", d.String())
}

// A group that was not started has nothing to stop.
func TestGroupStopBeforeStart(t *testing.T) {
	t.Parallel()
	var d diary
	var g service.Group
	g.Add(d.part("a", nil, nil))
	require.NoError(t, g.Stop(t.Context()))
	require.Empty(t, d.String())
}

// When a component cannot start, it and those before it are stopped, and those after it never start.
func TestGroupRollsBack(t *testing.T) {
	t.Parallel()
	var d diary
	var g service.Group
	g.Add(d.part("a", nil, errors.New("stuck")), d.part("b", errBroken, nil), d.part("c", nil, nil))
	err := g.Start(t.Context())
	require.ErrorIs(t, err, errBroken)
	require.EqualError(t, err, "start b: broken\nstop a: stuck")
	require.Equal(t, "+a +b -b -a", d.String())
}

// A context that ends while components start stops the rest from starting.
func TestGroupStartEndsWithItsContext(t *testing.T) {
	t.Parallel()
	var d diary
	var g service.Group
	ctx, cancel := context.WithCancelCause(t.Context())
	g.Add(d.part("a", nil, nil), service.Func("b", func(context.Context) error { cancel(errBroken); return nil }, nil), d.part("c", nil, nil))
	require.EqualError(t, g.Start(ctx), "start c: broken")
	require.Equal(t, "+a -a", d.String())
}

// Every component is stopped, whatever the others say, and each error names its component.
func TestGroupStopCollectsErrors(t *testing.T) {
	t.Parallel()
	var d diary
	var g service.Group
	g.Add(d.part("a", nil, errBroken), d.part("b", nil, nil), d.part("c", nil, errBroken))
	require.NoError(t, g.Start(t.Context()))
	require.EqualError(t, g.Stop(t.Context()), "stop c: broken\nstop a: broken")
	require.Equal(t, "+a +b +c -c -b -a", d.String())
}

// A loop runs after the context that started it has ended, until it is stopped.
func TestLoopOutlivesTheStart(t *testing.T) {
	t.Parallel()
	running, ended := make(chan struct{}), make(chan struct{})
	l := service.Loop("l", func(ctx context.Context) error {
		close(running)
		<-ctx.Done()
		close(ended)
		return ctx.Err()
	})
	require.NoError(t, l.Stop(t.Context()), "stopping before starting is a no-op")
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, l.Start(ctx))
	require.Error(t, l.Start(ctx), "a loop is started once")
	<-running
	cancel()
	select {
	case <-ended:
		t.Fatal("the loop ended with the context that started it")
	default:
	}
	require.NoError(t, l.Stop(t.Context()))
	<-ended
	require.NoError(t, l.Stop(t.Context()))
}

// Stopping waits for the loop no longer than its context.
func TestLoopStopIsBounded(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	l := service.Loop("l", func(context.Context) error { <-release; return nil })
	require.NoError(t, l.Start(t.Context()))
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	require.ErrorIs(t, l.Stop(ctx), context.DeadlineExceeded)
	close(release)
	require.NoError(t, l.Stop(t.Context()))
}

// A loop that ends with an error by itself is a failure of the group; one that ends without is not.
func TestLoopFailure(t *testing.T) {
	t.Parallel()
	var g service.Group
	done := make(chan struct{})
	g.Add(
		service.Loop("done", func(context.Context) error { close(done); return nil }),
		service.Loop("broken", func(context.Context) error { return errBroken }),
	)
	require.NoError(t, g.Start(t.Context()))
	<-done
	err := <-g.Failed()
	require.ErrorIs(t, err, errBroken)
	require.EqualError(t, err, "broken: broken")
	require.NoError(t, g.Stop(t.Context()))
}

// starter is a service without a name.
type starter struct{ failed chan error }

func (starter) Start(context.Context) error { return nil }
func (starter) Stop(context.Context) error  { return nil }

// failing is one that can end by itself.
type failing struct{ starter }

func (f failing) Failed() <-chan error { return f.failed }

// A named service keeps its ability to fail.
func TestNamed(t *testing.T) {
	t.Parallel()
	plain := service.Named("plain", starter{})
	require.Equal(t, "plain", plain.Name())
	_, ok := plain.(service.Failing)
	require.False(t, ok)

	f := failing{starter{failed: make(chan error, 1)}}
	var g service.Group
	g.Add(plain, service.Named("failing", f))
	require.NoError(t, g.Start(t.Context()))
	f.failed <- errBroken
	require.EqualError(t, <-g.Failed(), "failing: broken")
	require.NoError(t, g.Stop(t.Context()))
}

// Run ends with its context, and stops everything within the grace time.
func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	var d diary
	var g service.Group
	ctx, cancel := context.WithCancel(t.Context())
	g.Add(d.part("a", nil, nil), announced{&d, cancel})
	require.NoError(t, service.Run(ctx, logtest.New(t), time.Minute, &g))
	require.Equal(t, "+a started drain -a", d.String())
}

// announced writes down when everything has started and when the process drains.
type announced struct {
	d       *diary
	started func()
}

func (announced) Name() string                { return "announced" }
func (announced) Start(context.Context) error { return nil }
func (announced) Stop(context.Context) error  { return nil }
func (a announced) Started()                  { a.d.write("started"); a.started() }
func (a announced) Drain(context.Context)     { a.d.write("drain") }

// Run ends when a component fails, and says which.
func TestRunEndsWithAFailure(t *testing.T) {
	t.Parallel()
	var d diary
	var g service.Group
	g.Add(d.part("a", nil, nil), service.Loop("b", func(context.Context) error { return errBroken }))
	err := service.Run(t.Context(), logtest.New(t), time.Minute, &g)
	require.ErrorIs(t, err, errBroken)
	require.EqualError(t, err, "a component failed: b: broken")
	require.Equal(t, "+a -a", d.String())
}

// Run returns the error of a start.
func TestRunReturnsTheErrorOfAStart(t *testing.T) {
	t.Parallel()
	var d diary
	var g service.Group
	g.Add(d.part("a", errBroken, nil))
	require.ErrorIs(t, service.Run(t.Context(), logtest.New(t), time.Minute, &g), errBroken)
	require.Equal(t, "+a -a", d.String())
}

// A component that does not stop costs the grace time, and is named.
func TestRunBoundsTheStop(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	var g service.Group
	g.Add(announced{&diary{}, cancel}, service.Loop("stuck", func(context.Context) error { <-release; return nil }))
	err := service.Run(ctx, logtest.New(t), 10*time.Millisecond, &g)
	require.ErrorContains(t, err, "stop stuck: the loop is still running")
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
