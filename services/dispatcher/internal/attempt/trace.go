package attempt

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"

	"go.opentelemetry.io/otel/trace"
)

// headerTraceparent is how http.Header spells it.
const headerTraceparent = "Traceparent"

// startSpan begins the attempt's span, and lets the receiver join its trace unless the webhook
// says no. The first attempt goes on with the publisher's trace; a later one, which may be hours
// later, begins a trace of its own that is linked to it, or traces would never end.
func (m *Maker) startSpan(ctx context.Context, p *Prepared) {
	accepted, ok := parseTraceparent(p.in.Delivery.GetTraceparent())
	options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(p.start)}
	switch {
	case !ok:
		options = append(options, trace.WithNewRoot())
	case p.in.Number == 1:
		ctx = trace.ContextWithRemoteSpanContext(ctx, accepted)
	default:
		options = append(options, trace.WithNewRoot(), trace.WithLinks(trace.Link{SpanContext: accepted}))
	}
	_, p.span = m.tracer.Start(ctx, "attempt", options...) //nolint:spancheck // ended by Send or Discard
	if p.in.Webhook.Config.TraceContext != nil && !p.in.Webhook.Config.GetTraceContext() {
		return
	}
	sc := p.span.SpanContext()
	if !p.span.IsRecording() {
		sc = ownContext(accepted, p.in.Number == 1)
	}
	p.rendered.Header[headerTraceparent] = []string{formatTraceparent(sc)}
}

// ownContext makes the ids of a span that is not recorded here: the receiver's own spans still
// belong to the publisher's trace.
func ownContext(accepted trace.SpanContext, first bool) trace.SpanContext {
	var cfg trace.SpanContextConfig
	if first && accepted.IsValid() {
		cfg.TraceID, cfg.TraceFlags = accepted.TraceID(), accepted.TraceFlags()
	} else {
		binary.BigEndian.PutUint64(cfg.TraceID[:8], random())
		binary.BigEndian.PutUint64(cfg.TraceID[8:], random())
	}
	binary.BigEndian.PutUint64(cfg.SpanID[:], random())
	return trace.NewSpanContext(cfg)
}

// random is never zero, as an id that is all zero is invalid.
func random() uint64 {
	return rand.Uint64() | 1 //nolint:gosec // ids of traces are no secret
}

// Places in a traceparent of version 00 (W3C Trace Context 1).
const (
	traceparentLength = 55
	traceIDAt         = 3
	spanIDAt          = 36
	flagsAt           = 53
)

func formatTraceparent(sc trace.SpanContext) string {
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

func parseTraceparent(s string) (trace.SpanContext, bool) {
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
	sc := trace.NewSpanContext(cfg)
	return sc, sc.IsValid()
}
