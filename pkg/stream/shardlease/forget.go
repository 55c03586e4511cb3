package shardlease

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/pkg/stream"
)

// Forget drops every lease, so that the next member need not wait until those before it are taken
// for dead. Only for one who can prove that no member lives, such as the sole process on a store
// of its own: two may hold a shard otherwise.
func Forget(ctx context.Context, c *stream.Client) error {
	err := c.JetStream().DeleteStream(ctx, "KV_"+bucketName)
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("forget shard leases: %w", err)
	}
	return nil
}
