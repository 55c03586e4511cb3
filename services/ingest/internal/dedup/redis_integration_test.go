//go:build integration

package dedup

import (
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/redistest"
)

// newRedis builds an index that looks at Redis often and waits for it long, so that only what a
// test does to Redis makes it fail.
func newRedis(t testing.TB, server *redistest.Server, events Events, change ...func(*RedisConfig)) *Redis {
	t.Helper()
	cfg := RedisConfig{
		Config:  Config{Takeover: hour / 2, Longest: hour},
		Timeout: 5 * time.Second, Beat: 10 * time.Millisecond, Settle: 50 * time.Millisecond,
	}
	for _, c := range change {
		c(&cfg)
	}
	r, err := NewRedis(server.Client(t), cfg, events, logtest.New(t))
	require.NoError(t, err)
	return r
}

func TestRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	server.Client(t) // for as long as the whole test, not one part of it
	exercise(t, func(t *testing.T, takeover time.Duration, events Events) Index {
		t.Helper()
		server.Flush(t)
		return newRedis(t, server, events, func(c *RedisConfig) { c.Takeover = takeover })
	})
}

func TestReplicasShareTheWindow(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	events := &recordOf{}
	replicas := make([]*Redis, 3)
	for i := range replicas {
		replicas[i] = newRedis(t, server, events)
		start(t, replicas[i])
	}
	outcomes := make([]Outcome, 50)
	var all sync.WaitGroup
	for i := range outcomes {
		all.Go(func() {
			results := make([]Result, 1)
			replicas[i%3].Claim(t.Context(), []Claim{claimOf(same, one)}, results)
			outcomes[i] = results[0].Outcome
		})
	}
	all.Wait()
	count := map[Outcome]int{}
	for _, o := range outcomes {
		count[o]++
	}
	require.Equal(t, map[Outcome]int{Claimed: 1, Pending: 49}, count)
	require.Equal(t, 1, events.scanned(), "one replica fills an empty Redis, the others see that it did")
}

func TestAFlushIsSeenByTheNextClaimAndMended(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	events := &recordOf{}
	ours, theirs := newRedis(t, server, events), newRedis(t, server, events)
	start(t, ours)
	start(t, theirs)
	stored := events.store(same, one, time.Now())
	require.NoError(t, ours.Finish(t.Context(), []Finished{stored}))

	hold := make(chan struct{})
	events.onScan(func() { <-hold })
	server.Flush(t)
	require.True(t, claimOne(t, ours, claimOf("another", one)).Degraded, "the flush came before the answer")
	require.Eventually(t, func() bool {
		reason, _ := theirs.Degraded()
		return reason == "rebuilding"
	}, soon, tick)
	close(hold)
	events.onScan(nil)
	whole(t, ours)
	whole(t, theirs)
	for _, r := range []*Redis{ours, theirs} {
		require.Equal(t, Result{Outcome: Duplicate, Event: stored.Event, Sequence: stored.Sequence}, ask(t, r, claimOf(same, one)))
	}
}

func TestARestoredSnapshotIsSeenAndWhatCameAfterItIsMended(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	events := &recordOf{}
	r := newRedis(t, server, events)
	start(t, r)
	snapshot := server.Snapshot(t)
	taken := time.Now()
	stored := events.store(same, one, time.Now())
	require.NoError(t, r.Finish(t.Context(), []Finished{stored}))
	scans := events.scanned()
	server.Restore(t, snapshot)
	require.Eventually(t, func() bool { return events.scanned() > scans }, soon, tick)
	whole(t, r)
	require.Equal(t, Result{Outcome: Duplicate, Event: stored.Event, Sequence: stored.Sequence}, ask(t, r, claimOf(same, one)))
	require.WithinRange(t, events.lastFrom(), taken.Add(-overlap-soon), taken, "only what came after the snapshot is read again")
}

func TestABeatThatWasReadBeforeASealOfOursDoesNotUndoIt(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	r := newRedis(t, server, &recordOf{}, func(c *RedisConfig) { c.Beat = time.Hour })
	start(t, r)
	snapshot := server.Snapshot(t)
	server.Restore(t, snapshot) // another process, so no slot is sound
	require.Eventually(t, func() bool { return server.Client(t).Ping(t.Context()).Err() == nil }, soon, tick)
	before, beats := r.beatCalls()
	require.NoError(t, runScripts(t.Context(), r.client, beats))

	require.True(t, r.takeBeats(&before, beats))
	reason, _ := r.Degraded()
	require.Equal(t, "rebuilding", reason)
	require.Eventually(t, func() bool {
		r.heal(t.Context()) // not before the lock that the snapshot brought back is over
		_, degraded := r.Degraded()
		return !degraded
	}, soon, tick)

	require.True(t, r.takeBeats(&before, beats))
	_, degraded := r.Degraded()
	require.False(t, degraded, "the reading is older than the seal")
	require.False(t, claimOne(t, r, claimOf(same, one)).Degraded)
}

func TestASnapshotRestoredWhileNobodyLookedIsMendedAtStart(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	events := &recordOf{}
	before := newRedis(t, server, events)
	start(t, before)
	snapshot := server.Snapshot(t)
	stored := events.store(same, one, time.Now())
	require.NoError(t, before.Finish(t.Context(), []Finished{stored}))
	require.NoError(t, before.Stop(t.Context()))
	server.Restore(t, snapshot)
	after := newRedis(t, server, events)
	start(t, after)
	require.Equal(t, Duplicate, ask(t, after, claimOf(same, one)).Outcome)
}

func TestARestartOfIngestAloneReadsNothingAgain(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	events := &recordOf{}
	before := newRedis(t, server, events)
	start(t, before)
	require.NoError(t, before.Stop(t.Context()))
	start(t, newRedis(t, server, events))
	require.Equal(t, 1, events.scanned())
}

func TestACounterThatWentBackIsSeenByTheNextClaim(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	r := newRedis(t, server, &recordOf{}, func(c *RedisConfig) { c.Beat = time.Hour })
	require.NoError(t, r.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, r.Stop(t.Context())) })
	whole(t, r)
	// The rebuild at the start gives its lock up after it has sealed; until then no other one begins.
	require.Eventually(t, func() bool { return !r.healing.Load() }, soon, tick)
	c := claimOf(same, one)
	require.False(t, claimOne(t, r, c).Degraded)
	require.NoError(t, server.Client(t).HSet(t.Context(), epochKey(slotOf(c.Key)), "c", "0").Err())
	require.True(t, claimOne(t, r, c).Degraded)
	whole(t, r) // the claim asked for a beat, and that for a rebuild
}

func TestWhileRedisIsAwayPublishesGoOnBlindAndAreMendedAfterwards(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	events := &recordOf{}
	r := newRedis(t, server, events)
	start(t, r)
	server.Down(t)
	c := claimOf(same, one)
	require.Equal(t, Result{Outcome: Blind, Event: c.Event, Degraded: true}, claimOne(t, r, c))
	stored := events.store(same, one, time.Now())
	require.ErrorIs(t, r.Finish(t.Context(), []Finished{stored}), ErrAway)
	require.ErrorIs(t, r.Release(t.Context(), []Released{{Key: c.Key, Token: c.Token}}), ErrAway)
	reason, degraded := r.Degraded()
	require.True(t, degraded)
	require.Equal(t, "away", reason)

	server.Up(t)
	whole(t, r)
	require.Equal(t, Result{Outcome: Duplicate, Event: stored.Event, Sequence: stored.Sequence}, ask(t, r, claimOf(same, one)))
}

func TestARedisThatHangsCostsOnePublishItsTimeoutAndTheOthersNothing(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	events := &recordOf{}
	r := newRedis(t, server, events, func(c *RedisConfig) { c.Timeout = 200 * time.Millisecond })
	start(t, r)
	server.Hang(t)
	require.Equal(t, Blind, claimOne(t, r, claimOf("first", one)).Outcome)
	require.True(t, r.away[0].Load(), "the path is shut, so the next ones do not try")
	for i := range 1000 {
		require.Equal(t, Blind, claimOne(t, r, claimOf(strconv.Itoa(i), one)).Outcome)
	}
	stored := events.store("first", one, time.Now())
	server.Continue(t)
	whole(t, r)
	// The claim that timed out may have arrived: then its key is pending until it is taken over.
	require.Contains(t, []Outcome{Duplicate, Pending}, ask(t, r, claimOf("first", one)).Outcome)
	require.Equal(t, stored.Key, KeyOf(acc, "first"))
}

func TestOnlyTheGapOfOurOwnIsReadAgain(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	events := &recordOf{}
	r := newRedis(t, server, events, func(c *RedisConfig) { c.Timeout = 200 * time.Millisecond })
	start(t, r)
	server.Hang(t)
	began := time.Now()
	claimOne(t, r, claimOf(same, one))
	scans := events.scanned()
	server.Continue(t)
	whole(t, r)
	require.Equal(t, scans+1, events.scanned())
	require.WithinRange(t, events.lastFrom(), began.Add(-overlap-soon), time.Now().Add(-overlap))
}

func TestARebuildThatIsFlushedUnderwayBeginsAgain(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	events := &recordOf{}
	stored := events.store(same, one, time.Now())
	var once sync.Once
	events.onScan(func() { once.Do(func() { server.Flush(t) }) })
	r := newRedis(t, server, events)
	start(t, r)
	require.GreaterOrEqual(t, events.scanned(), 2)
	require.Equal(t, Result{Outcome: Duplicate, Event: stored.Event, Sequence: stored.Sequence}, ask(t, r, claimOf(same, one)))
}

func TestARebuildLeavesTheLockToTheOneWhoHasIt(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	events, others := &recordOf{}, &recordOf{}
	hold := make(chan struct{})
	var release sync.Once
	t.Cleanup(func() { release.Do(func() { close(hold) }) })
	events.onScan(func() { <-hold })
	first := newRedis(t, server, events)
	require.NoError(t, first.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, first.Stop(t.Context())) })
	require.Eventually(t, func() bool { return events.scanned() == 1 }, soon, tick)

	second := newRedis(t, server, others)
	require.NoError(t, second.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, second.Stop(t.Context())) })
	for range 3 {
		second.beat(t.Context())
	}
	release.Do(func() { close(hold) })
	whole(t, first)
	whole(t, second)
	require.Zero(t, others.scanned())
}

func TestARedisWithoutMemoryIsNotAway(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	events := &recordOf{}
	r := newRedis(t, server, events)
	start(t, r)
	client := server.Client(t)
	require.NoError(t, client.ConfigSet(t.Context(), "maxmemory", "1").Err())
	res := claimOne(t, r, claimOf(same, one))
	require.Equal(t, Blind, res.Outcome)
	require.True(t, res.Degraded)
	require.Zero(t, r.awayNow())
	stored := events.store(same, one, time.Now())
	require.ErrorIs(t, r.Finish(t.Context(), []Finished{stored}), ErrAway)
	require.NoError(t, client.ConfigSet(t.Context(), "maxmemory", "0").Err())
	whole(t, r)
	require.Equal(t, Duplicate, ask(t, r, claimOf(same, one)).Outcome)
}

func TestAValueOfAnotherVersionIsLeftAlone(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	r := newRedis(t, server, &recordOf{})
	start(t, r)
	c := claimOf(same, one)
	foreign := "\x02 what a later version wrote, which has sixty bytes or more of it"
	require.NoError(t, server.Client(t).Set(t.Context(), redisKey(c.Key), foreign, hour).Err())
	require.Equal(t, Blind, claimOne(t, r, c).Outcome)
	c.Again = true
	require.Equal(t, Blind, claimOne(t, r, c).Outcome)
	finish(t, r, c, 7)
	require.Equal(t, foreign, server.Client(t).Get(t.Context(), redisKey(c.Key)).Val())
}

func TestScriptsAreSentAgainWhenRedisForgetsThem(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	r := newRedis(t, server, &recordOf{}, func(c *RedisConfig) { c.Beat = time.Hour })
	start(t, r)
	c := claimOf(same, one)
	claimOne(t, r, c)
	require.NoError(t, server.Client(t).ScriptFlush(t.Context()).Err())
	finish(t, r, c, 7)
	require.Equal(t, Duplicate, ask(t, r, claimOf(same, one)).Outcome)
}

func TestEveryKeyExpires(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	events := &recordOf{}
	events.store("restored", one, time.Now().Add(-time.Minute))
	r := newRedis(t, server, events, func(c *RedisConfig) { c.Takeover = time.Millisecond })
	start(t, r)
	pending, taken, done := claimOf("pending", one), claimOf("taken", one), claimOf("done", one)
	for _, c := range []Claim{pending, taken, done} {
		claimOne(t, r, c)
	}
	finish(t, r, done, 1)
	next := claimOf("taken", one)
	next.Again = true
	require.Eventually(t, func() bool { return claimOne(t, r, next).Outcome == TakenOver }, soon, tick)
	client := server.Client(t)
	for _, key := range []Key{pending.Key, taken.Key, done.Key, KeyOf(acc, "restored")} {
		left := client.PTTL(t.Context(), redisKey(key)).Val()
		require.Greater(t, left, hour/2)
		require.LessOrEqual(t, left, hour)
	}
}

func TestAnIndexThatCannotWorkIsRefused(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	cfg := DefaultRedis()
	_, err := NewRedis(nil, cfg, &recordOf{}, logtest.New(t))
	require.Error(t, err)
	cfg.Timeout = 0
	_, err = NewRedis(server.Client(t), cfg, &recordOf{}, logtest.New(t))
	require.Error(t, err)
	cfg = DefaultRedis()
	cfg.Takeover = cfg.Longest
	_, err = NewRedis(server.Client(t), cfg, &recordOf{}, logtest.New(t))
	require.Error(t, err)
	require.True(t, answered(errValue))
	require.False(t, answered(errors.New("connection refused")))
}

func BenchmarkRedisClaimAndFinish(b *testing.B) {
	r := newRedis(b, redistest.Start(b), &recordOf{})
	require.NoError(b, r.Start(b.Context()))
	b.Cleanup(func() { require.NoError(b, r.Stop(b.Context())) })
	benchmark(b, r)
}
