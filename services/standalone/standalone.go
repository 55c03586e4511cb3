// Package standalone composes Postrider in one process for a developer's machine: an embedded NATS
// server, the five services on it, and one gRPC and one HTTP server in front of them. The services
// are the same as in a cluster and cannot tell: they reach each other over gRPC, in memory, and the
// deduplication window and the retry index are in the process unless there is a Redis.
//
// It owns the data folder, and keeps others off it. What it may lose is what NATS may: nothing when
// the process is killed, and up to a second of the newest when the power fails.
package standalone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/postrider/postrider/pkg/access"
	"github.com/postrider/postrider/pkg/conf"
	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/natsconn"
	"github.com/postrider/postrider/pkg/process"
	"github.com/postrider/postrider/pkg/redisconn"
	"github.com/postrider/postrider/pkg/rpc"
	"github.com/postrider/postrider/pkg/seal"
	"github.com/postrider/postrider/pkg/service"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/shardlease"
	"github.com/postrider/postrider/pkg/telemetry"
)

// Service is the whole of Postrider. It is used once: started, then stopped.
type Service struct {
	cfg      Config
	log      *slog.Logger
	level    *slog.LevelVar // nil: it cannot be changed
	instance string
	metrics  *telemetry.Telemetry

	mu       sync.Mutex
	parts    parts
	ground   []service.Component // what the services stand on, as far as it was started
	services service.Group
	admin    *service.Admin
	ready    []func() error // of each service
	public   *rpc.Server
	web      *service.HTTPServer
	adminKey string
}

// Option changes how everything is composed.
type Option func(*Service)

// WithLevel lets the metrics port change the level of the logs.
func WithLevel(level *slog.LevelVar) Option { return func(s *Service) { s.level = level } }

// New checks the configuration and starts nothing.
func New(cfg Config, log *slog.Logger, opts ...Option) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure standalone: %w", err)
	}
	s := &Service{cfg: cfg, log: log, instance: "standalone-" + strconv.Itoa(os.Getpid())}
	for _, opt := range opts {
		opt(s)
	}
	return s, nil
}

// rollbackGrace bounds the stop of what had started when something could not.
const rollbackGrace = 10 * time.Second

// base is what the services are built on.
type base struct {
	log       *slog.Logger
	telemetry *telemetry.Telemetry
	nats      *natsServer
	redis     *redisconn.Client // nil: the deduplication window and the retry index are in the process
	sealer    *seal.Sealer
	adminKey  conf.Secret
}

// Start takes the data folder, runs NATS on it and then the services. It returns when all work.
func (s *Service) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.start(ctx); err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackGrace)
		defer cancel()
		return errors.Join(err, s.services.Stop(ctx), s.parts.discard(ctx), s.stop(ctx))
	}
	return nil
}

func (s *Service) start(ctx context.Context) error {
	b, err := s.lay(ctx)
	if err != nil {
		return err
	}
	if err := s.compose(ctx, b); err != nil {
		return fmt.Errorf("compose the services: %w", err)
	}
	return s.services.Start(ctx)
}

// lay starts what the services stand on. Each part is settled before the next is made, so that
// whatever fails, what was there before is put away in reverse.
func (s *Service) lay(ctx context.Context) (*base, error) {
	// The lock comes first: all else in the folder is only safe to touch for one process.
	held, err := acquire(s.cfg.DataDir)
	if err != nil {
		return nil, err
	}
	b := &base{log: s.log}
	if err := s.settle(ctx, service.Func("lock", nil, held.release)); err != nil {
		return nil, err
	}
	if err := s.openKeys(b); err != nil {
		return nil, err
	}
	if b.telemetry, err = telemetry.New(s.cfg.Telemetry, "postrider"); err != nil { //nolint:contextcheck // it outlives the start
		return nil, err
	}
	s.metrics = b.telemetry
	if err := s.settle(ctx, service.Func("telemetry", nil, b.telemetry.Shutdown)); err != nil {
		return nil, err
	}
	if b.nats, err = newNATS(s.cfg.path(natsDir), s.cfg.NATS, s.log); err != nil {
		return nil, err
	}
	if err := s.settle(ctx, b.nats); err != nil {
		return nil, err
	}
	s.services.Add(service.Loop("nats-watch", b.nats.watch))
	if s.admin, err = service.NewAdmin(s.cfg.Admin, b.telemetry.Handler(), s.log); err != nil {
		return nil, err
	}
	if s.level != nil {
		s.admin.Levels(s.level)
	}
	if err := process.ObserveStop(b.telemetry, s.admin); err != nil {
		return nil, err
	}
	s.admin.Check("nats", b.nats.ready)
	return b, errors.Join(s.clear(ctx, b), s.openRedis(ctx, b))
}

// settle starts a part of the ground and remembers to stop it.
func (s *Service) settle(ctx context.Context, c service.Component) error {
	if err := c.Start(ctx); err != nil {
		return errors.Join(fmt.Errorf("start %s: %w", c.Name(), err), c.Stop(context.WithoutCancel(ctx)))
	}
	s.ground = append(s.ground, c)
	return nil
}

// connect opens a connection to NATS under a name. Each service has its own, as in a cluster, so that
// what one of them sends in bulk does not stand before what the others ask.
func (s *Service) connect(ctx context.Context, b *base, name string) (*stream.Client, error) {
	nc, err := natsconn.InProcess(b.nats.server, name, s.log)
	if err != nil {
		return nil, err
	}
	streams, err := stream.New(nc, s.cfg.Streams, stream.WithTracer(b.telemetry.Tracer("postrider/stream")))
	if err != nil {
		nc.Close()
		return nil, err
	}
	s.admin.Check("nats "+name, connected(nc))
	return streams, s.settle(ctx, service.Func("connection "+name, nil, func(context.Context) error {
		streams.Close()
		nc.Close()
		return nil
	}))
}

func connected(nc *nats.Conn) func() error {
	return func() error {
		if !nc.IsConnected() {
			return errors.New("not connected to NATS")
		}
		return nil
	}
}

// clear makes the streams ready for a process that is the only one. The lock on the folder proves
// that nobody else works on them; one that was killed left its leases behind, and without those
// there is nothing to wait for.
func (s *Service) clear(ctx context.Context, b *base) error {
	streams, err := s.connect(ctx, b, "setup")
	if err != nil {
		return err
	}
	return errors.Join(shardlease.Forget(ctx, streams), config.ForgetMembers(ctx, streams))
}

// openRedis opens a client if there is a Redis.
func (s *Service) openRedis(ctx context.Context, b *base) error {
	if s.cfg.Redis.URL == "" {
		return nil
	}
	client, err := redisconn.Open(s.cfg.Redis, s.log)
	if err != nil {
		return err
	}
	b.redis = client
	return s.settle(ctx, service.Func("redis", nil, func(context.Context) error { return client.Close() }))
}

// openKeys reads the admin key and the keyset, or makes them. An admin key of the configuration is
// written down too, so that the command line finds the one that holds.
func (s *Service) openKeys(b *base) error {
	adminKey := s.cfg.AdminKey.Reveal()
	path := s.cfg.path(AdminKeyFile)
	var err1 error
	if adminKey != "" {
		err1 = keep(path, adminKey)
	} else {
		adminKey, err1 = kept(path, func() (string, error) {
			_, secret := access.NewKeySecret()
			return secret, nil
		})
	}
	keyset := s.cfg.EncryptionKey.Reveal()
	var err2, err3 error
	if keyset == "" {
		keyset, err2 = kept(s.cfg.path(encryptionKeyFile), seal.Generate)
	}
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	b.sealer, err3 = seal.Parse(keyset)
	s.adminKey, b.adminKey = adminKey, conf.Secret(adminKey)
	return err3
}

// Stop drains: first nothing new comes in, then each service ends after those that use it, then
// NATS. It may be called without Start, and twice.
func (s *Service) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stop(ctx)
}

func (s *Service) stop(ctx context.Context) error {
	errs := []error{s.services.Stop(ctx)}
	for _, c := range slices.Backward(s.ground) {
		if err := c.Stop(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", c.Name(), err))
		}
	}
	s.ground = nil
	return errors.Join(errs...)
}

// Drain withdraws readiness.
func (s *Service) Drain(ctx context.Context) { s.services.Drain(ctx) }

// Failed returns the channel that gets the error of a service that ended by itself.
func (s *Service) Failed() <-chan error { return s.services.Failed() }

// Name returns the component's name.
func (*Service) Name() string { return "standalone" }

// Ready says why the process is not ready, or nil.
func (s *Service) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.admin == nil {
		return errors.New("it has not started")
	}
	return s.admin.Ready()
}
