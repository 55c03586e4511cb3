// Package api manages accounts, keys, webhooks and event types, records the journal into the
// delivery log, and answers for deliveries, over gRPC and REST. It is the only writer of the
// configuration.
package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/postrider/postrider/pkg/access"
	"github.com/postrider/postrider/pkg/conf"
	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/rpc"
	"github.com/postrider/postrider/pkg/seal"
	"github.com/postrider/postrider/pkg/service"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/auditstream"
	"github.com/postrider/postrider/pkg/stream/deadletterstream"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/stream/journal"
	"github.com/postrider/postrider/pkg/telemetry"
	apiv1 "github.com/postrider/postrider/proto/gen/go/postrider/api/v1"
	dispatcherv1 "github.com/postrider/postrider/proto/gen/go/postrider/dispatcher/v1"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	routerv1 "github.com/postrider/postrider/proto/gen/go/postrider/router/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	"github.com/postrider/postrider/services/api/internal/activity"
	"github.com/postrider/postrider/services/api/internal/audit"
	"github.com/postrider/postrider/services/api/internal/console"
	"github.com/postrider/postrider/services/api/internal/ledger"
	"github.com/postrider/postrider/services/api/internal/logstore"
	"github.com/postrider/postrider/services/api/internal/manage"
	"github.com/postrider/postrider/services/api/internal/notice"
	"github.com/postrider/postrider/services/api/internal/publicurl"
	"github.com/postrider/postrider/services/api/internal/recorder"
	"github.com/postrider/postrider/services/api/internal/replay"
	"github.com/postrider/postrider/services/api/internal/restapi"
	"github.com/postrider/postrider/services/api/internal/retention"
	"github.com/postrider/postrider/services/api/internal/ticket"
	"github.com/postrider/postrider/services/api/internal/webhookindex"
)

// Config is the api service's own configuration.
type Config struct {
	LogURL         conf.Secret   `conf:"log-url" help:"where the delivery log is: postgres://user:password@host/database, which all api processes share; file:/path reads a file; empty: the SQLite file"`
	LogFile        string        `conf:"log-file" help:"SQLite file of the delivery log; each api process has its own"`
	LogConnections int           `conf:"log-connections" help:"most connections to PostgreSQL, for each process"`
	LogRetention   time.Duration `conf:"log-retention" help:"how long the delivery log keeps what happened to events whose deliveries have ended; 0 for ever"`
	Recorder       string        `conf:"recorder" help:"what the names of the journal's consumers that fill delivery logs begin with"`
	RecorderYield  bool          `conf:"recorder-yield" help:"leave the processor to deliveries while the machine has too little of it: the delivery log may then be up to 10 min behind, and catches up as soon as there is room"`
	AllowHTTP      bool          `conf:"allow-http" help:"whether webhooks of accounts that do not say may use http URLs"`

	PublicURL publicurl.Base `conf:"public-url" help:"URL below which clients see the paths of this service, such as https://hooks.example.com; empty: scheme and host of each request"`
	Origin    string         `conf:"origin" help:"DNS name by which receivers are asked for their consent (CloudEvents handshake); empty: the host of api-public-url, or localhost"`

	DisableFailingAfter time.Duration `conf:"disable-failing-after" help:"time after which webhooks are disabled all of whose attempts fail, for accounts that do not say; 0 for never"`
	DeadLetterWarning   time.Duration `conf:"dead-letter-warning" help:"how long before dead letters expire their account is told; 0 for never"`
	OperatorAccount     string        `conf:"operator-account" help:"id of the account that gets a copy of every operational event; empty for none"`

	VerifyLimit     int `conf:"verify-limit" help:"tokens that an address may ask /compat/labelst/verify about in a minute, at each process"`
	JewelMusicLimit int `conf:"jewelmusic-limit" help:"requests that a key may make to /compat/jewelmusic in a minute, at each process"`

	Console console.Config     `conf:"console"`
	Audit   auditstream.Config `conf:"audit"`
}

// Default is the configuration that most deployments want.
func Default() Config {
	return Config{
		LogFile: "delivery-log.db", LogConnections: 8, LogRetention: 30 * 24 * time.Hour, Recorder: "recorder", RecorderYield: true, VerifyLimit: 600, JewelMusicLimit: 100,
		DisableFailingAfter: 5 * 24 * time.Hour, DeadLetterWarning: 3 * 24 * time.Hour, Console: console.DefaultConfig(), Audit: auditstream.Default(),
	}
}

var recorderForm = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// originForm is a DNS name: labels of at most 63 letters, digits and hyphens.
var originForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$`)

// origin is the name by which receivers are asked for their consent.
func (c *Config) origin() string {
	if c.Origin != "" {
		return c.Origin
	}
	if u, err := url.Parse(string(c.PublicURL)); err == nil && u.Hostname() != "" {
		return u.Hostname()
	}
	return "localhost"
}

// Validate reports every fault at once.
func (c *Config) Validate() error {
	return errors.Join(
		conf.Rule(c.LogURL.Reveal() != "" || c.LogFile != "", "log-file", "must not be empty without log-url"),
		conf.Rule(logstore.ValidURL(c.LogURL.Reveal()), "log-url", "must be a postgres:// URL"),
		conf.AtLeast("log-connections", c.LogConnections, 2),
		conf.Rule(c.LogRetention == 0 || c.LogRetention >= 24*time.Hour, "log-retention", "must be 0 or at least a day"),
		conf.Rule(c.PublicURL.Valid(), "public-url", publicurl.Rule),
		conf.Rule(c.Origin == "" || originForm.MatchString(c.Origin), "origin", "must be a DNS name"),
		conf.AtLeast("disable-failing-after", c.DisableFailingAfter, 0),
		conf.AtLeast("dead-letter-warning", c.DeadLetterWarning, 0),
		conf.Rule(c.OperatorAccount == "" || postrider.AccountID(c.OperatorAccount).Valid(), "operator-account", "must be an account's id"),
		conf.AtLeast("verify-limit", c.VerifyLimit, 1),
		conf.AtLeast("jewelmusic-limit", c.JewelMusicLimit, 1),
		conf.Rule(recorderForm.MatchString(c.Recorder), "recorder", "must be 1 to 32 lower-case letters, digits and hyphens"),
	)
}

// Deps is what the api service works with.
type Deps struct {
	Streams     *stream.Client
	Store       *config.Store
	Journal     *journal.Journal
	DeadLetters *deadletterstream.Stream
	Events      *eventstream.Stream
	Deliveries  *deliverystream.Streams
	EventsAge   time.Duration // how long EVENTS keeps events: no deduplication window is longer
	Sealer      *seal.Sealer
	Router      routerv1.RouterServiceClient
	Dispatcher  dispatcherv1.DispatcherServiceClient
	Scheduler   schedulerv1.SchedulerServiceClient
	AdminKey    conf.Secret
	Instance    string // unique among the api processes that run
	// SettledAfter is how old an attempt's record must be before its bodies may be removed; default: 2 min.
	// No less, where a dispatcher may take another's shard over.
	SettledAfter time.Duration
	Logger       *slog.Logger
	Telemetry    *telemetry.Telemetry
}

// Service is the api service.
type Service struct {
	cfg      Config
	deps     Deps
	auth     *access.Authenticator
	index    *webhookindex.Index
	mirror   *config.Mirror
	barrier  *config.Barrier
	log      logstore.Store
	recorder *recorder.Recorder
	manage   *manage.Server
	notices  *notice.Publisher
	writer   *journal.Writer
	replays  *replay.Runner
	ledger   *ledger.Server
	gauges   *stream.Gauges
	audit    *audit.Log
	console  *console.Console
	rest     http.Handler

	closeREST func() error
	loops     service.Group
}

// New checks the configuration, opens the delivery log and starts nothing.
func New(ctx context.Context, cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure api: %w", err)
	}
	log, err := openLog(ctx, &cfg, deps.Logger)
	if err != nil {
		return nil, fmt.Errorf("configure api: %w", err)
	}
	tickets := ticket.NewOffice(deps.Sealer, portalMethods(), time.Now)
	s := &Service{cfg: cfg, deps: deps, log: log, auth: access.NewAuthenticator(deps.AdminKey.Reveal()).WithTickets(tickets.Open)}
	s.recorder, err = recorder.New(recorder.Deps{
		Journal: deps.Journal, Store: log, Name: cfg.Recorder, Logger: deps.Logger, Meter: deps.Telemetry.Meter("postrider/api"), Now: time.Now,
		Yield: cfg.RecorderYield,
		Watch: func(ctx context.Context, c *stream.Consumer) { s.gauges.Watch(ctx, c, "") },
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("configure api: %w", err), log.Close())
	}
	s.index = webhookindex.New(s.openSecret, time.Now, deps.Logger)
	s.mirror = config.NewMirror(deps.Streams, deps.Instance, config.Handlers{
		Key:        func(k *recordv1.Key, _ uint64) { s.auth.PutKey(k) },
		KeyDeleted: func(hash []byte, _ uint64) { s.auth.DeleteKey(hash) },
		Webhook:    s.index.Put, WebhookDeleted: s.index.Delete,
	}, deps.Logger)
	s.barrier = config.NewBarrier(deps.Streams, deps.Logger)
	s.notices = notice.New(notice.Config{Operator: cfg.OperatorAccount, Lead: cfg.DeadLetterWarning}, notice.Deps{
		Store: deps.Store, Events: deps.Events, Letters: deps.DeadLetters, Logger: deps.Logger, Now: time.Now,
	})
	s.writer = deps.Journal.NewWriter("replay")
	s.replays, err = replay.New(replay.Default(), replay.Deps{
		Jobs: deps.Store, Events: deps.Events, Deliveries: deps.Deliveries, Letters: deps.DeadLetters, Journal: s.writer, Log: log,
		Router: deps.Router, Scheduler: deps.Scheduler, Logger: deps.Logger, Meter: deps.Telemetry.Meter("postrider/api"), Now: time.Now,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("configure api: %w", err), log.Close())
	}
	s.manage = manage.New(manage.Deps{
		Store: deps.Store, Barrier: s.barrier, Sealer: deps.Sealer, Log: log, DeadLetters: deps.DeadLetters,
		Router: deps.Router, Dispatcher: deps.Dispatcher, Scheduler: deps.Scheduler,
		Index: s.index, Fresh: s.mirror.Fresh, Origin: cfg.origin(), PublicURL: string(cfg.PublicURL), AllowHTTP: cfg.AllowHTTP, MaxDedup: deps.EventsAge, Logger: deps.Logger, Now: time.Now,
		Events: deps.Events, Replays: s.replays, Tickets: tickets, Notices: s.notices, FailingLimit: cfg.DisableFailingAfter,
		Recorder: s.recorder, Journal: deps.Journal, Entries: s.writer, LogRetention: cfg.LogRetention, SettledAfter: cmp.Or(deps.SettledAfter, manage.SettledAfter),
	})
	changes, err := auditstream.Ensure(ctx, deps.Streams, cfg.Audit)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("configure api: %w", err), log.Close())
	}
	s.audit = audit.New(changes, deps.Logger, time.Now)
	if err = errors.Join(s.openMetrics(), s.openLedger()); err == nil {
		err = s.openREST(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("configure api: %w", err), log.Close())
	}
	return s, nil
}

// openREST makes the handler of REST and of the surfaces, which reach the gRPC API over a listener
// in memory, so that authentication and error mapping are those of every other call.
func (s *Service) openREST(ctx context.Context) error {
	listener, option := rpc.InMemory()
	server, err := rpc.NewServer(rpc.ServerConfig{}, s.deps.Logger, append(s.Guards(), rpc.WithListener(listener), rpc.WithName("rest-gateway"), rpc.WithTelemetry(s.deps.Telemetry), rpc.WithTrust(nil))...) //nolint:contextcheck // each call brings its own to the interceptors
	if err != nil {
		return err
	}
	s.Register(server.Registrar())
	conn, err := rpc.Dial(rpc.ClientConfig{Target: rpc.InMemoryTarget}, option, rpc.ClientTelemetry(s.deps.Telemetry))
	if err != nil {
		return err
	}
	rest, err := restapi.New(ctx, conn)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	s.console, err = console.New(console.Deps{
		Conn: conn, Sealer: s.deps.Sealer, PublicURL: s.cfg.PublicURL, Config: s.cfg.Console, Logger: s.deps.Logger, Now: time.Now,
	})
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	s.rest = s.deps.Telemetry.HTTP(newFront(rest, s.surfaces(conn), s.console), func(r *http.Request) bool {
		p, err := s.auth.Authenticate(r.Header.Get("Authorization"))
		return err == nil && p.Admin
	})
	s.loops.Add(server)
	s.closeREST = sync.OnceValue(conn.Close)
	return nil
}

// Authenticator knows every key while the service runs, for such a server.
func (s *Service) Authenticator() *access.Authenticator { return s.auth }

// Guards are the options of a server that serves the public management services: every call needs
// a credential with the scope of its method.
func (s *Service) Guards() []rpc.Option {
	return []rpc.Option{
		rpc.WithUnary(access.Unary(s.auth, Rules()), s.Audit()), rpc.WithStream(access.Stream(s.auth, Rules())), rpc.WithTrust(s.trustsCaller),
	}
}

// trustsCaller says whether a caller may decide what is traced: those with an admin key.
func (s *Service) trustsCaller(ctx context.Context) bool {
	credential := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(credential) == 0 {
		return false
	}
	p, err := s.auth.Authenticate(credential[0])
	return err == nil && p.Admin
}

// Audit records the changes that are made through a server that serves these services; it stands behind
// what says who calls.
func (s *Service) Audit() grpc.UnaryServerInterceptor { return s.audit.Unary(audit.Changes(Rules())) }

// EndLive ends what browsers read live, so that an HTTP server can stop.
func (s *Service) EndLive() { s.console.End() }

func (s *Service) openSecret(account, webhook string, sealed *recordv1.SealedSecret) (string, error) {
	return manage.OpenSecret(s.deps.Sealer, account, webhook, sealed)
}

// Start begins to follow the configuration and to record the journal.
func (s *Service) Start(ctx context.Context) error {
	if err := s.mirror.Start(ctx); err != nil {
		return fmt.Errorf("load the configuration: %w", err)
	}
	if err := s.recorder.Prepare(ctx); err != nil {
		return errors.Join(err, s.mirror.Stop(ctx))
	}
	retained := retention.New(retention.Deps{
		Log: s.log, Accounts: s.deps.Store, Default: s.cfg.LogRetention, Logger: s.deps.Logger, Now: time.Now,
	})
	s.loops.Add(service.Loop("recorder", s.recorder.Run), service.Loop("retention of the log", retained.Run), service.Loop("notices", s.notices.Run), service.Loop("replays", s.replays.Run))
	return s.loops.Start(ctx)
}

// Stop stops recording and closes what New opened. It may be called without Start, and twice.
func (s *Service) Stop(ctx context.Context) error {
	return errors.Join(s.gauges.Close(), s.loops.Stop(ctx), s.writer.Close(ctx), s.closeREST(), s.barrier.Stop(ctx), s.mirror.Stop(ctx), s.log.Close())
}

// Register adds the management services of the public API to a server with Guards.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	s.manage.Register(r)
	s.ledger.Register(r)
	s.audit.Register(r)
	activity.New(s.log, time.Now).Register(r)
}

// RegisterInternal adds what only other services may reach.
func (s *Service) RegisterInternal(r grpc.ServiceRegistrar) {
	apiv1.RegisterWebhookStateServiceServer(r, s.manage.States())
}

// Handler serves REST under /v1/, and the surfaces beside it, while the service runs.
func (s *Service) Handler() http.Handler { return s.rest }

// PagePatterns are those of every page and form of the console and the portal, as http.ServeMux has
// them: "GET /console/accounts/{account}/webhooks". The test of isolation walks over them.
func (s *Service) PagePatterns() []string { return s.console.Patterns() }

// Ready says why the service cannot answer now, or nil.
func (s *Service) Ready() error {
	if !s.mirror.Fresh() {
		return errors.New("the configuration is not up to date")
	}
	return nil
}

// Failed returns the channel that gets the error of a loop that ended by itself: it ends the process.
func (s *Service) Failed() <-chan error { return s.loops.Failed() }
