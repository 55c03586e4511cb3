package release

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Metrics measures the loop.
type Metrics struct {
	outcomes metric.Int64Counter
	delay    metric.Float64Histogram
	lag      metric.Float64Gauge
	errors   metric.Int64Counter
	losses   metric.Int64Counter

	wasReleased, wasGone, wasPostponed, hasFailed, notSettled metric.MeasurementOption

	away atomic.Bool // whether the index could not be claimed from, so that it is logged once
}

// NewMetrics makes the instruments.
func NewMetrics(m metric.Meter) (*Metrics, error) {
	outcomes, err1 := m.Int64Counter("postrider.scheduler.releases",
		metric.WithDescription("Claimed retries by what became of them: released, gone (released by another, fired, replaced or cancelled), postponed (its record was not due), failed (tried again), unsettled (its outcome was not written to the index)."))
	delay, err2 := m.Float64Histogram("postrider.scheduler.release.delay", metric.WithUnit("s"),
		metric.WithDescription("From a retry's due time to the acknowledgement of its release."),
		metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60))
	lag, err3 := m.Float64Gauge("postrider.scheduler.due.lag", metric.WithUnit("s"),
		metric.WithDescription("How long the earliest retry that is due and not claimed has been due; 0 if none is."))
	failures, err4 := m.Int64Counter("postrider.scheduler.claim.failures",
		metric.WithDescription("Claims that the index did not answer."))
	losses, err5 := m.Int64Counter("postrider.scheduler.index.losses",
		metric.WithDescription("Parts of the retry index that lost what this process had seen in them: Redis was flushed, or is an older or an empty one. From 0 on."))
	result := func(v string) metric.MeasurementOption {
		return metric.WithAttributeSet(attribute.NewSet(attribute.String("result", v)))
	}
	return &Metrics{
		outcomes: outcomes, delay: delay, lag: lag, errors: failures, losses: losses,
		wasReleased: result("released"), wasGone: result("gone"), wasPostponed: result("postponed"),
		hasFailed: result("failed"), notSettled: result("unsettled"),
	}, errors.Join(err1, err2, err3, err4, err5)
}

// vanished is told of every claim, also of those that miss nothing: a counter that is first seen when
// it is not 0 any more has not risen.
func (m *Metrics) vanished(ctx context.Context, parts int) { m.losses.Add(ctx, int64(parts)) }

func (m *Metrics) claimed(ctx context.Context, now, next time.Time, log *slog.Logger) {
	lag := 0.0
	if !next.IsZero() && next.Before(now) {
		lag = now.Sub(next).Seconds()
	}
	m.lag.Record(ctx, lag)
	if m.away.Swap(false) {
		log.InfoContext(ctx, "the retry index answers again")
	}
}

func (m *Metrics) claimFailed(ctx context.Context, err error, log *slog.Logger) {
	m.errors.Add(ctx, 1)
	if !m.away.Swap(true) {
		log.WarnContext(ctx, "the retry index does not answer: retries fire by themselves, late by the grace", "error", err)
	}
}

func (m *Metrics) released(ctx context.Context, late time.Duration) {
	m.outcomes.Add(ctx, 1, m.wasReleased)
	m.delay.Record(ctx, max(late.Seconds(), 0))
}

func (m *Metrics) gone(ctx context.Context)      { m.outcomes.Add(ctx, 1, m.wasGone) }
func (m *Metrics) postponed(ctx context.Context) { m.outcomes.Add(ctx, 1, m.wasPostponed) }

func (m *Metrics) failedToRelease(ctx context.Context, n int) {
	m.outcomes.Add(ctx, int64(n), m.hasFailed)
}

func (m *Metrics) unsettled(ctx context.Context, n int) { m.outcomes.Add(ctx, int64(n), m.notSettled) }
