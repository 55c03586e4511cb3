package sweep

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/metric"
)

// Metrics shows how far index and records differ.
type Metrics struct {
	missing    metric.Int64Counter
	truth      metric.Int64Gauge
	divergence metric.Int64Gauge
	reconciled metric.Float64Gauge
	duration   metric.Float64Histogram
}

// NewMetrics makes the instruments.
func NewMetrics(m metric.Meter) (*Metrics, error) {
	missing, err1 := m.Int64Counter("postrider.retry.index.missing", metric.WithDescription("Retries that a sweep found in the records but not in the index, and put back."))
	truth, err2 := m.Int64Gauge("postrider.retry.truth.messages", metric.WithDescription("Records that belong into the index, as the last sweep of this process found them; held ones do not."))
	divergence, err4 := m.Int64Gauge("postrider.retry.index.divergence", metric.WithDescription("Members of the index less the records that belong into it, at the last sweep of this process; a few are always on their way."))
	reconciled, err5 := m.Float64Gauge("postrider.retry.index.reconcile.timestamp", metric.WithUnit("s"), metric.WithDescription("When this process last compared all records with the index, in Unix time."))
	duration, err3 := m.Float64Histogram("postrider.scheduler.sweep.duration", metric.WithUnit("s"),
		metric.WithDescription("How long sweeps took."),
		metric.WithExplicitBucketBoundaries(.01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60))
	return &Metrics{missing, truth, divergence, reconciled, duration}, errors.Join(err1, err2, err3, err4, err5)
}

func (m *Metrics) healed(ctx context.Context, n int) { m.missing.Add(ctx, int64(n)) }
func (m *Metrics) compared(ctx context.Context, index, records int64, now time.Time) {
	m.truth.Record(ctx, records)
	m.divergence.Record(ctx, index-records)
	m.reconciled.Record(ctx, float64(now.UnixMilli())/1000)
}

func (m *Metrics) ended(ctx context.Context, took time.Duration) {
	m.duration.Record(ctx, took.Seconds())
}
