// Package dispatcher attempts deliveries: it pulls the shards that it holds the leases of, sends
// each delivery to its webhook's receiver, signed, within the webhook's limits, and hands over what
// became of it. It keeps nothing that the streams and the configuration do not hold.
package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc"

	apiv1 "github.com/postrider/postrider/proto/gen/go/postrider/api/v1"
	dispatcherv1 "github.com/postrider/postrider/proto/gen/go/postrider/dispatcher/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/process"
	"github.com/postrider/postrider/pkg/seal"
	"github.com/postrider/postrider/pkg/service"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/deadletterstream"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/stream/journal"
	"github.com/postrider/postrider/pkg/stream/pace"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/pkg/stream/shardlease"
	"github.com/postrider/postrider/pkg/telemetry"
	"github.com/postrider/postrider/services/dispatcher/internal/attempt"
	"github.com/postrider/postrider/services/dispatcher/internal/egress"
	"github.com/postrider/postrider/services/dispatcher/internal/grpcapi"
	"github.com/postrider/postrider/services/dispatcher/internal/health"
	"github.com/postrider/postrider/services/dispatcher/internal/meters"
	"github.com/postrider/postrider/services/dispatcher/internal/payload"
	"github.com/postrider/postrider/services/dispatcher/internal/pipeline"
	"github.com/postrider/postrider/services/dispatcher/internal/registry"
	"github.com/postrider/postrider/services/dispatcher/internal/settle"
)

// Disabler has a webhook disabled by those who own the configuration. Disabled is false if the
// webhook was changed since the revision, and left as it is.
type Disabler = pipeline.Disabler

// Reporter is told how the attempts of webhooks end.
type Reporter = health.Reporter

// Resolver turns the names of receivers into addresses.
type Resolver = egress.Resolver

// Deps is what a dispatcher works with.
type Deps struct {
	Streams     *stream.Client
	Events      *eventstream.Stream
	Deliveries  *deliverystream.Streams
	Retries     *retrystream.Streams
	Journal     *journal.Journal
	DeadLetters *deadletterstream.Stream
	Sealer      *seal.Sealer
	Scheduler   schedulerv1.SchedulerServiceClient
	Disabler    Disabler
	Reporter    Reporter // default: nobody is told how attempts end
	Resolver    Resolver // default: the system's
	Instance    string   // unique among the dispatchers that run
	Logger      *slog.Logger
	Telemetry   *telemetry.Telemetry
}

// Service is the dispatcher.
type Service struct {
	deps     Deps
	client   *egress.Client
	registry *registry.Registry
	mirror   *config.Mirror
	writer   *journal.Writer
	settler  *settle.Settler
	pipeline *pipeline.Pipeline
	pace     *pace.Meter
	api      *grpcapi.Server
	shards   service.Component
	unmeter  func() error
	streams  *stream.Gauges
	stopped  bool
}

// New checks the configuration and starts nothing.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("configure dispatcher: %w", err)
	}
	client, err := newClient(cfg.Egress, deps.Resolver)
	if err != nil {
		return nil, fmt.Errorf("configure dispatcher: %w", err)
	}
	meter := deps.Telemetry.Meter("postrider/dispatcher")
	counts, err := meters.New(meter)
	if err != nil {
		return nil, fmt.Errorf("configure dispatcher: %w", err)
	}
	gauges, err := stream.NewGauges(meter)
	if err != nil {
		return nil, fmt.Errorf("configure dispatcher: %w", err)
	}
	leases, err := shardlease.New(deps.Streams, deps.Instance, deps.Deliveries.Layout, shardlease.Default(), deps.Logger)
	if err != nil {
		return nil, fmt.Errorf("configure dispatcher: %w", err)
	}
	s := &Service{deps: deps, client: client, streams: gauges}
	tracer := deps.Telemetry.Tracer("postrider/dispatcher")
	s.registry = registry.New(registry.Options{
		Opener: deps.Sealer, RetryScale: cfg.RetryTimeScale, DefaultTimeout: cfg.AttemptTimeout, DefaultMaxInFlight: cfg.MaxInFlight,
		Layout: deps.Deliveries.Layout,
	})
	s.mirror = config.NewMirror(deps.Streams, deps.Instance, s.registry.Handlers(), deps.Logger)
	s.writer = deps.Journal.NewWriter("dispatcher")
	s.settler = settle.New(settle.Deps{
		Journal: s.writer, Scheduler: deps.Scheduler, Records: deps.Retries, DeadLetters: deps.DeadLetters,
		Meters: counts, Tracer: tracer, Logger: deps.Logger,
	})
	s.pace = pace.NewMeter(deps.Streams.Conn(), pace.Dispatcher, deps.Instance, deps.Logger)
	maker := attempt.New(client, tracer, process.Version())
	s.pipeline = pipeline.New(cfg.Pipeline, pipeline.Deps{
		Mirror: s.mirror, Registry: s.registry, Maker: maker, Payloads: payload.New(deps.Events, int(cfg.PayloadCache)),
		Settler: s.settler, Deliveries: deps.Deliveries, Retries: deps.Retries, Events: deps.Events, Journal: deps.Journal,
		Disabler: deps.Disabler, Reporter: deps.Reporter, EventsMaxAge: deps.Events.MaxAge(), Meters: counts, Pace: s.pace, Gauges: gauges, Logger: deps.Logger,
	})
	s.api = grpcapi.New(grpcapi.Deps{
		Mirror: s.mirror, Registry: s.registry, Maker: maker, Journal: s.writer, Meters: counts,
		Records: deps.Retries, Letters: deps.DeadLetters, Events: deps.Events, Lanes: s.pipeline, Logger: deps.Logger, Layout: deps.Deliveries.Layout, Slots: cfg.TestSlots,
	})
	s.shards = service.Loop("shards", func(ctx context.Context) error { return leases.Run(ctx, s.pipeline.RunShard) })
	if s.unmeter, err = meters.Observe(meter, s.gauges()); err != nil {
		return nil, fmt.Errorf("configure dispatcher: %w", err)
	}
	return s, nil
}

func (s *Service) gauges() meters.Gauges {
	return meters.Gauges{
		InFlight:       s.pipeline.InFlight,
		Slots:          s.pipeline.Slots,
		Unsettled:      s.pipeline.Unsettled,
		Storing:        func() int64 { return int64(s.settler.Storing()) },
		Shards:         s.pipeline.Shards,
		AllShards:      func() int64 { return int64(s.deps.Deliveries.Layout().Streams) },
		Lanes:          s.pipeline.Lanes,
		Webhooks:       func() int64 { return int64(s.registry.Size()) },
		Lines:          s.pipeline.Lines,
		ConnectsOpened: s.client.Dialled,
		ConnectsReused: s.client.Reused,
	}
}

// Start loads the configuration and begins to take shards. It returns when the configuration is
// complete.
func (s *Service) Start(ctx context.Context) error {
	if err := s.mirror.Start(ctx); err != nil {
		return fmt.Errorf("load configuration: %w", err)
	}
	s.settler.Start()
	s.pipeline.Start() //nolint:contextcheck // it outlasts ctx, which bounds the start
	return s.shards.Start(ctx)
}

// storeShare is the part of the time to stop that is kept for storing what attempts gave.
const storeShare = 5

// Stop gives the shards back: what was not begun at once, what was begun when it is finished and
// stored. When the time is nearly over, attempts that are still in flight are cut off; their
// outcome is unknown, so nothing is recorded and others repeat them.
func (s *Service) Stop(ctx context.Context) error {
	if s.stopped {
		return nil
	}
	s.stopped = true
	errs := []error{s.unmeter(), s.streams.Close()}
	finish, cancel := shorter(ctx)
	defer cancel()
	if err := s.shards.Stop(finish); err != nil && ctx.Err() != nil {
		errs = append(errs, err)
	}
	s.pipeline.Close()
	s.pace.Close()
	errs = append(errs, s.shards.Stop(ctx), s.settler.Drain(ctx))
	s.settler.Close()
	errs = append(errs, s.writer.Close(ctx))
	s.pipeline.Wait()
	s.client.Close()
	errs = append(errs, s.mirror.Stop(ctx))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("stop dispatcher: %w", err)
	}
	return nil
}

// shorter is a context that ends before ctx does.
func shorter(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-time.Until(deadline)/storeShare))
}

// Failed hands on the failure of a part that ended by itself.
func (s *Service) Failed() <-chan error {
	if f, ok := s.shards.(service.Failing); ok {
		return f.Failed()
	}
	return nil
}

// Register registers the gRPC API.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	dispatcherv1.RegisterDispatcherServiceServer(r, s.api)
}

// Ready says why the dispatcher cannot work, or nil.
func (s *Service) Ready() error {
	if !s.mirror.Fresh() {
		return errors.New("the configuration is not known to be current")
	}
	return nil
}

// NewDisabler is a Disabler that asks the api service.
func NewDisabler(client apiv1.WebhookStateServiceClient) Disabler { return apiDisabler{client} }

type apiDisabler struct {
	client apiv1.WebhookStateServiceClient
}

func (d apiDisabler) Disable(ctx context.Context, account, webhook, reason string, revision uint64) (bool, error) {
	res, err := d.client.DisableWebhook(ctx, &apiv1.DisableWebhookRequest{
		AccountId: account, WebhookId: webhook, Reason: reason, WebhookRevision: revision,
	})
	if err != nil {
		return false, fmt.Errorf("disable webhook %s: %w", webhook, err)
	}
	return res.GetDisabled(), nil
}

// NewReporter is a Reporter that tells the api service.
func NewReporter(client apiv1.WebhookStateServiceClient) Reporter { return apiReporter{client} }

type apiReporter struct {
	client apiv1.WebhookStateServiceClient
}

// Report sends the reports.
func (r apiReporter) Report(ctx context.Context, reports []*apiv1.WebhookOutcomes) ([]string, error) {
	res, err := r.client.ReportOutcomes(ctx, &apiv1.ReportOutcomesRequest{Webhooks: reports})
	if err != nil {
		return nil, fmt.Errorf("report outcomes: %w", err)
	}
	return res.GetFailedWebhookIds(), nil
}
