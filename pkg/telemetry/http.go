package telemetry

import (
	"net/http"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"go.opentelemetry.io/otel/attribute"
)

// httpBuckets suit what answers over HTTP: from a record in memory to the longest that anyone waits.
var httpBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

// HTTP measures and traces the requests that a handler serves. A caller's trace is gone on with
// only if trusted says so; the trace of any other begins here and is linked to it. The request's
// pattern, if next is a mux, is the route.
func (t *Telemetry) HTTP(next http.Handler, trusted func(*http.Request) bool) http.Handler {
	return otelhttp.NewHandler(next, "http",
		otelhttp.WithMeterProvider(t.meters), otelhttp.WithTracerProvider(t.tracers), otelhttp.WithPropagators(t.Propagator()),
		otelhttp.WithPublicEndpointFn(func(r *http.Request) bool { return t.Tracing() && !trusted(r) }))
}

// httpViews keep what callers choose, such as the host that they name, out of the metrics.
func httpViews() []sdkmetric.View {
	host := attribute.NewDenyKeysFilter(semconv.ServerAddressKey, semconv.ServerPortKey)
	return []sdkmetric.View{
		sdkmetric.NewView(sdkmetric.Instrument{Name: "http.server.request.duration"}, sdkmetric.Stream{
			AttributeFilter: host, Aggregation: sdkmetric.AggregationExplicitBucketHistogram{Boundaries: httpBuckets},
		}),
		sdkmetric.NewView(sdkmetric.Instrument{Name: "http.server.*.size"}, sdkmetric.Stream{Aggregation: sdkmetric.AggregationDrop{}}),
	}
}
