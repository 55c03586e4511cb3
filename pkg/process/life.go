package process

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/metric"

	"github.com/postrider/postrider/pkg/service"
	"github.com/postrider/postrider/pkg/telemetry"
)

// ObserveStop shows for how long a process has been stopping. Its page is served until all else has
// stopped, so a scrape in between sees it; how long the whole took is in the log.
func ObserveStop(tel *telemetry.Telemetry, admin *service.Admin) error {
	_, err := tel.Meter("postrider/process").Float64ObservableGauge("postrider.shutdown.duration", metric.WithUnit("s"),
		metric.WithDescription("For how long the process has been stopping; 0 while it is not."),
		metric.WithFloat64Callback(func(_ context.Context, o metric.Float64Observer) error {
			o.Observe(admin.Stopping().Seconds())
			return nil
		}))
	if err != nil {
		return fmt.Errorf("make the gauge of the stop: %w", err)
	}
	return nil
}
