package standalone

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/postrider/postrider/pkg/access"
	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/rpc"
	"github.com/postrider/postrider/pkg/service"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/deadletterstream"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/stream/journal"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/pkg/stream/topology"
	apiv1 "github.com/postrider/postrider/proto/gen/go/postrider/api/v1"
	dispatcherv1 "github.com/postrider/postrider/proto/gen/go/postrider/dispatcher/v1"
	routerv1 "github.com/postrider/postrider/proto/gen/go/postrider/router/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	"github.com/postrider/postrider/services/api"
	"github.com/postrider/postrider/services/dispatcher"
	"github.com/postrider/postrider/services/ingest"
	"github.com/postrider/postrider/services/router"
	"github.com/postrider/postrider/services/scheduler"
)

// stores are one service's own ways to the streams and buckets.
type stores struct {
	instance    string
	streams     *stream.Client
	topology    *topology.Topology
	config      *config.Store
	events      *eventstream.Stream
	deliveries  *deliverystream.Streams
	retries     *retrystream.Streams
	journal     *journal.Journal
	deadLetters *deadletterstream.Stream
}

// openStores makes every stream and bucket that is not there.
func (s *Service) openStores(ctx context.Context, b *base, name string) (*stores, error) {
	st := &stores{instance: s.instance + "-" + name}
	var err error
	if st.streams, err = s.connect(ctx, b, st.instance); err != nil {
		return nil, err
	}
	if st.topology, err = topology.Ensure(ctx, st.streams); err != nil {
		return nil, err
	}
	var errs [6]error
	st.config, errs[0] = config.Ensure(ctx, st.streams)
	st.events, errs[1] = eventstream.Ensure(ctx, st.streams, s.cfg.Events)
	st.deliveries, errs[2] = deliverystream.Ensure(ctx, st.streams, s.cfg.Deliveries)
	st.retries, errs[3] = retrystream.Ensure(ctx, st.streams, s.cfg.Retries)
	st.journal, errs[4] = journal.Ensure(ctx, st.streams, s.cfg.Journal)
	st.deadLetters, errs[5] = deadletterstream.Ensure(ctx, st.streams, s.cfg.DeadLetters)
	return st, errors.Join(errs[:]...)
}

// parts are the five services.
type parts struct {
	api        *api.Service
	scheduler  *scheduler.Service
	dispatcher *dispatcher.Service
	router     *router.Service
	ingest     *ingest.Service
}

// compose makes the services and the servers, and puts them into the order in which they start:
// each after those that it calls, so that a stop, which goes the other way, ends each while those
// that it hands its last work to still run.
func (s *Service) compose(ctx context.Context, b *base) error {
	links, err := s.openLinks(ctx, b)
	if err != nil {
		return err
	}
	if err := s.makeParts(ctx, b, links); err != nil {
		return err
	}
	p := &s.parts
	p.api.RegisterInternal(links.api.server.Registrar())
	p.scheduler.Register(links.scheduler.server.Registrar())
	p.dispatcher.Register(links.dispatcher.server.Registrar())
	p.router.Register(links.router.server.Registrar())
	if err := s.openFront(ctx, b, p); err != nil {
		return err
	}
	s.check("api", p.api.Ready)
	s.check("scheduler", p.scheduler.Ready)
	s.check("dispatcher", p.dispatcher.Ready)
	s.check("router", p.router.Ready)
	s.check("ingest", p.ingest.Ready)
	s.services.Add(
		s.admin,
		service.Named("api", p.api), links.api.server,
		service.Named("scheduler", p.scheduler), links.scheduler.server,
		service.Named("dispatcher", p.dispatcher), links.dispatcher.server,
		service.Named("router", p.router), links.router.server,
		service.Named("ingest", p.ingest),
		service.Func("readiness", s.awaitReady, nil),
		s.public, s.web,
	)
	return nil
}

// makeParts makes the services. None is started.
func (s *Service) makeParts(ctx context.Context, b *base, l *links) error {
	for _, build := range []func(context.Context, *base, *links) error{
		s.makeAPI, s.makeScheduler, s.makeDispatcher, s.makeRouter, s.makeIngest,
	} {
		if err := build(ctx, b, l); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) makeAPI(ctx context.Context, b *base, l *links) error {
	st, err := s.openStores(ctx, b, "api")
	if err != nil {
		return err
	}
	cfg := s.cfg.API
	cfg.LogFile = s.cfg.path(cfg.LogFile)
	s.parts.api, err = api.New(ctx, cfg, api.Deps{
		Streams: st.streams, Store: st.config, Journal: st.journal, DeadLetters: st.deadLetters,
		Events: st.events, Deliveries: st.deliveries, EventsAge: st.events.MaxAge(), Sealer: b.sealer,
		Router:     routerv1.NewRouterServiceClient(l.router.conn),
		Dispatcher: dispatcherv1.NewDispatcherServiceClient(l.dispatcher.conn),
		Scheduler:  schedulerv1.NewSchedulerServiceClient(l.scheduler.conn), AdminKey: b.adminKey,
		Instance: st.instance, Logger: b.log.With("service", "api"), Telemetry: b.telemetry,
	})
	return err
}

func (s *Service) makeScheduler(ctx context.Context, b *base, _ *links) error {
	st, err := s.openStores(ctx, b, "scheduler")
	if err != nil {
		return err
	}
	s.parts.scheduler, err = scheduler.New(s.cfg.Scheduler, scheduler.Deps{
		Streams: st.streams, Events: st.events, Retries: st.retries, Journal: st.journal, Config: st.config, Topology: st.topology,
		Index: b.retryIndex(), Instance: st.instance, Logger: b.log.With("service", "scheduler"), Telemetry: b.telemetry,
	})
	return err
}

func (s *Service) makeDispatcher(ctx context.Context, b *base, l *links) error {
	st, err := s.openStores(ctx, b, "dispatcher")
	if err != nil {
		return err
	}
	s.parts.dispatcher, err = dispatcher.New(s.cfg.Dispatcher, dispatcher.Deps{
		Streams: st.streams, Events: st.events, Deliveries: st.deliveries, Retries: st.retries, Journal: st.journal,
		DeadLetters: st.deadLetters, Sealer: b.sealer, Scheduler: schedulerv1.NewSchedulerServiceClient(l.scheduler.conn),
		Disabler: dispatcher.NewDisabler(apiv1.NewWebhookStateServiceClient(l.api.conn)),
		Reporter: dispatcher.NewReporter(apiv1.NewWebhookStateServiceClient(l.api.conn)),
		Instance: st.instance, Logger: b.log.With("service", "dispatcher"), Telemetry: b.telemetry,
	})
	return err
}

func (s *Service) makeRouter(ctx context.Context, b *base, l *links) error {
	st, err := s.openStores(ctx, b, "router")
	if err != nil {
		return err
	}
	s.parts.router, err = router.New(s.cfg.Router, router.Deps{
		Streams: st.streams, Events: st.events, Deliveries: st.deliveries, Retries: st.retries, Journal: st.journal,
		Scheduler: schedulerv1.NewSchedulerServiceClient(l.scheduler.conn),
		Instance:  st.instance, Logger: b.log.With("service", "router"), Telemetry: b.telemetry,
	})
	return err
}

func (s *Service) makeIngest(ctx context.Context, b *base, _ *links) error {
	st, err := s.openStores(ctx, b, "ingest")
	if err != nil {
		return err
	}
	s.parts.ingest, err = ingest.New(s.cfg.Ingest, ingest.Deps{ //nolint:contextcheck // it outlives the start
		Streams: st.streams, Events: st.events, Dedup: b.dedup(), AdminKey: b.adminKey,
		Instance: st.instance, Logger: b.log.With("service", "ingest"), Telemetry: b.telemetry,
	})
	return err
}

// discard puts away services that were made, whether they were started or not.
func (p *parts) discard(ctx context.Context) error {
	var errs []error
	if p.ingest != nil {
		errs = append(errs, p.ingest.Stop(ctx))
	}
	if p.router != nil {
		errs = append(errs, p.router.Stop(ctx))
	}
	if p.dispatcher != nil {
		errs = append(errs, p.dispatcher.Stop(ctx))
	}
	if p.scheduler != nil {
		errs = append(errs, p.scheduler.Stop(ctx))
	}
	if p.api != nil {
		errs = append(errs, p.api.Stop(ctx))
	}
	return errors.Join(errs...)
}

// retryIndex is the shared index if there is a Redis, else one in the process.
func (b *base) retryIndex() scheduler.Index {
	if b.redis != nil {
		return scheduler.NewRedisIndex(b.redis)
	}
	return scheduler.NewMemoryIndex()
}

// dedup is the shared window if there is a Redis, else one in the process.
func (b *base) dedup() ingest.Dedup {
	if b.redis != nil {
		return ingest.NewRedisDedup(b.redis)
	}
	return ingest.NewMemoryDedup()
}

// openFront makes the public servers. One gRPC server serves two services' methods, so it is
// guarded by the rules of both; either's authenticator knows every key.
func (s *Service) openFront(ctx context.Context, b *base, p *parts) (err error) {
	rules := api.Rules()
	maps.Copy(rules, ingest.Rules())
	auth := p.api.Authenticator()
	s.public, err = rpc.NewServer(s.cfg.GRPC, b.log, rpc.WithTelemetry(b.telemetry), rpc.WithTrust(p.ingest.TrustsCaller), rpc.WithWorkers(ingest.Workers),
		rpc.WithUnary(access.Unary(auth, rules), p.api.Audit()), rpc.WithStream(access.Stream(auth, rules))) //nolint:contextcheck // calls bring their own
	if err != nil {
		return err
	}
	p.api.Register(s.public.Registrar())
	p.ingest.Register(s.public.Registrar())
	s.web = service.HTTP("http", s.cfg.HTTPListen, front(p.ingest.Handler(), p.api.Handler(), s.admin), service.WithHTTPLog(b.log), service.WithHTTPEnd(p.api.EndLive))
	// A server has workers before it is started, and is started last: they end even if it is not.
	return s.settle(ctx, service.Func("grpc workers", nil, s.public.Stop))
}

// check makes readiness ask a service too.
func (s *Service) check(name string, ready func() error) {
	s.admin.Check(name, ready)
	s.ready = append(s.ready, ready)
}

const (
	// readyTimeout bounds the wait of a start until every service can work.
	readyTimeout = 30 * time.Second
	readyTick    = 5 * time.Millisecond
)

// awaitReady returns when every service can work, so that nothing is let in before.
func (s *Service) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	tick := time.NewTicker(readyTick)
	defer tick.Stop()
	for {
		var errs []error
		for _, ready := range s.ready {
			errs = append(errs, ready())
		}
		err := errors.Join(errs...)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}
