package eventstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/bucket"
)

const (
	checkpoints = "checkpoints" // the bucket
	originKey   = "origin"      // of the first segment; of others with a suffix
)

// origin is the stored value that tells one stream from another of the same name.
type origin struct {
	// Created is when the stream was created, in Unix nanoseconds.
	Created int64 `json:"created"`
	// Epoch counts the streams that stood here, and how often one was seen to have gone back.
	Epoch uint64 `json:"epoch"`
}

func (o origin) String() string {
	return strconv.FormatInt(o.Created, 36) + "-" + strconv.FormatUint(o.Epoch, 10)
}

// settle finds out the incarnation of the segment's stream. The time of its creation is not enough: a
// restored stream keeps it, although sequences that were given out are given out again. What gives the
// restore away is a checkpoint above the last sequence. So a restore is seen at the next start of a
// process, and only if it took away more than was routed since the last checkpoint; whoever restores
// says so, by Restored.
func (s *Segment) settle(ctx context.Context) error {
	const rounds = 10
	for range rounds {
		entry, err := s.checkpoints.Get(ctx, originKey+s.suffix)
		var stored origin
		switch {
		case errors.Is(err, bucket.ErrNotFound):
		case err != nil:
			return fmt.Errorf("read incarnation: %w", err)
		default:
			if err := json.Unmarshal(entry.Value, &stored); err != nil {
				return fmt.Errorf("read incarnation: %w", err)
			}
		}
		now, err := s.judge(ctx, stored)
		if err != nil {
			return err
		}
		if now == stored {
			s.incarnation = now.String()
			return nil
		}
		value, err := json.Marshal(now)
		if err != nil {
			return err
		}
		// By compare-and-set: of two processes that start at once, the second finds what the first
		// wrote, and nothing to change.
		_, err = s.checkpoints.Put(ctx, originKey+s.suffix, value, entry.Revision)
		if err != nil && !errors.Is(err, bucket.ErrConflict) {
			return fmt.Errorf("write incarnation: %w", err)
		}
	}
	return fmt.Errorf("write incarnation: %w", bucket.ErrConflict)
}

// Restored says that EVENTS was put back from a backup, with the bucket of its checkpoints: from the
// next start of each process on every segment is another incarnation. It is called while no process
// runs.
func Restored(ctx context.Context, js jetstream.JetStream) error {
	kv, err := js.KeyValue(ctx, checkpoints)
	if err != nil {
		return fmt.Errorf("say that EVENTS was restored: %w", err)
	}
	keys, err := kv.Keys(ctx)
	if err != nil {
		return fmt.Errorf("say that EVENTS was restored: %w", err)
	}
	for _, key := range keys {
		if key != originKey && !strings.HasPrefix(key, originKey+"_") {
			continue
		}
		if err := restored(ctx, kv, key); err != nil {
			return err
		}
	}
	return nil
}

// restored moves the incarnation of one segment on.
func restored(ctx context.Context, kv jetstream.KeyValue, key string) error {
	entry, err := kv.Get(ctx, key)
	if err != nil {
		return fmt.Errorf("read incarnation: %w", err)
	}
	var stored origin
	if err := json.Unmarshal(entry.Value(), &stored); err != nil {
		return fmt.Errorf("read incarnation: %w", err)
	}
	stored.Epoch++
	value, err := json.Marshal(stored)
	if err != nil {
		return err
	}
	if _, err := kv.Update(ctx, key, value, entry.Revision()); err != nil {
		return fmt.Errorf("write incarnation: %w", err)
	}
	return nil
}

// judge says which incarnation the stream is, given the one that was stored last. The checkpoint is read
// first: routing goes on meanwhile, and one that is read after the stream may be above what it had then.
func (s *Segment) judge(ctx context.Context, stored origin) (origin, error) {
	last, _, err := s.checkpoint(ctx)
	if err != nil {
		return origin{}, err
	}
	var info *jetstream.StreamInfo
	err = s.c.Retry(ctx, func(ctx context.Context) (err error) {
		info, err = s.info(ctx)
		return err
	})
	if err != nil {
		return origin{}, fmt.Errorf("read incarnation: %w", err)
	}
	now := origin{Created: info.Created.UnixNano(), Epoch: stored.Epoch}
	if now.Created != stored.Created {
		now.Epoch++
		return now, nil
	}
	if last.Incarnation == stored.String() && last.Floor > info.State.LastSeq {
		now.Epoch++
	}
	return now, nil
}

func checkpointsSpec() bucket.Spec {
	return bucket.Spec{Name: checkpoints, Description: "how far routing is"}
}

// ensureBucketTimeout bounds the start when the bucket's servers are slow to come up.
const ensureBucketTimeout = 30 * time.Second

// openCheckpoints makes the bucket, waiting for a server that is not ready.
func openCheckpoints(ctx context.Context, c *stream.Client) (*bucket.Bucket, error) {
	ctx, cancel := context.WithTimeout(ctx, ensureBucketTimeout)
	defer cancel()
	const pause = 100 * time.Millisecond
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		b, err := bucket.Ensure(ctx, c, checkpointsSpec())
		if err == nil {
			return b, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, err
		}
	}
}
