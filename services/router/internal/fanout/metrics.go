package fanout

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/postrider/postrider/pkg/postrider"
)

type metrics struct {
	events    metric.Int64Counter
	unmatched metric.Int64Counter
	repeats   metric.Int64Counter
	fanout    metric.Int64Histogram
	delay     metric.Float64Histogram

	classes map[string]metric.MeasurementOption
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
	classes := make(map[string]metric.MeasurementOption)
	for _, class := range []string{postrider.AccountFree, postrider.AccountStandard, postrider.AccountPremium, postrider.AccountInternal} {
		classes[class] = metric.WithAttributeSet(attribute.NewSet(attribute.String("account_class", class)))
	}
	return &metrics{events, unmatched, repeats, fanout, delay, classes}, errors.Join(err1, err2, err3, err4, err5)
}

func (m *metrics) routed(ctx context.Context, class string, matches int, delay time.Duration) {
	of := m.classes[class]
	m.events.Add(ctx, 1, of)
	if matches == 0 {
		m.unmatched.Add(ctx, 1, of)
	}
	m.fanout.Record(ctx, int64(matches), of)
	m.delay.Record(ctx, delay.Seconds(), of)
}

func (m *metrics) repeated(ctx context.Context) { m.repeats.Add(ctx, 1) }
