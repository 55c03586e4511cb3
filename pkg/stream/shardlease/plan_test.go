package shardlease

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/pkg/postrider"
)

const takeover = 5 * time.Second

func nobody(int) bool { return false }

// world is a bucket whose members all see it as it is.
type world struct {
	*view
	now      time.Time
	revision uint64
}

func newWorld(shards int) *world {
	return &world{view: newView(postrider.Layout{Shards: shards, Streams: shards}), now: time.Unix(1000, 0)}
}

func (w *world) next() uint64 {
	w.revision++
	return w.revision
}

func (w *world) join(id string) { w.setMember(id, false, w.next(), w.now) }

func (w *world) counts() map[string]int {
	out := make(map[string]int)
	for _, s := range w.shards[:w.layout.Shards] {
		out[s.holder]++
	}
	return out
}

// settle lets members act in turn until nobody has anything to do, and counts the shards that
// changed hands.
func (w *world) settle(t require.TestingT, ids []string) (moved int) {
	for round := 0; ; round++ {
		require.Less(t, round, 50, "the plan does not come to rest")
		idle := true
		for _, id := range ids {
			p := w.plan(id, w.now, takeover, nobody)
			require.False(t, len(p.drop) > 0 && len(p.take) > 0, "what is dropped need not be taken")
			for _, n := range p.drop {
				require.Equal(t, id, w.shards[n].holder)
				w.setShard(n, "", w.next())
				moved++
			}
			for _, n := range p.take {
				_, alive := w.members[w.shards[n].holder]
				require.False(t, alive, "only what nobody holds is taken")
				w.setShard(n, id, w.next())
			}
			idle = idle && len(p.drop)+len(p.take) == 0
		}
		if idle {
			return moved
		}
	}
}

func requireFair(t require.TestingT, w *world, ids []string) {
	counts := w.counts()
	total := 0
	for _, id := range ids {
		total += counts[id]
		require.GreaterOrEqual(t, counts[id], w.layout.Shards/len(ids))
		require.LessOrEqual(t, counts[id], (w.layout.Shards+len(ids)-1)/len(ids))
	}
	require.Equal(t, w.layout.Shards, total, "every shard has a holder")
}

func TestThePlanIsFairAndMovesNoMoreThanItMust(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(rapid.IntRange(1, 40).Draw(t, "shards"))
		var ids []string
		for i := range rapid.IntRange(1, 8).Draw(t, "members") {
			ids = append(ids, "m"+strconv.Itoa(i))
			w.join(ids[i])
		}
		w.settle(t, ids)
		requireFair(t, w, ids)
		require.Zero(t, w.settle(t, rapid.Permutation(ids).Draw(t, "order")), "what is fair stays")

		if rapid.Bool().Draw(t, "joins") {
			before := w.counts()
			ids = append(ids, "new")
			w.join("new")
			moved := w.settle(t, rapid.Permutation(ids).Draw(t, "order"))
			requireFair(t, w, ids)
			require.Equal(t, w.counts()["new"], moved, "only what the new one gets moves")
			for _, id := range ids[:len(ids)-1] {
				require.LessOrEqual(t, w.counts()[id], before[id])
			}
		} else if len(ids) > 1 {
			gone := rapid.SampledFrom(ids).Draw(t, "gone")
			ids = slices.DeleteFunc(ids, func(id string) bool { return id == gone })
			delete(w.members, gone)
			require.Zero(t, w.settle(t, ids), "nobody gives up anything when one is gone")
			requireFair(t, w, ids)
		}
	})
}

func TestPlan(t *testing.T) {
	t.Parallel()
	held := func(w *world, id string, shards ...int) {
		for _, n := range shards {
			w.setShard(n, id, w.next())
		}
	}
	t.Run("who leaves keeps its shards until it gives them back", func(t *testing.T) {
		t.Parallel()
		w := newWorld(4)
		w.join("a")
		held(w, "b", 0, 1)
		w.setMember("b", true, w.next(), w.now)
		require.Equal(t, plan{take: []int{2, 3}}, w.plan("a", w.now, takeover, nobody))
		w.setShard(0, "", w.next())
		require.Equal(t, []int{0, 2, 3}, w.plan("a", w.now, takeover, nobody).take)
	})
	t.Run("who is suspected keeps its shards until it is fenced", func(t *testing.T) {
		t.Parallel()
		w := newWorld(2)
		w.join("b")
		held(w, "b", 0, 1)
		w.now = w.now.Add(takeover)
		w.join("a")
		require.Equal(t, []string{"b"}, w.dead("a", w.now, takeover))
		require.Empty(t, w.plan("a", w.now, takeover, nobody).take)
		delete(w.members, "b")
		require.Equal(t, []int{0, 1}, w.plan("a", w.now, takeover, nobody).take)
	})
	t.Run("nobody is dead a moment before the time", func(t *testing.T) {
		t.Parallel()
		w := newWorld(1)
		w.join("b")
		require.Empty(t, w.dead("a", w.now.Add(takeover-1), takeover))
		require.Equal(t, []string{"b"}, w.dead("a", w.now.Add(takeover), takeover))
		require.Empty(t, w.dead("b", w.now.Add(takeover), takeover), "a member does not fence itself")
	})
	t.Run("what is being handed over is not dropped again", func(t *testing.T) {
		t.Parallel()
		w := newWorld(4)
		w.join("a")
		w.join("b")
		held(w, "a", 0, 1, 2, 3)
		require.Equal(t, []int{2, 3}, w.plan("a", w.now, takeover, nobody).drop)
		busy := func(n int) bool { return n >= 2 }
		require.Equal(t, plan{}, w.plan("a", w.now, takeover, busy))
	})
	t.Run("what is old changes nothing", func(t *testing.T) {
		t.Parallel()
		w := newWorld(1)
		w.setShard(0, "b", 7)
		w.setShard(0, "a", 6)
		w.setShard(0, "", 7)
		require.Equal(t, "b", w.shards[0].holder)
		w.setShard(9, "b", 8)
		w.setShard(-1, "b", 8)
	})
}

func TestShardsThatAreNotInUseAreDividedByThemselves(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		used := rapid.IntRange(1, 16).Draw(t, "shards")
		left := rapid.IntRange(0, 16).Draw(t, "shards that were left")
		w := newWorld(used)
		var ids []string
		for i := range rapid.IntRange(1, 6).Draw(t, "members") {
			ids = append(ids, "m"+strconv.Itoa(i))
			w.join(ids[i])
		}
		w.settle(t, ids)
		w.layout.Streams = used + left
		// Not by settle: a member may drop of the one and take of the other.
		for range 3 {
			for _, id := range ids {
				for _, n := range w.plan(id, w.now, takeover, nobody).take {
					w.setShard(n, id, w.next())
				}
			}
		}
		counts := map[bool]map[string]int{true: {}, false: {}}
		for n, s := range w.shards[:w.layout.Streams] {
			require.NotEmpty(t, s.holder, "every shard has a holder")
			counts[n < used][s.holder]++
		}
		for _, id := range ids {
			require.InDelta(t, float64(used)/float64(len(ids)), counts[true][id], 1)
			require.InDelta(t, float64(left)/float64(len(ids)), counts[false][id], 1)
		}
	})
}

func TestNewShardsAreTakenAndNothingElseMoves(t *testing.T) {
	t.Parallel()
	w := newWorld(4)
	for _, id := range []string{"a", "b"} {
		w.join(id)
	}
	w.settle(t, []string{"a", "b"})
	before := slices.Clone(w.shards[:4])
	w.layout.Shards, w.layout.Streams = 8, 8
	require.Zero(t, w.settle(t, []string{"a", "b"}))
	require.Equal(t, before, w.shards[:4])
	require.Equal(t, map[string]int{"a": 4, "b": 4}, w.counts())
}
