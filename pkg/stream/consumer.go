package stream

import (
	"context"
	"errors"
	"time"
)

// AckWait is how long a message may be worked on without a sign of progress.
const AckWait = 60 * time.Second

// DefaultBatch is how many messages a consumer asks for ahead of its handler.
const DefaultBatch = 500

// Consumer pulls from a durable consumer of a stream.
type Consumer struct{}

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

// WithBatch returns a consumer of the same durable that asks for n messages ahead of its handler.
func (c *Consumer) WithBatch(n int) *Consumer { return c }

// Consume gives every message to handle, one at a time and in the order in which the server sent
// them, until ctx ends; then it returns nil. A handle that blocks is backpressure: nothing is
// asked for beyond the batch, and what waits in memory is kept in progress. A consumer that was
// deleted is made again from its owner's configuration; a server that is away is waited for.
// An error means that the consumer cannot be had at all.
func (c *Consumer) Consume(ctx context.Context, handle func(*Msg)) error {
	return errors.ErrUnsupported
}

// Info asks the server. It costs the leader work: not for a hot path.
func (c *Consumer) Info(ctx context.Context) (ConsumerInfo, error) {
	return ConsumerInfo{}, errors.ErrUnsupported
}
