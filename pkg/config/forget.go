package config

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/pkg/stream"
)

// ForgetMembers drops every registration, so that changes need not wait for the lease of mirrors
// that are gone. Only for one who can prove that no mirror lives, such as the sole process on a
// store of its own: Confirm would not wait for those that do.
func ForgetMembers(ctx context.Context, c *stream.Client) error {
	err := c.JetStream().DeleteStream(ctx, "KV_"+bucketMembers)
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("forget members: %w", err)
	}
	return nil
}
