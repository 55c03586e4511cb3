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

// Run starts the group, waits for SIGTERM, SIGINT, the end of the context or the failure of a
// component, and stops the group within the grace time. Before anything stops, readiness says that
// the process is going. A second signal ends the process at once, as if nobody listened for it.
//
// Run returns nil after a stop that was asked for and went well.
func Run(ctx context.Context, log *slog.Logger, grace time.Duration, g *Group) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)

	running, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		select {
		case sig := <-signals:
			signal.Stop(signals) // the second signal has its own, final, effect
			log.InfoContext(running, "stopping", slog.String("signal", sig.String()))
			cancel(errSignal)
		case <-running.Done():
		}
	}()
	defer func() { <-heard }()
	defer cancel(nil)

	if err := g.Start(running); err != nil {
		asked := errors.Is(context.Cause(running), errSignal)
		if asked && (errors.Is(err, errSignal) || errors.Is(err, context.Canceled)) {
			log.InfoContext(running, "stopped before everything had started", slog.Any("error", err))
			return nil
		}
		return err
	}
	log.InfoContext(running, "started")
	return wait(running, log, grace, g)
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
