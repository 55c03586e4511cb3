package shardlease_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/shardlease"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const within = 20 * time.Second

// quick is quicker than production, and yet so slow that a busy machine keeps to it.
func quick() shardlease.Config {
	return shardlease.Config{Renew: 100 * time.Millisecond, Hold: time.Second, Takeover: 2 * time.Second}
}

// patient is for what must not depend on any of the times.
func patient() shardlease.Config {
	return shardlease.Config{Renew: time.Second, Hold: 20 * time.Second, Takeover: 40 * time.Second}
}

// interval is one holder's time with a shard.
type interval struct {
	member     string
	shard      int
	start, end time.Time
	cause      error
}

// ledger is every interval of a test.
type ledger struct {
	mu   sync.Mutex
	all  []*interval
	open map[int]*interval
	bad  []string
}

func newLedger() *ledger { return &ledger{open: make(map[int]*interval)} }

func (l *ledger) begin(member string, shard int) *interval {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := &interval{member: member, shard: shard, start: time.Now()}
	if other := l.open[shard]; other != nil {
		l.bad = append(l.bad, fmt.Sprintf("shard %d was begun by %s while %s held it", shard, member, other.member))
	}
	l.open[shard] = i
	l.all = append(l.all, i)
	return i
}

func (l *ledger) finish(i *interval, cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i.end, i.cause = time.Now(), cause
	if l.open[i.shard] == i {
		delete(l.open, i.shard)
	}
}

// holders is who holds each shard now.
func (l *ledger) holders() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[string]int)
	for _, i := range l.open {
		out[i.member]++
	}
	return out
}

func (l *ledger) requireOneHolderAtATime(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	require.Empty(t, l.bad)
}

// member is one process that wants shards.
type member struct {
	leases *shardlease.Leases
	nc     *nats.Conn
	leave  context.CancelFunc
	done   chan struct{}
}

func join(t *testing.T, nc *nats.Conn, l *ledger, name string, shards int, cfg shardlease.Config) *member {
	t.Helper()
	c, err := stream.New(nc, stream.Default())
	require.NoError(t, err)
	t.Cleanup(c.Close)
	leases, err := shardlease.New(c, name, fixed(shards), cfg, logtest.New(t))
	require.NoError(t, err)
	ctx, leave := context.WithCancel(t.Context())
	m := &member{leases: leases, nc: nc, leave: leave, done: make(chan struct{})}
	go func() {
		defer close(m.done)
		err := leases.Run(ctx, func(ctx context.Context, shard int) {
			i := l.begin(name, shard)
			<-ctx.Done()
			l.finish(i, context.Cause(ctx))
		})
		if err != nil && ctx.Err() == nil {
			t.Errorf("%s: %v", name, err)
		}
	}()
	t.Cleanup(m.stop)
	return m
}

func (m *member) stop() {
	m.leave()
	<-m.done
}

func requireHolders(t *testing.T, l *ledger, want map[string]int) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		assert.Equal(c, want, l.holders())
	}, within, 5*time.Millisecond)
}

func TestMembersShareTheShards(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	l := newLedger()
	a := join(t, server.Connect(t), l, "a", 8, patient())
	requireHolders(t, l, map[string]int{"a": 8})
	require.Eventually(t, func() bool { return len(a.leases.Held()) == 8 }, within, time.Millisecond)

	b := join(t, server.Connect(t), l, "b", 8, patient())
	requireHolders(t, l, map[string]int{"a": 4, "b": 4})
	c := join(t, server.Connect(t), l, "c", 8, patient())
	requireHolders(t, l, map[string]int{"a": 3, "b": 3, "c": 2})
	require.Equal(t, 8, len(a.leases.Held())+len(b.leases.Held())+len(c.leases.Held()))

	// Who leaves hands over at once, not after the lease.
	started := time.Now()
	b.stop()
	requireHolders(t, l, map[string]int{"a": 4, "c": 4})
	t.Logf("handed over in %s", time.Since(started))
	c.stop()
	a.stop()
	requireHolders(t, l, map[string]int{})
	l.requireOneHolderAtATime(t)

	// What moved when c came is what c got: nothing else changed hands.
	moved := 0
	for _, i := range l.all {
		if errors.Is(i.cause, shardlease.ErrHandover) {
			moved++
		}
	}
	require.Equal(t, 4+2, moved)
}

func TestShardsOfALostMemberAreTakenOver(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	l := newLedger()
	lost := join(t, server.Connect(t), l, "lost", 4, quick())
	requireHolders(t, l, map[string]int{"lost": 4})
	join(t, server.Connect(t), l, "other", 4, quick())
	requireHolders(t, l, map[string]int{"lost": 2, "other": 2})

	lost.nc.Close()
	cut := time.Now()
	requireHolders(t, l, map[string]int{"other": 4})
	t.Logf("taken over after %s", time.Since(cut))
	l.requireOneHolderAtATime(t)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, i := range l.all {
		if i.member == "lost" && i.end.After(cut) {
			require.ErrorIs(t, i.cause, shardlease.ErrLapsed)
		}
	}
}

func TestAServerThatRestartsGivesTheShardsBack(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	l := newLedger()
	join(t, server.Connect(t), l, "a", 4, quick())
	join(t, server.Connect(t), l, "b", 4, quick())
	requireHolders(t, l, map[string]int{"a": 2, "b": 2})
	server.Stop()
	requireHolders(t, l, map[string]int{})
	server.Restart(t)
	requireHolders(t, l, map[string]int{"a": 2, "b": 2})
	l.requireOneHolderAtATime(t)
}

func TestABucketThatIsLostIsMadeAgain(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	l := newLedger()
	a := join(t, server.Connect(t), l, "a", 4, quick())
	requireHolders(t, l, map[string]int{"a": 4})
	c, err := stream.New(server.Connect(t), stream.Default())
	require.NoError(t, err)
	require.NoError(t, shardlease.Forget(t.Context(), c))
	// It is another member now, and takes what nobody holds.
	require.Eventually(t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.all) == 8 && len(l.open) == 4
	}, within, 5*time.Millisecond)
	require.Len(t, a.leases.Held(), 4)
	l.requireOneHolderAtATime(t)
}

func TestAShardIsDrainedBeforeItIsHandedOver(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	c, err := stream.New(server.Connect(t), stream.Default())
	require.NoError(t, err)
	leases, err := shardlease.New(c, "slow", fixed(1), quick(), logtest.New(t))
	require.NoError(t, err)
	ctx, leave := context.WithCancel(t.Context())
	working, drain, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		_ = leases.Run(ctx, func(ctx context.Context, _ int) {
			close(working)
			<-ctx.Done()
			<-drain
		})
	}()
	<-working
	l := newLedger()
	join(t, server.Connect(t), l, "next", 1, quick())
	leave()
	// Much longer than a dead member's shard would be left alone.
	require.Never(t, func() bool { return len(l.holders()) > 0 }, 2*quick().Takeover, 10*time.Millisecond)
	require.Empty(t, leases.Held())
	close(drain)
	requireHolders(t, l, map[string]int{"next": 1})
	<-done
}

// TestNeverTwoHolders is the promise, with members that come, go, are cut off and come back, and a
// server that restarts.
func TestNeverTwoHolders(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	l := newLedger()
	var members []*member
	n := 0
	add := func() {
		n++
		members = append(members, join(t, server.Connect(t), l, fmt.Sprintf("m%d", n), 6, quick()))
	}
	for range 3 {
		add()
	}
	tick := time.NewTicker(120 * time.Millisecond)
	defer tick.Stop()
	for step := range 40 {
		<-tick.C
		i := step % len(members)
		switch step % 8 {
		case 0, 5:
			_ = members[i].nc.ForceReconnect()
		case 1:
			members[i].nc.Close() // as if it were killed, but that its work goes on until Hold
			members = slices.Delete(members, i, i+1)
		case 3:
			members[i].stop()
			members = slices.Delete(members, i, i+1)
		case 2, 4:
			add()
		case 7:
			if step > 30 {
				server.Restart(t)
			}
		}
	}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		held := 0
		for _, m := range members {
			held += len(m.leases.Held())
		}
		assert.Equal(c, 6, held, "every shard has a holder in the end")
	}, within, 10*time.Millisecond)
	l.requireOneHolderAtATime(t)
	t.Logf("%d intervals", len(l.all))
}

func TestConfigurationIsChecked(t *testing.T) {
	t.Parallel()
	require.NoError(t, shardlease.Default().Validate())
	err := shardlease.Config{Renew: 0, Hold: -1, Takeover: -2}.Validate()
	require.ErrorContains(t, err, "renew")
	require.ErrorContains(t, err, "hold")
	require.ErrorContains(t, err, "takeover")
	_, err = shardlease.New(nil, "a", fixed(0), shardlease.Default(), nil)
	require.Error(t, err)
	_, err = shardlease.New(nil, "a", fixed(1), shardlease.Config{}, nil)
	require.Error(t, err)
}

// fixed is a number of shards that does not change.
func fixed(shards int) func() postrider.Layout {
	return func() postrider.Layout { return postrider.Layout{Shards: shards, Streams: shards} }
}
