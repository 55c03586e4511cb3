package config_test

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/config"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/natstest"
)

// shown is what a mirror's handlers were told.
type shown struct {
	mu       sync.Mutex
	webhooks map[string]string // display names by id
	revision uint64
	deleted  []string
	puts     int
}

func (s *shown) handlers() config.Handlers {
	s.webhooks = make(map[string]string)
	return config.Handlers{
		Webhook: func(w *recordv1.Webhook, rev uint64) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.webhooks[w.GetWebhook().GetId()] = w.GetWebhook().GetDisplayName()
			s.revision, s.puts = rev, s.puts+1
		},
		WebhookDeleted: func(_, id string, rev uint64) {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.webhooks, id)
			s.revision, s.deleted = rev, append(s.deleted, id)
		},
	}
}

func (s *shown) get() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.webhooks)
}

func startMirror(t *testing.T, nc *nats.Conn, replicas int, h config.Handlers) *config.Mirror {
	t.Helper()
	m := config.NewMirror(client(t, nc, replicas), "test", h, logtest.New(t))
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	require.NoError(t, m.Start(ctx))
	t.Cleanup(func() { stop(t, m) })
	return m
}

func stop(t *testing.T, m *config.Mirror) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), within)
	defer cancel()
	require.NoError(t, m.Stop(ctx))
	require.False(t, m.Fresh())
}

func TestMirrorShowsWhatIsStored(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	s := open(t, client(t, server.Connect(t), 1))
	ctx := t.Context()
	for i := range 300 {
		_, err := s.CreateWebhook(ctx, webhook("acc_1", fmt.Sprintf("wh_%d", i), "before"))
		require.NoError(t, err)
	}
	_, err := s.DeleteWebhook(ctx, "acc_1", "wh_7", 0)
	require.NoError(t, err)

	seen := &shown{}
	m := startMirror(t, server.Connect(t), 1, seen.handlers())
	require.True(t, m.Fresh())
	require.Len(t, seen.get(), 299, "all is loaded when Start returns")
	require.Equal(t, uint64(301), m.Revision(config.BucketWebhooks))
	require.Zero(t, m.Revision(config.BucketKeys), "not watched")

	rev, err := s.CreateWebhook(ctx, webhook("acc_1", "wh_new", "after"))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return m.Revision(config.BucketWebhooks) >= rev }, within, time.Millisecond)
	require.Equal(t, "after", seen.get()["wh_new"])
	rev, err = s.DeleteWebhook(ctx, "acc_1", "wh_new", rev)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return m.Revision(config.BucketWebhooks) >= rev }, within, time.Millisecond)
	require.NotContains(t, seen.get(), "wh_new")
	require.Equal(t, []string{"wh_new"}, seen.deleted, "a marker of what was never known is not told")
}

func TestMirrorWatchesEveryBucketThatHasAHandler(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	s := open(t, client(t, server.Connect(t), 1))
	ctx := t.Context()
	told := make(chan string, 20)
	startMirror(t, server.Connect(t), 1, config.Handlers{
		Account:          func(a *recordv1.Account, _ uint64) { told <- "account " + a.GetAccount().GetId() },
		AccountDeleted:   func(id string, _ uint64) { told <- "account gone " + id },
		EventType:        func(e *recordv1.EventType, _ uint64) { told <- "type " + e.GetEventType().GetName() },
		EventTypeDeleted: func(account, name string, _ uint64) { told <- "type gone " + account + " " + name },
		Key:              func(k *recordv1.Key, _ uint64) { told <- "key " + k.GetKey().GetId() },
		KeyDeleted:       func(hash []byte, _ uint64) { told <- fmt.Sprintf("key gone %x", hash) },
		Cancelled:        func(account, delivery string, _ uint64) { told <- "cancelled " + account + " " + delivery },
	})
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-told:
			require.Equal(t, want, got)
		case <-time.After(within):
			t.Fatalf("%q was not told", want)
		}
	}
	_, err := s.CreateAccount(ctx, account("acc_1", ""))
	require.NoError(t, err)
	expect("account acc_1")
	_, err = s.DeleteAccount(ctx, "acc_1", 0)
	require.NoError(t, err)
	expect("account gone acc_1")
	_, err = s.CreateEventType(ctx, eventType("acc_1", "release.*.live."))
	require.NoError(t, err)
	expect("type release.*.live.")
	_, err = s.DeleteEventType(ctx, "acc_1", "release.*.live.", 0)
	require.NoError(t, err)
	expect("type gone acc_1 release.*.live.")
	_, err = s.CreateKey(ctx, apiKey("", "key_1", 0xab, 0xcd))
	require.NoError(t, err)
	expect("key key_1")
	_, err = s.DeleteKey(ctx, "", "key_1")
	require.NoError(t, err)
	expect("key gone abcd")
	_, err = s.MarkCancelled(ctx, "acc_1", "dlv_1")
	require.NoError(t, err)
	expect("cancelled acc_1 dlv_1")
}

func TestMirrorIsNotFreshWithoutTheServer(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	s := open(t, client(t, server.Connect(t), 1))
	seen := &shown{}
	m := startMirror(t, server.Connect(t), 1, seen.handlers())
	require.True(t, m.Fresh())

	server.Stop()
	stopped := time.Now()
	require.Eventually(t, func() bool { return !m.Fresh() }, within, time.Millisecond)
	require.LessOrEqual(t, time.Since(stopped), config.Lease+500*time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, m.WaitFresh(ctx), context.DeadlineExceeded)

	server.Restart(t)
	back := time.Now()
	rev, err := s.CreateWebhook(t.Context(), webhook("acc_1", "wh_1", "after"))
	require.NoError(t, err)
	require.NoError(t, m.WaitFresh(t.Context()))
	require.Eventually(t, func() bool { return m.Revision(config.BucketWebhooks) >= rev }, within, time.Millisecond)
	t.Logf("the mirror showed a write %s after the server was back", time.Since(back))
	require.Equal(t, map[string]string{"wh_1": "after"}, seen.get())
	require.Equal(t, 1, seen.puts, "nothing is told twice")
}

func TestMirrorReadsARestoredBucketInFull(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	c := client(t, server.Connect(t), 1)
	s := open(t, c)
	for _, id := range []string{"wh_1", "wh_2", "wh_3"} {
		_, err := s.CreateWebhook(t.Context(), webhook("acc_1", id, "old"))
		require.NoError(t, err)
	}
	seen := &shown{}
	m := startMirror(t, server.Connect(t), 1, seen.handlers())
	require.Len(t, seen.get(), 3)

	require.NoError(t, c.JetStream().DeleteStream(t.Context(), "KV_webhooks"))
	s = open(t, c)
	for _, id := range []string{"wh_2", "wh_9"} {
		_, err := s.CreateWebhook(t.Context(), webhook("acc_1", id, "new"))
		require.NoError(t, err)
	}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		assert.Equal(c, map[string]string{"wh_2": "new", "wh_9": "new"}, seen.get())
		assert.True(c, m.Fresh())
	}, within, 10*time.Millisecond)
}

// The markers of deletions end, and so do the marks of cancelled deliveries: the last messages of
// a bucket may be gone for a mirror that starts later.
func TestMirrorIsFreshThoughTheLastMessagesAreGone(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	c := client(t, server.Connect(t), 1)
	s := open(t, c)
	for _, id := range []string{"wh_1", "wh_2"} {
		_, err := s.CreateWebhook(t.Context(), webhook("acc_1", id, "one"))
		require.NoError(t, err)
	}
	stream, err := c.JetStream().Stream(t.Context(), "KV_webhooks")
	require.NoError(t, err)
	require.NoError(t, stream.Purge(t.Context()))
	seen := &shown{}
	m := startMirror(t, server.Connect(t), 1, seen.handlers())
	require.True(t, m.Fresh())
	require.Empty(t, seen.get())
}

func TestMirrorsOfOneProcessAreApart(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	s := open(t, client(t, server.Connect(t), 1))
	nc := server.Connect(t)
	first, second := &shown{}, &shown{}
	a := startMirror(t, nc, 1, first.handlers())
	b := startMirror(t, nc, 1, second.handlers())
	stop(t, a)
	stop(t, a)
	rev, err := s.CreateWebhook(t.Context(), webhook("acc_1", "wh_1", "one"))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return b.Revision(config.BucketWebhooks) >= rev }, within, time.Millisecond)
	require.Empty(t, first.get())
	require.Error(t, a.WaitFresh(t.Context()))
	require.Error(t, a.Start(t.Context()), "a mirror starts once")
}

func TestAMirrorThatCannotLoadDoesNotStart(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	nc := server.Connect(t)
	m := config.NewMirror(client(t, nc, 1), "test", config.Handlers{}, logtest.New(t))
	require.Error(t, m.Start(t.Context()), "nothing to watch")
	require.NoError(t, m.Stop(t.Context()))

	server.Stop()
	seen := &shown{}
	m = config.NewMirror(client(t, nc, 1), "test", seen.handlers(), logtest.New(t))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.Error(t, m.Start(ctx))
}
