// Command router routes events to the webhooks that want them.
package main

import (
	"context"
	"errors"
	"os"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/process"
	"github.com/postrider/postrider/pkg/rpc"
	"github.com/postrider/postrider/pkg/service"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/stream/journal"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	"github.com/postrider/postrider/services/router"
)

type options struct {
	Process    process.Config        `conf:""`
	Router     router.Config         `conf:"router"`
	Events     eventstream.Config    `conf:"events"`
	Deliveries deliverystream.Config `conf:"deliveries"`
	Retries    retrystream.Config    `conf:"retries"`
	Journal    journal.Config        `conf:"journal"`
	Scheduler  rpc.ClientConfig      `conf:"scheduler"`
}

// Validate has nothing to add to what the parts check.
func (*options) Validate() error { return nil }

func main() {
	opts := &options{
		Process: process.Default(), Router: router.Default(), Events: eventstream.Default(), Deliveries: deliverystream.Default(),
		Retries: retrystream.Default(), Journal: journal.Default(),
		Scheduler: rpc.ClientConfig{Target: "dns:///localhost:9090"},
	}
	os.Exit(process.Main("router", os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr, opts, &opts.Process,
		func(ctx context.Context, base *process.Base) error { return build(ctx, opts, base) }))
}

func build(ctx context.Context, opts *options, base *process.Base) error {
	_, err0 := config.Ensure(ctx, base.Streams)
	events, err1 := eventstream.Ensure(ctx, base.Streams, opts.Events)
	deliveries, err2 := deliverystream.Ensure(ctx, base.Streams, opts.Deliveries)
	retries, err3 := retrystream.Ensure(ctx, base.Streams, opts.Retries)
	entries, err4 := journal.Ensure(ctx, base.Streams, opts.Journal)
	scheduler, err5 := rpc.Dial(opts.Scheduler, rpc.ClientTelemetry(base.Telemetry))
	if err := errors.Join(err0, err1, err2, err3, err4, err5); err != nil {
		return err
	}
	svc, err := router.New(opts.Router, router.Deps{
		Streams: base.Streams, Events: events, Deliveries: deliveries, Retries: retries, Journal: entries,
		Scheduler: schedulerv1.NewSchedulerServiceClient(scheduler),
		Instance:  base.Config.Instance, Logger: base.Logger, Telemetry: base.Telemetry,
	})
	if err != nil {
		return err
	}
	server, err := rpc.NewServer(base.Config.GRPC, base.Logger, rpc.WithTelemetry(base.Telemetry))
	if err != nil {
		return err
	}
	svc.Register(server.Registrar())
	base.Admin.Check("router", svc.Ready)
	base.Group.Add(service.Named("router", svc), server)
	return nil
}
