package attempt

import (
	"context"
	"encoding/binary"
	"math/rand/v2"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/telemetry"
)

// headerTraceparent is how http.Header spells it. No tracestate and no baggage goes to a receiver:
// they would tell it of our insides.
const headerTraceparent = "Traceparent"

// startSpan begins the attempt's span below that of ctx, if that is recorded, and lets the receiver
// join its trace unless the webhook says no. Whoever calls decides whether the attempt goes on with
// the publisher's trace or, hours later, with one of its own: see package pipeline.
func (m *Maker) startSpan(ctx context.Context, p *Prepared) {
	if trace.SpanContextFromContext(ctx).IsSampled() {
		options := []trace.SpanStartOption{
			trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(p.start), trace.WithAttributes(m.attributes(p)...),
		}
		if p.in.Trigger != TriggerSchedule { // the trace is of the call that asked for it
			if accepted, ok := telemetry.ParseTraceparent(p.in.Delivery.GetTraceparent()); ok {
				options = append(options, trace.WithLinks(trace.Link{SpanContext: accepted}))
			}
		}
		_, p.span = m.tracer.Start(ctx, p.rendered.Method, options...) //nolint:spancheck // ended by Send or Discard
	}
	if p.in.Webhook.Config.TraceContext != nil && !p.in.Webhook.Config.GetTraceContext() {
		return
	}
	var sc trace.SpanContext
	if p.span != nil && p.span.IsRecording() {
		sc = p.span.SpanContext()
	} else {
		accepted, _ := telemetry.ParseTraceparent(p.in.Delivery.GetTraceparent())
		sc = ownContext(accepted, p.in.Number == 1)
	}
	p.rendered.Header[headerTraceparent] = []string{telemetry.FormatTraceparent(sc)}
}

func (m *Maker) attributes(p *Prepared) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("postrider.account.id", p.in.Delivery.GetAccountId()),
		attribute.String("postrider.webhook.id", p.in.Webhook.Config.GetId()),
		attribute.String("postrider.delivery.id", p.in.Delivery.GetId()),
		attribute.String("postrider.event.id", p.in.Delivery.GetEventId()),
		attribute.Int("postrider.attempt.number", int(p.in.Number)),
		semconv.HTTPRequestMethodKey.String(p.rendered.Method),
		semconv.ServerAddress(p.ready.URL.Hostname()), // never the path or the query, which may hold a secret
	}
}

// endSpan says on the span what came of the attempt.
func (m *Maker) endSpan(p *Prepared, r *Result, status int) {
	if p.span == nil {
		return
	}
	if status != 0 {
		p.span.SetAttributes(semconv.HTTPResponseStatusCode(status))
	}
	p.span.SetAttributes(attribute.String("postrider.attempt.outcome", string(r.Outcome)))
	if r.Class != postrider.ClassNone {
		p.span.SetAttributes(semconv.ErrorTypeKey.String(string(r.Class)))
		p.span.SetStatus(codes.Error, string(r.Class))
	}
	p.span.End(trace.WithTimestamp(r.End))
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
