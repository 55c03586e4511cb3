package eventstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/pkg/stream/bucket"
)

const originKey = "origin"

// origin is the stored value that tells one EVENTS from another.
type origin struct {
	// Created is when the stream was created, in Unix nanoseconds.
	Created int64 `json:"created"`
	// Epoch counts the streams that stood here, and how often one was seen to have gone back.
	Epoch uint64 `json:"epoch"`
}

func (o origin) String() string {
	return strconv.FormatInt(o.Created, 36) + "-" + strconv.FormatUint(o.Epoch, 10)
}

// settle finds out the incarnation of the stream that info describes. The time of its creation is
// not enough: a restored stream keeps it, although sequences that were given out are given out
// again. What gives the restore away is a checkpoint above the last sequence. So a restore is seen
// at the next start of a process, and only if it took away more than was routed since the last
// checkpoint; operators restart the services after one.
func (s *Stream) settle(ctx context.Context, info *jetstream.StreamInfo) error {
	const rounds = 10
	for range rounds {
		entry, err := s.checkpoints.Get(ctx, originKey)
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
		now, err := s.judge(ctx, stored, info)
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
		_, err = s.checkpoints.Put(ctx, originKey, value, entry.Revision)
		if err != nil && !errors.Is(err, bucket.ErrConflict) {
			return fmt.Errorf("write incarnation: %w", err)
		}
	}
	return fmt.Errorf("write incarnation: %w", bucket.ErrConflict)
}

// judge says which incarnation the stream is, given the one that was stored last.
func (s *Stream) judge(ctx context.Context, stored origin, info *jetstream.StreamInfo) (origin, error) {
	now := origin{Created: info.Created.UnixNano(), Epoch: stored.Epoch}
	if now.Created != stored.Created {
		now.Epoch++
		return now, nil
	}
	last, _, err := s.checkpoint(ctx)
	if err != nil {
		return origin{}, err
	}
	if last.Incarnation == stored.String() && last.Floor > info.State.LastSeq {
		now.Epoch++
	}
	return now, nil
}

// ensureBucketTimeout bounds the start when the bucket's servers are slow to come up.
const ensureBucketTimeout = 30 * time.Second

// openCheckpoints makes the bucket, waiting for a server that is not ready.
func (s *Stream) openCheckpoints(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, ensureBucketTimeout)
	defer cancel()
	const pause = 100 * time.Millisecond
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		b, err := bucket.Ensure(ctx, s.c, bucket.Spec{Name: "checkpoints", Description: "how far routing is"})
		if err == nil {
			s.checkpoints = b
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}
