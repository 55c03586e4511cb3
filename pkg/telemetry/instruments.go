package telemetry

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/metric"
)

// Instrument is a metric that a process has made, whether it has counted anything or not.
type Instrument struct {
	// Name as Prometheus has it, of a histogram without _bucket, _sum and _count.
	Name string
	// Kind is counter, gauge or histogram.
	Kind string
	// Help is its description.
	Help string
}

// Instruments lists every metric of ours that was made so far, in order of name. Those of libraries
// are not among them.
func (t *Telemetry) Instruments() []Instrument {
	if t.list == nil {
		return nil
	}
	t.list.mu.Lock()
	defer t.list.mu.Unlock()
	out := make([]Instrument, 0, len(t.list.by))
	for _, i := range t.list.by {
		out = append(out, i)
	}
	slices.SortFunc(out, func(a, b Instrument) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// inventory is what was made, by name.
type inventory struct {
	mu sync.Mutex
	by map[string]Instrument
}

// The kinds of instruments.
const (
	kindCounter   = "counter"
	kindGauge     = "gauge"
	kindHistogram = "histogram"
)

func (l *inventory) add(kind, name, unit, help string) {
	name = strings.ReplaceAll(name, ".", "_")
	for of, suffix := range map[string]string{"s": "_seconds", "By": "_bytes"} {
		if unit == of && !strings.HasSuffix(name, suffix) {
			name += suffix
		}
	}
	if kind == kindCounter && !strings.HasSuffix(name, "_total") {
		name += "_total"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.by[name] = Instrument{Name: name, Kind: kind, Help: help}
}

// meterOf makes a meter that writes down what is made with it.
type meterOf struct {
	metric.Meter

	list *inventory
}

// Int64Counter makes one.
func (m *meterOf) Int64Counter(name string, o ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	c := metric.NewInt64CounterConfig(o...)
	m.list.add(kindCounter, name, c.Unit(), c.Description())
	return m.Meter.Int64Counter(name, o...)
}

// Int64ObservableCounter makes one.
func (m *meterOf) Int64ObservableCounter(name string, o ...metric.Int64ObservableCounterOption) (metric.Int64ObservableCounter, error) {
	c := metric.NewInt64ObservableCounterConfig(o...)
	m.list.add(kindCounter, name, c.Unit(), c.Description())
	return m.Meter.Int64ObservableCounter(name, o...)
}

// Int64Gauge makes one.
func (m *meterOf) Int64Gauge(name string, o ...metric.Int64GaugeOption) (metric.Int64Gauge, error) {
	c := metric.NewInt64GaugeConfig(o...)
	m.list.add(kindGauge, name, c.Unit(), c.Description())
	return m.Meter.Int64Gauge(name, o...)
}

// Float64Gauge makes one.
func (m *meterOf) Float64Gauge(name string, o ...metric.Float64GaugeOption) (metric.Float64Gauge, error) {
	c := metric.NewFloat64GaugeConfig(o...)
	m.list.add(kindGauge, name, c.Unit(), c.Description())
	return m.Meter.Float64Gauge(name, o...)
}

// Int64ObservableGauge makes one.
func (m *meterOf) Int64ObservableGauge(name string, o ...metric.Int64ObservableGaugeOption) (metric.Int64ObservableGauge, error) {
	c := metric.NewInt64ObservableGaugeConfig(o...)
	m.list.add(kindGauge, name, c.Unit(), c.Description())
	return m.Meter.Int64ObservableGauge(name, o...)
}

// Float64ObservableGauge makes one.
func (m *meterOf) Float64ObservableGauge(name string, o ...metric.Float64ObservableGaugeOption) (metric.Float64ObservableGauge, error) {
	c := metric.NewFloat64ObservableGaugeConfig(o...)
	m.list.add(kindGauge, name, c.Unit(), c.Description())
	return m.Meter.Float64ObservableGauge(name, o...)
}

// Int64Histogram makes one.
func (m *meterOf) Int64Histogram(name string, o ...metric.Int64HistogramOption) (metric.Int64Histogram, error) {
	c := metric.NewInt64HistogramConfig(o...)
	m.list.add(kindHistogram, name, c.Unit(), c.Description())
	return m.Meter.Int64Histogram(name, o...)
}

// Float64Histogram makes one.
func (m *meterOf) Float64Histogram(name string, o ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	c := metric.NewFloat64HistogramConfig(o...)
	m.list.add(kindHistogram, name, c.Unit(), c.Description())
	return m.Meter.Float64Histogram(name, o...)
}
