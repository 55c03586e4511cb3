// Command dispatcher attempts deliveries: signed HTTP requests to webhooks' receivers.
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
	"github.com/postrider/postrider/pkg/stream/retrystream"
	apiv1 "github.com/postrider/postrider/proto/gen/go/postrider/api/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	"github.com/postrider/postrider/services/dispatcher"
)

type options struct {
	Process     process.Config          `conf:""`
	Dispatcher  dispatcher.Config       `conf:"dispatcher"`
	Events      eventstream.Config      `conf:"events"`
	Deliveries  deliverystream.Config   `conf:"deliveries"`
	Retries     retrystream.Config      `conf:"retries"`
	Journal     journal.Config          `conf:"journal"`
	DeadLetters deadletterstream.Config `conf:"dead-letters"`
	Scheduler   rpc.ClientConfig        `conf:"scheduler"`
	API         rpc.ClientConfig        `conf:"api"`
	Encryption  conf.Secret             `conf:"encryption-key" help:"keyset that webhooks' secrets are sealed with"`
}

// Validate requires what has no default.
func (o *options) Validate() error { return conf.NotEmpty("encryption-key", o.Encryption.Reveal()) }

func main() {
	opts := &options{
		Process: process.Default(), Dispatcher: dispatcher.Default(), Events: eventstream.Default(), Deliveries: deliverystream.Default(), Retries: retrystream.Default(),
		Journal: journal.Default(), DeadLetters: deadletterstream.Default(),
		Scheduler: rpc.ClientConfig{Target: "dns:///localhost:9090"}, API: rpc.ClientConfig{Target: "dns:///localhost:9090"},
	}
	os.Exit(process.Main("dispatcher", os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr, opts, &opts.Process,
		func(ctx context.Context, base *process.Base) error { return build(ctx, opts, base) }))
}

func build(ctx context.Context, opts *options, base *process.Base) error {
	_, err0 := config.Ensure(ctx, base.Streams)
	events, err1 := eventstream.Ensure(ctx, base.Streams, opts.Events)
	deliveries, err2 := deliverystream.Ensure(ctx, base.Streams, opts.Deliveries)
	retries, err3 := retrystream.Ensure(ctx, base.Streams, opts.Retries)
	entries, err4 := journal.Ensure(ctx, base.Streams, opts.Journal)
	letters, err5 := deadletterstream.Ensure(ctx, base.Streams, opts.DeadLetters)
	sealer, err6 := seal.Parse(opts.Encryption)
	if err := errors.Join(err0, err1, err2, err3, err4, err5, err6); err != nil {
		return err
	}
	toScheduler, err := rpc.Dial(opts.Scheduler, rpc.ClientTelemetry(base.Telemetry))
	if err != nil {
		return err
	}
	toAPI, err := rpc.Dial(opts.API, rpc.ClientTelemetry(base.Telemetry))
	if err != nil {
		return errors.Join(err, toScheduler.Close())
	}
	connections := service.Func("connections", nil, func(context.Context) error {
		return errors.Join(toScheduler.Close(), toAPI.Close())
	})
	svc, err := dispatcher.New(opts.Dispatcher, dispatcher.Deps{
		Streams: base.Streams, Events: events, Deliveries: deliveries, Retries: retries, Journal: entries, DeadLetters: letters,
		Sealer: sealer, Scheduler: schedulerv1.NewSchedulerServiceClient(toScheduler),
		Disabler: dispatcher.NewDisabler(apiv1.NewWebhookStateServiceClient(toAPI)),
		Reporter: dispatcher.NewReporter(apiv1.NewWebhookStateServiceClient(toAPI)),
		Instance: base.Config.Instance, Logger: base.Logger, Telemetry: base.Telemetry,
	})
	if err != nil {
		return errors.Join(err, toScheduler.Close(), toAPI.Close())
	}
	server, err := rpc.NewServer(base.Config.GRPC, base.Logger, rpc.WithTelemetry(base.Telemetry))
	if err != nil {
		return errors.Join(err, svc.Stop(ctx), toScheduler.Close(), toAPI.Close())
	}
	svc.Register(server.Registrar())
	base.Admin.Check("dispatcher", svc.Ready)
	base.Group.Add(connections, service.Named("dispatcher", svc), server)
	return nil
}
