package dedup

import (
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/postrider"
)

const (
	soon = 30 * time.Second     // how long a test waits for what must happen
	tick = 2 * time.Millisecond // how often it looks
	hour = time.Hour            // a window that no test outlives
	acc  = postrider.AccountID("acc_A")
	oth  = postrider.AccountID("acc_B")
	same = "the same key"
)

var (
	one = Fingerprint{1}
	two = Fingerprint{2}
)

// newIndex builds an index that has the takeover time, over the events; all indexes of one
// subtest share their keys where the implementation can.
type newIndex func(t *testing.T, takeover time.Duration, events Events) Index

// exercise is what both implementations are held to.
func exercise(t *testing.T, build newIndex) {
	t.Helper()
	t.Run("claims", func(t *testing.T) { exerciseClaims(t, build) })
	t.Run("takeovers", func(t *testing.T) { exerciseTakeovers(t, build) })
	t.Run("rebuilds", func(t *testing.T) { exerciseRebuilds(t, build) })
}

// started is an index over an empty record, whole.
func started(t *testing.T, build newIndex, takeover time.Duration) (Index, *recordOf) {
	t.Helper()
	events := &recordOf{incarnation: "one"}
	idx := build(t, takeover, events)
	start(t, idx)
	return idx, events
}

// start starts the index and waits until its window is whole.
func start(t *testing.T, idx Index) {
	t.Helper()
	require.NoError(t, idx.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, idx.Stop(t.Context())) })
	whole(t, idx)
}

func whole(t *testing.T, idx Index) {
	t.Helper()
	require.Eventually(t, func() bool { _, degraded := idx.Degraded(); return !degraded }, soon, tick)
}

func claimOf(key string, body Fingerprint) Claim {
	return Claim{Key: KeyOf(acc, key), Account: acc, Fingerprint: body, Token: NewToken(), Event: ulid.Make(), Window: hour}
}

func claimOne(t *testing.T, idx Index, c Claim) Result {
	t.Helper()
	results := make([]Result, 1)
	idx.Claim(t.Context(), []Claim{c}, results)
	return results[0]
}

// ask claims as a publish does: again for as long as the answer is to ask again at once.
func ask(t *testing.T, idx Index, c Claim) Result {
	t.Helper()
	if res := claimOne(t, idx, c); res.Outcome != Pending {
		return res
	}
	c.Again = true
	return claimOne(t, idx, c)
}

func finishOf(c Claim, event ulid.ULID, seq uint64) Finished {
	return Finished{Key: c.Key, Account: c.Account, Token: c.Token, Fingerprint: c.Fingerprint, Event: event, Sequence: seq, Window: c.Window}
}

func finish(t *testing.T, idx Index, c Claim, seq uint64) {
	t.Helper()
	require.NoError(t, idx.Finish(t.Context(), []Finished{finishOf(c, c.Event, seq)}))
}

func exerciseClaims(t *testing.T, build newIndex) {
	t.Helper()
	t.Run("a free key is the asker's, under the id it brought", func(t *testing.T) {
		idx, _ := started(t, build, hour/2)
		c := claimOf(same, one)
		require.Equal(t, Result{Outcome: Claimed, Event: c.Event}, claimOne(t, idx, c))
	})
	t.Run("a finished key answers a repeat with the first event", func(t *testing.T) {
		idx, _ := started(t, build, hour/2)
		c := claimOf(same, one)
		claimOne(t, idx, c)
		finish(t, idx, c, 7)
		require.Equal(t, Result{Outcome: Duplicate, Event: c.Event, Sequence: 7}, ask(t, idx, claimOf(same, one)))
	})
	t.Run("a finished key answers another body with a conflict", func(t *testing.T) {
		idx, _ := started(t, build, hour/2)
		c := claimOf(same, one)
		claimOne(t, idx, c)
		finish(t, idx, c, 7)
		require.Equal(t, Result{Outcome: Conflict, Event: c.Event, Sequence: 7}, ask(t, idx, claimOf(same, two)))
	})
	t.Run("a pending key makes others wait, whatever their body", func(t *testing.T) {
		idx, _ := started(t, build, hour/2)
		claimOne(t, idx, claimOf(same, one))
		require.Equal(t, Pending, ask(t, idx, claimOf(same, one)).Outcome)
		require.Equal(t, Pending, ask(t, idx, claimOf(same, two)).Outcome)
	})
	t.Run("a claim that is repeated because its answer was lost is still the asker's", func(t *testing.T) {
		idx, _ := started(t, build, hour/2)
		c := claimOf(same, one)
		claimOne(t, idx, c)
		require.Equal(t, Result{Outcome: Claimed, Event: c.Event}, claimOne(t, idx, c))
		c.Again = true
		require.Equal(t, Result{Outcome: Claimed, Event: c.Event}, claimOne(t, idx, c))
	})
	t.Run("a released key is free for the next, with another body too", func(t *testing.T) {
		idx, _ := started(t, build, hour/2)
		c := claimOf(same, one)
		claimOne(t, idx, c)
		require.NoError(t, idx.Release(t.Context(), []Released{{Key: c.Key, Token: c.Token}}))
		next := claimOf(same, two)
		next.Again = true
		require.Equal(t, Result{Outcome: Claimed, Event: next.Event}, claimOne(t, idx, next))
	})
	t.Run("two accounts may use one key", func(t *testing.T) {
		idx, _ := started(t, build, hour/2)
		claimOne(t, idx, claimOf(same, one))
		other := claimOf(same, one)
		other.Key = KeyOf(oth, same)
		require.Equal(t, Claimed, claimOne(t, idx, other).Outcome)
	})
	t.Run("a key is free when its window is over", func(t *testing.T) {
		idx, _ := started(t, build, time.Minute)
		c := claimOf(same, one)
		claimOne(t, idx, c)
		f := finishOf(c, c.Event, 7)
		f.Window = 20 * time.Millisecond
		require.NoError(t, idx.Finish(t.Context(), []Finished{f}))
		require.Eventually(t, func() bool { return ask(t, idx, claimOf(same, two)).Outcome == Claimed }, soon, tick)
	})
	t.Run("a batch is answered in its order, a key twice in it included", func(t *testing.T) {
		idx, _ := started(t, build, hour/2)
		taken := claimOf("taken", one)
		claimOne(t, idx, taken)
		finish(t, idx, taken, 3)
		batch := []Claim{claimOf("a", one), claimOf("taken", one), claimOf("a", one), claimOf("b", two)}
		results := make([]Result, len(batch))
		idx.Claim(t.Context(), batch, results)
		outcomes := make([]Outcome, len(results))
		for i, r := range results {
			outcomes[i] = r.Outcome
		}
		require.Equal(t, []Outcome{Claimed, Duplicate, Pending, Claimed}, outcomes)
	})
	t.Run("of fifty who ask at once one holds the key", func(t *testing.T) {
		idx, _ := started(t, build, hour/2)
		outcomes := make([]Outcome, 50)
		var all sync.WaitGroup
		for i := range outcomes {
			all.Go(func() {
				results := make([]Result, 1)
				idx.Claim(t.Context(), []Claim{claimOf(same, one)}, results)
				outcomes[i] = results[0].Outcome
			})
		}
		all.Wait()
		count := map[Outcome]int{}
		for _, o := range outcomes {
			count[o]++
		}
		require.Equal(t, map[Outcome]int{Claimed: 1, Pending: 49}, count)
	})
	t.Run("a finished key of another incarnation of the record counts as absent", func(t *testing.T) {
		idx, events := started(t, build, hour/2)
		c := claimOf(same, one)
		claimOne(t, idx, c)
		finish(t, idx, c, 7)
		events.restore("two")
		next := claimOf(same, two)
		require.Equal(t, Result{Outcome: Claimed, Event: next.Event}, ask(t, idx, next))
		require.Equal(t, Pending, ask(t, idx, claimOf(same, one)).Outcome)
	})
	t.Run("a restore of one account's segment leaves the keys of another's", func(t *testing.T) {
		idx, events := started(t, build, hour/2)
		mine, other := claimOf(same, one), claimOf(same, one)
		other.Key, other.Account = KeyOf(oth, same), oth
		for _, c := range []Claim{mine, other} {
			claimOne(t, idx, c)
			finish(t, idx, c, 7)
		}
		events.restoreOf(oth, "two")
		again := claimOf(same, one)
		require.Equal(t, Result{Outcome: Duplicate, Event: mine.Event, Sequence: 7}, ask(t, idx, again))
		again.Key, again.Account = other.Key, oth
		require.Equal(t, Result{Outcome: Claimed, Event: again.Event}, ask(t, idx, again))
		finish(t, idx, again, 1)
		more := claimOf(same, one)
		more.Key, more.Account = other.Key, oth
		require.Equal(t, Result{Outcome: Duplicate, Event: again.Event, Sequence: 1}, ask(t, idx, more))
	})
	t.Run("a finished key is set although the claim was lost, and never over another's", func(t *testing.T) {
		idx, _ := started(t, build, hour/2)
		lost := claimOf(same, one)
		finish(t, idx, lost, 7)
		require.Equal(t, Result{Outcome: Duplicate, Event: lost.Event, Sequence: 7}, ask(t, idx, claimOf(same, one)))
		finish(t, idx, claimOf(same, two), 8)
		require.Equal(t, Duplicate, ask(t, idx, claimOf(same, one)).Outcome)
	})
}

func exerciseTakeovers(t *testing.T, build newIndex) {
	t.Helper()
	const silence = 30 * time.Millisecond
	takeOver := func(t *testing.T, idx Index, body Fingerprint) (Claim, Result) {
		t.Helper()
		next := claimOf(same, body)
		next.Again = true
		var res Result
		require.Eventually(t, func() bool {
			res = claimOne(t, idx, next)
			return res.Outcome != Pending
		}, soon, tick)
		return next, res
	}
	t.Run("a silent holder's key passes on with its event id and its age", func(t *testing.T) {
		idx, _ := started(t, build, silence)
		dead := claimOf(same, one)
		claimOne(t, idx, dead)
		_, res := takeOver(t, idx, one)
		require.Equal(t, TakenOver, res.Outcome)
		require.Equal(t, dead.Event, res.Event)
		require.GreaterOrEqual(t, res.Age, silence)
	})
	t.Run("the next holder has the whole takeover time", func(t *testing.T) {
		idx, _ := started(t, build, hour/2)
		first := claimOf(same, one)
		claimOne(t, idx, first)
		require.Equal(t, Pending, ask(t, idx, claimOf(same, one)).Outcome)
	})
	t.Run("who was silent can neither finish nor release any more", func(t *testing.T) {
		idx, _ := started(t, build, silence)
		dead := claimOf(same, one)
		claimOne(t, idx, dead)
		next, _ := takeOver(t, idx, one)
		finish(t, idx, dead, 7)
		require.NoError(t, idx.Release(t.Context(), []Released{{Key: dead.Key, Token: dead.Token}}))
		require.NoError(t, idx.Finish(t.Context(), []Finished{finishOf(next, dead.Event, 9)}))
		require.Equal(t, Result{Outcome: Duplicate, Event: dead.Event, Sequence: 9}, ask(t, idx, claimOf(same, one)))
	})
	t.Run("a key may pass on twice and keeps its first event id", func(t *testing.T) {
		idx, _ := started(t, build, silence)
		dead := claimOf(same, one)
		claimOne(t, idx, dead)
		_, first := takeOver(t, idx, one)
		_, second := takeOver(t, idx, two)
		require.Equal(t, TakenOver, second.Outcome)
		require.Equal(t, dead.Event, second.Event)
		require.GreaterOrEqual(t, second.Age, first.Age+silence)
	})
	t.Run("a takeover whose answer was lost is a takeover again", func(t *testing.T) {
		idx, _ := started(t, build, silence)
		dead := claimOf(same, one)
		claimOne(t, idx, dead)
		next, _ := takeOver(t, idx, one)
		res := claimOne(t, idx, next)
		require.Equal(t, TakenOver, res.Outcome)
		require.Equal(t, dead.Event, res.Event)
	})
}

func exerciseRebuilds(t *testing.T, build newIndex) {
	t.Helper()
	t.Run("an empty index is filled from the record at start", func(t *testing.T) {
		events := &recordOf{incarnation: "one"}
		stored := events.store(same, one, time.Now().Add(-10*time.Minute))
		idx := build(t, hour/2, events)
		start(t, idx)
		require.Equal(t, Result{Outcome: Duplicate, Event: stored.Event, Sequence: stored.Sequence}, ask(t, idx, claimOf(same, one)))
		require.Equal(t, Conflict, ask(t, idx, claimOf(same, two)).Outcome)
	})
	t.Run("events outside their window are not put back", func(t *testing.T) {
		events := &recordOf{incarnation: "one"}
		events.store(same, one, time.Now().Add(-2*hour))
		idx := build(t, hour/2, events)
		start(t, idx)
		require.Equal(t, Claimed, ask(t, idx, claimOf(same, one)).Outcome)
	})
	t.Run("until the window is whole, answers say so", func(t *testing.T) {
		events := &recordOf{incarnation: "one", away: true}
		events.store(same, one, time.Now())
		idx := build(t, hour/2, events)
		require.NoError(t, idx.Start(t.Context()))
		t.Cleanup(func() { require.NoError(t, idx.Stop(t.Context())) })
		require.Eventually(t, func() bool { return events.scanned() > 0 }, soon, tick)
		reason, degraded := idx.Degraded()
		require.True(t, degraded)
		require.Equal(t, "rebuilding", reason)
		require.True(t, claimOne(t, idx, claimOf("another", one)).Degraded)
		events.setAway(false)
		whole(t, idx)
		require.False(t, claimOne(t, idx, claimOf("a third", one)).Degraded)
		require.Equal(t, Duplicate, ask(t, idx, claimOf(same, one)).Outcome)
	})
	t.Run("what made room for others is not vouched for", func(t *testing.T) {
		events := &recordOf{incarnation: "one"}
		events.store(same, one, time.Now())
		events.trim()
		stored := events.store("stands", one, time.Now())
		idx := build(t, hour/2, events)
		require.NoError(t, idx.Start(t.Context()))
		t.Cleanup(func() { require.NoError(t, idx.Stop(t.Context())) })
		require.Eventually(t, func() bool { return !events.lastLooked().IsZero() }, soon, tick)
		require.Equal(t, stored.Event, claimOne(t, idx, claimOf("stands", one)).Event)
		answer := claimOne(t, idx, claimOf(same, one))
		require.Equal(t, Claimed, answer.Outcome)
		require.True(t, answer.Degraded, "it may have been there")
		_, degraded := idx.Degraded()
		require.True(t, degraded)
	})
	t.Run("what made room long ago matters to nobody", func(t *testing.T) {
		events := &recordOf{incarnation: "one", trimmed: time.Now().Add(-2 * hour)}
		idx := build(t, hour/2, events)
		start(t, idx)
		require.False(t, claimOne(t, idx, claimOf(same, one)).Degraded)
	})
	t.Run("a key that is claimed while the window is rebuilt stays the claimant's", func(t *testing.T) {
		events := &recordOf{incarnation: "one"}
		events.store(same, one, time.Now())
		idx := build(t, hour/2, events)
		c := claimOf(same, two)
		claimOne(t, idx, c) // before the rebuild has come to it
		start(t, idx)
		require.Equal(t, Pending, ask(t, idx, claimOf(same, one)).Outcome)
	})
}
