package fanout

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/metric"
)

type metrics struct {
	events    metric.Int64Counter
	unmatched metric.Int64Counter
	repeats   metric.Int64Counter
	fanout    metric.Int64Histogram
	delay     metric.Float64Histogram
}

func newMetrics(m metric.Meter) (*metrics, error) {
	events, err1 := m.Int64Counter("postrider.router.events", metric.WithDescription("Events matched against their account's webhooks."))
	unmatched, err2 := m.Int64Counter("postrider.router.unmatched", metric.WithDescription("Events that no webhook wanted."))
	repeats, err3 := m.Int64Counter("postrider.router.repeats", metric.WithDescription("Times that missing parts of events were sent again."))
	fanout, err4 := m.Int64Histogram("postrider.router.fanout", metric.WithDescription("Deliveries for each event."),
		metric.WithExplicitBucketBoundaries(0, 1, 2, 5, 10, 50, 100, 1000, 10000))
	delay, err5 := m.Float64Histogram("postrider.router.delay", metric.WithUnit("s"),
		metric.WithDescription("From acceptance to routing."),
		metric.WithExplicitBucketBoundaries(.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60))
	return &metrics{events, unmatched, repeats, fanout, delay}, errors.Join(err1, err2, err3, err4, err5)
}

func (m *metrics) routed(ctx context.Context, matches int, delay time.Duration) {
	m.events.Add(ctx, 1)
	if matches == 0 {
		m.unmatched.Add(ctx, 1)
	}
	m.fanout.Record(ctx, int64(matches))
	m.delay.Record(ctx, delay.Seconds())
}

func (m *metrics) repeated(ctx context.Context) { m.repeats.Add(ctx, 1) }
