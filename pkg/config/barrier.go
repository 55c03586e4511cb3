package config

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/bucket"
)

// heardFor is how long an announcement counts. Announcements come more often; an old one may be of
// a bucket that was made again since, whose revisions mean something else.
const heardFor = time.Second

// Barrier lets a writer wait until nobody works on what it replaced. The package comment says why
// its answer holds.
type Barrier struct {
	client *stream.Client
	nc     *nats.Conn
	log    *slog.Logger

	mu      sync.Mutex
	members *bucket.Bucket
	sub     *nats.Subscription
	stopped bool
	heard   map[string]heard
	seen    map[string]sighting
	changed chan struct{} // closed with each announcement, and replaced
}

// heard is the last announcement of a member.
type heard struct {
	at        time.Time
	revisions map[string]uint64
}

// sighting is a registration that was seen unchanged since.
type sighting struct {
	revision uint64
	since    time.Time
}

// NewBarrier makes a barrier. Start it so that the first Confirm is as quick as those after it;
// one that was not started subscribes with its first Confirm.
func NewBarrier(c *stream.Client, log *slog.Logger) *Barrier {
	return &Barrier{
		client: c, nc: c.JetStream().Conn(), log: log,
		heard: make(map[string]heard), seen: make(map[string]sighting), changed: make(chan struct{}),
	}
}

// Name is for logs of the barrier's life cycle.
func (b *Barrier) Name() string { return "configuration barrier" }

// Start subscribes to what mirrors announce.
func (b *Barrier) Start(ctx context.Context) error {
	if _, err := b.open(ctx); err != nil {
		return fmt.Errorf("start configuration barrier: %w", err)
	}
	return nil
}

// Confirm returns when no mirror works any more on a state of the bucket older than revision rev:
// as soon as every registered mirror that watches the bucket has announced rev, and at the latest
// when the lease of those that did not has lapsed. Call it after the write was acknowledged. An
// error means only that ctx ended first, with the write done but not confirmed.
func (b *Barrier) Confirm(ctx context.Context, bucketName string, rev uint64) error {
	start := time.Now()
	// Whatever fails from here on only means that nobody can be excused from the wait.
	lapse := time.NewTimer(Lease + leaseMargin)
	defer lapse.Stop()
	waiting, err := b.watching(ctx, bucketName)
	if err != nil {
		b.log.WarnContext(ctx, "configuration is confirmed by lease", "bucket", bucketName, "error", err)
		waiting = nil
	}
	for {
		b.mu.Lock()
		changed := b.changed
		if err == nil {
			waiting = b.unconfirmed(waiting, bucketName, rev, start)
		}
		b.mu.Unlock()
		if err == nil && len(waiting) == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-lapse.C:
			if err == nil {
				b.log.WarnContext(ctx, "configuration is confirmed by lease", "bucket", bucketName, "silent", waiting)
			}
			return nil
		case <-ctx.Done():
			return fmt.Errorf("confirm revision %d of bucket %s: %w", rev, bucketName, context.Cause(ctx))
		}
	}
}

// unconfirmed is who of the members has not announced rev. The lock is held.
func (b *Barrier) unconfirmed(members []string, bucketName string, rev uint64, start time.Time) []string {
	var out []string
	for _, m := range members {
		h, ok := b.heard[m]
		if !ok || h.at.Before(start.Add(-heardFor)) || h.revisions[bucketName] < rev {
			out = append(out, m)
		}
	}
	return out
}

// watching asks the leader who is registered for the bucket, without those that are dead.
func (b *Barrier) watching(ctx context.Context, bucketName string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, Lease)
	defer cancel()
	members, err := b.open(ctx)
	if err != nil {
		return nil, err
	}
	keys, err := members.Keys(ctx, ">")
	if err != nil {
		return nil, fmt.Errorf("read members: %w", err)
	}
	b.forget(keys)
	var out []string
	for _, k := range keys {
		if memberWatches(k, bucketName) && !b.dead(ctx, members, k) {
			out = append(out, k)
		}
	}
	return out, nil
}

// open subscribes to announcements and opens the members, once.
func (b *Barrier) open(ctx context.Context) (*bucket.Bucket, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return nil, errors.New("the barrier is stopped")
	}
	if b.sub == nil {
		sub, err := b.nc.Subscribe(announceSubject+">", b.hear)
		if err != nil {
			return nil, fmt.Errorf("subscribe to announcements: %w", err)
		}
		b.sub = sub
	}
	if b.members == nil {
		members, err := bucket.Ensure(ctx, b.client, spec(bucketMembers))
		if err != nil {
			return nil, err
		}
		b.members = members
	}
	return b.members, nil
}

// hear takes an announcement.
func (b *Barrier) hear(m *nats.Msg) {
	var a announcement
	if err := json.Unmarshal(m.Data, &a); err != nil || a.Member == "" {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.heard[a.Member] = heard{at: time.Now(), revisions: a.Revisions}
	close(b.changed)
	b.changed = make(chan struct{})
}

// forget drops what is known of those who are not registered any more.
func (b *Barrier) forget(registered []string) {
	keep := make(map[string]bool, len(registered))
	for _, k := range registered {
		keep[k] = true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for k, h := range b.heard {
		if !keep[k] && time.Since(h.at) > memberDead {
			delete(b.heard, k)
		}
	}
	for k := range b.seen {
		if !keep[k] {
			delete(b.seen, k)
		}
	}
}

// dead reports whether a member that is silent has not renewed its registration for so long that
// the registration no longer counts for the member itself, and removes it. Only the revision that
// was seen is removed: if the member renewed it a moment ago, that renewal stays.
func (b *Barrier) dead(ctx context.Context, members *bucket.Bucket, member string) bool {
	b.mu.Lock()
	h, spoke := b.heard[member]
	b.mu.Unlock()
	if spoke && time.Since(h.at) < heardFor {
		return false
	}
	e, err := members.Get(ctx, member)
	if err != nil {
		return false // also if it left just now: waiting for the lease is always right
	}
	b.mu.Lock()
	s, ok := b.seen[member]
	if !ok || s.revision != e.Revision {
		// The time is taken after the answer: the registration was written before it.
		b.seen[member] = sighting{revision: e.Revision, since: time.Now()}
		b.mu.Unlock()
		return false
	}
	b.mu.Unlock()
	if time.Since(s.since) < memberDead {
		return false
	}
	if err := members.Purge(ctx, member, e.Revision); err != nil {
		return false
	}
	b.log.InfoContext(ctx, "configuration member is gone", "member", member)
	return true
}

// Stop ends the subscription. It may be called twice.
func (b *Barrier) Stop(context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = true
	if b.sub == nil {
		return nil
	}
	err := b.sub.Unsubscribe()
	b.sub = nil
	if err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		return fmt.Errorf("stop configuration barrier: %w", err)
	}
	return nil
}
