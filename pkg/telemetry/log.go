package telemetry

import (
	"context"
	"io"
	"log/slog"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"
)

// Logger returns a logger that writes to w as the configuration says, JSON or text, and the level
// from which it writes, which can be changed at any time. Records that are logged with a context
// carry the trace and span that they belong to. A configuration that Validate refuses gives JSON
// from level info.
func Logger(cfg Config, w io.Writer) (*slog.Logger, *slog.LevelVar) {
	least := new(slog.LevelVar)
	if configured, err := level(cfg.LogLevel); err == nil {
		least.Set(configured)
	}
	opts := &slog.HandlerOptions{Level: least}
	var h slog.Handler = slog.NewJSONHandler(w, opts)
	if cfg.LogFormat == FormatText {
		h = slog.NewTextHandler(w, opts)
	}
	return slog.New(&traceHandler{Handler: h}), least
}

// TakeOver makes a logger that of the whole process: what libraries log on their own, and the errors
// of OpenTelemetry, such as a collector that is away, go to it. Lines of package log are of level
// debug: net/http writes there what a receiver sends unasked, as often as a receiver does so. There is
// one such logger per process, so only a main calls it.
func TakeOver(log *slog.Logger) {
	slog.SetLogLoggerLevel(slog.LevelDebug)
	slog.SetDefault(log)
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		log.Warn("OpenTelemetry reported an error", slog.Any("error", err))
	}))
}

// level reads the name of a level.
func level(name string) (slog.Level, error) {
	var l slog.Level
	err := l.UnmarshalText([]byte(name))
	return l, err
}

// traceHandler adds the trace and the span of the context to every record.
type traceHandler struct {
	slog.Handler
}

// Handle adds the ids when the context has a span.
func (h *traceHandler) Handle(ctx context.Context, r slog.Record) error {
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		r = r.Clone()
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs keeps adding the ids.
func (h *traceHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &traceHandler{Handler: h.Handler.WithAttrs(attrs)}
}

// WithGroup keeps adding the ids, inside the group.
func (h *traceHandler) WithGroup(name string) slog.Handler {
	return &traceHandler{Handler: h.Handler.WithGroup(name)}
}
