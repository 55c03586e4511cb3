package topology

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/bucket"
)

// segmentsKey is where the bucket says into how many segments events are split.
const segmentsKey = "segments"

// segmentation is the stored value. It never changes: an account's events would be looked for in
// another stream than they are in.
type segmentation struct {
	Segments int `json:"segments"`
}

// ensureSegments stores the configured number of segments, or checks that it is the stored one. The
// error names both when they differ.
//
// It comes before the number of shards is stored: where there is a number of shards and none of
// segments, events were stored when there was one segment only, and there is one.
func ensureSegments(ctx context.Context, c *stream.Client, b *bucket.Bucket) error {
	want := c.Config().Segments
	var stored int
	err := c.Retry(ctx, func(ctx context.Context) (err error) {
		stored, err = storeSegments(ctx, c, b, want)
		return err
	})
	if err != nil {
		return err
	}
	if stored != want {
		return fmt.Errorf("configured for %d segments of events, but they are in %d: set streams-segments to %d", want, stored, stored)
	}
	return nil
}

// storeSegments stores a number if none is stored, and returns the one that stands.
func storeSegments(ctx context.Context, c *stream.Client, b *bucket.Bucket, want int) (int, error) {
	stored, err := loadSegments(ctx, c)
	if stored != 0 || err != nil {
		return stored, err
	}
	value, err := json.Marshal(segmentation{Segments: want})
	if err != nil {
		return 0, err
	}
	if _, err = b.Put(ctx, segmentsKey, value, 0); err == nil {
		return want, nil
	}
	if !errors.Is(err, bucket.ErrConflict) {
		return 0, fmt.Errorf("store number of segments: %w", err)
	}
	return loadSegments(ctx, c) // another process was quicker
}

// loadSegments is the number of segments that stands, 0 if there is nothing yet. The leader is asked: a
// replica that is behind could make a system of long ago a new one. The number of shards is looked for
// first: it is stored last, so that a process that starts meanwhile is not taken for such a system.
func loadSegments(ctx context.Context, c *stream.Client) (int, error) {
	_, err := last(ctx, c, key)
	old := err == nil
	if err != nil && !errors.Is(err, stream.ErrNotFound) {
		return 0, fmt.Errorf("read number of segments: %w", err)
	}
	value, err := last(ctx, c, segmentsKey)
	switch {
	case errors.Is(err, stream.ErrNotFound) && old:
		return 1, nil // from before there were several
	case errors.Is(err, stream.ErrNotFound):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("read number of segments: %w", err)
	}
	var stored segmentation
	if err := json.Unmarshal(value, &stored); err != nil {
		return 0, fmt.Errorf("read number of segments: %w", err)
	}
	return stored.Segments, nil
}

// last reads a key from the bucket's leader.
func last(ctx context.Context, c *stream.Client, key string) ([]byte, error) {
	m, err := c.Last(ctx, "KV_"+bucketName, "$KV."+bucketName+"."+key)
	if err != nil {
		return nil, err
	}
	return m.Data, nil
}

// InspectSegments is the number of segments that events are stored in; 0 if none is stored. It changes
// nothing.
func InspectSegments(ctx context.Context, c *stream.Client) (segments int, err error) {
	report, err := bucket.Inspect(ctx, c, spec())
	if err != nil {
		return 0, fmt.Errorf("read number of segments: %w", err)
	}
	if report.Missing {
		return 0, nil
	}
	return loadSegments(ctx, c)
}
