// Package stream is what the owners of streams share: how a stream is ensured, how messages are
// published with a bounded window, how they are consumed and acknowledged, how one is read by its
// sequence. It owns no stream and no subject; the packages below it do, one each.
//
// What it may lose: nothing that was acknowledged. A publish whose acknowledgement did not come
// in time is reported as ErrUnknown, never as stored and never as refused; acknowledgements of
// consumed messages are not confirmed unless asked for, so a message may come again after a crash
// of this process or of the server.
package stream

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/postrider/postrider/pkg/postrider"
)

// Config is what all streams have in common.
type Config struct {
	Replicas        int           `conf:"replicas" help:"copies of every stream and bucket; 1 in development, 3 in production"`
	Shards          int           `conf:"shards" help:"delivery streams, each with a retry stream, of a new system; postrider shards changes those of one that stands"`
	Segments        int           `conf:"segments" help:"event streams, by account; fixed once events are stored"`
	DuplicateWindow time.Duration `conf:"duplicate-window" help:"how long a stream remembers message ids"`
	PublishTimeout  time.Duration `conf:"publish-timeout" help:"how long to wait for an acknowledgement before publishing again under the same id"`
	PublishBudget   time.Duration `conf:"publish-budget" help:"how long to go on publishing the same message in all"`
	PublishWindow   int           `conf:"publish-window" help:"messages published and not yet acknowledged, per publisher"`
}

// Default is the configuration of a development machine: one replica, one shard, one segment.
func Default() Config {
	return Config{
		Replicas:        1,
		Shards:          1,
		Segments:        1,
		DuplicateWindow: 2 * time.Minute,
		PublishTimeout:  2 * time.Second,
		PublishBudget:   8 * time.Second,
		PublishWindow:   1024,
	}
}

// maxWindow bounds a publisher's window; its slots are numbered with 16 bits.
const maxWindow = 1 << 16

// Validate reports every fault at once.
func (c Config) Validate() error {
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	check(c.Replicas == 1 || c.Replicas == 3 || c.Replicas == 5, "replicas is %d: want 1, 3 or 5", c.Replicas)
	check(c.Shards >= 1 && c.Shards <= postrider.MaxShards, "shards is %d: want 1 to %d", c.Shards, postrider.MaxShards)
	check(c.Segments >= 1 && c.Segments <= postrider.MaxSegments, "segments is %d: want 1 to %d", c.Segments, postrider.MaxSegments)
	check(c.PublishTimeout > 0, "publish-timeout is %s: want more than 0", c.PublishTimeout)
	check(c.PublishBudget >= c.PublishTimeout, "publish-budget %s is shorter than publish-timeout %s", c.PublishBudget, c.PublishTimeout)
	// A message that is published again after the window could be stored twice.
	check(c.DuplicateWindow > c.PublishBudget, "duplicate-window %s must be longer than publish-budget %s", c.DuplicateWindow, c.PublishBudget)
	check(c.PublishWindow >= 1 && c.PublishWindow <= maxWindow, "publish-window is %d: want 1 to %d", c.PublishWindow, maxWindow)
	return errors.Join(faults...)
}

// Client reaches the streams over one connection, which stays its caller's. It is safe for
// concurrent use.
type Client struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	cfg    Config
	tracer trace.Tracer
	layout atomic.Pointer[postrider.Layout]

	mu     sync.Mutex
	closes []func() // in the order of making
	closed bool
}

// Option changes a client.
type Option func(*Client)

// WithTracer has the client make spans for the messages of traces that are recorded. Without it
// there are none.
func WithTracer(t trace.Tracer) Option { return func(c *Client) { c.tracer = t } }

// New checks the configuration; it sends nothing.
func New(nc *nats.Conn, cfg Config, opts ...Option) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure streams: %w", err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("open jetstream: %w", err)
	}
	c := &Client{nc: nc, js: js, cfg: cfg, tracer: noop.NewTracerProvider().Tracer("")}
	c.layout.Store(&postrider.Layout{Shards: cfg.Shards, Streams: cfg.Shards})
	for _, opt := range opts {
		opt(c)
	}
	return c, nil
}

// Config is the client's configuration.
func (c *Client) Config() Config { return c.cfg }

// Layout is into how many shards deliveries are split: as configured, until package topology has read
// what is stored, and what that says from then on.
func (c *Client) Layout() postrider.Layout { return *c.layout.Load() }

// SetLayout is for package topology.
func (c *Client) SetLayout(l postrider.Layout) { c.layout.Store(&l) }

// JetStream is for the owners of streams and buckets only.
func (c *Client) JetStream() jetstream.JetStream { return c.js }

// Conn is for the owners of streams and buckets only.
func (c *Client) Conn() *nats.Conn { return c.nc }

// Close ends every publisher that the client made: what is in flight is reported as ErrUnknown.
// It returns when their goroutines have ended. The connection stays open.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	closes := c.closes
	c.closes = nil
	c.mu.Unlock()
	for _, end := range closes {
		end()
	}
}

// CloseWith has Close call end too, after the publishers that were made before. If the client is closed it is called at
// once. It is for the owners of streams.
func (c *Client) CloseWith(end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		end()
		return
	}
	c.closes = append(c.closes, end)
}
