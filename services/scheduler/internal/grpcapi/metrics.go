package grpcapi

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
)

// Metrics counts what is scheduled.
type Metrics struct {
	records    metric.Int64Counter
	unindexed  metric.Int64Counter
	stored     metric.MeasurementOption
	superseded metric.MeasurementOption
	refused    metric.MeasurementOption
}

// NewMetrics makes the instruments.
func NewMetrics(m metric.Meter) (*Metrics, error) {
	records, err1 := m.Int64Counter("postrider.scheduler.scheduled", metric.WithDescription("Records that were to be stored, by verdict: stored, superseded, failed."))
	unindexed, err2 := m.Int64Counter("postrider.scheduler.unindexed", metric.WithDescription("Records that were stored while the index did not answer, so that a rebuild has to find them."))
	verdict := func(v string) metric.MeasurementOption {
		return metric.WithAttributeSet(attribute.NewSet(attribute.String("verdict", v)))
	}
	return &Metrics{records, unindexed, verdict("stored"), verdict("superseded"), verdict("failed")}, errors.Join(err1, err2)
}

func (m *Metrics) scheduled(ctx context.Context, status schedulerv1.ScheduleStatus) {
	switch status {
	case schedulerv1.ScheduleStatus_SCHEDULE_STATUS_STORED:
		m.records.Add(ctx, 1, m.stored)
	case schedulerv1.ScheduleStatus_SCHEDULE_STATUS_SUPERSEDED:
		m.records.Add(ctx, 1, m.superseded)
	case schedulerv1.ScheduleStatus_SCHEDULE_STATUS_FAILED, schedulerv1.ScheduleStatus_SCHEDULE_STATUS_UNSPECIFIED:
		m.records.Add(ctx, 1, m.refused)
	}
}

func (m *Metrics) notIndexed(ctx context.Context, n int) { m.unindexed.Add(ctx, int64(n)) }
