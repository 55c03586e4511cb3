package bucket_test

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/bucket"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const within = 20 * time.Second

func client(t *testing.T, nc *nats.Conn, replicas int) *stream.Client {
	t.Helper()
	cfg := stream.Default()
	cfg.Replicas = replicas
	c, err := stream.New(nc, cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func open(t *testing.T, c *stream.Client, spec bucket.Spec) *bucket.Bucket {
	t.Helper()
	b, err := bucket.Ensure(t.Context(), c, spec)
	require.NoError(t, err)
	return b
}

func TestBucket(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := open(t, client(t, s.Connect(t), 1), bucket.Spec{Name: "things"})
	ctx := t.Context()

	_, err := b.Get(ctx, "a.b")
	require.ErrorIs(t, err, bucket.ErrNotFound)

	rev, err := b.Put(ctx, "a.b", []byte("one"), 0)
	require.NoError(t, err)
	e, err := b.Get(ctx, "a.b")
	require.NoError(t, err)
	require.Equal(t, "one", string(e.Value))
	require.Equal(t, rev, e.Revision)
	require.Equal(t, "a.b", e.Key)

	_, err = b.Put(ctx, "a.b", []byte("two"), 0)
	require.ErrorIs(t, err, bucket.ErrConflict, "a key that is there is not created")
	_, err = b.Put(ctx, "a.b", []byte("two"), rev+1)
	require.ErrorIs(t, err, bucket.ErrConflict)
	second, err := b.Put(ctx, "a.b", []byte("two"), rev)
	require.NoError(t, err)
	_, err = b.Delete(ctx, "a.b", rev, time.Hour)
	require.ErrorIs(t, err, bucket.ErrConflict)
	gone, err := b.Delete(ctx, "a.b", second, time.Hour)
	require.NoError(t, err)

	e, err = b.Get(ctx, "a.b")
	require.ErrorIs(t, err, bucket.ErrNotFound)
	require.Equal(t, gone, e.Revision, "the marker's revision is the one to expect")
	third, err := b.Put(ctx, "a.b", []byte("three"), gone)
	require.NoError(t, err)

	_, err = b.Put(ctx, "a.c", nil, bucket.AnyRevision)
	require.NoError(t, err)
	keys, err := b.Keys(ctx, "a.*")
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"a.b", "a.c"}, keys)

	require.NoError(t, b.Purge(ctx, "a.b", third-1))
	_, err = b.Get(ctx, "a.b")
	require.NoError(t, err, "a purge up to an older revision leaves the newer one")
	require.NoError(t, b.Purge(ctx, "a.b", third))
	_, err = b.Get(ctx, "a.b")
	require.ErrorIs(t, err, bucket.ErrNotFound)

	p, err := b.Position(ctx)
	require.NoError(t, err)
	require.Equal(t, third+1, p.Last)
	e, err = b.Next(ctx, 1)
	require.NoError(t, err)
	require.Equal(t, "a.c", e.Key)
	_, err = b.Next(ctx, e.Revision+1)
	require.ErrorIs(t, err, bucket.ErrNotFound)
}

// A write whose acknowledgement was lost is repeated under its message id. That must not be a
// conflict with itself, on one server and in a cluster. The test loses acknowledgements by
// answering with nothing from a proxy between client and server.
func TestARepeatedWriteIsNotInConflictWithItself(t *testing.T) {
	t.Parallel()
	repeat := func(t *testing.T, url string, replicas int) {
		t.Helper()
		p := startProxy(t, url)
		nc, err := nats.Connect(p.url, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
		require.NoError(t, err)
		t.Cleanup(nc.Close)
		cfg := stream.Default()
		cfg.Replicas, cfg.PublishTimeout = replicas, 500*time.Millisecond
		c, err := stream.New(nc, cfg)
		require.NoError(t, err)
		t.Cleanup(c.Close)
		b := open(t, c, bucket.Spec{Name: "things"})
		rev, err := b.Put(t.Context(), "a", []byte("one"), 0)
		require.NoError(t, err)

		p.hold() // answers of the server
		done := make(chan error, 1)
		var made uint64
		go func() {
			made, err = b.Put(t.Context(), "a", []byte("two"), rev)
			done <- err
		}()
		require.Eventually(t, func() bool { return p.held() >= 2 }, within, 5*time.Millisecond, "two tries")
		p.drop()
		require.NoError(t, <-done)
		e, err := b.Get(t.Context(), "a")
		require.NoError(t, err)
		require.Equal(t, "two", string(e.Value))
		require.Equal(t, made, e.Revision)
		require.Equal(t, rev+1, made, "it was stored once")
	}
	t.Run("on one server", func(t *testing.T) {
		t.Parallel()
		repeat(t, natstest.Start(t).URL, 1)
	})
	t.Run("in a cluster", func(t *testing.T) {
		t.Parallel()
		repeat(t, natstest.StartCluster(t, 3).Nodes[0].URL, 3)
	})
}

func TestALeaderProvesItself(t *testing.T) {
	t.Parallel()
	cluster := natstest.StartCluster(t, 3)
	nc := cluster.Nodes[0].Connect(t)
	b := open(t, client(t, nc, 3), bucket.Spec{Name: "things"})
	rev, err := b.Put(t.Context(), "a", []byte("one"), 0)
	require.NoError(t, err)
	_, err = b.Put(t.Context(), "a", []byte("two"), 0)
	require.ErrorIs(t, err, bucket.ErrConflict)
	_, err = b.Delete(t.Context(), "a", rev+1, time.Hour)
	require.ErrorIs(t, err, bucket.ErrConflict)
	// Idle followers must be heard of too: heartbeats come every second.
	deadline := time.Now().Add(4 * time.Second)
	for time.Now().Before(deadline) {
		p, err := b.Position(t.Context())
		require.NoError(t, err)
		require.Equal(t, rev, p.Last)
		wait(t, 200*time.Millisecond)
	}
	// One node that still answers cannot prove anything.
	cluster.Nodes[1].Stop()
	cluster.Nodes[2].Stop()
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := b.Position(ctx)
		return err != nil
	}, within, 100*time.Millisecond)
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		_, err := b.Position(ctx)
		cancel()
		require.Error(t, err)
	}
}

// wait lets time pass where time itself is what the test is about.
func wait(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}

// recorder is what a follower was given.
type recorder struct {
	mu      sync.Mutex
	begins  []bool
	entries []bucket.Entry
}

func follow(t *testing.T, b *bucket.Bucket) (*bucket.Follower, *recorder) {
	t.Helper()
	r := &recorder{}
	f := b.NewFollower(
		func(renewed bool) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.begins = append(r.begins, renewed)
			r.entries = nil
		},
		func(e bucket.Entry) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.entries = append(r.entries, e)
		},
		func(err error) { t.Logf("follower: %v", err) },
	)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return f, r
}

// get is the values by key as the follower would have them, and the revisions in their order.
func (r *recorder) get() (values map[string]string, revisions []uint64, begins []bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	values = make(map[string]string)
	for _, e := range r.entries {
		revisions = append(revisions, e.Revision)
		if e.Deleted {
			delete(values, e.Key)
		} else {
			values[e.Key] = string(e.Value)
		}
	}
	return values, revisions, append([]bool(nil), r.begins...)
}

func TestAFollowerGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	nc := s.Connect(t)
	b := open(t, client(t, nc, 1), bucket.Spec{Name: "things"})
	put := func(key, value string) {
		_, err := b.Put(t.Context(), key, []byte(value), bucket.AnyRevision)
		require.NoError(t, err)
	}
	put("a", "1")
	put("b", "1")
	f, r := follow(t, b)
	shows := func(want map[string]string) {
		t.Helper()
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			got, _, _ := r.get()
			require.Equal(c, want, got)
		}, within, 5*time.Millisecond)
	}
	shows(map[string]string{"a": "1", "b": "1"})

	f.Resume()
	put("c", "1")
	shows(map[string]string{"a": "1", "b": "1", "c": "1"})

	// The last message stays the last over the restart, so nothing is read twice.
	started := time.Now()
	s.Restart(t)
	put("d", "1")
	shows(map[string]string{"a": "1", "b": "1", "c": "1", "d": "1"})
	t.Logf("caught up %s after the restart began", time.Since(started))
	_, revisions, begins := r.get()
	require.Equal(t, []uint64{1, 2, 3, 4}, revisions, "each once and in order")
	require.Equal(t, []bool{false}, begins)

	f.Rescan(false)
	require.Eventually(t, func() bool { _, _, begins := r.get(); return len(begins) == 2 }, within, 5*time.Millisecond)
	shows(map[string]string{"a": "1", "b": "1", "c": "1", "d": "1"})
}

func TestAFollowerNoticesAnotherBucket(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	c := client(t, s.Connect(t), 1)
	b := open(t, c, bucket.Spec{Name: "things"})
	for i := range 5 {
		_, err := b.Put(t.Context(), strconv.Itoa(i), []byte("old"), 0)
		require.NoError(t, err)
	}
	_, r := follow(t, b)
	require.Eventually(t, func() bool { got, _, _ := r.get(); return len(got) == 5 }, within, 5*time.Millisecond)

	require.NoError(t, c.JetStream().DeleteStream(t.Context(), "KV_things"))
	b = open(t, c, bucket.Spec{Name: "things"})
	for i := range 7 {
		_, err := b.Put(t.Context(), "new"+strconv.Itoa(i), []byte("new"), 0)
		require.NoError(t, err)
	}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		got, _, begins := r.get()
		require.Equal(c, []bool{false, true}, begins)
		require.Len(c, got, 7)
	}, within, 10*time.Millisecond)
}

func TestExpiryLeavesAMarker(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := open(t, client(t, s.Connect(t), 1), bucket.Spec{Name: "things", TTL: time.Second, ExpiryMarkers: time.Hour})
	_, r := follow(t, b)
	_, err := b.Put(t.Context(), "a", []byte("1"), 0)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.entries) == 2 && r.entries[1].Deleted && r.entries[1].Expired
	}, within, 20*time.Millisecond)
	_, err = b.Get(t.Context(), "a")
	require.ErrorIs(t, err, bucket.ErrNotFound)
}
