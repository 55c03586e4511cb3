package retrystream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/pkg/stream"
)

// countEvery is how often the number of messages of a shard is read anew while records are put.
const countEvery = 3 * time.Second

// counter knows about how many messages a shard's stream holds.
type counter struct {
	messages atomic.Int64
	mu       sync.Mutex // held by the one that reads anew
	read     time.Time
}

// full reports whether a shard holds as many records as it may. It counts due deliveries too, of
// which there are few, and is right to within what other processes stored in the last seconds.
func (s *Streams) full(ctx context.Context, sh *shard) bool {
	if s.cfg.MaxRecords <= 0 {
		return false
	}
	if sh.count.mu.TryLock() {
		if time.Since(sh.count.read) > countEvery {
			if n, err := s.messages(ctx, sh.number); err == nil {
				sh.count.messages.Store(n)
			}
			sh.count.read = time.Now()
		}
		sh.count.mu.Unlock()
	}
	return sh.count.messages.Load() >= s.cfg.MaxRecords
}

func (s *Streams) messages(ctx context.Context, shard int) (int64, error) {
	st, err := s.c.JetStream().Stream(ctx, name(shard))
	if err != nil {
		return 0, fmt.Errorf("count records of shard %d: %w", shard, err)
	}
	info, err := st.Info(ctx, jetstream.WithSubjectFilter(anchorSubject(shard)))
	if err != nil {
		return 0, fmt.Errorf("count records of shard %d: %w", shard, err)
	}
	return int64(info.State.Msgs - info.State.Subjects[anchorSubject(shard)]), nil //nolint:gosec // far below 1<<63
}

// Count is how many records wait on a shard: what the stream holds without the deliveries that are
// due. It asks the leader three times, and is exact when nothing moves.
func (s *Streams) Count(ctx context.Context, shard int) (int64, error) {
	all, err := s.messages(ctx, shard)
	if err != nil {
		return 0, err
	}
	due, err := s.c.ConsumerInfo(ctx, name(shard), durable)
	if errors.Is(err, stream.ErrNotFound) {
		// Nobody has consumed the shard yet. With the consumer, what fired meanwhile is told apart.
		if _, err = s.Due(ctx, shard); err == nil {
			due, err = s.c.ConsumerInfo(ctx, name(shard), durable)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("count records of shard %d: %w", shard, err)
	}
	return max(all-int64(due.Pending)-int64(due.AckPending), 0), nil //nolint:gosec // far below 1<<63
}
