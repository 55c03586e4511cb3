package rebuild

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Metrics shows rebuilds.
type Metrics struct {
	running  metric.Int64Gauge
	retries  metric.Int64Gauge
	passes   metric.Int64Counter
	duration metric.Float64Histogram

	whole, broken metric.MeasurementOption
}

// NewMetrics makes the instruments.
func NewMetrics(m metric.Meter) (*Metrics, error) {
	running, err1 := m.Int64Gauge("postrider.scheduler.rebuild.running", metric.WithDescription("1 while this process rebuilds the retry index."))
	retries, err2 := m.Int64Gauge("postrider.scheduler.rebuild.retries", metric.WithDescription("Retries that the rebuild that runs, or the last one, has put into the index."))
	passes, err3 := m.Int64Counter("postrider.scheduler.rebuilds", metric.WithDescription("Rebuilds of the retry index that this process ended, by result."))
	duration, err4 := m.Float64Histogram("postrider.scheduler.rebuild.duration", metric.WithUnit("s"),
		metric.WithDescription("How long rebuilds took."),
		metric.WithExplicitBucketBoundaries(.01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60))
	result := func(v string) metric.MeasurementOption {
		return metric.WithAttributeSet(attribute.NewSet(attribute.String("result", v)))
	}
	return &Metrics{running, retries, passes, duration, result("whole"), result("failed")}, errors.Join(err1, err2, err3, err4)
}

func (m *Metrics) begin(ctx context.Context) {
	m.running.Record(ctx, 1)
	m.retries.Record(ctx, 0)
}

func (m *Metrics) progress(ctx context.Context, n int64) { m.retries.Record(ctx, n) }

func (m *Metrics) end(ctx context.Context, took time.Duration, err error) {
	m.running.Record(ctx, 0)
	if err == nil {
		m.duration.Record(ctx, took.Seconds())
		m.passes.Add(ctx, 1, m.whole)
	}
}

func (m *Metrics) failed(ctx context.Context) { m.passes.Add(ctx, 1, m.broken) }
