package hold

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/metric"
)

// Metrics counts what the manager does.
type Metrics struct {
	heldTotal    metric.Int64Counter
	resumedTotal metric.Int64Counter
	failures     metric.Int64Counter
}

// NewMetrics makes the instruments.
func NewMetrics(m metric.Meter) (*Metrics, error) {
	held, err1 := m.Int64Counter("postrider.scheduler.held", metric.WithDescription("Waiting deliveries that were held because their webhook was paused or disabled."))
	resumed, err2 := m.Int64Counter("postrider.scheduler.resumed", metric.WithDescription("Held deliveries that were released because their webhook was active again."))
	failures, err3 := m.Int64Counter("postrider.scheduler.hold.failures", metric.WithDescription("Times that what waits for a webhook could not be brought in line with its state and has to be looked at again."))
	return &Metrics{held, resumed, failures}, errors.Join(err1, err2, err3)
}

func (m *Metrics) held(ctx context.Context, n int)    { m.heldTotal.Add(ctx, int64(n)) }
func (m *Metrics) resumed(ctx context.Context, n int) { m.resumedTotal.Add(ctx, int64(n)) }
func (m *Metrics) failed(ctx context.Context)         { m.failures.Add(ctx, 1) }
