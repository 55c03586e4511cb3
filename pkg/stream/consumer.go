package stream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// AckWait is how long a message may be worked on without a sign of progress. It is what a dead
// process's messages wait for before another has them, and shorter than what dispatchers remember of
// deliveries that they settled, so that what a dead router routed is not POSTed twice (ADR 0013, ADR 0030). An attempt may take longer: whoever
// works on a message gives signs of progress, at a third of this or oftener.
const AckWait = 15 * time.Second

// DefaultBatch is how many messages a consumer asks for ahead of its handler.
const DefaultBatch = 500

// Consumer pulls from a durable consumer of a stream.
type Consumer struct {
	c       *Client
	stream  string
	durable string
	ensure  func(context.Context) error
	batch   int
	trouble func(error)
}

// ConsumerInfo is how far a consumer is.
type ConsumerInfo struct {
	// Pending messages have not been given to anyone yet.
	Pending uint64
	// AckPending messages have been given and are not acknowledged.
	AckPending int
	// Redelivered messages have been given more than once and are not acknowledged.
	Redelivered int
	// AckFloor is the stream sequence up to which everything is acknowledged.
	AckFloor uint64
	// Delivered is the stream sequence of the last message given.
	Delivered uint64
}

// NewConsumer is for the owner of a stream. Ensure makes the durable as the owner wants it, or
// leaves it as it is; it is called here, and again when the durable is gone.
func (c *Client) NewConsumer(ctx context.Context, stream, durable string, ensure func(context.Context) error) (*Consumer, error) {
	con := &Consumer{c: c, stream: stream, durable: durable, ensure: ensure, batch: DefaultBatch}
	if err := c.retry(ctx, con.ensure); err != nil {
		return nil, fmt.Errorf("ensure consumer %s of %s: %w", durable, stream, err)
	}
	return con, nil
}

// WithBatch returns a consumer of the same durable that asks for n messages ahead of its handler.
func (c *Consumer) WithBatch(n int) *Consumer {
	other := *c
	other.batch = max(n, 1)
	return &other
}

// WithTrouble returns a consumer of the same durable that tells report what Consume survived: a
// deleted durable, a server that was away. Report is called on Consume's goroutines.
func (c *Consumer) WithTrouble(report func(error)) *Consumer {
	other := *c
	other.trouble = report
	return &other
}

// Stream is the name of the stream that is consumed.
func (c *Consumer) Stream() string { return c.stream }

// Consume gives every message to handle, one at a time and in the order in which the server sent
// them, until ctx ends; then it returns nil. A handle that blocks is backpressure: nothing is
// asked for beyond the batch, and what waits in memory is kept in progress. What waits when ctx
// ends goes back to the server at once, so that another can have it. A consumer that was deleted
// is made again from its owner's configuration; a server that is away is waited for. An error
// means that the consumer cannot be had at all.
func (c *Consumer) Consume(ctx context.Context, handle func(*Msg)) error {
	for ctx.Err() == nil {
		lost := newPuller(c).run(ctx, handle)
		if ctx.Err() == nil {
			c.report(lost)
		}
		if failed := c.again(ctx); failed != nil && ctx.Err() == nil {
			return fmt.Errorf("make consumer %s of %s again: %w", c.durable, c.stream, failed)
		}
	}
	return nil
}

// again makes the durable anew, for as long as the server has nothing against it.
func (c *Consumer) again(ctx context.Context) error {
	const pause = 250 * time.Millisecond
	for ctx.Err() == nil {
		err := try(ctx, c.ensure)
		if err == nil || permanent(err) {
			return err
		}
		c.report(err)
		wait(ctx, pause)
	}
	return ctx.Err()
}

func (c *Consumer) report(err error) {
	if c.trouble != nil && err != nil {
		c.trouble(err)
	}
}

// Info asks the server. It costs the leader work: not for a hot path. ErrNotFound if the durable
// is gone.
func (c *Consumer) Info(ctx context.Context) (ConsumerInfo, error) {
	return c.c.ConsumerInfo(ctx, c.stream, c.durable)
}

// ConsumerInfo is for the owner of a stream; see Consumer.Info.
func (c *Client) ConsumerInfo(ctx context.Context, stream, durable string) (ConsumerInfo, error) {
	con, err := c.js.Consumer(ctx, stream, durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return ConsumerInfo{}, fmt.Errorf("consumer %s of %s: %w", durable, stream, ErrNotFound)
	}
	if err != nil {
		return ConsumerInfo{}, fmt.Errorf("info of consumer %s of %s: %w", durable, stream, err)
	}
	info := con.CachedInfo()
	return ConsumerInfo{
		Pending:     info.NumPending,
		AckPending:  info.NumAckPending,
		Redelivered: info.NumRedelivered,
		AckFloor:    info.AckFloor.Stream,
		Delivered:   info.Delivered.Stream,
	}, nil
}

// Done is how many messages up to the last delivered one are not in anybody's hands: acknowledged, or
// gone.
func (i ConsumerInfo) Done() uint64 {
	inHand := uint64(max(0, i.AckPending))
	if inHand > i.Delivered {
		return 0
	}
	return i.Delivered - inHand
}

// exists reports whether the durable is there; an error means that it could not be told.
func (c *Consumer) exists(ctx context.Context) (bool, error) {
	_, err := c.c.js.Consumer(ctx, c.stream, c.durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return false, nil
	}
	return err == nil, err
}

// EnsureConsumer makes a durable, or brings it to the configuration. It is for the owner of a stream.
// One whose state is kept elsewhere than wanted is made anew, and begins where its configuration says.
func (c *Client) EnsureConsumer(ctx context.Context, stream string, cfg jetstream.ConsumerConfig) error {
	_, err := c.js.CreateOrUpdateConsumer(ctx, stream, cfg)
	if _, refused := errors.AsType[*jetstream.APIError](err); !refused {
		return err
	}
	standing, err2 := c.js.Consumer(ctx, stream, cfg.Durable)
	if err2 != nil || standing.CachedInfo().Config.MemoryStorage == cfg.MemoryStorage {
		return err
	}
	if err := c.js.DeleteConsumer(ctx, stream, cfg.Durable); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return err
	}
	_, err = c.js.CreateOrUpdateConsumer(ctx, stream, cfg)
	return err
}

// QueueConsumer completes the configuration of a work queue's consumer: if the stream has several
// replicas, its state is kept in memory. Such a stream holds what is not acknowledged and nothing else,
// so that state which is lost, or behind, costs a message that comes again. State on disk cost messages:
// a server that restarts takes what was removed from the stream meanwhile for acknowledged, refuses the
// newer state that it is sent by its peers for that, and when it leads, removes what it was never told
// of (nats-server 2.15, ADR 0023).
func (c *Client) QueueConsumer(cfg jetstream.ConsumerConfig) jetstream.ConsumerConfig {
	cfg.MemoryStorage = c.cfg.Replicas > 1
	return cfg
}

// permanent reports whether an error of the API will not pass by itself.
func permanent(err error) bool {
	var api jetstream.JetStreamError
	if errors.As(err, &api) && api.APIError() != nil {
		// A durable that is deleted while it is being brought to its configuration.
		if api.APIError().ErrorCode == jetstream.JSErrCodeConsumerDoesNotExist {
			return false
		}
		code := api.APIError().Code
		return code >= http.StatusBadRequest && code < http.StatusInternalServerError && code != http.StatusTooManyRequests
	}
	return errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrConnectionDraining)
}

// wait pauses; it reports false when ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
