// Command ingest accepts events from producers.
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
	"github.com/postrider/postrider/services/ingest"
)

type options struct {
	Process    process.Config     `conf:""`
	Ingest     ingest.Config      `conf:"ingest"`
	Events     eventstream.Config `conf:"events"`
	Redis      redisconn.Config   `conf:"redis"`
	HTTPListen string             `conf:"http-listen" help:"where the HTTP server listens"`
	AdminKey   conf.Secret        `conf:"admin-key" help:"admin credential that is not stored; file:/path reads a file; empty for none"`
}

// Validate adds to what the parts check that ingest, of which there are several, needs a Redis.
func (o *options) Validate() error {
	return errors.Join(conf.NotEmpty("redis-url", o.Redis.URL), conf.NotEmpty("http-listen", o.HTTPListen))
}

func main() {
	opts := &options{
		Process: process.Default(), Ingest: ingest.Default(), Events: eventstream.Default(),
		Redis: redisconn.Default(), HTTPListen: ":8080",
	}
	os.Exit(process.Main("ingest", os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr, opts, &opts.Process,
		func(ctx context.Context, base *process.Base) error { return build(ctx, opts, base) }))
}

func build(ctx context.Context, opts *options, base *process.Base) error {
	redis, err0 := redisconn.Open(opts.Redis, base.Logger)
	_, err1 := config.Ensure(ctx, base.Streams)
	events, err2 := eventstream.Ensure(ctx, base.Streams, opts.Events)
	if err := errors.Join(err0, err1, err2); err != nil {
		return err
	}
	svc, err := ingest.New(opts.Ingest, ingest.Deps{ //nolint:contextcheck // what it counts outlives every call
		Streams: base.Streams, Events: events, Dedup: ingest.NewRedisDedup(redis), AdminKey: opts.AdminKey,
		Instance: base.Config.Instance, Logger: base.Logger, Telemetry: base.Telemetry,
	})
	if err != nil {
		return err
	}
	server, err := rpc.NewServer(base.Config.GRPC, base.Logger, append(svc.Guards(), rpc.WithTelemetry(base.Telemetry), rpc.WithWorkers(ingest.Workers))...) //nolint:contextcheck // each call brings its own to the interceptors
	if err != nil {
		return err
	}
	svc.Register(server.Registrar())
	base.Admin.Check("ingest", svc.Ready)
	base.Group.Add(
		service.Func("redis", func(context.Context) error { return nil }, func(context.Context) error { return redis.Close() }),
		service.Named("ingest", svc), server, service.HTTP("http", opts.HTTPListen, svc.Handler()),
	)
	return nil
}
