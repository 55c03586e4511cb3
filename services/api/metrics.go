package api

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/postrider/postrider/pkg/stream"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// states names the states of webhooks in metrics.
var states = map[postriderv1.WebhookState]metric.MeasurementOption{
	postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE:   metric.WithAttributes(attribute.String("state", "active")),
	postriderv1.WebhookState_WEBHOOK_STATE_PAUSED:   metric.WithAttributes(attribute.String("state", "paused")),
	postriderv1.WebhookState_WEBHOOK_STATE_DISABLED: metric.WithAttributes(attribute.String("state", "disabled")),
}

// openMetrics makes what is read when metrics are scraped.
func (s *Service) openMetrics() error {
	meter := s.deps.Telemetry.Meter("postrider/api")
	var err1, err2 error
	s.gauges, err1 = stream.NewGauges(meter)
	_, err2 = meter.Int64ObservableGauge("postrider.webhooks",
		metric.WithDescription("Webhooks by state. Each api process shows all of them."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			have := s.index.States()
			for state, of := range states {
				o.Observe(have[state], of)
			}
			return nil
		}))
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("make metrics: %w", err)
	}
	return nil
}
