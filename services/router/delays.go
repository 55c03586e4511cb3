package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/postrider/postrider/pkg/stream/retrystream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
)

// delays stores deliveries of events that asked for a later time: through the scheduler, which
// indexes them, or, if it is away, as records that it indexes later.
type delays struct {
	scheduler schedulerv1.SchedulerServiceClient
	retries   *retrystream.Streams
	log       *slog.Logger
}

// Delay returns when every record is stored. A record that stands already is success: routing
// twice yields one.
func (d *delays) Delay(ctx context.Context, retries []*recordv1.Retry) error {
	resp, err := d.scheduler.ScheduleRetry(ctx, &schedulerv1.ScheduleRetryRequest{Retries: retries})
	if err != nil {
		d.log.WarnContext(ctx, "scheduler away, storing delayed deliveries without it", "deliveries", len(retries), "error", err)
		return d.store(ctx, retries)
	}
	if len(resp.GetResults()) != len(retries) {
		return fmt.Errorf("scheduler answered %d of %d records", len(resp.GetResults()), len(retries))
	}
	var failed []*recordv1.Retry
	for i, result := range resp.GetResults() {
		if result.GetStatus() != schedulerv1.ScheduleStatus_SCHEDULE_STATUS_STORED &&
			result.GetStatus() != schedulerv1.ScheduleStatus_SCHEDULE_STATUS_SUPERSEDED {
			failed = append(failed, retries[i])
		}
	}
	return d.store(ctx, failed)
}

func (d *delays) store(ctx context.Context, retries []*recordv1.Retry) error {
	results := make(chan error, len(retries))
	sent := 0
	var errs error
	for _, r := range retries {
		err := d.retries.Put(ctx, r, func(_ retrystream.Place, err error) { results <- err })
		if err != nil {
			errs = errors.Join(errs, err)
			break
		}
		sent++
	}
	for range sent {
		if err := <-results; err != nil && !errors.Is(err, retrystream.ErrSuperseded) {
			errs = errors.Join(errs, err)
		}
	}
	return errs
}
