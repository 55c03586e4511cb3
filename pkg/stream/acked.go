package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// RemoveAcked removes from a work queue what has been acknowledged and is there all the same, and
// says how many messages that were. An acknowledgement removes its message; but if the disk is full
// at that moment the server takes the acknowledgement, keeps the message, and gives it to nobody
// again (nats-server 2.15). It asks the leader twice: not for a hot path.
//
// Only for a durable that began at the stream's first message: below its floor everything was
// acknowledged then.
func (c *Consumer) RemoveAcked(ctx context.Context) (int64, error) {
	con, err := c.c.js.Consumer(ctx, c.stream, c.durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return 0, nil // nothing is acknowledged
	}
	if err != nil {
		return 0, fmt.Errorf("info of consumer %s of %s: %w", c.durable, c.stream, err)
	}
	info := con.CachedInfo()
	filter, floor := info.Config.FilterSubject, info.AckFloor.Stream
	first, err := c.c.Next(ctx, c.stream, cmp.Or(filter, ">"), 1)
	if errors.Is(err, ErrNotFound) || err == nil && first.Sequence > floor {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return c.c.Purge(ctx, c.stream, filter, floor+1)
}
