package bucket

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Get reads a key from the leader. With ErrNotFound the entry still has the revision of the marker
// that deleted the key, or 0 if there is none: the revision to expect when it is to be created.
func (b *Bucket) Get(ctx context.Context, key string) (Entry, error) {
	raw, err := retried(ctx, b, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
		return b.stream.GetLastMsgForSubject(ctx, b.prefix+key)
	})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return Entry{Key: key}, ErrNotFound
	}
	if err != nil {
		return Entry{}, fmt.Errorf("read %s of bucket %s: %w", key, b.name, err)
	}
	e := b.entry(raw.Subject, raw.Header, raw.Data, raw.Sequence, raw.Time)
	if e.Deleted {
		return e, ErrNotFound
	}
	return e, nil
}

// Next reads, from the leader, the first message at or after a revision, which may be a marker;
// ErrNotFound if there is none.
func (b *Bucket) Next(ctx context.Context, from uint64) (Entry, error) {
	raw, err := retried(ctx, b, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
		return b.stream.GetMsg(ctx, max(from, 1), jetstream.WithGetMsgSubject(b.prefix+">"))
	})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return Entry{}, ErrNotFound
	}
	if err != nil {
		return Entry{}, fmt.Errorf("read from %d of bucket %s: %w", from, b.name, err)
	}
	return b.entry(raw.Subject, raw.Header, raw.Data, raw.Sequence, raw.Time), nil
}

// Position is how far a bucket is.
type Position struct {
	// Last revision that was written.
	Last uint64
	// Created tells a bucket from one of the same name that stood here before.
	Created time.Time
}

// Position asks the leader how far the bucket is. Every write that was acknowledged before the
// question was asked is at or before Last; ErrUnproven if the answer cannot be held to that.
func (b *Bucket) Position(ctx context.Context) (Position, error) {
	info, err := b.info(ctx)
	if err != nil {
		return Position{}, err
	}
	return Position{Last: info.State.LastSeq, Created: info.Created}, nil
}

// Keys asks the leader for the keys that match a pattern of NATS, among them keys that were
// deleted and whose marker is still there. They come in no order.
func (b *Bucket) Keys(ctx context.Context, pattern string) ([]string, error) {
	info, err := b.info(ctx, jetstream.WithSubjectFilter(b.prefix+pattern))
	if err != nil {
		return nil, err
	}
	keys := make([]string, 0, len(info.State.Subjects))
	for subject := range info.State.Subjects {
		keys = append(keys, strings.TrimPrefix(subject, b.prefix))
	}
	return keys, nil
}

func (b *Bucket) info(ctx context.Context, opts ...jetstream.StreamInfoOpt) (*jetstream.StreamInfo, error) {
	info, err := retried(ctx, b, func(ctx context.Context) (*jetstream.StreamInfo, error) {
		return b.stream.Info(ctx, opts...)
	})
	if err != nil {
		return nil, fmt.Errorf("ask for bucket %s: %w", b.name, err)
	}
	if !proven(info.Cluster) {
		return nil, fmt.Errorf("ask for bucket %s: %w", b.name, ErrUnproven)
	}
	return info, nil
}

// retried asks until there is an answer, or the budget of a publish is spent, or ctx ends. An
// answer that was lost with a server or a connection would else be waited for until ctx ends.
func retried[T any](ctx context.Context, b *Bucket, ask func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.PublishBudget)
	defer cancel()
	for {
		try, done := context.WithTimeout(ctx, b.cfg.PublishTimeout)
		v, err := ask(try)
		done()
		again, _ := classify(err)
		// The leader of a bucket that was just made may not know it yet.
		again = again || errors.Is(err, jetstream.ErrStreamNotFound)
		if err == nil || !again || !pause(ctx, retryPause) {
			return v, err
		}
	}
}

// heardWithin is how long ago a leader must have heard from its peers. It is less than the 4 s for
// which a follower of NATS's Raft waits before it stands for election, and more than the 1 s
// between heartbeats.
const heardWithin = 3 * time.Second

// proven reports whether an answer is a leader's that nobody has replaced. The server lets any
// member answer while a group has no leader; only a leader says since when it leads. A leader that
// a partition cut off goes on believing in itself for up to 20 s, but a successor is elected only
// after a majority has not heard it for 4 s, and then it has not heard the majority for as long.
// What remains is a partition that cuts it off from its successor alone: it learns of it with the
// next heartbeat of the peer they share, within a second.
func proven(c *jetstream.ClusterInfo) bool {
	if c == nil || len(c.Replicas) == 0 {
		return true // one server, or one replica, which always leads
	}
	if c.LeaderSince == nil {
		return false
	}
	heard := 1 // itself
	for _, peer := range c.Replicas {
		if peer.Active > 0 && peer.Active <= heardWithin {
			heard++
		}
	}
	return 2*heard > len(c.Replicas)+1
}
