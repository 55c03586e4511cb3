package telemetry

import (
	"encoding/hex"

	"go.opentelemetry.io/otel/trace"
)

// Places in a traceparent of version 00 (W3C Trace Context 1).
const (
	traceparentLength = 55
	traceIDAt         = 3
	spanIDAt          = 36
	flagsAt           = 53
)

// FormatTraceparent writes a span's context as a traceparent of version 00. Of the flags it keeps
// the one that says that the trace is recorded.
func FormatTraceparent(sc trace.SpanContext) string {
	var b [traceparentLength]byte
	traceID, spanID := sc.TraceID(), sc.SpanID()
	copy(b[:], "00-")
	hex.Encode(b[traceIDAt:], traceID[:])
	b[spanIDAt-1] = '-'
	hex.Encode(b[spanIDAt:], spanID[:])
	b[flagsAt-1] = '-'
	hex.Encode(b[flagsAt:], []byte{byte(sc.TraceFlags() & trace.FlagsSampled)})
	return string(b[:])
}

// ParseTraceparent reads a traceparent of version 00; ok is false if it is none.
func ParseTraceparent(s string) (sc trace.SpanContext, ok bool) {
	if len(s) != traceparentLength || s[:traceIDAt] != "00-" || s[spanIDAt-1] != '-' || s[flagsAt-1] != '-' {
		return trace.SpanContext{}, false
	}
	var cfg trace.SpanContextConfig
	var flags [1]byte
	for _, part := range []struct {
		to   []byte
		text string
	}{
		{cfg.TraceID[:], s[traceIDAt : spanIDAt-1]}, {cfg.SpanID[:], s[spanIDAt : flagsAt-1]}, {flags[:], s[flagsAt:]},
	} {
		if _, err := hex.Decode(part.to, []byte(part.text)); err != nil {
			return trace.SpanContext{}, false
		}
	}
	cfg.TraceFlags, cfg.Remote = trace.TraceFlags(flags[0]), true
	sc = trace.NewSpanContext(cfg)
	return sc, sc.IsValid()
}

// Sampled reports whether a traceparent says that its trace is recorded. It costs a look at one
// byte: for most messages that is all that tracing costs.
func Sampled(traceparent string) bool {
	if len(traceparent) != traceparentLength {
		return false
	}
	switch traceparent[traceparentLength-1] {
	case '1', '3', '5', '7', '9', 'b', 'd', 'f', 'B', 'D', 'F':
		return true
	}
	return false
}
