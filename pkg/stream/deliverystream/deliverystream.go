// Package deliverystream owns the streams DELIVERIES_<s>, their subjects, codec and consumers: one
// durable unit for each event and webhook, from routing until its first attempt's outcome is
// stored elsewhere. It may lose nothing. A full stream refuses, which slows the router down.
package deliverystream

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

const (
	durable = "dispatcher"
	// maxAckPending bounds what a dispatcher may have in memory and in flight for one shard. It
	// caps throughput at maxAckPending / time to settle.
	maxAckPending = 8192
	maxSize       = 256 << 10 // a payload of at most 4 KiB and what is around it
)

// Streams are the delivery streams of all shards. They are safe for use by many goroutines.
type Streams struct {
	c          *stream.Client
	shards     int
	prefixes   []string // of the subjects, by shard
	publishers []*stream.Publisher
}

// Config is what the streams may hold.
type Config struct {
	// MaxBytes bounds the backlog of each shard, so that it cannot take the disk from the streams
	// that outcomes are stored in. Without it the server's disk is the bound.
	MaxBytes int64 `conf:"max-bytes" help:"most bytes of deliveries that wait for their first attempt on one shard, above which routing waits; -1 for no limit"`
}

// Default sets no limit.
func Default() Config { return Config{MaxBytes: -1} }

// Ensure creates the streams, or brings their limits to the configuration.
func Ensure(ctx context.Context, c *stream.Client, cfg Config) (*Streams, error) {
	s := &Streams{c: c, shards: c.Config().Shards}
	for shard := range s.shards {
		if _, err := c.EnsureStream(ctx, streamConfig(shard, cfg)); err != nil {
			return nil, err
		}
		s.prefixes = append(s.prefixes, prefix(shard))
		s.publishers = append(s.publishers, c.NewPublisher(name(shard), 0))
	}
	return s, nil
}

func streamConfig(shard int, cfg Config) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: name(shard), Description: "deliveries before their first outcome", Subjects: []string{prefix(shard) + "*.*"},
		Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage,
		MaxBytes: cfg.MaxBytes, MaxMsgSize: maxSize, AllowDirect: true,
	}
}

// Inspect says how the streams of all shards, and their consumers, stand against the configuration. It
// changes nothing.
func Inspect(ctx context.Context, c *stream.Client, cfg Config) ([]stream.Report, error) {
	var all []stream.Report
	for shard := range c.Config().Shards {
		s, err1 := c.InspectStream(ctx, streamConfig(shard, cfg))
		con, err2 := c.InspectConsumer(ctx, name(shard), consumerConfig(c))
		if err := errors.Join(err1, err2); err != nil {
			return all, err
		}
		all = append(all, s, con)
	}
	return all, nil
}

func name(shard int) string   { return "DELIVERIES_" + strconv.Itoa(shard) }
func prefix(shard int) string { return "deliveries." + strconv.Itoa(shard) + "." }

// Shards is how many there are.
func (s *Streams) Shards() int { return s.shards }

// Publish stores a delivery under its id on its webhook's shard, so that routing twice within the
// duplicate window yields one. See stream.Publisher.Publish for when done is called.
//
// The id of a delivery that was acknowledged before a restart of the server may be forgotten. Then
// a repeat is stored again, and the dispatcher finds it ended.
func (s *Streams) Publish(ctx context.Context, d *recordv1.Delivery, done func(error)) error {
	if err := stream.CheckTokens(d.GetAccountId(), d.GetWebhookId()); err != nil {
		return fmt.Errorf("subject of delivery %s: %w", d.GetId(), err)
	}
	data, err := proto.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode delivery %s: %w", d.GetId(), err)
	}
	shard := postrider.ShardOf(postrider.WebhookID(d.GetWebhookId()), s.shards)
	m := &nats.Msg{
		Subject: s.prefixes[shard] + d.GetAccountId() + "." + d.GetWebhookId(), Data: data,
		Header: nats.Header{jetstream.MsgIDHeader: {d.GetId()}},
	}
	if d.GetReplayId() == "" { // a replay comes so much later that its attempts are a trace of their own
		stream.Carry(ctx, m, d.GetTraceparent())
	}
	return s.publishers[shard].Publish(ctx, m, func(_ stream.Ack, err error) { done(err) })
}

// Consumer is the one consumer of a shard's deliveries. It has no filter: a filter costs the
// server five to nine times as much for each message.
func (s *Streams) Consumer(ctx context.Context, shard int) (*stream.Consumer, error) {
	return s.c.NewConsumer(ctx, name(shard), durable, func(ctx context.Context) error {
		return s.c.EnsureConsumer(ctx, name(shard), consumerConfig(s.c))
	})
}

// Backlog is how much waits for a dispatcher on all shards together.
type Backlog struct {
	// Waiting is how many deliveries no dispatcher has taken.
	Waiting uint64
	// Done is how many were ever taken and acknowledged.
	Done uint64
}

// BacklogOf asks the leaders how much waits for a dispatcher. It is for those who do not open the
// streams; a shard that has no stream or no consumer yet counts for nothing.
func BacklogOf(ctx context.Context, c *stream.Client) (Backlog, error) {
	var sum Backlog
	for shard := range c.Config().Shards {
		info, err := c.ConsumerInfo(ctx, name(shard), durable)
		if errors.Is(err, stream.ErrNotFound) {
			continue
		}
		if err != nil {
			return Backlog{}, err
		}
		sum.Waiting += info.Pending
		sum.Done += info.Done()
	}
	return sum, nil
}

func consumerConfig(c *stream.Client) jetstream.ConsumerConfig {
	return c.QueueConsumer(jetstream.ConsumerConfig{
		Durable: durable, AckPolicy: jetstream.AckExplicitPolicy, AckWait: stream.AckWait,
		MaxAckPending: maxAckPending, MaxDeliver: -1, DeliverPolicy: jetstream.DeliverAllPolicy,
	})
}

// Scan gives every delivery that a shard held when the scan began to fn, those in a dispatcher's
// hands too. It stops at fn's first error and returns it.
func (s *Streams) Scan(ctx context.Context, shard int, fn func(*recordv1.Delivery) error) error {
	return s.c.Scan(ctx, name(shard), stream.Scan{}, func(m *stream.Stored) error {
		d, err := decode(m.Data)
		if err != nil {
			return fmt.Errorf("sequence %d: %w", m.Sequence, err)
		}
		return fn(d)
	})
}

// Decode reads a message of a delivery stream.
func Decode(m *stream.Msg) (*recordv1.Delivery, error) { return decode(m.Data()) }

func decode(data []byte) (*recordv1.Delivery, error) {
	d := &recordv1.Delivery{}
	if err := proto.Unmarshal(data, d); err != nil {
		return nil, fmt.Errorf("decode delivery: %w", err)
	}
	return d, nil
}
