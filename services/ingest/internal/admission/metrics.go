package admission

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/telemetry"

	"github.com/postrider/postrider/services/ingest/internal/dedup"
)

// metrics counts what admission does. Labels are bounded: outcomes and reasons, classes of accounts, never an account.
type metrics struct {
	events   func(n int64, set metric.MeasurementOption)
	duration func(seconds float64, of trace.SpanContext, set metric.MeasurementOption)
	claims   func(n int64, set metric.MeasurementOption)
	failed   func(n int64)

	mu   sync.RWMutex
	sets map[labels]metric.MeasurementOption
}

// labels are what an event is counted under.
type labels struct{ class, outcome, reason string }

// Outcomes of an event.
const (
	outcomeAccepted  = "accepted"
	outcomeDuplicate = "duplicate"
	outcomeRejected  = "rejected"
)

func newMetrics(t *telemetry.Telemetry, a *Admission) (*metrics, error) {
	meter := t.Meter("github.com/postrider/postrider/services/ingest")
	m := &metrics{sets: make(map[labels]metric.MeasurementOption)}
	events, err0 := meter.Int64Counter("postrider.ingest.events",
		metric.WithDescription("Events by verdict; reason says why they were rejected."))
	duration, err1 := meter.Float64Histogram("postrider.ingest.acceptance.duration", metric.WithUnit("s"),
		metric.WithDescription("Time from an event's arrival to its verdict."),
		metric.WithExplicitBucketBoundaries(.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30))
	claims, err2 := meter.Int64Counter("postrider.ingest.dedup.claims",
		metric.WithDescription("Answers of the deduplication index."))
	failed, err3 := meter.Int64Counter("postrider.ingest.dedup.end.failures",
		metric.WithDescription("Claims in calls that could not finish or release all of them."))
	if err := errors.Join(err0, err1, err2, err3); err != nil {
		return nil, err
	}
	ctx := context.Background() // a count outlives the call that it counts
	m.events = func(n int64, set metric.MeasurementOption) { events.Add(ctx, n, set) }
	m.duration = func(s float64, of trace.SpanContext, set metric.MeasurementOption) {
		if of.IsValid() {
			duration.Record(trace.ContextWithSpanContext(ctx, of), s, set)
			return
		}
		duration.Record(ctx, s, set)
	}
	m.claims = func(n int64, set metric.MeasurementOption) { claims.Add(ctx, n, set) }
	m.failed = func(n int64) { failed.Add(ctx, n) }
	return m, observe(meter, a)
}

// observe registers what is read when metrics are scraped.
func observe(meter metric.Meter, a *Admission) error {
	inFlight, err0 := meter.Int64ObservableGauge("postrider.ingest.inflight", metric.WithDescription("Events being accepted."))
	bytes, err1 := meter.Int64ObservableGauge("postrider.ingest.inflight.bytes", metric.WithUnit("By"),
		metric.WithDescription("Bytes of the events being accepted."))
	degraded, err2 := meter.Int64ObservableGauge("postrider.ingest.dedup.degraded",
		metric.WithDescription("1 while repeats are only seen within the record's own window."))
	pressed, err3 := meter.Int64ObservableGauge("postrider.ingest.backpressure.active",
		metric.WithDescription("1 while events wait because too much is being accepted."))
	full, err4 := meter.Int64ObservableGauge("postrider.ingest.fair.active",
		metric.WithDescription("1 while so much waits to be delivered that accounts are held to their shares."))
	share, err5 := meter.Float64ObservableGauge("postrider.ingest.fair.share", metric.WithUnit("{event}/s"),
		metric.WithDescription("Events a second that an account may publish here while the system is full; 0 while it is not."))
	if err := errors.Join(err0, err1, err2, err3, err4, err5); err != nil {
		return err
	}
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		a.mu.Lock()
		n, size := a.inFlight, a.bytes
		a.mu.Unlock()
		o.ObserveInt64(inFlight, int64(n))
		o.ObserveInt64(bytes, size)
		o.ObserveInt64(pressed, min(a.pressed.Load(), 1))
		var value int64
		if _, yes := a.index.Degraded(); yes {
			value = 1
		}
		o.ObserveInt64(degraded, value)
		state := a.gate.State()
		o.ObserveFloat64(share, state.Share)
		value = 0
		if state.Limiting {
			value = 1
		}
		o.ObserveInt64(full, value)
		return nil
	}, inFlight, bytes, degraded, pressed, full, share)
	return err
}

// verdict counts a verdict and how long it took. A recorded trace is the example of its duration.
func (m *metrics) verdict(class, traceparent string, began time.Time, v Verdict) {
	l := labels{class: class, outcome: outcomeAccepted}
	switch {
	case v.Err != nil:
		l = labels{class: class, outcome: outcomeRejected, reason: "CANCELLED"}
		if e, ok := fault.As(v.Err); ok {
			l.reason = e.Reason
		}
	case v.Receipt.GetDuplicate():
		l.outcome = outcomeDuplicate
	}
	m.events(1, m.set(l))
	var of trace.SpanContext
	if telemetry.Sampled(traceparent) {
		of, _ = telemetry.ParseTraceparent(traceparent)
	}
	m.duration(time.Since(began).Seconds(), of, m.set(labels{class: class, outcome: l.outcome}))
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
	if l.class != "" {
		attrs = append(attrs, attribute.String("account_class", l.class))
	}
	if l.reason != "" {
		attrs = append(attrs, attribute.String("reason", l.reason))
	}
	set = metric.WithAttributeSet(attribute.NewSet(attrs...))
	m.mu.Lock()
	m.sets[l] = set
	m.mu.Unlock()
	return set
}
