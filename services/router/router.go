// Package router routes events: it matches each accepted event against its account's webhooks
// and stores one delivery for each that wants it. It keeps nothing that the streams and the
// configuration do not hold.
package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc"

	"github.com/postrider/postrider/pkg/conf"
	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/service"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/stream/journal"
	"github.com/postrider/postrider/pkg/stream/pace"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/pkg/stream/topology"
	"github.com/postrider/postrider/pkg/telemetry"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	routerv1 "github.com/postrider/postrider/proto/gen/go/postrider/router/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	"github.com/postrider/postrider/services/router/internal/fanout"
	"github.com/postrider/postrider/services/router/internal/grpcapi"
	"github.com/postrider/postrider/services/router/internal/index"
	"github.com/postrider/postrider/services/router/internal/trim"
)

// Config is the router's own configuration.
type Config struct {
	EmbedLimit conf.Bytes    `conf:"embed-limit" help:"largest payload that a delivery carries itself; above it the delivery refers to the event"`
	Heartbeat  time.Duration `conf:"heartbeat" help:"how often events whose deliveries are not all stored are kept from being redelivered"`
	Checkpoint time.Duration `conf:"checkpoint" help:"how often the place up to which all events are routed is written down"`
	Trim       time.Duration `conf:"trim" help:"how often it is looked whether EVENTS is nearly full; then the oldest events go that are finished with"`
}

// Default is the configuration that most deployments want.
func Default() Config {
	return Config{EmbedLimit: 4 << 10, Heartbeat: 3 * time.Second, Checkpoint: 5 * time.Second, Trim: 5 * time.Second}
}

// Validate reports every fault at once.
func (c *Config) Validate() error {
	return errors.Join(
		conf.Between("embed-limit", c.EmbedLimit, 0, 256<<10),
		conf.Between("heartbeat", c.Heartbeat, 100*time.Millisecond, stream.AckWait/3),
		conf.Positive("checkpoint", c.Checkpoint),
		conf.Between("trim", c.Trim, 10*time.Millisecond, time.Hour),
	)
}

// Deps is what a router works with.
type Deps struct {
	Streams    *stream.Client
	Events     *eventstream.Stream
	Deliveries *deliverystream.Streams
	Retries    *retrystream.Streams
	Journal    *journal.Journal
	Scheduler  schedulerv1.SchedulerServiceClient
	Instance   string // unique among the routers that run
	Logger     *slog.Logger
	Telemetry  *telemetry.Telemetry
}

// Service is the router.
type Service struct {
	cfg    Config
	deps   Deps
	index  *index.Index
	mirror *config.Mirror
	writer *journal.Writer
	fanout *fanout.Fanout
	trim   *trim.Trimmer
	gauges *stream.Gauges
	pace   *pace.Meter
	loops  service.Group
}

// New checks the configuration and starts nothing.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure router: %w", err)
	}
	s := &Service{cfg: cfg, deps: deps, index: index.New()}
	classes := newClasses()
	s.mirror = config.NewMirror(deps.Streams, deps.Instance, config.Handlers{
		Account: classes.put, AccountDeleted: classes.remove,
		Webhook: func(rec *recordv1.Webhook, revision uint64) { s.index.Put(rec, revision) },
		WebhookDeleted: func(account, id string, revision uint64) {
			s.index.Delete(postrider.AccountID(account), postrider.WebhookID(id), revision)
		},
	}, deps.Logger)
	s.writer = deps.Journal.NewWriter("router")
	s.pace = pace.NewMeter(deps.Streams.Conn(), pace.Router, deps.Instance, deps.Logger)
	meter := deps.Telemetry.Meter("postrider/router")
	var err error
	if s.gauges, err = stream.NewGauges(meter); err != nil {
		return nil, fmt.Errorf("configure router: %w", err)
	}
	s.trim, err = trim.New(cfg.Trim, trim.Deps{
		Events: deps.Events, Deliveries: s.walkDeliveries, Retries: s.walkRetries, Layout: s.layout, Logger: deps.Logger, Meter: meter,
	})
	if err != nil {
		return nil, fmt.Errorf("configure router: %w", err)
	}
	s.fanout, err = fanout.New(
		fanout.Config{EmbedLimit: int(cfg.EmbedLimit), Heartbeat: cfg.Heartbeat, Pause: 100 * time.Millisecond},
		fanout.Deps{
			Index: s.index, Deliveries: deps.Deliveries, Journal: s.writer,
			Delays: &delays{scheduler: deps.Scheduler, retries: deps.Retries, log: deps.Logger},
			Logger: deps.Logger, Meter: meter, Class: classes.of, Now: time.Now,
		})
	if err != nil {
		return nil, fmt.Errorf("configure router: %w", err)
	}
	return s, nil
}

// Start loads the webhook index and begins to route. It returns when the index is complete.
func (s *Service) Start(ctx context.Context) error {
	if err := s.mirror.Start(ctx); err != nil {
		return fmt.Errorf("load webhooks: %w", err)
	}
	segments := s.deps.Events.Segments()
	consumers := make([]*stream.Consumer, len(segments))
	for n, seg := range segments {
		var err error
		if consumers[n], err = seg.Router(ctx); err != nil {
			return errors.Join(fmt.Errorf("open consumer of %s: %w", seg.Name(), err), s.mirror.Stop(ctx))
		}
	}
	s.fanout.Start(ctx)
	s.loops.Add(service.Loop("trim", func(ctx context.Context) error {
		s.trim.Run(ctx)
		return nil
	}))
	for n, seg := range segments {
		events := consumers[n]
		s.loops.Add(
			service.Loop("checkpoint of "+seg.Name(), func(ctx context.Context) error { return s.checkpoint(ctx, seg, events) }),
			service.Loop("gauges of "+seg.Name(), func(ctx context.Context) error {
				s.gauges.Watch(ctx, events, "")
				return nil
			}),
			service.Loop("route "+seg.Name(), func(ctx context.Context) error { return s.route(ctx, seg, events) }),
		)
	}
	return s.loops.Start(ctx)
}

// route hands a segment's events to fan-out while the index is proven to be up to date.
func (s *Service) route(ctx context.Context, seg *eventstream.Segment, events *stream.Consumer) error {
	return events.Consume(ctx, func(m *stream.Msg) {
		// A webhook that was created before the event was published must get it: without the
		// proof that the index is no older than a second, wait for it.
		if !s.mirror.Fresh() && s.mirror.WaitFresh(ctx) != nil {
			if err := m.Nak(0); err != nil {
				s.deps.Logger.WarnContext(ctx, "event not handed back", "sequence", m.Sequence(), "error", err)
			}
			return
		}
		if m.Deliveries() == 1 {
			s.pace.Took(seg.Name(), seg.Account(m), m.Time(), time.Now())
		}
		s.fanout.Handle(m) //nolint:contextcheck // an event in flight outlives the pulling
	})
}

// checkpoint writes down the place up to which all events of a segment are routed, so that a deleted
// consumer is made again there.
func (s *Service) checkpoint(ctx context.Context, seg *eventstream.Segment, events *stream.Consumer) error {
	ticker := time.NewTicker(s.cfg.Checkpoint)
	defer ticker.Stop()
	for last := uint64(0); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		info, err := events.Info(ctx)
		if err == nil && info.AckFloor > last {
			err = seg.Checkpoint(ctx, info.AckFloor)
			last = info.AckFloor
		}
		if err != nil && ctx.Err() == nil {
			s.deps.Logger.WarnContext(ctx, "router checkpoint not written", "stream", seg.Name(), "error", err)
		}
	}
}

// layout is into how many shards deliveries are split, as stored.
func (s *Service) layout(ctx context.Context) (postrider.Layout, error) {
	return topology.Inspect(ctx, s.deps.Streams)
}

// walkDeliveries gives every delivery of DELIVERIES to fn.
func (s *Service) walkDeliveries(ctx context.Context, fn func(*recordv1.Delivery)) error {
	for shard := range s.deps.Streams.Layout().Streams {
		err := deliverystream.Walk(ctx, s.deps.Streams, shard, func(_ uint64, d *recordv1.Delivery) error {
			fn(d)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// walkRetries gives every delivery of RETRIES to fn.
func (s *Service) walkRetries(ctx context.Context, fn func(*recordv1.Delivery)) error {
	for shard := range s.deps.Streams.Layout().Streams {
		err := retrystream.WalkToEnd(ctx, s.deps.Streams, shard, func(st retrystream.Standing) error {
			fn(st.Retry.GetDelivery())
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Stop stops pulling, waits for the events in flight, and then stops following the
// configuration.
func (s *Service) Stop(ctx context.Context) error {
	defer s.pace.Close()
	return errors.Join(s.gauges.Close(), s.loops.Stop(ctx), s.fanout.Stop(ctx), s.writer.Close(ctx), s.mirror.Stop(ctx))
}

// Register adds RouterService.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	routerv1.RegisterRouterServiceServer(r, grpcapi.New(s.index, s.mirror, func() uint64 { return s.mirror.Revision(config.BucketWebhooks) }))
}

// Ready says why the router cannot route now, or nil.
func (s *Service) Ready() error {
	if !s.mirror.Fresh() {
		return errors.New("the webhook index is not up to date")
	}
	return nil
}

// Failed returns the channel that gets the error of a loop that ended by itself: it ends the process.
func (s *Service) Failed() <-chan error { return s.loops.Failed() }
