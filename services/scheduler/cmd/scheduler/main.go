// Command scheduler says when deliveries may be tried again.
package main

import (
	"context"
	"errors"
	"os"

	"github.com/postrider/postrider/pkg/conf"
	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/process"
	"github.com/postrider/postrider/pkg/redisconn"
	"github.com/postrider/postrider/pkg/rpc"
	"github.com/postrider/postrider/pkg/service"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/stream/journal"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/services/scheduler"
)

type options struct {
	Process   process.Config     `conf:""`
	Scheduler scheduler.Config   `conf:"scheduler"`
	Redis     redisconn.Config   `conf:"redis"`
	Events    eventstream.Config `conf:"events"`
	Retries   retrystream.Config `conf:"retries"`
	Journal   journal.Config     `conf:"journal"`
}

// Validate requires a Redis: replicas that do not share an index would each release everything.
func (o *options) Validate() error { return conf.NotEmpty("redis-url", o.Redis.URL) }

func main() {
	opts := &options{
		Process: process.Default(), Scheduler: scheduler.Default(), Redis: redisconn.Default(),
		Events: eventstream.Default(), Retries: retrystream.Default(), Journal: journal.Default(),
	}
	os.Exit(process.Main("scheduler", os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr, opts, &opts.Process,
		func(ctx context.Context, base *process.Base) error { return build(ctx, opts, base) }))
}

func build(ctx context.Context, opts *options, base *process.Base) error {
	store, err0 := config.Ensure(ctx, base.Streams)
	events, err1 := eventstream.Ensure(ctx, base.Streams, opts.Events)
	retries, err2 := retrystream.Ensure(ctx, base.Streams, opts.Retries)
	entries, err3 := journal.Ensure(ctx, base.Streams, opts.Journal)
	client, err4 := redisconn.Open(opts.Redis, base.Logger)
	if err := errors.Join(err0, err1, err2, err3, err4); err != nil {
		return err
	}
	svc, err := scheduler.New(opts.Scheduler, scheduler.Deps{
		Streams: base.Streams, Events: events, Retries: retries, Journal: entries, Config: store, Topology: base.Topology,
		Index: scheduler.NewRedisIndex(client), Instance: base.Config.Instance,
		Logger: base.Logger, Telemetry: base.Telemetry,
	})
	if err != nil {
		return err
	}
	server, err := rpc.NewServer(base.Config.GRPC, base.Logger, rpc.WithTelemetry(base.Telemetry))
	if err != nil {
		return err
	}
	svc.Register(server.Registrar())
	base.Admin.Check("scheduler", svc.Ready)
	base.Group.Add(
		service.Func("redis", nil, func(context.Context) error { return client.Close() }),
		service.Named("scheduler", svc),
		server,
	)
	return nil
}
