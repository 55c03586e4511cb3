package admission

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/telemetry"

	"github.com/postrider/postrider/services/ingest/internal/dedup"
)

// metrics counts what admission does. Labels are bounded: outcomes and reasons, never an account.
type metrics struct {
	events   func(n int64, set metric.MeasurementOption)
	duration func(seconds float64, set metric.MeasurementOption)
	claims   func(n int64, set metric.MeasurementOption)
	failed   func(n int64)

	mu   sync.RWMutex
	sets map[labels]metric.MeasurementOption
}

// labels are what an event is counted under.
type labels struct{ outcome, reason string }

// Outcomes of an event.
const (
	outcomeAccepted  = "accepted"
	outcomeDuplicate = "duplicate"
	outcomeRefused   = "refused"
)

func newMetrics(t *telemetry.Telemetry, a *Admission) (*metrics, error) {
	meter := t.Meter("github.com/postrider/postrider/services/ingest")
	m := &metrics{sets: make(map[labels]metric.MeasurementOption)}
	events, err0 := meter.Int64Counter("postrider.ingest.events",
		metric.WithDescription("events by verdict; reason says why they were refused"))
	duration, err1 := meter.Float64Histogram("postrider.ingest.accept.duration", metric.WithUnit("s"),
		metric.WithDescription("time from an event's arrival to its verdict"),
		metric.WithExplicitBucketBoundaries(.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30))
	claims, err2 := meter.Int64Counter("postrider.ingest.dedup.claims",
		metric.WithDescription("answers of the deduplication index"))
	failed, err3 := meter.Int64Counter("postrider.ingest.dedup.end.failures",
		metric.WithDescription("claims in calls that could not finish or release all of them"))
	if err := errors.Join(err0, err1, err2, err3); err != nil {
		return nil, err
	}
	ctx := context.Background() // a count outlives the call that it counts
	m.events = func(n int64, set metric.MeasurementOption) { events.Add(ctx, n, set) }
	m.duration = func(s float64, set metric.MeasurementOption) { duration.Record(ctx, s, set) }
	m.claims = func(n int64, set metric.MeasurementOption) { claims.Add(ctx, n, set) }
	m.failed = func(n int64) { failed.Add(ctx, n) }
	return m, observe(meter, a)
}

// observe registers what is read when metrics are scraped.
func observe(meter metric.Meter, a *Admission) error {
	inFlight, err0 := meter.Int64ObservableGauge("postrider.ingest.inflight.events", metric.WithDescription("events being accepted"))
	bytes, err1 := meter.Int64ObservableGauge("postrider.ingest.inflight.bytes", metric.WithUnit("By"),
		metric.WithDescription("bytes of the events being accepted"))
	degraded, err2 := meter.Int64ObservableGauge("postrider.ingest.dedup.degraded",
		metric.WithDescription("1 while repeats are only seen within the record's own window"))
	if err := errors.Join(err0, err1, err2); err != nil {
		return err
	}
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		a.mu.Lock()
		n, size := a.inFlight, a.bytes
		a.mu.Unlock()
		o.ObserveInt64(inFlight, int64(n))
		o.ObserveInt64(bytes, size)
		var value int64
		if _, yes := a.index.Degraded(); yes {
			value = 1
		}
		o.ObserveInt64(degraded, value)
		return nil
	}, inFlight, bytes, degraded)
	return err
}

// verdict counts a verdict and how long it took.
func (m *metrics) verdict(began time.Time, v Verdict) {
	l := labels{outcome: outcomeAccepted}
	switch {
	case v.Err != nil:
		l = labels{outcome: outcomeRefused, reason: "CANCELLED"}
		if e, ok := fault.As(v.Err); ok {
			l.reason = e.Reason
		}
	case v.Receipt.GetDuplicate():
		l.outcome = outcomeDuplicate
	}
	m.events(1, m.set(l))
	m.duration(time.Since(began).Seconds(), m.set(labels{outcome: l.outcome}))
}

func (m *metrics) claim(o dedup.Outcome) {
	m.claims(1, m.set(labels{outcome: o.String()}))
}

func (m *metrics) endFailed(n int) { m.failed(int64(n)) }

// set is the attribute set of labels, made once.
func (m *metrics) set(l labels) metric.MeasurementOption {
	m.mu.RLock()
	set, ok := m.sets[l]
	m.mu.RUnlock()
	if ok {
		return set
	}
	attrs := []attribute.KeyValue{attribute.String("outcome", l.outcome)}
	if l.reason != "" {
		attrs = append(attrs, attribute.String("reason", l.reason))
	}
	set = metric.WithAttributeSet(attribute.NewSet(attrs...))
	m.mu.Lock()
	m.sets[l] = set
	m.mu.Unlock()
	return set
}
