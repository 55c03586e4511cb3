package telemetry

import (
	"slices"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// continuation marks the link of a trace to the one that it goes on with.
var continuation = attribute.String("postrider.link", "continuation")

// Continuing is the link of a new trace to the one that it goes on with: that of an attempt hours
// after the event was accepted. Such a trace is recorded exactly if the first was. No link that
// comes from outside is of this kind.
func Continuing(first trace.SpanContext) trace.Link {
	return trace.Link{SpanContext: first, Attributes: []attribute.KeyValue{continuation}}
}

// sampler decides about new traces: those that go on with another as that one, all others by ratio.
type sampler struct {
	sdktrace.Sampler
}

// newSampler records the share of new traces, and of what belongs to a trace what the trace says.
func newSampler(ratio float64) sdktrace.Sampler {
	return sdktrace.ParentBased(sampler{sdktrace.TraceIDRatioBased(ratio)})
}

// ShouldSample decides.
func (s sampler) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	for _, link := range p.Links {
		if link.SpanContext.IsSampled() && slices.Contains(link.Attributes, continuation) {
			return sdktrace.SamplingResult{Decision: sdktrace.RecordAndSample}
		}
	}
	return s.Sampler.ShouldSample(p)
}
