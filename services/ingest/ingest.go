// Package ingest accepts events from producers, over gRPC and HTTP: each once, and none that is
// not stored. It composes admission, the window of deduplication keys and the two faces of the
// EventService. What it may lose is what producers were not yet answered for, and the window,
// which is rebuilt from EVENTS.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/postrider/postrider/pkg/access"
	"github.com/postrider/postrider/pkg/conf"
	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/redisconn"
	"github.com/postrider/postrider/pkg/rpc"
	"github.com/postrider/postrider/pkg/service"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/stream/pace"
	"github.com/postrider/postrider/pkg/telemetry"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"

	"github.com/postrider/postrider/services/ingest/internal/admission"
	"github.com/postrider/postrider/services/ingest/internal/dedup"
	"github.com/postrider/postrider/services/ingest/internal/fair"
	"github.com/postrider/postrider/services/ingest/internal/grpcapi"
	"github.com/postrider/postrider/services/ingest/internal/httpapi"
)

// Config is ingest's own configuration.
type Config struct {
	MaxData       conf.Bytes    `conf:"max-data" help:"largest data of an event"`
	MaxInFlight   conf.Bytes    `conf:"max-in-flight" help:"bytes of the events that may be under way at one time; producers wait beyond it"`
	StreamWindow  int           `conf:"stream-window" help:"events of one gRPC stream that may be under way"`
	Takeover      time.Duration `conf:"takeover" help:"how long the holder of a deduplication key may be silent; at least 2s above streams-publish-budget, below streams-duplicate-window"`
	DedupWindow   time.Duration `conf:"dedup-window" help:"how long deduplication keys last where the account does not say, and the longest that an account may have; at most the age of events"`
	DedupTimeout  time.Duration `conf:"dedup-timeout" help:"how long Redis may take to answer before publishing goes on without it"`
	DedupMaxKeys  int           `conf:"dedup-max-keys" help:"keys that the window in memory holds at most, where there is no Redis"`
	EventMaxDelay time.Duration `conf:"event-max-delay" help:"how far ahead deliver_at may lie"`
	Fair          fair.Config   `conf:"fair"`
}

// Default is the configuration that most deployments want.
func Default() Config {
	a, r, m := admission.Default(), dedup.DefaultRedis(), dedup.DefaultMemory()
	return Config{
		MaxData: conf.Bytes(a.MaxDataBytes), MaxInFlight: conf.Bytes(a.MaxInFlightBytes), StreamWindow: 1024,
		Takeover: a.Takeover, DedupWindow: r.Longest, DedupTimeout: r.Timeout, DedupMaxKeys: m.MaxKeys,
		EventMaxDelay: a.MaxDelay, Fair: fair.Default(),
	}
}

// Validate reports every fault at once. New checks what depends on other parts' configuration.
func (c *Config) Validate() error {
	return errors.Join(
		conf.Between("max-data", c.MaxData, 1, 16*conf.MiB),
		conf.Rule(c.MaxInFlight >= 4*c.MaxData, "max-in-flight", "must be at least four times max-data"),
		conf.Between("stream-window", c.StreamWindow, 1, 1<<16),
		conf.Positive("takeover", c.Takeover),
		conf.Rule(c.DedupWindow > c.Takeover, "dedup-window", "must be above takeover"),
		conf.Between("dedup-timeout", c.DedupTimeout, time.Millisecond, 5*time.Second),
		conf.AtLeast("dedup-max-keys", c.DedupMaxKeys, 1),
		conf.Positive("event-max-delay", c.EventMaxDelay),
	)
}

// Dedup says where the window of deduplication keys is held.
type Dedup struct {
	build func(cfg Config, shared dedup.Config, settle time.Duration, events dedup.Events, log *slog.Logger) (dedup.Index, error)
}

// NewMemoryDedup holds the window in this process, for a deployment that has one ingest.
func NewMemoryDedup() Dedup {
	return Dedup{func(cfg Config, shared dedup.Config, _ time.Duration, events dedup.Events, log *slog.Logger) (dedup.Index, error) {
		return dedup.NewMemory(dedup.MemoryConfig{Config: shared, MaxKeys: cfg.DedupMaxKeys}, events, log)
	}}
}

// NewRedisDedup holds the window in Redis, for all ingests of a deployment.
func NewRedisDedup(client *redisconn.Client) Dedup {
	return Dedup{func(cfg Config, shared dedup.Config, settle time.Duration, events dedup.Events, log *slog.Logger) (dedup.Index, error) {
		r := dedup.DefaultRedis()
		r.Config, r.Timeout, r.Settle = shared, cfg.DedupTimeout, settle
		return dedup.NewRedis(client.Universal(), r, events, log)
	}}
}

// Deps is what ingest works with.
type Deps struct {
	Streams   *stream.Client
	Events    *eventstream.Stream
	Dedup     Dedup
	AdminKey  conf.Secret
	Instance  string // unique among the ingests that run
	Logger    *slog.Logger
	Telemetry *telemetry.Telemetry
}

// Service is the ingest service.
type Service struct {
	auth      *access.Authenticator
	directory *admission.Directory
	mirror    *config.Mirror
	index     dedup.Index
	admission *admission.Admission
	fair      service.Component // follows the backlog
	grpc      *grpcapi.Server
	http      http.Handler
}

// New checks the configuration and starts nothing.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := check(&cfg, &deps); err != nil {
		return nil, fmt.Errorf("configure ingest: %w", err)
	}
	s := &Service{auth: access.NewAuthenticator(deps.AdminKey.Reveal())}
	s.directory = admission.NewDirectory(cfg.DedupWindow, func() bool { return s.mirror.Fresh() })
	s.mirror = config.NewMirror(deps.Streams, deps.Instance, s.handlers(), deps.Logger)
	streams := deps.Streams.Config()
	shared := dedup.Config{Takeover: cfg.Takeover, Longest: cfg.DedupWindow, Window: s.directory.Window}
	var err error
	settle := streams.PublishBudget + 2*time.Second
	if s.index, err = deps.Dedup.build(cfg, shared, settle, deps.Events, deps.Logger); err != nil {
		return nil, fmt.Errorf("configure ingest: %w", err)
	}
	a := admission.Default()
	a.MaxDataBytes, a.MaxInFlightBytes, a.MaxDelay = int(cfg.MaxData), int64(cfg.MaxInFlight), cfg.EventMaxDelay
	a.Takeover, a.PublishBudget, a.MsgIDWindow = cfg.Takeover, streams.PublishBudget, streams.DuplicateWindow
	a.Segments = streams.Segments
	gate := fair.New(cfg.Fair, s.directory.Several, time.Now())
	s.fair = service.Loop("fair", func(ctx context.Context) error {
		listener, err := pace.Listen(deps.Streams.Conn())
		if err != nil {
			return err
		}
		err = gate.Run(ctx, func(ctx context.Context) ([]fair.Stage, error) { return stages(ctx, &deps) }, listener, deps.Logger)
		return errors.Join(err, listener.Close())
	})
	s.admission, err = admission.New(a, admission.Deps{
		Events: deps.Events, Index: s.index, Directory: s.directory, Gate: gate, Logger: deps.Logger, Telemetry: deps.Telemetry,
	})
	if err != nil {
		return nil, fmt.Errorf("configure ingest: %w", err)
	}
	if s.grpc, err = grpcapi.New(s.admission, cfg.StreamWindow); err != nil {
		return nil, fmt.Errorf("configure ingest: %w", err)
	}
	api, err := httpapi.New(s.admission, httpapi.Config{
		MaxDataBytes: int(cfg.MaxData), MaxBatch: grpcapi.MaxBatch, MaxBatchBytes: grpcapi.MaxBatchBytes,
	})
	if err != nil {
		return nil, fmt.Errorf("configure ingest: %w", err)
	}
	s.http = api.Handler(s.auth, func(mux http.Handler) http.Handler {
		return deps.Telemetry.HTTP(mux, func(r *http.Request) bool {
			p, err := access.FromContext(r.Context())
			return err == nil && s.trusts(p)
		})
	})
	return s, nil
}

func check(cfg *Config, deps *Deps) error {
	if deps.Streams == nil || deps.Events == nil || deps.Dedup.build == nil || deps.Logger == nil || deps.Telemetry == nil {
		return errors.New("streams, events, dedup, logger and telemetry are required")
	}
	return errors.Join(
		cfg.Validate(),
		conf.Prefix("fair", cfg.Fair.Validate()),
		conf.NotEmpty("instance", deps.Instance),
		conf.Rule(cfg.DedupWindow <= deps.Events.MaxAge(), "dedup-window", "must be at most the age of events"),
	)
}

// stages reads how much of what was accepted has not been taken by a router, and how much of what was
// routed by a dispatcher.
func stages(ctx context.Context, deps *Deps) ([]fair.Stage, error) {
	events, err := deps.Events.Backlog(ctx)
	if err != nil {
		return nil, fmt.Errorf("backlog of events: %w", err)
	}
	deliveries, err := deliverystream.BacklogOf(ctx, deps.Streams)
	if err != nil {
		return nil, fmt.Errorf("backlog of deliveries: %w", err)
	}
	return []fair.Stage{{Waiting: events.Waiting, Passed: events.Done}, {Waiting: deliveries.Waiting, Passed: deliveries.Done}}, nil
}

// handlers feed what ingest knows of accounts, event types and keys.
func (s *Service) handlers() config.Handlers {
	return config.Handlers{
		Account:        func(a *recordv1.Account, _ uint64) { s.directory.PutAccount(a) },
		AccountDeleted: func(id string, _ uint64) { s.directory.DeleteAccount(postrider.AccountID(id)) },
		EventType:      func(e *recordv1.EventType, _ uint64) { s.directory.PutEventType(e) },
		EventTypeDeleted: func(account, name string, _ uint64) {
			s.directory.DeleteEventType(postrider.AccountID(account), name)
		},
		Key:        func(k *recordv1.Key, _ uint64) { s.auth.PutKey(k) },
		KeyDeleted: func(hash []byte, _ uint64) { s.auth.DeleteKey(hash) },
	}
}

// Rules is the scope that each method of the EventService needs, for a server that serves others
// beside it.
func Rules() map[string]postrider.Scope { return grpcapi.Rules() }

// Workers is how many goroutines of its server are there for producers' calls: about as many as a busy replica has
// under way, each waiting for its event to be stored.
const Workers = 512

// Guards are the options of a server that serves the EventService: every call needs a credential
// with the scope of its method.
func (s *Service) Guards() []rpc.Option {
	rules := Rules()
	return []rpc.Option{
		rpc.WithUnary(access.Unary(s.auth, rules)), rpc.WithStream(access.Stream(s.auth, rules)), rpc.WithTrust(s.TrustsCaller),
	}
}

// trusts says whether a producer may decide what is traced: those that belong to the operator, by
// an admin key or an account of class internal.
func (s *Service) trusts(p access.Principal) bool {
	return p.Admin || p.Account != "" && s.directory.Class(p.Account) == postrider.AccountInternal
}

// TrustsCaller says whether the caller of a gRPC method may decide what is traced, before the call
// is let in.
func (s *Service) TrustsCaller(ctx context.Context) bool {
	credential := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(credential) == 0 {
		return false
	}
	p, err := s.auth.Authenticate(credential[0])
	return err == nil && s.trusts(p)
}

// Register adds the EventService to a server with Guards.
func (s *Service) Register(r grpc.ServiceRegistrar) { s.grpc.Register(r) }

// Handler serves /v1/events over HTTP, to callers with credentials.
func (s *Service) Handler() http.Handler { return s.http }

// Start loads the configuration, begins to rebuild the window where it has to be, and accepts
// events when it returns.
func (s *Service) Start(ctx context.Context) error {
	if err := s.mirror.Start(ctx); err != nil {
		return fmt.Errorf("load accounts, event types and keys: %w", err)
	}
	if err := s.index.Start(ctx); err != nil {
		return errors.Join(fmt.Errorf("open the deduplication window: %w", err), s.mirror.Stop(ctx))
	}
	if err := errors.Join(s.fair.Start(ctx), s.admission.Start(ctx)); err != nil {
		return errors.Join(err, s.fair.Stop(ctx), s.index.Stop(ctx), s.mirror.Stop(ctx))
	}
	return nil
}

// Stop answers what is under way and ends. It may be called without Start, and twice.
func (s *Service) Stop(ctx context.Context) error {
	return errors.Join(s.admission.Stop(ctx), s.fair.Stop(ctx), s.index.Stop(ctx), s.mirror.Stop(ctx))
}

// Ready says why the service cannot accept events now, or nil. A window that is not whole is no
// reason: receipts say so.
func (s *Service) Ready() error {
	if !s.mirror.Fresh() {
		return errors.New("accounts, event types and keys are not up to date")
	}
	return nil
}
