// Package rpc builds the gRPC servers and clients of all services alike: limits, TLS, health,
// reflection, tracing, request ids, and errors that keep their kind on the way (package fault).
// Handlers return *fault.Error and never build a status; callers get *fault.Error back.
package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/stats"

	"github.com/postrider/postrider/pkg/conf"
	"github.com/postrider/postrider/pkg/telemetry"
)

// The limits of every server and client.
const (
	// MaxMessageSize is the largest message either side takes: a batch of events at its limit.
	MaxMessageSize = 24 << 20

	maxConcurrentStreams = 1024
	connectionTimeout    = 10 * time.Second

	// Connections over TCP end now and then, so that clients spread over new replicas.
	maxConnectionAge      = 10 * time.Minute
	maxConnectionAgeGrace = 30 * time.Second

	// A silent connection is probed; clients may probe no more often than half as often as ours do.
	keepaliveTime    = 30 * time.Second
	keepaliveTimeout = 10 * time.Second
	keepaliveMinimum = 15 * time.Second
)

// ServerConfig says where a server listens and whom it trusts.
type ServerConfig struct {
	Listen       string `conf:"listen" help:"where the gRPC server listens"`
	CertFile     string `conf:"tls-cert-file" help:"PEM file of the server's certificate; empty serves in clear text"`
	KeyFile      string `conf:"tls-key-file" help:"PEM file of the server's private key"`
	ClientCAFile string `conf:"tls-client-ca-file" help:"PEM file of the CAs that clients' certificates must come from; empty asks for none"`
}

// Validate returns every fault.
func (c ServerConfig) Validate() error {
	return errors.Join(
		conf.Rule((c.CertFile == "") == (c.KeyFile == ""), "tls-key-file", "must be set exactly when tls-cert-file is"),
		conf.Rule(c.ClientCAFile == "" || c.CertFile != "", "tls-client-ca-file", "must be set only with tls-cert-file"),
	)
}

// Option changes a server.
type Option func(*options)

// options is what the options of a server come to.
type options struct {
	unary     []grpc.UnaryServerInterceptor
	stream    []grpc.StreamServerInterceptor
	listeners []net.Listener
	telemetry *telemetry.Telemetry
	trusted   func(context.Context) bool
	name      string
	workers   uint32
}

// WithUnary adds interceptors for unary calls. They run inside the server's own, in this order, so
// the errors they return are converted like a handler's.
func WithUnary(interceptors ...grpc.UnaryServerInterceptor) Option {
	return func(o *options) { o.unary = append(o.unary, interceptors...) }
}

// WithStream adds interceptors for streams, like WithUnary.
func WithStream(interceptors ...grpc.StreamServerInterceptor) Option {
	return func(o *options) { o.stream = append(o.stream, interceptors...) }
}

// WithListener serves a listener, such as one of InMemory, besides the address of the
// configuration, which may then be empty.
func WithListener(l net.Listener) Option {
	return func(o *options) { o.listeners = append(o.listeners, l) }
}

// WithTelemetry measures and traces the calls.
func WithTelemetry(t *telemetry.Telemetry) Option {
	return func(o *options) { o.telemetry = t }
}

// WithTrust has the server go on with the traces of only those callers that trusted says so of, from
// the context that the call came with; the trace of any other begins here and is linked to the
// caller's. Without it the server is for callers that are all trusted.
func WithTrust(trusted func(context.Context) bool) Option {
	return func(o *options) { o.trusted = trusted }
}

// WithWorkers has so many goroutines wait for calls, whose stacks have grown already. Calls beyond them get a
// goroutine each, as all do without it. It is for servers of very many short calls: to grow a stack was a
// seventh of what accepting an event took. The goroutines begin with NewServer and end with Stop.
func WithWorkers(n uint32) Option {
	return func(o *options) { o.workers = n }
}

// WithName names the server among the components of a process; "grpc" unless told.
func WithName(name string) Option {
	return func(o *options) { o.name = name }
}

// Server is a gRPC server with health and reflection. Services register before it is started.
type Server struct {
	name      string
	listen    string
	log       *slog.Logger
	grpc      *grpc.Server
	health    *health.Server
	failed    chan error
	serving   sync.WaitGroup
	mu        sync.Mutex
	listeners []net.Listener
	addr      net.Addr
	started   bool
	stopped   bool
}

// NewServer returns a server that does not listen yet.
func NewServer(cfg ServerConfig, log *slog.Logger, opts ...Option) (*Server, error) {
	o := options{name: "grpc"}
	for _, opt := range opts {
		opt(&o)
	}
	if err := errors.Join(cfg.Validate(), conf.Rule(cfg.Listen != "" || len(o.listeners) > 0, "listen", "must be set")); err != nil {
		return nil, fmt.Errorf("set up the gRPC server: %w", err)
	}
	built, err := serverOptions(cfg, log, o)
	if err != nil {
		return nil, fmt.Errorf("set up the gRPC server: %w", err)
	}
	s := &Server{
		name: o.name, listen: cfg.Listen, log: log, listeners: o.listeners,
		grpc: grpc.NewServer(built...), health: health.NewServer(), failed: make(chan error, len(o.listeners)+1),
	}
	s.health.SetServingStatus("", healthv1.HealthCheckResponse_NOT_SERVING)
	healthv1.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)
	return s, nil
}

// serverOptions returns what gRPC is told.
func serverOptions(cfg ServerConfig, log *slog.Logger, o options) ([]grpc.ServerOption, error) {
	i := &interceptor{log: log}
	params := keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}
	if cfg.Listen != "" {
		params.MaxConnectionAge, params.MaxConnectionAgeGrace = maxConnectionAge, maxConnectionAgeGrace
	}
	out := []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(append([]grpc.UnaryServerInterceptor{i.unary}, o.unary...)...),
		grpc.ChainStreamInterceptor(append([]grpc.StreamServerInterceptor{i.stream}, o.stream...)...),
		grpc.MaxRecvMsgSize(MaxMessageSize),
		grpc.MaxSendMsgSize(MaxMessageSize),
		grpc.MaxConcurrentStreams(maxConcurrentStreams),
		grpc.ConnectionTimeout(connectionTimeout),
		grpc.KeepaliveParams(params),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveMinimum, PermitWithoutStream: true}),
		grpc.WaitForHandlers(true), // Stop returns when no handler runs, so what they use can be closed
	}
	if o.workers > 0 {
		out = append(out, grpc.NumStreamWorkers(o.workers))
	}
	if o.telemetry != nil {
		instruments := instrumentation(o.telemetry)
		if o.trusted != nil && o.telemetry.Tracing() {
			instruments = append(instruments, otelgrpc.WithPublicEndpointFn(func(ctx context.Context, _ *stats.RPCTagInfo) bool {
				return trace.SpanContextFromContext(ctx).IsValid() && !o.trusted(ctx)
			}))
		}
		out = append(out, grpc.StatsHandler(otelgrpc.NewServerHandler(instruments...)))
	}
	if cfg.CertFile != "" {
		secured, err := serverTLS(cfg, log)
		if err != nil {
			return nil, err
		}
		out = append(out, grpc.Creds(credentials.NewTLS(secured)))
	}
	return out, nil
}

// Registrar returns where services register, before the start.
func (s *Server) Registrar() grpc.ServiceRegistrar { return s.grpc }

// Health returns the server's health service. Start makes the server as a whole serving.
func (s *Server) Health() *health.Server { return s.health }

// Name returns the component's name.
func (s *Server) Name() string { return s.name }

// Failed returns the channel that gets the error by which serving ended.
func (s *Server) Failed() <-chan error { return s.failed }

// Addr returns where the server listens: the address of the configuration once it is started, or
// the first listener that it was given.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.addr == nil && len(s.listeners) > 0 {
		return s.listeners[0].Addr()
	}
	return s.addr
}

// Start listens and serves.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started || s.stopped {
		return errors.New("the server was started before")
	}
	if s.listen != "" {
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", s.listen)
		if err != nil {
			return fmt.Errorf("listen on %s: %w", s.listen, err)
		}
		s.addr = l.Addr()
		s.listeners = append(s.listeners, l)
	}
	s.started = true
	for _, l := range s.listeners {
		s.serving.Go(func() {
			// A server that is stopped before this goroutine ran says so; that is no failure.
			if err := s.grpc.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
				s.failed <- fmt.Errorf("serve %s: %w", l.Addr(), err)
			}
		})
	}
	s.health.SetServingStatus("", healthv1.HealthCheckResponse_SERVING)
	return nil
}

// Drain tells clients that watch the health to go elsewhere.
func (s *Server) Drain(context.Context) { s.health.Shutdown() }

// Stop lets calls end, within the context, then cancels them and waits for their handlers.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	started, stopped := s.started, s.stopped
	s.stopped = true
	s.mu.Unlock()
	if stopped {
		return nil
	}
	s.health.Shutdown()
	if !started {
		for _, l := range s.listeners {
			_ = l.Close() // a listener that was handed over is ours to close
		}
		s.grpc.Stop()
		return nil
	}
	graceful := make(chan struct{})
	go func() {
		defer close(graceful)
		s.grpc.GracefulStop()
	}()
	var err error
	select {
	case <-graceful:
	case <-ctx.Done():
		err = fmt.Errorf("calls were still running: %w", context.Cause(ctx))
		s.grpc.Stop()
		<-graceful
	}
	s.serving.Wait()
	return err
}

// instrumentation returns the options that make otelgrpc use our providers and no global ones.
func instrumentation(t *telemetry.Telemetry) []otelgrpc.Option {
	return []otelgrpc.Option{
		otelgrpc.WithMeterProvider(t.MeterProvider()),
		otelgrpc.WithTracerProvider(t.TracerProvider()),
		otelgrpc.WithPropagators(t.Propagator()),
		otelgrpc.WithFilter(notHealth),
	}
}
