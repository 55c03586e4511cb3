// Package scheduler says when a delivery may be tried again. It stores retries as records of
// RETRIES, indexes them, and makes them due on time; it holds, releases and cancels what waits.
// Everything that must not be lost is in RETRIES and JOURNAL: the index may be lost at any
// moment and is rebuilt while traffic flows, and if every scheduler is gone the records become
// due by themselves, late by the grace.
package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc"

	"github.com/postrider/postrider/pkg/conf"
	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/redisconn"
	"github.com/postrider/postrider/pkg/service"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/stream/journal"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/pkg/stream/topology"
	"github.com/postrider/postrider/pkg/telemetry"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	"github.com/postrider/postrider/services/scheduler/internal/cancel"
	"github.com/postrider/postrider/services/scheduler/internal/entries"
	"github.com/postrider/postrider/services/scheduler/internal/grpcapi"
	"github.com/postrider/postrider/services/scheduler/internal/hold"
	"github.com/postrider/postrider/services/scheduler/internal/marks"
	"github.com/postrider/postrider/services/scheduler/internal/rebuild"
	"github.com/postrider/postrider/services/scheduler/internal/release"
	"github.com/postrider/postrider/services/scheduler/internal/reshard"
	"github.com/postrider/postrider/services/scheduler/internal/retryset"
	"github.com/postrider/postrider/services/scheduler/internal/sweep"
	"github.com/postrider/postrider/services/scheduler/internal/webhooks"
)

// Index says which retries are due. NewRedisIndex and NewMemoryIndex make one.
type Index = retryset.Index

// NewRedisIndex is the index that the replicas of a deployment share.
func NewRedisIndex(c *redisconn.Client) Index { return retryset.NewRedis(c.Universal()) }

// NewMemoryIndex is an index for a scheduler that has no replicas.
func NewMemoryIndex() Index { return retryset.NewMemory() }

// Deps is what a scheduler works with.
type Deps struct {
	Streams   *stream.Client
	Events    *eventstream.Stream
	Retries   *retrystream.Streams
	Journal   *journal.Journal
	Config    *config.Store
	Topology  *topology.Topology
	Index     Index
	Instance  string // unique among the schedulers that run
	Logger    *slog.Logger
	Telemetry *telemetry.Telemetry
}

// Service is the scheduler.
type Service struct {
	cfg     Config
	deps    Deps
	mirror  *config.Mirror
	barrier *config.Barrier
	writer  *journal.Writer

	server  *grpcapi.Server
	hold    *hold.Manager
	loop    *release.Loop
	rebuild *rebuild.Rebuilder
	sweep   *sweep.Sweeper
	reshard *reshard.Mover
	entries metric.Int64Gauge
	loops   service.Group
	loaded  atomic.Bool
}

const (
	// holdWorkers is how many webhooks are brought in line with their state at once.
	holdWorkers = 8
	// drainWindow is how many held records of a webhook are put in order at once.
	drainWindow = 100_000
	// readers is how many groups of records are read at once.
	readers = 8
	// countEvery is how often the index is counted.
	countEvery = 10 * time.Second
)

// New checks the configuration and starts nothing.
func New(cfg Config, deps Deps) (*Service, error) {
	// A lease that outlives the grace would leave a stopped scheduler's retries to fire by
	// themselves although others could release them.
	err := errors.Join(cfg.Validate(), conf.Rule(cfg.Lease < deps.Retries.Grace(), "lease",
		fmt.Sprintf("must be shorter than the grace of the retries, %s", deps.Retries.Grace())))
	if err != nil {
		return nil, fmt.Errorf("configure scheduler: %w", err)
	}
	s := &Service{cfg: cfg, deps: deps}
	if err := s.wire(); err != nil {
		return nil, fmt.Errorf("configure scheduler: %w", err)
	}
	return s, nil
}

// wire makes the parts. The order of the lines is the graph.
func (s *Service) wire() error {
	d := s.deps
	meter := d.Telemetry.Meter("postrider/scheduler")
	releases, err1 := release.NewMetrics(meter)
	rebuilds, err2 := rebuild.NewMetrics(meter)
	sweeps, err3 := sweep.NewMetrics(meter)
	holds, err4 := hold.NewMetrics(meter)
	calls, err5 := grpcapi.NewMetrics(meter)
	size, err6 := meter.Int64Gauge("postrider.retry.index.entries", metric.WithDescription("Retries in the index, of all schedulers together."))
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
		return fmt.Errorf("make metrics: %w", err)
	}
	s.entries = size

	registry := webhooks.NewRegistry(func(w webhooks.Webhook) { s.hold.Check(w.ID) })
	cancelled := marks.New()
	s.mirror = config.NewMirror(d.Streams, d.Instance, config.Handlers{
		Webhook: registry.Put, WebhookDeleted: registry.Delete, Cancelled: cancelled.Put, CancelExpired: cancelled.Remove,
	}, d.Logger)
	s.barrier = config.NewBarrier(d.Streams, d.Logger)
	s.writer = d.Journal.NewWriter("scheduler")
	log := entries.New(s.writer, time.Now)
	canceller := cancel.New(cancel.Deps{
		Records: d.Retries, Journal: log, Index: d.Index, Marks: d.Config, Barrier: s.barrier, Logger: d.Logger,
	})
	s.hold = hold.New(hold.Config{Rate: s.cfg.ResumeRate, Workers: holdWorkers, Window: drainWindow}, hold.Deps{
		Records: d.Retries, Events: d.Events, Index: d.Index, Journal: log, Cancel: canceller,
		Registry: registry, Metrics: holds, Logger: d.Logger, Now: time.Now,
	})
	s.rebuild = rebuild.New(rebuild.Deps{
		Records: d.Retries, Index: d.Index, Metrics: rebuilds, Logger: d.Logger,
		Look:     func(e retrystream.Entry) { s.sweep.Look(e) },
		Refilled: func() { s.loop.Wake(time.Now()) },
	})
	s.loop = release.New(
		release.Config{Lease: s.cfg.Lease, Poll: s.cfg.Poll, MaxInFlight: s.cfg.MaxInFlight, Readers: readers},
		release.Deps{
			Index: d.Index, Records: d.Retries, Hold: s.hold, Cancel: canceller, Registry: registry,
			Lost: s.rebuild.Lost, Metrics: releases, Logger: d.Logger, Now: time.Now,
		},
	)
	s.sweep = sweep.New(sweep.Config{Interval: s.cfg.SweepInterval}, sweep.Deps{
		Records: d.Retries, Index: d.Index, Hold: s.hold, Cancel: canceller, Marks: cancelled, Registry: registry, Wake: s.loop.Wake,
		Metrics: sweeps, Logger: d.Logger, Now: time.Now,
	})
	s.reshard = reshard.New(reshard.Deps{Records: d.Retries, Topology: d.Topology, Index: d.Index, Astray: s.astray, Logger: d.Logger})
	s.server = grpcapi.New(grpcapi.Deps{
		Records: d.Retries, Index: d.Index, Journal: log, Hold: s.hold, Cancel: canceller, Marks: cancelled, Registry: registry,
		Wake: s.loop.Wake, Metrics: calls, Logger: d.Logger, Now: time.Now,
	})
	return nil
}

// Start loads the webhooks and begins to release. It does not wait for the index, which is
// rebuilt in the background.
func (s *Service) Start(ctx context.Context) error {
	if err := errors.Join(s.mirror.Start(ctx), s.barrier.Start(ctx)); err != nil {
		return errors.Join(fmt.Errorf("load webhooks: %w", err), s.barrier.Stop(ctx), s.mirror.Stop(ctx))
	}
	s.loops.Add(
		service.Loop("rebuild", s.rebuild.Run),
		service.Loop("hold", s.hold.Run),
		service.Loop("release", s.loop.Run),
		service.Loop("sweep", s.sweep.Run),
		service.Loop("reshard", s.reshard.Run),
		service.Loop("count", s.count),
	)
	if err := s.loops.Start(ctx); err != nil {
		return errors.Join(err, s.barrier.Stop(ctx), s.mirror.Stop(ctx))
	}
	s.loaded.Store(true)
	return nil
}

// astray is how many deliveries of a shard, due or before their first attempt, have another home.
func (s *Service) astray(ctx context.Context, shard int, l postrider.Layout) (uint64, error) {
	first, err1 := deliverystream.CountAstray(ctx, s.deps.Streams, shard, l)
	due, err2 := retrystream.CountAstray(ctx, s.deps.Streams, shard, l)
	return first + due, errors.Join(err1, err2)
}

// Stop stops claiming, waits for what is claimed, and then stops following the configuration.
func (s *Service) Stop(ctx context.Context) error {
	s.loaded.Store(false)
	return errors.Join(s.loops.Stop(ctx), s.writer.Close(ctx), s.barrier.Stop(ctx), s.mirror.Stop(ctx))
}

// Register adds SchedulerService.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	schedulerv1.RegisterSchedulerServiceServer(r, s.server)
}

// Ready says why the scheduler cannot take retries now, or nil. It can without the index.
func (s *Service) Ready() error {
	if !s.loaded.Load() {
		return errors.New("the scheduler has not started")
	}
	return nil
}

// count measures the index.
func (s *Service) count(ctx context.Context) error {
	ticker := time.NewTicker(countEvery)
	defer ticker.Stop()
	for {
		call, cancel := context.WithTimeout(ctx, time.Second)
		if n, err := s.deps.Index.Count(call); err == nil {
			s.entries.Record(ctx, n)
		}
		cancel()
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// Failed returns the channel that gets the error of a loop that ended by itself: it ends the process.
func (s *Service) Failed() <-chan error { return s.loops.Failed() }
