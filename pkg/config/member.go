package config

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nuid"

	"github.com/postrider/postrider/pkg/stream/bucket"
)

const (
	// announceSubject is where mirrors say how far they are.
	announceSubject = "config.applied."
	// registerRetry is the pause after a registration that failed.
	registerRetry = 250 * time.Millisecond
	// unregisterTimeout bounds the removal of a registration; a Barrier would do it later.
	unregisterTimeout = time.Second
	// bucketSeparator stands between the buckets in a member's key; their names do not have it.
	bucketSeparator = "-"
)

// memberKey is <instance>.<one of its own>.<buckets>: who it is, so that a process that comes back
// under the same name is not taken for the one that is gone, and what it watches, so that one
// answer of the leader says all that a writer must know.
func memberKey(instance string, sinks []sink) string {
	names := make([]string, len(sinks))
	for i, s := range sinks {
		names[i] = s.bucket
	}
	return key(instance, nuid.Next(), strings.Join(names, bucketSeparator))
}

// watches reports whether a member's key says that it watches a bucket. A key that cannot be read
// (a newer release's, say) might.
func memberWatches(member, bucketName string) bool {
	parts, ok := splitKey(member, 3)
	return !ok || slices.Contains(strings.Split(parts[2], bucketSeparator), bucketName)
}

// announcement is the body of an announcement.
type announcement struct {
	Member    string            `json:"member"`
	Revisions map[string]uint64 `json:"revisions"`
}

// announce says up to which revision the handlers have been given everything. A bucket that is
// being scanned is left out.
func (m *Mirror) announce() {
	a := announcement{Member: m.member, Revisions: make(map[string]uint64, len(m.watches))}
	for _, w := range m.watches {
		if w.view.seen == nil {
			a.Revisions[w.bucket.Name()] = w.view.applied
		}
	}
	body, err := json.Marshal(a)
	if err != nil {
		m.log.Error("configuration cannot be announced", "error", err)
		return
	}
	// A lost announcement costs a writer the wait for the lease, or for the next announcement.
	_ = m.nc.Publish(announceSubject+m.member, body)
}

// register keeps the mirror registered, and removes the registration in the end, when the mirror
// cannot be fresh any more. It does not use Put's budget: a registration that takes long is worth
// nothing, because it counts from when it was begun.
func (m *Mirror) register(ctx context.Context, members *bucket.Bucket) {
	failing := false
	for {
		began := m.now()
		_, err := members.Put(ctx, m.member, nil, bucket.AnyRevision)
		wait := registerEvery
		switch {
		case err == nil:
			first := m.registered.Swap(int64(began+memberValid)) <= int64(began)
			failing = false
			if first {
				m.askAll()
			}
		case ctx.Err() == nil:
			wait = registerRetry
			if !failing {
				m.log.WarnContext(ctx, "configuration mirror cannot register", "error", err)
			}
			failing = true
			_ = members.Again(ctx) // if it was lost; if not, the next registration says what is wrong
		}
		if !rest(ctx, wait) {
			break
		}
	}
	m.unregister(ctx, members)
}

func (m *Mirror) askAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range m.watches {
		w.ask()
	}
}

// unregister waits until nothing can be begun on the mirror's state, and then removes it from the
// members, so that no writer waits for it.
func (m *Mirror) unregister(ctx context.Context, members *bucket.Bucket) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unregisterTimeout)
	defer cancel()
	for m.Fresh() {
		if !rest(ctx, time.Millisecond) {
			return
		}
	}
	if !m.nc.IsConnected() {
		return
	}
	err := members.Purge(ctx, m.member, bucket.AnyRevision-1)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		m.log.WarnContext(ctx, "configuration mirror stays registered", "error", err)
	}
}

// rest waits for d; false if ctx ended first.
func rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
