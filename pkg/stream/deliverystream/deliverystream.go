// Package deliverystream owns the streams DELIVERIES_<s>, their subjects, codec and consumers: each
// delivery of an event to a webhook, from routing until its first attempt's outcome is stored elsewhere. A
// message holds up to 64 of them (ADR 0030). It may lose nothing. A full stream refuses, which slows the router down.
package deliverystream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

const (
	durable = "dispatcher"
	// maxAckPending bounds what a dispatcher may have in memory and in flight for one shard. It
	// caps throughput at maxAckPending / time to settle.
	maxAckPending = 8192
	maxSize       = 256 << 10 // deliveries of at most 64 KiB, or one that is larger
	// batch is how many messages a dispatcher asks for ahead of its work on a shard.
	batch = 128
)

// Streams are the delivery streams of all shards. They are safe for use by many goroutines.
type Streams struct {
	c *stream.Client

	mu     sync.Mutex              // held by the one that adds a shard
	shards atomic.Pointer[[]shard] // by number; replaced, never changed
}

// shard is one stream.
type shard struct {
	prefix    string // of the subjects
	publisher *stream.Publisher
	packer    *packer
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
	s := &Streams{c: c}
	s.shards.Store(&[]shard{})
	for n := range c.Layout().Streams {
		if _, err := c.EnsureStream(ctx, streamConfig(n, cfg)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Grow makes the streams of shards that are not there, up to so many, like those of the first. Whoever
// changes the number of shards calls it before.
func Grow(ctx context.Context, c *stream.Client, shards int) error {
	for n := 1; n < shards; n++ {
		err := c.CopyStream(ctx, name(0), func(cfg *jetstream.StreamConfig) { cfg.Name, cfg.Subjects = name(n), []string{prefix(n) + "*.*"} })
		if err != nil {
			return err
		}
	}
	return nil
}

// at is a shard's stream. There may be more than there were at the start.
func (s *Streams) at(n int) shard {
	if now := *s.shards.Load(); n < len(now) {
		return now[n]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	next := slices.Clone(*s.shards.Load())
	for k := len(next); k <= n; k++ {
		publisher := s.c.NewPublisher(name(k), 0)
		next = append(next, shard{prefix: prefix(k), publisher: publisher, packer: newPacker(s.c, publisher, prefix(k))})
	}
	s.shards.Store(&next)
	return next[n]
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
	for shard := range c.Layout().Streams {
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

// Layout is into how many shards deliveries are split now.
func (s *Streams) Layout() postrider.Layout { return s.c.Layout() }

// Publish stores a delivery on its webhook's shard, in a message with others of its account that are published at
// about the same time. It blocks while too many wait, until ctx ends; an error means that done will not be called. Done
// is called exactly once when the fate of the message is known, and must not block. The delivery belongs to
// the stream until then, and must not be changed.
//
// A delivery that is published twice may be stored twice, unless it is a replay's: the dispatcher knows it again by
// its id.
func (s *Streams) Publish(ctx context.Context, d *recordv1.Delivery, done func(error)) error {
	if err := stream.CheckTokens(d.GetAccountId(), d.GetWebhookId()); err != nil {
		return fmt.Errorf("account and webhook of delivery %s: %w", d.GetId(), err)
	}
	// Two kinds go alone, under their own ids. A job that dies makes a batch of its replays again, and few of them come at a
	// time; and a message carries one trace at most.
	if d.GetReplayId() != "" || stream.Traced(ctx, d.GetTraceparent()) {
		return s.publish(ctx, d, d.GetId(), done)
	}
	return s.home(d).packer.publish(ctx, d, done)
}

// Forward stores a delivery that was met on a shard that its webhook has left on the one that is its
// home, once for each message that it was met in. That message is acknowledged when done was called
// without an error. See stream.Publisher.Publish for when it is.
//
// The id of the delivery cannot be the message's: the shard that it goes to may have had it before, and
// would take it for a repeat.
func (s *Streams) Forward(ctx context.Context, d *recordv1.Delivery, from int, sequence uint64, done func(error)) error {
	if err := stream.CheckTokens(d.GetAccountId(), d.GetWebhookId()); err != nil {
		return fmt.Errorf("account and webhook of delivery %s: %w", d.GetId(), err)
	}
	return s.publish(ctx, d, d.GetId()+"@"+strconv.Itoa(from)+"."+strconv.FormatUint(sequence, 36), done)
}

// Again stores a delivery in a message of its own, so that the one that it came in is not needed for it any more. That may
// be done several times, and is never taken for a repeat. See stream.Publisher.Publish for when done is called.
func (s *Streams) Again(ctx context.Context, d *recordv1.Delivery, done func(error)) error {
	if err := stream.CheckTokens(d.GetAccountId(), d.GetWebhookId()); err != nil {
		return fmt.Errorf("account and webhook of delivery %s: %w", d.GetId(), err)
	}
	return s.publish(ctx, d, nuid.Next(), done)
}

// publish stores a delivery in a message of its own.
func (s *Streams) publish(ctx context.Context, d *recordv1.Delivery, id string, done func(error)) error {
	data, err := appendDelivery(nil, nil, d)
	if err != nil {
		return err
	}
	to := s.home(d)
	m := &nats.Msg{Subject: to.prefix + d.GetAccountId() + ".1", Data: data, Header: nats.Header{jetstream.MsgIDHeader: {id}}}
	if d.GetReplayId() == "" { // a replay comes so much later that its attempts are a trace of their own
		stream.Carry(ctx, m, d.GetTraceparent())
	}
	return to.publisher.Publish(ctx, m, func(_ stream.Ack, err error) { done(err) })
}

func (s *Streams) home(d *recordv1.Delivery) shard {
	return s.at(s.c.Layout().Home(postrider.WebhookID(d.GetWebhookId())))
}

// Consumer is the one consumer of a shard's deliveries. It has no filter: a filter costs the
// server five to nine times as much for each message.
func (s *Streams) Consumer(ctx context.Context, shard int) (*stream.Consumer, error) {
	consumer, err := s.c.NewConsumer(ctx, name(shard), durable, func(ctx context.Context) error {
		return s.c.EnsureConsumer(ctx, name(shard), consumerConfig(s.c))
	})
	if err != nil {
		return nil, err
	}
	return consumer.WithBatch(batch), nil
}

// Last is the sequence of the newest delivery of a shard, as the stream's leader says.
func (s *Streams) Last(ctx context.Context, shard int) (uint64, error) {
	return s.c.LastSequence(ctx, name(shard))
}

// Backlog is how much waits for a dispatcher on all shards together, in messages, of which each holds up to
// 64 deliveries.
type Backlog struct {
	// Waiting is how many messages no dispatcher has taken.
	Waiting uint64
	// Done is how many were ever taken and acknowledged.
	Done uint64
}

// BacklogOf asks the leaders how much waits for a dispatcher. It is for those who do not open the
// streams; a shard that has no stream or no consumer yet counts for nothing.
func BacklogOf(ctx context.Context, c *stream.Client) (Backlog, error) {
	var sum Backlog
	for shard := range c.Layout().Streams {
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
	return Walk(ctx, s.c, shard, func(_ uint64, d *recordv1.Delivery) error { return fn(d) })
}
