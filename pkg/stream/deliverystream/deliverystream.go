// Package deliverystream owns the streams DELIVERIES_<s>, their subjects, codec and consumers: one
// durable unit for each event and webhook, from routing until its first attempt's outcome is
// stored elsewhere. It may lose nothing. A full stream refuses, which slows the router down.
package deliverystream

import (
	"context"
	"errors"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"

	"github.com/postrider/postrider/pkg/stream"
)

// Streams are the delivery streams of all shards.
type Streams struct{}

// Ensure creates the streams, or brings their limits to the configuration.
func Ensure(ctx context.Context, c *stream.Client) (*Streams, error) {
	return nil, errors.ErrUnsupported
}

// Shards is how many there are.
func (s *Streams) Shards() int { return 0 }

// Publish stores a delivery under its id on its webhook's shard, so that routing twice within the
// duplicate window yields one. See stream.Publisher.Publish for when done is called.
func (s *Streams) Publish(ctx context.Context, d *recordv1.Delivery, done func(error)) error {
	return errors.ErrUnsupported
}

// Consumer is the one consumer of a shard's deliveries.
func (s *Streams) Consumer(ctx context.Context, shard int) (*stream.Consumer, error) {
	return nil, errors.ErrUnsupported
}

// Decode reads a message of a delivery stream.
func Decode(m *stream.Msg) (*recordv1.Delivery, error) { return nil, errors.ErrUnsupported }
