package sweep

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/metric"
)

// Metrics shows how far index and records differ.
type Metrics struct {
	missing  metric.Int64Counter
	extra    metric.Int64Gauge
	duration metric.Float64Histogram
}

// NewMetrics makes the instruments.
func NewMetrics(m metric.Meter) (*Metrics, error) {
	missing, err1 := m.Int64Counter("postrider.scheduler.index.missing", metric.WithDescription("Retries that a sweep found in the records but not in the index, and put back."))
	extra, err2 := m.Int64Gauge("postrider.scheduler.index.surplus", metric.WithDescription("Members of the index beyond the records at the last sweep, a few of which are always on their way."))
	duration, err3 := m.Float64Histogram("postrider.scheduler.sweep.duration", metric.WithUnit("s"),
		metric.WithDescription("How long sweeps took."),
		metric.WithExplicitBucketBoundaries(.01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60))
	return &Metrics{missing, extra, duration}, errors.Join(err1, err2, err3)
}

func (m *Metrics) healed(ctx context.Context, n int)    { m.missing.Add(ctx, int64(n)) }
func (m *Metrics) surplus(ctx context.Context, n int64) { m.extra.Record(ctx, n) }
func (m *Metrics) ended(ctx context.Context, took time.Duration) {
	m.duration.Record(ctx, took.Seconds())
}
