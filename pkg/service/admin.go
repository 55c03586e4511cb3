package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/postrider/postrider/pkg/conf"
)

// The services that gRPC health knows; the empty name is readiness too.
const (
	Liveness  = "liveness"
	Readiness = "readiness"
	Startup   = "startup"
)

// refreshEvery is how often those who watch readiness are told.
const refreshEvery = time.Second

// errDraining is why a process that is about to stop is not ready.
var errDraining = errors.New("the process is stopping")

// errStarting is why a process that has not started is not ready.
var errStarting = errors.New("the process is starting")

// AdminConfig says where a process shows its health and its metrics. Inline it (conf:"") so that
// its options have no prefix.
type AdminConfig struct {
	HealthListen  string        `conf:"health-listen" help:"where gRPC health listens, in clear text; empty for nowhere"`
	MetricsListen string        `conf:"metrics-listen" help:"where /metrics, /livez, /readyz, /loglevel and /debug/pprof listen; empty for nowhere"`
	DrainDelay    time.Duration `conf:"drain-delay" help:"how long a stop waits after readiness was withdrawn, so that load balancers see it"`
	StopGrace     time.Duration `conf:"stop-grace" help:"how long a stop may take in all"`
}

// DefaultAdmin returns the ports that every service has in a pod.
func DefaultAdmin() AdminConfig {
	return AdminConfig{HealthListen: ":8081", MetricsListen: ":9464", StopGrace: 30 * time.Second}
}

// Validate returns every fault.
func (c AdminConfig) Validate() error {
	return errors.Join(
		conf.Rule(c.DrainDelay >= 0, "drain-delay", "must not be negative"),
		conf.Positive("stop-grace", c.StopGrace),
		conf.Rule(c.StopGrace > c.DrainDelay, "stop-grace", "must be longer than drain-delay"),
	)
}

// Admin shows the health, the metrics and the profiles of a process. Add it to the group first, so
// that it is there while the others start and stop.
//
// Liveness says that the process runs and looks at nothing else: restarting a process does not
// bring back NATS or Redis. Readiness asks every check. Startup is said once all has started.
type Admin struct {
	cfg    AdminConfig
	log    *slog.Logger
	health *healthServer
	web    *HTTPServer
	pages  http.Handler
	grpc   *grpc.Server
	failed chan error
	levels *levels // nil: the level of the logs cannot be changed

	mu       sync.Mutex
	checks   map[string]func() error
	listener net.Listener
	cancel   context.CancelFunc
	running  sync.WaitGroup

	started  atomic.Bool
	draining atomic.Bool
	drainAt  atomic.Int64 // Unix nanoseconds
}

// NewAdmin returns the admin servers; metrics is the page for Prometheus.
func NewAdmin(cfg AdminConfig, metrics http.Handler, log *slog.Logger) (*Admin, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("set up the admin servers: %w", err)
	}
	a := &Admin{cfg: cfg, log: log, checks: map[string]func() error{}, failed: make(chan error, 2)}
	a.health = &healthServer{Server: health.NewServer(), refresh: a.refresh}
	a.grpc = grpc.NewServer(grpc.MaxRecvMsgSize(64<<10), grpc.MaxConcurrentStreams(64), grpc.WaitForHandlers(true))
	healthv1.RegisterHealthServer(a.grpc, a.health)
	a.health.SetServingStatus(Liveness, healthv1.HealthCheckResponse_SERVING)
	a.refresh()
	a.pages = a.routes(metrics)
	a.web = HTTP("metrics", cfg.MetricsListen, a.pages, WithHTTPLog(log))
	return a, nil
}

// Check adds a check that readiness asks. It is asked at each probe, so it answers at once from
// what is known and asks nobody.
func (a *Admin) Check(name string, check func() error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.checks[name] = check
}

// Ready returns why the process is not ready, or nil.
func (a *Admin) Ready() error {
	faults := a.faults()
	errs := make([]error, 0, len(faults))
	for _, name := range slices.Sorted(maps.Keys(faults)) {
		errs = append(errs, fmt.Errorf("%s: %w", name, faults[name]))
	}
	return errors.Join(errs...)
}

// faults returns the error of every check that fails.
func (a *Admin) faults() map[string]error {
	if a.draining.Load() {
		return map[string]error{"process": errDraining}
	}
	if !a.started.Load() {
		return map[string]error{"process": errStarting}
	}
	a.mu.Lock()
	checks := maps.Clone(a.checks)
	a.mu.Unlock()
	faults := map[string]error{}
	for name, check := range checks {
		if err := check(); err != nil {
			faults[name] = err
		}
	}
	return faults
}

// refresh tells gRPC health what holds now.
func (a *Admin) refresh() {
	ready := serving(a.Ready() == nil)
	a.health.SetServingStatus("", ready)
	a.health.SetServingStatus(Readiness, ready)
	a.health.SetServingStatus(Startup, serving(a.started.Load()))
}

// serving returns the status in the words of gRPC health.
func serving(ok bool) healthv1.HealthCheckResponse_ServingStatus {
	if ok {
		return healthv1.HealthCheckResponse_SERVING
	}
	return healthv1.HealthCheckResponse_NOT_SERVING
}

// Name returns the component's name.
func (a *Admin) Name() string { return "admin" }

// Failed returns the channel that gets the error by which serving ended.
func (a *Admin) Failed() <-chan error { return a.failed }

// HealthAddr returns where gRPC health listens, or nil.
func (a *Admin) HealthAddr() net.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.listener == nil {
		return nil
	}
	return a.listener.Addr()
}

// MetricsAddr returns where the metrics are, or nil.
func (a *Admin) MetricsAddr() net.Addr { return a.web.Addr() }

// Start serves.
func (a *Admin) Start(ctx context.Context) error {
	loop, cancel := context.WithCancel(context.WithoutCancel(ctx))
	a.mu.Lock()
	a.cancel = cancel
	a.mu.Unlock()
	if a.cfg.HealthListen != "" {
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", a.cfg.HealthListen)
		if err != nil {
			return fmt.Errorf("listen for health on %s: %w", a.cfg.HealthListen, err)
		}
		a.mu.Lock()
		a.listener = l
		a.mu.Unlock()
		a.running.Go(func() {
			// A server that is stopped before this goroutine ran says so; that is no failure.
			if err := a.grpc.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
				a.failed <- fmt.Errorf("serve health: %w", err)
			}
		})
	}
	if a.cfg.MetricsListen != "" {
		if err := a.web.Start(ctx); err != nil {
			return err
		}
		a.running.Go(func() {
			select {
			case err := <-a.web.Failed():
				a.failed <- err
			case <-loop.Done():
			}
		})
	}
	a.running.Go(func() { a.watch(loop) })
	return nil
}

// watch keeps those informed who watch the health.
func (a *Admin) watch(ctx context.Context) {
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			a.refresh()
		case <-ctx.Done():
			return
		}
	}
}

// Started says that everything has started.
func (a *Admin) Started() {
	a.started.Store(true)
	a.refresh()
}

// Stopping is how long ago the process began to stop, 0 if it has not.
func (a *Admin) Stopping() time.Duration {
	if at := a.drainAt.Load(); at != 0 {
		return time.Since(time.Unix(0, at))
	}
	return 0
}

// drain says that the process is stopping.
func (a *Admin) drain() {
	a.drainAt.CompareAndSwap(0, time.Now().UnixNano())
	a.draining.Store(true)
}

// Drain withdraws readiness and waits for the drain delay, so that nothing new is sent here when
// the servers stop listening.
func (a *Admin) Drain(ctx context.Context) {
	a.drain()
	a.refresh()
	if a.cfg.DrainDelay == 0 {
		return
	}
	delay := time.NewTimer(a.cfg.DrainDelay)
	defer delay.Stop()
	select {
	case <-delay.C:
	case <-ctx.Done():
	}
}

// Stop ends the servers.
func (a *Admin) Stop(ctx context.Context) error {
	a.drain()
	if a.levels != nil {
		a.levels.stop()
	}
	a.health.Shutdown()
	a.mu.Lock()
	cancel := a.cancel
	a.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	a.grpc.Stop() // watchers hold streams open for ever, so there is nothing to wait for
	err := a.web.Stop(ctx)
	a.running.Wait()
	return err
}

// Pages is what the metrics port serves.
func (a *Admin) Pages() http.Handler { return a.pages }

// routes returns the pages of the metrics port.
func (a *Admin) routes(metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	mux.Handle("GET /livez", a.LivezHandler())
	mux.Handle("GET /readyz", a.ReadyzHandler())
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
		mux.HandleFunc(method+" /loglevel", func(w http.ResponseWriter, r *http.Request) {
			if a.levels == nil {
				http.NotFound(w, r)
				return
			}
			a.levels.ServeHTTP(w, r)
		})
	}
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

// writeHealth answers a probe: 200, or 503 with the checks that fail.
func writeHealth(w http.ResponseWriter, faults map[string]error) {
	answer := struct {
		Status string            `json:"status"`
		Faults map[string]string `json:"faults,omitempty"`
	}{Status: "ok"}
	status := http.StatusOK
	if len(faults) > 0 {
		status, answer.Status, answer.Faults = http.StatusServiceUnavailable, "unavailable", map[string]string{}
		for name, err := range faults {
			answer.Faults[name] = err.Error()
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer) // a prober that went away does not matter
}

// LivezHandler answers that the process runs, on another port.
func (a *Admin) LivezHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { writeHealth(w, nil) })
}

// ReadyzHandler answers whether the process is ready, on another port.
func (a *Admin) ReadyzHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { writeHealth(w, a.faults()) })
}

// healthServer is gRPC health that asks the checks at each call instead of waiting for a tick.
type healthServer struct {
	*health.Server
	refresh func()
}

// Check answers with what holds now.
func (h *healthServer) Check(ctx context.Context, req *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	h.refresh()
	return h.Server.Check(ctx, req)
}
