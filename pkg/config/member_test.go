package config

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/bucket"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func streamClient(t *testing.T, server *natstest.Server) *stream.Client {
	t.Helper()
	c, err := stream.New(server.Connect(t), stream.Default())
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func TestARegistrationThatNobodyRenewsIsRemoved(t *testing.T) {
	t.Parallel()
	c := streamClient(t, natstest.Start(t))
	b := NewBarrier(c, logtest.New(t))
	require.NoError(t, b.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, b.Stop(context.WithoutCancel(t.Context()))) })
	members, err := bucket.Ensure(t.Context(), c, spec(bucketMembers))
	require.NoError(t, err)
	dead := key("router-1", "gone", BucketWebhooks+bucketSeparator+BucketAccounts)
	_, err = members.Put(t.Context(), dead, nil, bucket.AnyRevision)
	require.NoError(t, err)
	confirm := func() time.Duration {
		t.Helper()
		start := time.Now()
		require.NoError(t, b.Confirm(t.Context(), BucketAccounts, 1))
		return time.Since(start)
	}
	age := func() {
		t.Helper()
		b.mu.Lock()
		defer b.mu.Unlock()
		s, ok := b.seen[dead]
		require.True(t, ok)
		s.since = s.since.Add(-memberDead)
		b.seen[dead] = s
	}

	require.GreaterOrEqual(t, confirm(), Lease, "it may live")
	age()
	_, err = members.Put(t.Context(), dead, nil, bucket.AnyRevision)
	require.NoError(t, err)
	require.GreaterOrEqual(t, confirm(), Lease, "it renewed after all")
	age()
	require.Less(t, confirm(), Lease, "nobody has renewed it")
	_, err = members.Get(t.Context(), dead)
	require.ErrorIs(t, err, bucket.ErrNotFound)
}

func TestAMirrorIsRegisteredBeforeItAsksAndNoMoreWhenItHasStopped(t *testing.T) {
	t.Parallel()
	c := streamClient(t, natstest.Start(t))
	m := NewMirror(c, "router 1", Handlers{CancelExpired: func(string, string, uint64) {}}, logtest.New(t))
	q := questioner{mirror: m, watch: &watch{}}
	_, ok := q.ask(t.Context())
	require.False(t, ok, "not registered yet")

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.NoError(t, m.Start(ctx))
	members, err := bucket.Ensure(t.Context(), c, spec(bucketMembers))
	require.NoError(t, err)
	keys, err := members.Keys(t.Context(), ">")
	require.NoError(t, err)
	require.Equal(t, []string{m.member}, keys)
	require.True(t, memberWatches(m.member, BucketCancellations))
	require.False(t, memberWatches(m.member, BucketWebhooks))
	require.True(t, memberWatches("what.a.newer.release.writes", BucketWebhooks))

	require.NoError(t, m.Stop(ctx))
	keys, err = members.Keys(t.Context(), ">")
	require.NoError(t, err)
	require.Empty(t, keys)
}

func TestTheEndOfAMarkIsTold(t *testing.T) {
	t.Parallel()
	c := streamClient(t, natstest.Start(t))
	s, err := Ensure(t.Context(), c)
	require.NoError(t, err)
	told := make(chan string, 2)
	m := NewMirror(c, "dispatcher", Handlers{
		Cancelled:     func(account, delivery string, _ uint64) { told <- "cancelled " + account + " " + delivery },
		CancelExpired: func(account, delivery string, _ uint64) { told <- "expired " + account + " " + delivery },
	}, logtest.New(t))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.NoError(t, m.Start(ctx))
	t.Cleanup(func() { require.NoError(t, m.Stop(context.WithoutCancel(ctx))) })
	rev, err := s.MarkCancelled(ctx, "acc_1", "dlv_1")
	require.NoError(t, err)
	require.Equal(t, "cancelled acc_1 dlv_1", <-told)
	_, err = s.cancellations.Delete(ctx, key("acc_1", "dlv_1"), rev, 0) // as the server does after 30 days
	require.NoError(t, err)
	require.Equal(t, "expired acc_1 dlv_1", <-told)
}

func TestMembersThatAreLostRegisterAgain(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	cfg := stream.Default()
	cfg.PublishTimeout, cfg.PublishBudget = 200*time.Millisecond, 400*time.Millisecond
	c, err := stream.New(server.Connect(t), cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	m := NewMirror(c, "router", Handlers{AccountDeleted: func(string, uint64) {}}, logtest.New(t))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.NoError(t, m.Start(ctx))
	t.Cleanup(func() { require.NoError(t, m.Stop(context.WithoutCancel(ctx))) })
	require.NoError(t, ForgetMembers(ctx, c))
	require.Eventually(t, func() bool {
		_, err := c.JetStream().Stream(ctx, "KV_"+bucketMembers)
		if err != nil {
			return false
		}
		members, err := bucket.Ensure(ctx, c, spec(bucketMembers))
		if err != nil {
			return false
		}
		keys, err := members.Keys(ctx, ">")
		return err == nil && len(keys) == 1
	}, 20*time.Second, 20*time.Millisecond)
	require.NoError(t, m.WaitFresh(ctx))
}
