package config

import (
	"context"
	"errors"
	"log/slog"

	"github.com/postrider/postrider/pkg/stream"
)

// Barrier lets a writer wait until nobody works on what it replaced.
type Barrier struct{}

// NewBarrier makes a barrier; it subscribes with the first Confirm.
func NewBarrier(c *stream.Client, log *slog.Logger) *Barrier { return &Barrier{} }

// Confirm returns when no mirror works any more on a state of the bucket older than revision rev:
// as soon as every registered mirror that watches the bucket has announced rev, and at the latest
// when the lease of those that did not has lapsed. Call it after the write was acknowledged. An
// error means only that ctx ended first, with the write done but not confirmed.
func (b *Barrier) Confirm(ctx context.Context, bucket string, rev uint64) error {
	return errors.ErrUnsupported
}

// Stop ends the subscription.
func (b *Barrier) Stop(ctx context.Context) error { return errors.ErrUnsupported }
