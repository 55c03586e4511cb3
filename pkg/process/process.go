// Package process is what the mains of all services share: their common configuration, the
// connections and servers made from it, and the life of the process around a service. A main
// adds its own options and says in build what it runs; it stays a page that is read from top to
// bottom.
package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"time"
	_ "time/tzdata" // an image holds no files but the binary

	"github.com/nats-io/nats.go"
	_ "golang.org/x/crypto/x509roots/fallback" // used where the system has no certificate authorities, as in an image
	"google.golang.org/grpc/resolver/dns"

	"github.com/postrider/postrider/pkg/conf"
	"github.com/postrider/postrider/pkg/natsconn"
	"github.com/postrider/postrider/pkg/rpc"
	"github.com/postrider/postrider/pkg/service"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/topology"
	"github.com/postrider/postrider/pkg/telemetry"
)

// Config is what every service can be told. Inline it (conf:"").
type Config struct {
	Instance  string              `conf:"instance" help:"name of this process, unique among those that run; by default host name and process id"`
	NATS      natsconn.Config     `conf:"nats"`
	Streams   stream.Config       `conf:"streams"`
	GRPC      rpc.ServerConfig    `conf:"grpc"`
	Admin     service.AdminConfig `conf:""`
	Telemetry telemetry.Config    `conf:"telemetry"`
}

// Default is a process on a machine of its own.
func Default() Config {
	return Config{
		NATS:      natsconn.Default(),
		Streams:   stream.Default(),
		GRPC:      rpc.ServerConfig{Listen: ":9090"},
		Admin:     service.DefaultAdmin(),
		Telemetry: telemetry.Default(),
	}
}

// Base is what a service is built on. Components that build adds to Group start after it returns,
// in their order, and stop in reverse.
type Base struct {
	Config    Config
	Logger    *slog.Logger
	Telemetry *telemetry.Telemetry
	NATS      *nats.Conn
	Streams   *stream.Client
	Topology  *topology.Topology
	Admin     *service.Admin
	Group     service.Group
}

// Exit codes of a service.
const (
	ExitOK       = 0
	ExitFailure  = 1
	ExitBadUsage = 2
)

// Main runs a service and returns its exit code. cfg is the service's whole configuration,
// holding the defaults, and common is the part of it that is this package's; build composes the
// service on the base. With "health" before the options it asks the process that has the same ones
// whether it is ready, and runs nothing.
func Main(name string, args []string, lookup func(string) (string, bool), stdout, stderr io.Writer,
	cfg conf.Validator, common *Config, build func(context.Context, *Base) error,
) int {
	asked := len(args) > 0 && args[0] == healthCommand
	if asked {
		args = args[1:]
	}
	err := conf.Load(name, cfg, args, lookup, stdout)
	if errors.Is(err, conf.ErrHelp) {
		return ExitOK
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return ExitBadUsage
	}
	if asked {
		return askHealth(context.Background(), common.Admin, stdout, stderr)
	}
	TuneMemory(lookup)
	// The names of the other services are their pods, and a rollout replaces them all within a minute.
	// With gRPC's own 30 s between two questions a client would be left with those that are gone.
	dns.SetMinResolutionInterval(resolveEvery)
	if common.Instance == "" {
		common.Instance = instance()
	}
	log, level := telemetry.Logger(common.Telemetry, stderr)
	log = log.With("service", name, "instance", common.Instance)
	telemetry.TakeOver(log)
	ctx, end := service.UntilSignal(context.Background(), log)
	defer end()
	RestMemory(ctx, lookup)
	if err := run(ctx, name, log, level, *common, build); err != nil {
		log.ErrorContext(ctx, "ended", "error", err)
		return ExitFailure
	}
	return ExitOK
}

// resolveEvery is how often the name of another service is asked for at most.
const resolveEvery = 2 * time.Second

// run opens what the service is built on, builds it, and runs it until it is told to stop.
func run(ctx context.Context, name string, log *slog.Logger, level *slog.LevelVar, cfg Config, build func(context.Context, *Base) error) (err error) {
	tel, err := telemetry.New(cfg.Telemetry, name) //nolint:contextcheck // its exporter lives as long as the process
	if err != nil {
		return err
	}
	defer flush(ctx, tel, log)
	nc, err := natsconn.Connect(ctx, cfg.NATS, name+"/"+cfg.Instance, log)
	if err != nil {
		return service.Unstarted(ctx, log, err)
	}
	defer func() { err = errors.Join(err, leave(ctx, nc)) }()
	streams, err := stream.New(nc, cfg.Streams, stream.WithTracer(tel.Tracer("postrider/stream")))
	if err != nil {
		return err
	}
	defer streams.Close()
	// What is built may keep the context that it was built under, so a signal ends this one only until then.
	building, abandon := context.WithCancelCause(context.WithoutCancel(ctx))
	defer abandon(nil)
	built := context.AfterFunc(ctx, func() { abandon(context.Cause(ctx)) })
	defer built()
	shards, err := topology.Ensure(building, streams)
	if err != nil {
		return service.Unstarted(ctx, log, err)
	}
	base := &Base{Config: cfg, Logger: log, Telemetry: tel, NATS: nc, Streams: streams, Topology: shards}
	if base.Admin, err = service.NewAdmin(cfg.Admin, tel.Handler(), log); err != nil {
		return err
	}
	base.Admin.Levels(level)
	if err := ObserveStop(tel, base.Admin); err != nil {
		return err
	}
	base.Admin.Check("nats", func() error {
		if !nc.IsConnected() {
			return errors.New("not connected to NATS")
		}
		return nil
	})
	base.Group.Add(base.Admin, service.Loop("topology", func(ctx context.Context) error { return shards.Follow(ctx, log) }))
	if err := build(building, base); err != nil {
		return service.Unstarted(ctx, log, fmt.Errorf("build %s: %w", name, err))
	}
	built()
	return service.Run(ctx, log, cfg.Admin.StopGrace, &base.Group)
}

// flushTimeout bounds the sending of the last spans. With leaveTimeout it comes on top of the grace
// of a stop, and the grace of a pod has to have room for both.
const flushTimeout = 3 * time.Second

// flush sends the spans that are left. A collector that is away costs them and no more: the process
// has done what it is there for.
func flush(ctx context.Context, tel *telemetry.Telemetry, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	if err := tel.Shutdown(ctx); err != nil {
		log.WarnContext(ctx, "the last spans were not sent", slog.Any("error", err))
	}
}

// leaveTimeout bounds the end of the connection.
const leaveTimeout = 5 * time.Second

// leave closes the connection when what is on its way, acknowledgements above all, has been sent.
func leave(ctx context.Context, nc *nats.Conn) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	return natsconn.Drain(ctx, nc)
}

// instance names a process by its host and its id.
func instance() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	return host + "-" + strconv.Itoa(os.Getpid())
}

// Version is the version of the main module, as the toolchain stamped it.
func Version() string { return telemetry.Version() }
