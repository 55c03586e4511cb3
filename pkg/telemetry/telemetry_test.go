package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/postrider/postrider/pkg/telemetry"
	"github.com/postrider/postrider/test/fixture/collectortest"
	"github.com/postrider/postrider/test/fixture/logtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scrape returns the metrics page.
func scrape(t *testing.T, tel *telemetry.Telemetry, accept string) string {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody)
	req.Header.Set("Accept", accept)
	rec := httptest.NewRecorder()
	tel.Handler().ServeHTTP(rec, req)
	require.Equal(t, http.StatusOK, rec.Code)
	data, err := io.ReadAll(rec.Body)
	require.NoError(t, err)
	return string(data)
}

// shutdown ends the telemetry with the test.
func shutdown(t *testing.T, tel *telemetry.Telemetry) {
	t.Helper()
	t.Cleanup(func() { require.NoError(t, tel.Shutdown(context.WithoutCancel(t.Context()))) })
}

// Instruments appear on the page under Prometheus's names, besides those of the process, and each
// telemetry has a page of its own.
func TestMetricsPage(t *testing.T) {
	t.Parallel()
	tel, err := telemetry.New(telemetry.Default(), "ingest")
	require.NoError(t, err)
	shutdown(t, tel)
	other, err := telemetry.New(telemetry.Default(), "router")
	require.NoError(t, err)
	shutdown(t, other)

	counter, err := tel.Meter("test").Int64Counter("postrider.events.accepted", metric.WithDescription("Events that were stored."))
	require.NoError(t, err)
	counter.Add(t.Context(), 3, metric.WithAttributes(attribute.String("outcome", "stored")))

	page := scrape(t, tel, "")
	require.Contains(t, page, `postrider_events_accepted_total{outcome="stored"} 3`)
	require.Contains(t, page, "go_goroutines ")
	require.Contains(t, page, "process_open_fds ")
	require.Regexp(t, `target_info{service_name="ingest",service_namespace="postrider",service_version="[^"]+"} 1`, page)
	require.NotContains(t, scrape(t, other, ""), "postrider_events_accepted_total")
	require.Contains(t, scrape(t, tel, "application/openmetrics-text; version=1.0.0"), "# EOF")
}

// Spans reach the configured collector at shutdown at the latest.
func TestSpansReachTheCollector(t *testing.T) {
	t.Parallel()
	c := collectortest.Start(t)
	cfg := telemetry.Default()
	cfg.OTLPEndpoint, cfg.TraceRatio = c.Endpoint, 1
	tel, err := telemetry.New(cfg, "ingest")
	require.NoError(t, err)
	require.True(t, tel.Tracing())
	_, span := tel.Tracer("test").Start(t.Context(), "publish")
	span.End()
	require.NoError(t, tel.Shutdown(t.Context()))
	require.NoError(t, tel.Shutdown(t.Context()), "shutting down twice is a no-op")
	require.Len(t, c.Spans(), 1)
	require.Equal(t, "publish", c.Spans()[0].Name)
	require.Equal(t, "ingest", c.Spans()[0].Service)
}

// A new trace is recorded by the ratio, but for one that goes on with another: it is recorded if
// that is. A link that is not ours decides nothing.
func TestWhatIsRecorded(t *testing.T) {
	t.Parallel()
	cfg := telemetry.Default()
	cfg.OTLPEndpoint, cfg.TraceRatio = collectortest.Start(t).Endpoint, 0
	tel, err := telemetry.New(cfg, "dispatcher")
	require.NoError(t, err)
	shutdown(t, tel)
	sampled, ok := telemetry.ParseTraceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	require.True(t, ok)
	for name, tt := range map[string]struct {
		link trace.Link
		want bool
	}{
		"one that goes on with a recorded one":     {telemetry.Continuing(sampled), true},
		"one that goes on with one that is not":    {telemetry.Continuing(sampled.WithTraceFlags(0)), false},
		"one that is linked to a stranger's trace": {trace.Link{SpanContext: sampled}, false},
	} {
		_, span := tel.Tracer("test").Start(t.Context(), "x", trace.WithNewRoot(), trace.WithLinks(tt.link))
		require.Equal(t, tt.want, span.IsRecording(), name)
		span.End()
	}
}

// A collector that is away costs neither the start nor, beyond its context, the shutdown.
func TestCollectorAway(t *testing.T) {
	t.Parallel()
	cfg := telemetry.Default()
	cfg.OTLPEndpoint, cfg.TraceRatio = "http://127.0.0.1:1", 1
	tel, err := telemetry.New(cfg, "ingest")
	require.NoError(t, err)
	_, span := tel.Tracer("test").Start(t.Context(), "publish")
	span.End()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.Error(t, tel.Shutdown(ctx))
}

// What OpenTelemetry and other libraries say by themselves is in the log, below what is shown by
// default where a stranger may say it as often as they like.
func TestTakeOver(t *testing.T) {
	before, out := slog.Default(), log.Writer()
	least := slog.SetLogLoggerLevel(slog.LevelInfo)
	t.Cleanup(func() {
		slog.SetDefault(before)
		slog.SetLogLoggerLevel(least)
		log.SetOutput(out)
	})
	logger, records := logtest.Recorder(t)
	telemetry.TakeOver(logger)
	otel.Handle(errors.New("the collector is away"))
	require.Len(t, records.Find("OpenTelemetry reported an error"), 1)
	log.Print("Unsolicited response received")
	found := records.Find("Unsolicited response received")
	require.Len(t, found, 1)
	require.Equal(t, slog.LevelDebug, found[0].Level)
}

// Without a collector, and for Noop, spans are not recorded at all.
func TestNothingIsRecordedForNobody(t *testing.T) {
	t.Parallel()
	tel, err := telemetry.New(telemetry.Default(), "ingest")
	require.NoError(t, err)
	shutdown(t, tel)
	for _, one := range []*telemetry.Telemetry{tel, telemetry.Noop()} {
		_, span := one.Tracer("test").Start(t.Context(), "x")
		require.False(t, span.IsRecording())
		span.End()
	}
	counter, err := telemetry.Noop().Meter("test").Int64Counter("x")
	require.NoError(t, err)
	counter.Add(t.Context(), 1)
	require.NoError(t, telemetry.Noop().Shutdown(t.Context()))
}

// Records carry the trace that their context belongs to, also through derived loggers.
func TestLogsCarryTheTrace(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log, level := telemetry.Logger(telemetry.Default(), &out)
	log = log.With(slog.String("service", "ingest"))
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}})
	log.InfoContext(trace.ContextWithSpanContext(t.Context(), span), "with")
	log.DebugContext(t.Context(), "too little")
	log.InfoContext(t.Context(), "without")

	lines := bytes.Split(bytes.TrimSpace(out.Bytes()), []byte("\n"))
	require.Len(t, lines, 2)
	var with, without map[string]any
	require.NoError(t, json.Unmarshal(lines[0], &with))
	require.NoError(t, json.Unmarshal(lines[1], &without))
	require.Equal(t, "01000000000000000000000000000000", with["trace_id"])
	require.Equal(t, "0200000000000000", with["span_id"])
	require.Equal(t, "ingest", with["service"])
	require.NotContains(t, without, "trace_id")

	level.Set(slog.LevelDebug)
	out.Reset()
	log.DebugContext(t.Context(), "enough now")
	require.Contains(t, out.String(), "enough now")
}

// Logs for people are text, and the level is the configured one.
func TestTextLogs(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log, _ := telemetry.Logger(telemetry.Config{LogLevel: "debug", LogFormat: telemetry.FormatText}, &out)
	log.WithGroup("g").DebugContext(t.Context(), "hello", slog.Int("n", 1))
	require.Contains(t, out.String(), "level=DEBUG msg=hello g.n=1")
}

// Every fault is named by its option.
func TestConfigFaults(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*telemetry.Config)
		want   string // empty: no fault
	}{
		"the defaults have none": {func(*telemetry.Config) {}, ""},
		"a level is known":       {func(c *telemetry.Config) { c.LogLevel = "loud" }, "log-level: must be debug"},
		"a format is known":      {func(c *telemetry.Config) { c.LogFormat = "xml" }, "log-format: must be one of"},
		"an endpoint is a URL":   {func(c *telemetry.Config) { c.OTLPEndpoint = "otel:4317" }, "otlp-endpoint: must begin with"},
		"a ratio is a share":     {func(c *telemetry.Config) { c.TraceRatio = 2 }, "trace-ratio: must be from 0 to 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := telemetry.Default()
			tt.change(&cfg)
			if tt.want == "" {
				require.NoError(t, cfg.Validate())
				return
			}
			require.ErrorContains(t, cfg.Validate(), tt.want)
			_, err := telemetry.New(cfg, "ingest")
			require.ErrorContains(t, err, tt.want)
		})
	}
	_, err := telemetry.New(telemetry.Default(), "")
	require.ErrorContains(t, err, "service: must be set")
}
