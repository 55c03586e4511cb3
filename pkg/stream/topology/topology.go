// Package topology owns the bucket `topology`: into how many shards deliveries are split. The
// number is fixed once stored, because it says in which stream a webhook's deliveries are. The
// bucket may be lost only together with the streams.
package topology

import (
	"context"
	"errors"

	"github.com/postrider/postrider/pkg/stream"
)

// Ensure stores the configured number of shards, or checks that it is the stored one. The error
// names both when they differ.
func Ensure(ctx context.Context, c *stream.Client) (shards int, err error) {
	return 0, errors.ErrUnsupported
}
