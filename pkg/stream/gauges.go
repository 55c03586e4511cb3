package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// gaugeEvery is how often a consumer and its stream are looked at: it costs their leaders work.
const gaugeEvery = 10 * time.Second

// Gauges shows how far consumers are behind and how full their streams are. Whoever works on a
// shard shows it, and nobody else: its row goes when the shard is given up. What several processes
// consume together each of them shows alike, so take the maximum, never the sum.
type Gauges struct {
	registration metric.Registration

	mu   sync.Mutex
	rows map[*Consumer]row
}

// row is what was last seen of a consumer and its stream.
type row struct {
	backlog, stream metric.MeasurementOption
	messages        int64   // not acknowledged
	age             float64 // of the oldest of them, in seconds
	redelivered     int64
	bytes, maxBytes int64
}

// NewGauges makes the instruments.
func NewGauges(m metric.Meter) (*Gauges, error) {
	g := &Gauges{rows: make(map[*Consumer]row)}
	messages, err1 := m.Int64ObservableGauge("postrider.backlog.messages",
		metric.WithDescription("Messages of a consumer that nobody has acknowledged, given to someone or not."))
	age, err2 := m.Float64ObservableGauge("postrider.backlog.oldest.age", metric.WithUnit("s"),
		metric.WithDescription("Age of the oldest message of a consumer that nobody has acknowledged; 0 if there is none."))
	again, err3 := m.Int64ObservableGauge("postrider.backlog.redelivered",
		metric.WithDescription("Messages of a consumer that were given more than once and are not acknowledged."))
	bytes, err4 := m.Int64ObservableGauge("postrider.stream.size", metric.WithUnit("By"), metric.WithDescription("What a stream holds."))
	most, err5 := m.Int64ObservableGauge("postrider.stream.limit", metric.WithUnit("By"),
		metric.WithDescription("What a stream may hold; absent if only the disk bounds it."))
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return nil, fmt.Errorf("make the gauges of streams: %w", err)
	}
	var err error
	g.registration, err = m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, r := range g.rows {
			o.ObserveInt64(messages, r.messages, r.backlog)
			o.ObserveFloat64(age, r.age, r.backlog)
			o.ObserveInt64(again, r.redelivered, r.backlog)
			o.ObserveInt64(bytes, r.bytes, r.stream)
			if r.maxBytes > 0 {
				o.ObserveInt64(most, r.maxBytes, r.stream)
			}
		}
		return nil
	}, messages, age, again, bytes, most)
	if err != nil {
		return nil, fmt.Errorf("register the gauges of streams: %w", err)
	}
	return g, nil
}

// Close takes the instruments' readings away.
func (g *Gauges) Close() error { return g.registration.Unregister() }

// Watch shows a consumer and its stream until ctx ends. Shard is empty for streams that have none.
// What cannot be read keeps its last values.
func (g *Gauges) Watch(ctx context.Context, c *Consumer, shard string) {
	of := attribute.String("stream", c.stream)
	r := row{
		backlog: metric.WithAttributeSet(attribute.NewSet(of, attribute.String("consumer", c.durable), attribute.String("shard", shard))),
		stream:  metric.WithAttributeSet(attribute.NewSet(of, attribute.String("shard", shard))),
	}
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.rows, c)
	}()
	for {
		if c.look(ctx, &r) == nil && ctx.Err() == nil {
			g.mu.Lock()
			g.rows[c] = r
			g.mu.Unlock()
		}
		if !wait(ctx, gaugeEvery) {
			return
		}
	}
}

// look reads the state of a consumer and its stream.
func (c *Consumer) look(ctx context.Context, r *row) error {
	ctx, cancel := context.WithTimeout(ctx, gaugeEvery/2)
	defer cancel()
	con, err := c.c.js.Consumer(ctx, c.stream, c.durable)
	if err != nil {
		return fmt.Errorf("look at consumer %s of %s: %w", c.durable, c.stream, err)
	}
	s, err := c.c.js.Stream(ctx, c.stream)
	if err != nil {
		return fmt.Errorf("look at stream %s: %w", c.stream, err)
	}
	info, held := con.CachedInfo(), s.CachedInfo()
	r.messages = int64(info.NumPending) + int64(info.NumAckPending) //nolint:gosec // far below 1<<63
	r.redelivered = int64(info.NumRedelivered)
	r.bytes, r.maxBytes = int64(held.State.Bytes), held.Config.MaxBytes //nolint:gosec // far below 1<<63
	r.age, err = c.oldest(ctx, info)
	return err
}

// oldest is the age of the first message above the acknowledgement floor, in seconds.
func (c *Consumer) oldest(ctx context.Context, info *jetstream.ConsumerInfo) (float64, error) {
	if info.NumPending == 0 && info.NumAckPending == 0 {
		return 0, nil
	}
	filter := info.Config.FilterSubject
	if filter == "" {
		filter = ">"
	}
	first, err := c.c.fromLeader(ctx, c.stream, request{Seq: info.AckFloor.Stream + 1, NextFor: filter})
	if errors.Is(err, ErrNotFound) {
		return 0, nil // it was acknowledged meanwhile
	}
	if err != nil {
		return 0, fmt.Errorf("look for the oldest message of %s: %w", c.stream, err)
	}
	return max(time.Since(first.Time).Seconds(), 0), nil
}
