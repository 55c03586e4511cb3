// Command api manages webhooks and answers for deliveries.
package main

import (
	"context"
	"errors"
	"os"

	"github.com/postrider/postrider/pkg/conf"
	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/process"
	"github.com/postrider/postrider/pkg/rpc"
	"github.com/postrider/postrider/pkg/seal"
	"github.com/postrider/postrider/pkg/service"
	"github.com/postrider/postrider/pkg/stream/deadletterstream"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/stream/journal"
	dispatcherv1 "github.com/postrider/postrider/proto/gen/go/postrider/dispatcher/v1"
	routerv1 "github.com/postrider/postrider/proto/gen/go/postrider/router/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	"github.com/postrider/postrider/services/api"
)

type options struct {
	Process       process.Config          `conf:""`
	API           api.Config              `conf:"api"`
	Internal      rpc.ServerConfig        `conf:"internal-grpc"`
	HTTPListen    string                  `conf:"http-listen" help:"where REST listens"`
	Events        eventstream.Config      `conf:"events"`
	Deliveries    deliverystream.Config   `conf:"deliveries"`
	Journal       journal.Config          `conf:"journal"`
	DeadLetters   deadletterstream.Config `conf:"dead-letters"`
	Router        rpc.ClientConfig        `conf:"router"`
	Dispatcher    rpc.ClientConfig        `conf:"dispatcher"`
	Scheduler     rpc.ClientConfig        `conf:"scheduler"`
	AdminKey      conf.Secret             `conf:"admin-key" help:"credential that may do everything; empty for none"`
	EncryptionKey conf.Secret             `conf:"encryption-key" help:"keyset that encrypts webhooks' secrets at rest; file:/path reads a file"`
}

// Validate reports what the parts do not check.
func (o *options) Validate() error {
	return errors.Join(
		conf.NotEmpty("http-listen", o.HTTPListen),
		conf.NotEmpty("encryption-key", o.EncryptionKey.Reveal()),
	)
}

func main() {
	opts := &options{
		Process: process.Default(), API: api.Default(), Internal: rpc.ServerConfig{Listen: ":9091"}, HTTPListen: ":8080",
		Events: eventstream.Default(), Deliveries: deliverystream.Default(), Journal: journal.Default(), DeadLetters: deadletterstream.Default(),
		Router:     rpc.ClientConfig{Target: "dns:///router:9090"},
		Dispatcher: rpc.ClientConfig{Target: "dns:///dispatcher:9090"},
		Scheduler:  rpc.ClientConfig{Target: "dns:///scheduler:9090"},
	}
	os.Exit(process.Main("api", os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr, opts, &opts.Process,
		func(ctx context.Context, base *process.Base) error { return build(ctx, opts, base) }))
}

func build(ctx context.Context, opts *options, base *process.Base) error {
	deps, err := open(ctx, opts, base)
	if err != nil {
		return err
	}
	svc, err := api.New(ctx, opts.API, deps)
	if err != nil {
		return err
	}
	public, err := rpc.NewServer(base.Config.GRPC, base.Logger, append(svc.Guards(), rpc.WithTelemetry(base.Telemetry))...) //nolint:contextcheck // each call brings its own to the interceptors
	if err != nil {
		return err
	}
	svc.Register(public.Registrar())
	internal, err := rpc.NewServer(opts.Internal, base.Logger, rpc.WithTelemetry(base.Telemetry), rpc.WithName("internal-grpc"))
	if err != nil {
		return err
	}
	svc.RegisterInternal(internal.Registrar())
	base.Admin.Check("api", svc.Ready)
	base.Group.Add(service.Named("api", svc), public, internal, service.HTTP("rest", opts.HTTPListen, svc.Handler(), service.WithHTTPEnd(svc.EndLive)))
	return nil
}

func open(ctx context.Context, opts *options, base *process.Base) (api.Deps, error) {
	store, err1 := config.Ensure(ctx, base.Streams)
	events, err2 := eventstream.Ensure(ctx, base.Streams, opts.Events)
	entries, err3 := journal.Ensure(ctx, base.Streams, opts.Journal)
	deliveries, err9 := deliverystream.Ensure(ctx, base.Streams, opts.Deliveries)
	letters, err4 := deadletterstream.Ensure(ctx, base.Streams, opts.DeadLetters)
	sealer, err5 := seal.Parse(opts.EncryptionKey.Reveal())
	router, err6 := rpc.Dial(opts.Router, rpc.ClientTelemetry(base.Telemetry))
	dispatcher, err7 := rpc.Dial(opts.Dispatcher, rpc.ClientTelemetry(base.Telemetry))
	scheduler, err8 := rpc.Dial(opts.Scheduler, rpc.ClientTelemetry(base.Telemetry))
	if err := errors.Join(err1, err2, err3, err4, err5, err6, err7, err8, err9); err != nil {
		return api.Deps{}, err
	}
	return api.Deps{
		Streams: base.Streams, Store: store, Journal: entries, DeadLetters: letters, Events: events, Deliveries: deliveries, EventsAge: events.MaxAge(), Sealer: sealer,
		Router: routerv1.NewRouterServiceClient(router), Dispatcher: dispatcherv1.NewDispatcherServiceClient(dispatcher),
		Scheduler: schedulerv1.NewSchedulerServiceClient(scheduler), AdminKey: opts.AdminKey,
		Instance: base.Config.Instance, Logger: base.Logger, Telemetry: base.Telemetry,
	}, nil
}
