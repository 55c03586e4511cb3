// Package telemetry gives a process its metrics, traces and logs: OpenTelemetry instruments that
// Prometheus scrapes from a registry of their own, spans that go to a collector when one is
// configured, and loggers whose records carry the trace they belong to. It may lose spans, never
// block for them.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/postrider/postrider/pkg/conf"
)

// The formats of logs.
const (
	FormatJSON = "json"
	FormatText = "text"
)

// Config says what a process tells about itself. Inline it (conf:"") so that its options have no prefix.
type Config struct {
	LogLevel     string  `conf:"log-level" help:"least level that is logged: debug, info, warn or error"`
	LogFormat    string  `conf:"log-format" help:"json, or text for people"`
	OTLPEndpoint string  `conf:"otlp-endpoint" help:"OTLP collector for traces, such as http://otel-collector:4317; empty sends none"`
	TraceRatio   float64 `conf:"trace-ratio" help:"share of the traces begun here that is recorded, from 0 to 1"`
}

// Default returns the configuration of a process that logs JSON and sends no traces.
func Default() Config {
	return Config{LogLevel: "info", LogFormat: FormatJSON, TraceRatio: 0.01}
}

// Validate returns every fault.
func (c Config) Validate() error {
	_, levelErr := level(c.LogLevel)
	return errors.Join(
		conf.Rule(levelErr == nil, "log-level", "must be debug, info, warn or error"),
		conf.OneOf("log-format", c.LogFormat, FormatJSON, FormatText),
		conf.Rule(c.OTLPEndpoint == "" || strings.HasPrefix(c.OTLPEndpoint, "http://") || strings.HasPrefix(c.OTLPEndpoint, "https://"),
			"otlp-endpoint", "must begin with http:// or https://"),
		conf.Between("trace-ratio", c.TraceRatio, 0, 1),
	)
}

// Telemetry holds the providers of one process. It registers none of them globally.
type Telemetry struct {
	meters   metric.MeterProvider
	tracers  trace.TracerProvider
	tracing  bool
	list     *inventory // of what was made; nil if nothing is recorded
	handler  http.Handler
	shutdown []func(context.Context) error
}

// New returns the telemetry of a service. It connects to the collector in the background.
func New(cfg Config, service string) (*Telemetry, error) {
	if err := errors.Join(conf.NotEmpty("service", service), cfg.Validate()); err != nil {
		return nil, fmt.Errorf("set up telemetry: %w", err)
	}
	res, err := describe(service)
	if err != nil {
		return nil, fmt.Errorf("set up telemetry: %w", err)
	}
	t := &Telemetry{tracers: tracenoop.NewTracerProvider(), list: &inventory{by: make(map[string]Instrument)}}
	if err := t.meter(res); err != nil {
		return nil, fmt.Errorf("set up metrics: %w", err)
	}
	if cfg.OTLPEndpoint != "" {
		if err := t.trace(cfg, res); err != nil {
			return nil, fmt.Errorf("set up traces: %w", err)
		}
	}
	return t, nil
}

// describe says who a process is. OTEL_RESOURCE_ATTRIBUTES in the environment adds to it, such as
// the name of the pod; it does not rename the service.
func describe(service string) (*resource.Resource, error) {
	return resource.New(context.Background(), resource.WithFromEnv(), resource.WithAttributes(
		semconv.ServiceName(service), semconv.ServiceNamespace("postrider"), semconv.ServiceVersion(Version()),
	))
}

// observeBuild shows which program runs.
func observeBuild(m metric.Meter) error {
	commit := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				commit = s.Value
			}
		}
	}
	set := metric.WithAttributeSet(attribute.NewSet(
		attribute.String("version", Version()), attribute.String("commit", commit), attribute.String("go_version", runtime.Version())))
	_, err := m.Int64ObservableGauge("postrider.build.info", metric.WithDescription("1, for the program that runs."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(1, set)
			return nil
		}))
	return err
}

// Version is the version of the main module, as the toolchain stamped it.
func Version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "devel"
}

// Noop returns telemetry that records nothing, for tests and for programs that nobody watches.
func Noop() *Telemetry {
	return &Telemetry{
		meters:  metricnoop.NewMeterProvider(),
		tracers: tracenoop.NewTracerProvider(),
		handler: http.NotFoundHandler(),
	}
}

// meter sets up the metrics and their page.
func (t *Telemetry) meter(res *resource.Resource) error {
	registry := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewBuildInfoCollector(),
	} {
		if err := registry.Register(c); err != nil {
			return err
		}
	}
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo())
	if err != nil {
		return err
	}
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter), sdkmetric.WithResource(res), sdkmetric.WithView(httpViews()...))
	t.meters = provider
	t.shutdown = append(t.shutdown, provider.Shutdown)
	if err := observeBuild(t.Meter("postrider/telemetry")); err != nil {
		return err
	}
	t.handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		EnableOpenMetrics:   true,
		MaxRequestsInFlight: 4,
		Timeout:             10 * time.Second,
		ErrorHandling:       promhttp.ContinueOnError,
	})
	return nil
}

// trace sets up the traces. The queue is bounded: what does not fit is dropped.
func (t *Telemetry) trace(cfg Config, res *resource.Resource) error {
	// The context only bounds the start, and the gRPC exporter connects lazily.
	exporter, err := otlptracegrpc.New(context.Background(), otlptracegrpc.WithEndpointURL(cfg.OTLPEndpoint))
	if err != nil {
		return err
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter, sdktrace.WithMaxQueueSize(4096), sdktrace.WithMaxExportBatchSize(512)),
		sdktrace.WithResource(res),
		sdktrace.WithSampler(newSampler(cfg.TraceRatio)),
	)
	t.tracers, t.tracing = provider, true
	t.shutdown = append(t.shutdown, func(ctx context.Context) error {
		err := provider.Shutdown(ctx)
		// When the context ended first, exports are still being tried: this kills them.
		return errors.Join(err, exporter.Shutdown(ctx))
	})
	return nil
}

// Tracing reports whether spans go anywhere.
func (t *Telemetry) Tracing() bool { return t.tracing }

// Meter returns the meter of a package.
func (t *Telemetry) Meter(name string) metric.Meter {
	m := t.meters.Meter(name)
	if t.list == nil {
		return m
	}
	return &meterOf{Meter: m, list: t.list}
}

// Tracer returns the tracer of a package.
func (t *Telemetry) Tracer(name string) trace.Tracer { return t.tracers.Tracer(name) }

// MeterProvider returns what instrumentation libraries take.
func (t *Telemetry) MeterProvider() metric.MeterProvider { return t.meters }

// TracerProvider returns what instrumentation libraries take.
func (t *Telemetry) TracerProvider() trace.TracerProvider { return t.tracers }

// Propagator returns how trace contexts travel: as W3C trace context. Baggage is not taken from
// anyone, so none is handed on.
func (t *Telemetry) Propagator() propagation.TextMapPropagator { return propagation.TraceContext{} }

// Handler returns the page that Prometheus scrapes.
func (t *Telemetry) Handler() http.Handler { return t.handler }

// Shutdown sends what is still queued, within the context, and ends. Shutting down twice is a no-op.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	var errs []error
	for _, stop := range slices.Backward(t.shutdown) {
		errs = append(errs, stop(ctx))
	}
	t.shutdown = nil
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("shut down telemetry: %w", err)
	}
	return nil
}
