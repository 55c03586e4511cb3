package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// errSignal says what ended a run.
var errSignal = errors.New("a signal asked for the end")

// UntilSignal returns a context that ends with ctx, or at the first SIGTERM or SIGINT, which is logged.
// A second signal ends the process at once, as if nobody listened for it. End gives both back to the
// system, and waits until nothing of this is left.
func UntilSignal(ctx context.Context, log *slog.Logger) (until context.Context, end func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	until, cancel := context.WithCancelCause(ctx)
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		select {
		case sig := <-signals:
			signal.Stop(signals) // the second signal has its own, final, effect
			log.InfoContext(until, "stopping", slog.String("signal", sig.String()))
			cancel(errSignal)
		case <-until.Done():
		}
	}()
	return until, func() {
		signal.Stop(signals)
		cancel(nil)
		<-heard
	}
}

// Run starts the group, waits for the end of the context, which UntilSignal binds to signals, or the
// failure of a component, and stops the group within the grace time. Before anything stops, readiness
// says that the process is going.
//
// Run returns nil after a stop that was asked for and went well.
func Run(ctx context.Context, log *slog.Logger, grace time.Duration, g *Group) error {
	if err := g.Start(ctx); err != nil {
		return Unstarted(ctx, log, err)
	}
	log.InfoContext(ctx, "started")
	return wait(ctx, log, grace, g)
}

// Unstarted returns nil, and logs err, if it says no more than that a signal ended ctx before everything
// had started; otherwise it returns err.
func Unstarted(ctx context.Context, log *slog.Logger, err error) error {
	asked := errors.Is(context.Cause(ctx), errSignal)
	if asked && (errors.Is(err, errSignal) || errors.Is(err, context.Canceled)) {
		log.InfoContext(ctx, "stopped before everything had started", slog.Any("error", err))
		return nil
	}
	return err
}

// wait waits for a reason to stop and stops the group.
func wait(running context.Context, log *slog.Logger, grace time.Duration, g *Group) error {
	var failure error
	select {
	case <-running.Done():
	case err := <-g.Failed():
		failure = fmt.Errorf("a component failed: %w", err)
		log.ErrorContext(running, "stopping, because a component failed", slog.Any("error", err))
	}
	// The grace time is for the stop alone: the context that ran everything has ended by now.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(running), grace)
	defer cancel()
	begin := time.Now()
	if failure == nil {
		g.Drain(ctx)
	}
	drained := time.Now()
	err := errors.Join(failure, g.Stop(ctx))
	log.InfoContext(ctx, "stopped", slog.Duration("took", time.Since(begin)),
		slog.Duration("waited", drained.Sub(begin)), slog.Bool("clean", err == nil))
	return err
}
