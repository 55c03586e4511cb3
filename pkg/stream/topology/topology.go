// Package topology owns the bucket `topology`: into how many shards deliveries are split. The
// number is fixed once stored, because it says in which stream a webhook's deliveries are. The
// bucket may be lost only together with the streams.
package topology

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/pkg/stream"
)

const (
	bucket = "topology"
	key    = "shards"
)

// layout is the stored value. Version grows with each change of the layout.
type layout struct {
	Version int `json:"version"`
	Shards  int `json:"shards"`
}

// Ensure stores the configured number of shards, or checks that it is the stored one. The error
// names both when they differ.
func Ensure(ctx context.Context, c *stream.Client) (shards int, err error) {
	kv, err := c.EnsureBucket(ctx, jetstream.KeyValueConfig{
		Bucket: bucket, Description: "how deliveries are split into shards", History: 10, Storage: jetstream.FileStorage,
	})
	if err != nil {
		return 0, err
	}
	if err := ensureSegments(ctx, c, kv); err != nil {
		return 0, err
	}
	want := layout{Version: 1, Shards: c.Config().Shards}
	var stored layout
	err = c.Retry(ctx, func(ctx context.Context) error {
		stored, err = store(ctx, kv, want)
		return err
	})
	if err != nil {
		return 0, err
	}
	if stored.Shards != want.Shards {
		return 0, fmt.Errorf("configured for %d shards, but the streams have %d: set streams-shards to %d", want.Shards, stored.Shards, stored.Shards)
	}
	return stored.Shards, nil
}

// Inspect is the stored number of shards; 0 if none is stored. It changes nothing.
func Inspect(ctx context.Context, c *stream.Client) (shards int, err error) {
	kv, err := c.JetStream().KeyValue(ctx, bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read number of shards: %w", err)
	}
	stored, err := load(ctx, kv)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return 0, nil
	}
	return stored.Shards, err
}

// store stores a layout if there is none, and returns the one that stands.
func store(ctx context.Context, kv jetstream.KeyValue, want layout) (layout, error) {
	value, err := json.Marshal(want)
	if err != nil {
		return layout{}, err
	}
	if _, err = kv.Create(ctx, key, value); err == nil {
		return want, nil
	}
	if !errors.Is(err, jetstream.ErrKeyExists) {
		return layout{}, fmt.Errorf("store number of shards: %w", err)
	}
	return load(ctx, kv)
}

func load(ctx context.Context, kv jetstream.KeyValue) (layout, error) {
	entry, err := kv.Get(ctx, key)
	if err != nil {
		return layout{}, fmt.Errorf("read number of shards: %w", err)
	}
	var stored layout
	if err := json.Unmarshal(entry.Value(), &stored); err != nil {
		return layout{}, fmt.Errorf("read number of shards: %w", err)
	}
	return stored, nil
}
