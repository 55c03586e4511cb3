// Package shardlease owns the bucket `shards`: which dispatcher holds which shard. Members show
// that they live, divide the shards fairly among themselves, and hold each by a lease.
//
// It may lose everything in the bucket: the members write it again, and until then nobody works.
// Leases keep two holders of one shard rare and short; they are not what keeps deliveries from
// being lost or doubled (that is the streams' acknowledgements).
package shardlease

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/postrider/postrider/pkg/stream"
)

// Config is the times of leases. Every member of a deployment must have the same.
type Config struct {
	// Renew is how often a holder renews its leases and a member shows that it lives. Default 1 s.
	Renew time.Duration
	// Hold is how long a holder works after it began its last renewal that was acknowledged. Default 4 s.
	Hold time.Duration
	// Takeover is how long a member must see a lease unchanged before it takes it. Default 5 s.
	Takeover time.Duration
}

// Default is the configuration of production.
func Default() Config {
	return Config{Renew: time.Second, Hold: 4 * time.Second, Takeover: 5 * time.Second}
}

// Leases holds a fair share of the shards for one member.
type Leases struct{}

// New makes the member named instance; the name must be its own. Shards is how many there are in all.
func New(c *stream.Client, instance string, shards int, cfg Config, log *slog.Logger) (*Leases, error) {
	return nil, errors.ErrUnsupported
}

// Run joins, and holds a fair share of the shards until ctx ends. For each shard that it gets it
// calls onAcquire in a goroutine of its own, with a context that ends as soon as the lease cannot
// be proven or the shard is to be handed over. The lease is given back when onAcquire has
// returned, so that the next holder finds the shard drained. Run returns when every onAcquire has.
func (l *Leases) Run(ctx context.Context, onAcquire func(ctx context.Context, shard int)) error {
	return errors.ErrUnsupported
}

// Held is the shards that are held now, in ascending order.
func (l *Leases) Held() []int { return nil }
