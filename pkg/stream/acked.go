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
// again (nats-server 2.15). It removes one by one, which a holder of the messages may do anyway; a
// purge could remove everything. Without any it asks twice: not for a hot path.
//
// Only for a durable that began at the stream's first message: below its floor everything was
// acknowledged then.
func (c *Consumer) RemoveAcked(ctx context.Context) (removed int64, err error) {
	con, err := c.c.js.Consumer(ctx, c.stream, c.durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return 0, nil // nothing is acknowledged
	}
	if err != nil {
		return 0, fmt.Errorf("info of consumer %s of %s: %w", c.durable, c.stream, err)
	}
	info := con.CachedInfo()
	filter, floor := cmp.Or(info.Config.FilterSubject, ">"), info.AckFloor.Stream
	for next := uint64(1); next <= floor; {
		m, err := c.c.Next(ctx, c.stream, filter, next)
		if errors.Is(err, ErrNotFound) || err == nil && m.Sequence > floor {
			break
		}
		if err != nil {
			return removed, err
		}
		next = m.Sequence + 1
		err = c.c.DeleteMessage(ctx, c.stream, m.Sequence)
		if errors.Is(err, ErrNotFound) {
			continue // a replica was behind
		}
		if err != nil {
			return removed, err
		}
		removed++
	}
	return removed, nil
}
