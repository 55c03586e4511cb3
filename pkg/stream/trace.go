package stream

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/postrider/postrider/pkg/telemetry"
)

// headerTraceparent is the span that a message was published in, if its trace is recorded. Most
// messages do not have it, and nothing is done for them. NATS headers tell upper from lower case;
// W3C writes it so.
const headerTraceparent = "traceparent"

// systemNATS is the messaging system of every span here.
var systemNATS = semconv.MessagingSystemKey.String("nats")

// Carry makes a message carry the trace of ctx, or else the one of accepted, the traceparent of the
// event's acceptance, if it is recorded. The publisher then makes a span for the message and has
// its consumers link to that.
func Carry(ctx context.Context, m *nats.Msg, accepted string) {
	if sc := trace.SpanContextFromContext(ctx); sc.IsSampled() {
		m.Header[headerTraceparent] = []string{telemetry.FormatTraceparent(sc)}
	} else if telemetry.Sampled(accepted) {
		m.Header[headerTraceparent] = []string{accepted}
	}
}

// Traced says whether Carry would make a message carry a trace.
func Traced(ctx context.Context, accepted string) bool {
	return trace.SpanContextFromContext(ctx).IsSampled() || telemetry.Sampled(accepted)
}

// traced begins the span of a message that carries a trace and makes the message carry that span.
// It returns the done to be called in place of the given one, which ends the span too.
func (p *Publisher) traced(m *nats.Msg, done func(Ack, error)) func(Ack, error) {
	carried := m.Header[headerTraceparent]
	if len(carried) == 0 {
		return done
	}
	parent, ok := telemetry.ParseTraceparent(carried[0])
	if !ok {
		return done
	}
	_, span := p.tracer.Start(trace.ContextWithRemoteSpanContext(context.Background(), parent), "publish "+p.name,
		trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(
			systemNATS, semconv.MessagingOperationName("publish"), semconv.MessagingOperationTypeSend,
			semconv.MessagingDestinationName(p.name), semconv.MessagingMessageBodySize(len(m.Data)),
			semconv.MessagingMessageID(m.Header.Get(jetstream.MsgIDHeader)),
		))
	if !span.IsRecording() {
		span.End()
		return done
	}
	m.Header[headerTraceparent] = []string{telemetry.FormatTraceparent(span.SpanContext())}
	return func(ack Ack, err error) {
		if err != nil {
			fail(span, err)
		}
		span.End()
		done(ack, err)
	}
}

// fail says on a span why it failed: by the name of the error, as its text is not bounded.
func fail(span trace.Span, err error) {
	name := errorName(err)
	span.SetAttributes(semconv.ErrorTypeKey.String(name))
	span.SetStatus(codes.Error, name)
}

// errorName is the name of an error of publishing.
func errorName(err error) string {
	for name, one := range map[string]error{
		"unknown_outcome": ErrUnknown, "full": ErrFull, "wrong_sequence": ErrWrongSequence, "too_large": ErrTooLarge,
		"unavailable": ErrUnavailable, "closed": ErrClosed, "refused": ErrRefused,
	} {
		if errors.Is(err, one) {
			return name
		}
	}
	return "other"
}

// Work is the work on a message.
type Work struct {
	// Accepted is the traceparent of the acceptance of the event that it is about.
	Accepted string
	// Later says that the work comes so much later that it is a trace of its own, linked to the
	// first; traces would never end otherwise.
	Later bool
	// Account, Event, Delivery and Webhook are what it is about, as far as there are any.
	Account, Event, Delivery, Webhook string
}

// Begin begins the span of the work on the message, if its trace is recorded, and returns a context
// that holds it; else it returns nil and ctx as it is. The span links to the one that published
// the message and, unless it comes later, is its child.
func (m *Msg) Begin(ctx context.Context, w Work) (context.Context, trace.Span) {
	from := w.Accepted
	if carried := m.raw.Header[headerTraceparent]; len(carried) > 0 {
		from = carried[0]
	}
	if !telemetry.Sampled(from) {
		return ctx, nil
	}
	origin, ok := telemetry.ParseTraceparent(from)
	if !ok {
		return ctx, nil
	}
	options := []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(
			systemNATS, semconv.MessagingOperationName("process"), semconv.MessagingOperationTypeProcess,
			semconv.MessagingDestinationName(m.con.stream), semconv.MessagingConsumerGroupName(m.con.durable),
			semconv.MessagingMessageBodySize(len(m.raw.Data)),
		),
		trace.WithLinks(telemetry.Continuing(origin)),
	}
	for name, id := range map[string]string{
		"postrider.account.id": w.Account, "postrider.event.id": w.Event,
		"postrider.delivery.id": w.Delivery, "postrider.webhook.id": w.Webhook,
	} {
		if id != "" {
			options = append(options, trace.WithAttributes(attribute.String(name, id)))
		}
	}
	begin := ctx
	if w.Later {
		options = append(options, trace.WithNewRoot())
	} else {
		begin = trace.ContextWithRemoteSpanContext(ctx, origin)
	}
	with, span := m.con.c.tracer.Start(begin, "process "+m.con.stream, options...)
	if !span.IsRecording() {
		span.End()
		return ctx, nil
	}
	return with, span
}
