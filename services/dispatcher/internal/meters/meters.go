// Package meters owns the dispatcher's metrics. Labels are bounded: outcomes, classes, reasons,
// classes of accounts; never an account, a webhook, an id or a URL.
package meters

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/services/dispatcher/internal/breaker"
)

// latencyBuckets suit attempts, from a receiver next door to the longest timeout.
var latencyBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20, 30}

// delayBuckets suit the wait from acceptance to the first attempt.
var delayBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2, 5, 10, 30, 60, 300, 1800, 7200, 86400}

// Meters are the dispatcher's instruments. They are safe for concurrent use.
type Meters struct {
	attempts    metric.Int64Counter
	duration    metric.Float64Histogram
	firstDelay  metric.Float64Histogram
	total       metric.Float64Histogram
	parked      metric.Int64Counter
	held        metric.Int64Counter
	cancelled   metric.Int64Counter
	dead        metric.Int64Counter
	blocked     metric.Int64Counter
	redelivered metric.Int64Counter
	handovers   metric.Int64Counter
	forwarded   metric.Int64Counter
	repeats     metric.Int64Counter
	breakers    metric.Int64Counter
	disabled    metric.Int64Counter
	malformed   metric.Int64Counter
	unfinished  metric.Int64Counter
	unacked     metric.Int64Counter

	mu   sync.RWMutex
	sets map[setKey]metric.MeasurementOption
}

type setKey struct {
	kind    byte
	a, b, c string
	d       string
}

// Gauges are read when the metrics are.
type Gauges struct {
	InFlight       func() int64
	Slots          func() int64
	Unsettled      func() int64
	Storing        func() int64
	Shards         func() int64
	AllShards      func() int64
	Lanes          func() map[breaker.State]int64
	Webhooks       func() int64
	Lines          func() (blocked, all int64)
	ConnectsOpened func() int64
	ConnectsReused func() int64
}

// New makes the instruments.
func New(m metric.Meter) (*Meters, error) {
	s := &Meters{sets: map[setKey]metric.MeasurementOption{}}
	var errs []error
	counter := func(to *metric.Int64Counter, name, help string) {
		var err error
		*to, err = m.Int64Counter(name, metric.WithDescription(help))
		errs = append(errs, err)
	}
	histogram := func(to *metric.Float64Histogram, name, help string, buckets []float64) {
		var err error
		*to, err = m.Float64Histogram(name, metric.WithDescription(help), metric.WithUnit("s"), metric.WithExplicitBucketBoundaries(buckets...))
		errs = append(errs, err)
	}
	counter(&s.attempts, "postrider.delivery.attempts", "Attempts made, by outcome and error class.")
	histogram(&s.duration, "postrider.delivery.attempt.duration", "Duration of attempts.", latencyBuckets)
	histogram(&s.firstDelay, "postrider.delivery.first_attempt.delay", "Time from acceptance to the first attempt.", delayBuckets)
	histogram(&s.total, "postrider.delivery.total.duration", "Time from acceptance to delivery.", delayBuckets)
	counter(&s.parked, "postrider.delivery.parked", "Deliveries parked without an attempt, by reason.")
	counter(&s.held, "postrider.delivery.held", "Deliveries held for their webhook, by reason.")
	counter(&s.cancelled, "postrider.delivery.cancelled", "Deliveries met as cancelled, by reason.")
	counter(&s.dead, "postrider.dead_letters", "Deliveries that will not be tried again, by cause.")
	counter(&s.blocked, "postrider.ssrf_blocked", "Attempts refused because of the receiver's address.")
	counter(&s.redelivered, "postrider.redelivered", "Messages given again, by what was found about them.")
	counter(&s.handovers, "postrider.dispatcher.handovers", "Records handed over, by who stored them.")
	counter(&s.forwarded, "postrider.dispatcher.forwarded", "Deliveries met on a shard that their webhook has left, and put on its home.")
	counter(&s.repeats, "postrider.dispatcher.store.repeats", "Repeated tries to store an outcome, by what would not store it.")
	counter(&s.breakers, "postrider.circuit.transitions", "Changes of webhooks' breakers, by new state.")
	counter(&s.disabled, "postrider.webhook.transitions", "Webhooks disabled by a rule, by cause.")
	counter(&s.malformed, "postrider.dispatcher.malformed", "Messages that could not be decoded.")
	counter(&s.unfinished, "postrider.shutdown.unfinished", "Deliveries whose outcome was not stored when the dispatcher had to end.")
	counter(&s.unacked, "postrider.ack.failures", "Acknowledgements that could not be sent: their messages come again.")
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("make the dispatcher's metrics: %w", err)
	}
	return s, nil
}

// Observe registers the gauges. The returned function takes them away again.
func Observe(m metric.Meter, g Gauges) (stop func() error, err error) {
	var errs []error
	var observed []metric.Observable
	reads := map[metric.Int64Observable]func() int64{}
	gauge := func(name, help string, read func() int64) {
		o, err := m.Int64ObservableGauge(name, metric.WithDescription(help))
		errs = append(errs, err)
		observed = append(observed, o)
		reads[o] = read
	}
	gauge("postrider.delivery.inflight", "Attempts in flight.", g.InFlight)
	gauge("postrider.delivery.concurrency.limit", "Attempts that may be in flight.", g.Slots)
	gauge("postrider.dispatcher.unsettled", "Messages taken and not acknowledged.", g.Unsettled)
	gauge("postrider.dispatcher.storing", "Outcomes obtained and not stored yet.", g.Storing)
	gauge("postrider.dispatcher.shards", "Shards held.", g.Shards)
	gauge("postrider.streams.shards", "Shards that there are.", g.AllShards)
	gauge("postrider.dispatcher.webhooks", "Webhooks known.", g.Webhooks)
	circuits, err1 := m.Int64ObservableGauge("postrider.circuit.webhooks",
		metric.WithDescription("Webhooks that have a lane here, by the state of their breaker."))
	lines, err3 := m.Int64ObservableGauge("postrider.ordering.lines",
		metric.WithDescription("Lines of ordered webhooks that have deliveries which have not ended, by whether the first one waits for a time of its own."))
	connections, err2 := m.Int64ObservableCounter("postrider.dispatcher.connections",
		metric.WithDescription("Exchanges with receivers by whether they went over a connection that was open; those over new ones are the connections opened."))
	errs = append(errs, err1, err2, err3)
	observed = append(observed, circuits, connections, lines)
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("make the dispatcher's gauges: %w", err)
	}
	registration, err := m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for instrument, read := range reads {
			o.ObserveInt64(instrument, read())
		}
		for state, n := range g.Lanes() {
			o.ObserveInt64(circuits, n, metric.WithAttributes(attribute.String("state", state.String())))
		}
		blocked, all := g.Lines()
		o.ObserveInt64(lines, blocked, metric.WithAttributes(attribute.Bool("blocked", true)))
		o.ObserveInt64(lines, all-blocked, metric.WithAttributes(attribute.Bool("blocked", false)))
		o.ObserveInt64(connections, g.ConnectsOpened(), metric.WithAttributes(attribute.Bool("reused", false)))
		o.ObserveInt64(connections, g.ConnectsReused(), metric.WithAttributes(attribute.Bool("reused", true)))
		return nil
	}, observed...)
	if err != nil {
		return nil, fmt.Errorf("register the dispatcher's gauges: %w", err)
	}
	return registration.Unregister, nil
}

// set keeps the attribute sets that were used: making one costs more than counting.
func (s *Meters) set(k setKey, keys ...string) metric.MeasurementOption {
	s.mu.RLock()
	option, ok := s.sets[k]
	s.mu.RUnlock()
	if ok {
		return option
	}
	values := [...]string{k.a, k.b, k.c, k.d}
	attributes := make([]attribute.KeyValue, len(keys))
	for i, name := range keys {
		attributes[i] = attribute.String(name, values[i])
	}
	option = metric.WithAttributeSet(attribute.NewSet(attributes...))
	s.mu.Lock()
	s.sets[k] = option
	s.mu.Unlock()
	return option
}

// Attempt counts an attempt. Which is "first", "retry" or "test".
func (s *Meters) Attempt(ctx context.Context, accountClass string, outcome postrider.Outcome, class postrider.ErrorClass, which string, took time.Duration) {
	s.attempts.Add(ctx, 1, s.set(setKey{'a', accountClass, string(outcome), string(class), which}, "account_class", "outcome", "error_class", "attempt"))
	s.duration.Record(ctx, took.Seconds(), s.set(setKey{kind: 'd', a: accountClass, b: string(outcome)}, "account_class", "outcome"))
	if class == postrider.ClassBlocked {
		s.blocked.Add(ctx, 1)
	}
}

// FirstDelay records how long a delivery's first attempt was in coming.
func (s *Meters) FirstDelay(ctx context.Context, accountClass string, d time.Duration) {
	s.firstDelay.Record(ctx, d.Seconds(), s.set(setKey{kind: 'f', a: accountClass}, "account_class"))
}

// Total records how long a delivery took in all.
func (s *Meters) Total(ctx context.Context, accountClass string, d time.Duration) {
	s.total.Record(ctx, d.Seconds(), s.set(setKey{kind: 'f', a: accountClass}, "account_class"))
}

// Parked counts a delivery that was parked.
func (s *Meters) Parked(ctx context.Context, reason string) {
	s.parked.Add(ctx, 1, s.set(setKey{kind: 'r', a: reason}, "reason"))
}

// Held counts a delivery that was held.
func (s *Meters) Held(ctx context.Context, reason string) {
	s.held.Add(ctx, 1, s.set(setKey{kind: 'r', a: reason}, "reason"))
}

// Cancelled counts a delivery that was met as cancelled.
func (s *Meters) Cancelled(ctx context.Context, reason string) {
	s.cancelled.Add(ctx, 1, s.set(setKey{kind: 'r', a: reason}, "reason"))
}

// Dead counts a delivery that died.
func (s *Meters) Dead(ctx context.Context, accountClass, cause string) {
	s.dead.Add(ctx, 1, s.set(setKey{kind: 'x', a: accountClass, b: cause}, "account_class", "reason"))
}

// Redelivered counts a message that came again, and what was found about it.
func (s *Meters) Redelivered(ctx context.Context, found string) {
	s.redelivered.Add(ctx, 1, s.set(setKey{kind: 'u', a: found}, "found"))
}

// HandedOver counts records that were stored by "scheduler" or "dispatcher".
func (s *Meters) HandedOver(ctx context.Context, by string, n int) {
	s.handovers.Add(ctx, int64(n), s.set(setKey{kind: 'h', a: by}, "by"))
}

// Repeated counts a further try to store an outcome in "journal", "retries" or "dead_letters".
func (s *Meters) Repeated(ctx context.Context, what string) {
	s.repeats.Add(ctx, 1, s.set(setKey{kind: 'w', a: what}, "what"))
}

// Breaker counts a breaker's change of state.
func (s *Meters) Breaker(ctx context.Context, state string) {
	s.breakers.Add(ctx, 1, s.set(setKey{kind: 's', a: state}, "state"))
}

// Disabled counts a webhook that was disabled by a rule.
func (s *Meters) Disabled(ctx context.Context, cause string) {
	s.disabled.Add(ctx, 1, s.set(setKey{kind: 'c', a: cause}, "cause"))
}

// Malformed counts a message that could not be decoded.
func (s *Meters) Malformed(ctx context.Context) { s.malformed.Add(ctx, 1) }

// Forwarded counts a delivery that is put on the shard that its webhook lives on now.
func (s *Meters) Forwarded(ctx context.Context) { s.forwarded.Add(ctx, 1) }

// NotAcknowledged counts an acknowledgement that could not be sent.
func (s *Meters) NotAcknowledged(ctx context.Context) { s.unacked.Add(ctx, 1) }

// Unfinished counts deliveries whose outcome was not stored in time.
func (s *Meters) Unfinished(ctx context.Context, n int) { s.unfinished.Add(ctx, int64(n)) }
