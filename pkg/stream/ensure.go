package stream

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// ensureTimeout bounds an ensure whose context has no deadline: a cluster that elects, a server
// that is just coming up.
const ensureTimeout = 30 * time.Second

// EnsureStream creates a stream or brings what can be changed of it to the configuration. It is
// for the owner of the stream. It waits for a server that is not ready.
func (c *Client) EnsureStream(ctx context.Context, cfg jetstream.StreamConfig) (*jetstream.StreamInfo, error) {
	s, err := c.OpenStream(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return s.CachedInfo(), nil
}

// OpenStream is EnsureStream for an owner that works with the stream's handle.
func (c *Client) OpenStream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	cfg = c.complete(cfg)
	if cfg.MaxAge > 0 && cfg.MaxAge < cfg.Duplicates {
		return nil, fmt.Errorf("ensure stream %s: its age %s is shorter than the duplicate window %s", cfg.Name, cfg.MaxAge, cfg.Duplicates)
	}
	var s jetstream.Stream
	err := c.retry(ctx, func(ctx context.Context) (err error) {
		s, err = c.ensureStream(ctx, cfg)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ensure stream %s: %w", cfg.Name, err)
	}
	return s, nil
}

// CopyStream makes a stream with the configuration of another one, changed, if it is not there. It is
// for the owner of both, where the configuration of the services is not known.
func (c *Client) CopyStream(ctx context.Context, from string, change func(*jetstream.StreamConfig)) error {
	err := c.retry(ctx, func(ctx context.Context) error {
		s, err := c.js.Stream(ctx, from)
		if err != nil {
			return err
		}
		cfg := s.CachedInfo().Config
		change(&cfg)
		_, err = c.js.Stream(ctx, cfg.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			_, err = c.js.CreateStream(ctx, cfg)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("copy stream %s: %w", from, err)
	}
	return nil
}

// complete fills in what all streams have in common.
func (c *Client) complete(cfg jetstream.StreamConfig) jetstream.StreamConfig {
	cfg.Replicas = c.cfg.Replicas
	if cfg.Duplicates == 0 {
		cfg.Duplicates = c.cfg.DuplicateWindow
	}
	return cfg
}

func (c *Client) ensureStream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	s, err := c.js.Stream(ctx, cfg.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		s, err = c.js.CreateStream(ctx, cfg)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			s, err = c.js.Stream(ctx, cfg.Name) // another process was quicker
		}
	}
	if err != nil {
		return nil, err
	}
	info := s.CachedInfo()
	want := wanted(info.Config, cfg)
	if reflect.DeepEqual(want, info.Config) {
		return s, nil
	}
	return c.js.UpdateStream(ctx, want)
}

// wanted is a stream's configuration with what its owner wants of it. What the server filled in or an
// operator set beside our fields stays: placement, metadata.
func wanted(have, cfg jetstream.StreamConfig) jetstream.StreamConfig {
	want := have
	want.Subjects, want.Retention, want.Discard = cfg.Subjects, cfg.Retention, cfg.Discard
	want.MaxAge, want.MaxBytes, want.MaxMsgSize = cfg.MaxAge, orUnlimited(cfg.MaxBytes), orUnlimited(cfg.MaxMsgSize)
	want.Duplicates, want.Replicas, want.AllowDirect = cfg.Duplicates, cfg.Replicas, cfg.AllowDirect
	want.AllowMsgSchedules = cfg.AllowMsgSchedules
	want.Description = cfg.Description
	return want
}

// orUnlimited is how the server states that there is no limit.
func orUnlimited[T int32 | int64](n T) T {
	if n <= 0 {
		return -1
	}
	return n
}

// Retry is for owners whose start is more than a stream or a bucket: it calls fn until it succeeds,
// fails for good, or 30 s are up, if ctx has no deadline of its own. Just after it was made, a bucket
// of three replicas has no leader for a moment.
func (c *Client) Retry(ctx context.Context, fn func(context.Context) error) error {
	return c.retry(ctx, fn)
}

// retry calls fn until it succeeds, fails for good, or time is up.
func (c *Client) retry(ctx context.Context, fn func(context.Context) error) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, ensureTimeout)
		defer cancel()
	}
	const pause = 100 * time.Millisecond
	for {
		err := try(ctx, fn)
		if err == nil || permanent(err) {
			return err
		}
		if !wait(ctx, pause) {
			return err
		}
	}
}

// tryTimeout bounds one try: a request that went down with a connection is never answered.
const tryTimeout = 5 * time.Second

func try(ctx context.Context, fn func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	return fn(ctx)
}

// EnsureBucket creates a bucket or takes the one that is there. It is for the owner of the bucket.
func (c *Client) EnsureBucket(ctx context.Context, cfg jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	cfg.Replicas = c.cfg.Replicas
	var kv jetstream.KeyValue
	err := c.retry(ctx, func(ctx context.Context) (err error) {
		kv, err = c.js.KeyValue(ctx, cfg.Bucket)
		if errors.Is(err, jetstream.ErrBucketNotFound) {
			kv, err = c.js.CreateOrUpdateKeyValue(ctx, cfg)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ensure bucket %s: %w", cfg.Bucket, err)
	}
	return kv, nil
}
