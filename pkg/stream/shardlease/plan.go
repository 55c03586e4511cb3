package shardlease

import (
	"cmp"
	"slices"
	"time"

	"github.com/postrider/postrider/pkg/postrider"
)

// view is what a member knows of the bucket. It is pure: what changes it comes in, with the time.
type view struct {
	shards  []shardKey // by number, as many as there may ever be
	layout  postrider.Layout
	members map[string]memberKey
	last    uint64 // revision
}

// shardKey is the state of a shard's key.
type shardKey struct {
	holder   string // "" if free
	revision uint64 // of the value or of its marker; 0 if it was never written
}

// memberKey is the state of a member's key.
type memberKey struct {
	revision uint64
	since    time.Time // when this revision was first seen
	leaving  bool
}

func newView(l postrider.Layout) *view {
	return &view{shards: make([]shardKey, postrider.MaxShards), layout: l, members: make(map[string]memberKey)}
}

// setShard takes a shard's state; what is older than what is known changes nothing, because a
// member enters its own writes before they come back to it.
func (v *view) setShard(n int, holder string, revision uint64) {
	if n < 0 || n >= len(v.shards) || revision <= v.shards[n].revision {
		return
	}
	v.shards[n] = shardKey{holder: holder, revision: revision}
}

// setMember takes a member's sign of life.
func (v *view) setMember(id string, leaving bool, revision uint64, now time.Time) {
	if revision > v.members[id].revision {
		v.members[id] = memberKey{revision: revision, since: now, leaving: leaving}
	}
}

// dead are the members that were seen unchanged for so long that they do not work any more.
func (v *view) dead(me string, now time.Time, takeover time.Duration) []string {
	var out []string
	for id, m := range v.members {
		if id != me && now.Sub(m.since) >= takeover {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// plan is what a member should do.
type plan struct {
	drop []int // shards to hand over
	take []int // shards to take, which nobody holds
}

// plan divides the shards. Every member that lives and does not leave gets the same number of
// them, give or take one; those who hold more already are the ones that keep one more, so that
// nothing moves that need not. Members with the same view come to plans that fit together: free
// shards go, in order, to the members that have too few, in order. A member whose view differs
// loses at most a compare-and-set. Busy says which of its own shards it cannot count on: those it
// is handing over already, and those it must not take again yet.
func (v *view) plan(me string, now time.Time, takeover time.Duration, busy func(int) bool) plan {
	live := v.live(me, now, takeover)
	used := v.planRange(me, live, 0, v.layout.Shards, busy)
	left := v.planRange(me, live, v.layout.Shards, max(v.layout.Shards, v.layout.Streams), busy)
	return plan{drop: append(used.drop, left.drop...), take: append(used.take, left.take...)}
}

// planRange divides the shards from one number up to another.
func (v *view) planRange(me string, live []string, from, to int, busy func(int) bool) plan {
	held, free := v.divide(live, from, to)
	quota := quotas(held, to-from)

	mine := slices.DeleteFunc(slices.Clone(held[me]), busy)
	if over := len(mine) - quota[me]; over > 0 {
		return plan{drop: mine[len(mine)-over:]}
	}
	for _, id := range live {
		want := min(max(quota[id]-len(held[id]), 0), len(free))
		if id == me {
			return plan{take: slices.DeleteFunc(slices.Clone(free[:want]), busy)}
		}
		free = free[want:]
	}
	return plan{}
}

// live are the members that get a share, in order.
func (v *view) live(me string, now time.Time, takeover time.Duration) []string {
	var out []string
	for id, m := range v.members {
		if !m.leaving && (id == me || now.Sub(m.since) < takeover) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// divide gives the shards of each live member, and those whose holder is gone. A shard whose
// holder leaves or is suspected is neither.
func (v *view) divide(live []string, from, to int) (held map[string][]int, free []int) {
	held = make(map[string][]int, len(live))
	for _, id := range live {
		held[id] = nil
	}
	for n := from; n < to; n++ {
		s := v.shards[n]
		if _, ok := v.members[s.holder]; !ok {
			free = append(free, n)
			continue
		}
		if _, ok := held[s.holder]; ok {
			held[s.holder] = append(held[s.holder], n)
		}
	}
	return held, free
}

// quotas are how many shards each live member should have.
func quotas(held map[string][]int, shards int) map[string]int {
	if len(held) == 0 {
		return nil
	}
	ids := make([]string, 0, len(held))
	for id := range held {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(held[b]), len(held[a])), cmp.Compare(a, b))
	})
	out := make(map[string]int, len(ids))
	for i, id := range ids {
		out[id] = shards / len(ids)
		if i < shards%len(ids) {
			out[id]++
		}
	}
	return out
}
