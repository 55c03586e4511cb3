package retryset_test

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/services/scheduler/internal/retryset"
)

// lease is longer than any test.
const lease = time.Minute

// base is a moment that all tests of the suite count from. Nothing in an index but locks and
// generations looks at a clock of its own.
var base = time.UnixMilli(1_800_000_000_000)

func member(seq uint64) retryset.Member { return retryset.Member{Shard: int(seq % 5), Sequence: seq} }

func entry(seq uint64, after time.Duration) retryset.Entry {
	return retryset.Entry{Member: member(seq), Due: base.Add(after)}
}

func members(seqs ...uint64) []retryset.Member {
	list := make([]retryset.Member, 0, len(seqs))
	for _, seq := range seqs {
		list = append(list, member(seq))
	}
	return list
}

// claim returns what is claimed at a moment, sorted by sequence.
func claim(t *testing.T, x retryset.Index, after time.Duration) []retryset.Member {
	t.Helper()
	got, err := x.Claim(t.Context(), base.Add(after), lease, 10_000)
	require.NoError(t, err)
	slices.SortFunc(got.Members, func(a, b retryset.Member) int { return int(a.Sequence) - int(b.Sequence) })
	return got.Members
}

// rebuild fills the index with the entries, as the rebuild does.
func rebuild(t *testing.T, x retryset.Index, entries ...retryset.Entry) {
	t.Helper()
	r, err := x.BeginRebuild(t.Context())
	require.NoError(t, err)
	require.NoError(t, x.Refill(t.Context(), r, entries))
	left, err := x.EndRebuild(t.Context(), r)
	require.NoError(t, err)
	require.Zero(t, left)
}

// whole returns an index that is not lost.
func whole(t *testing.T, fresh func(*testing.T) retryset.Index) retryset.Index {
	t.Helper()
	x := fresh(t)
	rebuild(t, x)
	return x
}

// Exercise holds an implementation to the contract of Index. Fresh returns an empty index.
func Exercise(t *testing.T, fresh func(*testing.T) retryset.Index) {
	t.Helper()
	exerciseClaims(t, fresh)
	exerciseChanges(t, fresh)
	exerciseRebuilds(t, fresh)
	exerciseLocks(t, fresh)
}

func exerciseClaims(t *testing.T, fresh func(*testing.T) retryset.Index) {
	t.Helper()
	t.Run("claims what is due and nothing else", func(t *testing.T) {
		x := whole(t, fresh)
		require.NoError(t, x.Add(t.Context(), entry(1, 0), entry(2, time.Second), entry(3, time.Hour)))
		require.Empty(t, claim(t, x, -time.Millisecond))
		require.Equal(t, members(1), claim(t, x, 0))
		require.Equal(t, members(2), claim(t, x, time.Second))
		require.Empty(t, claim(t, x, 2*time.Second))
	})
	t.Run("never claims before the due time, also within its millisecond", func(t *testing.T) {
		x := whole(t, fresh)
		require.NoError(t, x.Add(t.Context(), entry(1, 300*time.Microsecond)))
		require.Empty(t, claim(t, x, 200*time.Microsecond))
		require.Equal(t, members(1), claim(t, x, time.Millisecond))
	})
	t.Run("a lease that ends makes its member due again", func(t *testing.T) {
		x := whole(t, fresh)
		require.NoError(t, x.Add(t.Context(), entry(1, 0)))
		require.Equal(t, members(1), claim(t, x, 0))
		require.Empty(t, claim(t, x, lease-time.Millisecond))
		require.Equal(t, members(1), claim(t, x, lease))
	})
	t.Run("says when the next member is due, leases included", func(t *testing.T) {
		x := whole(t, fresh)
		got, err := x.Claim(t.Context(), base, lease, 100)
		require.NoError(t, err)
		require.True(t, got.Next.IsZero())

		require.NoError(t, x.Add(t.Context(), entry(1, 0), entry(2, 2*lease)))
		got, err = x.Claim(t.Context(), base, lease, 100)
		require.NoError(t, err)
		require.Equal(t, base.Add(lease).UnixMilli(), got.Next.UnixMilli())

		require.NoError(t, x.Drop(t.Context(), member(1)))
		got, err = x.Claim(t.Context(), base, lease, 100)
		require.NoError(t, err)
		require.Equal(t, base.Add(2*lease).UnixMilli(), got.Next.UnixMilli())
	})
	t.Run("a claim is bounded and says that more is due", func(t *testing.T) {
		x := whole(t, fresh)
		var entries []retryset.Entry
		for seq := range uint64(1000) {
			entries = append(entries, entry(seq, -time.Hour))
		}
		require.NoError(t, x.Add(t.Context(), entries...))
		got, err := x.Claim(t.Context(), base, lease, 160)
		require.NoError(t, err)
		require.LessOrEqual(t, len(got.Members), 160)
		require.NotEmpty(t, got.Members)
		require.True(t, got.Next.Before(base), "next is %s", got.Next)
	})
	t.Run("claims at once share the members and lose none", func(t *testing.T) {
		x := whole(t, fresh)
		const total = 3000
		var entries []retryset.Entry
		for seq := range uint64(total) {
			entries = append(entries, entry(seq, 0))
		}
		rand.Shuffle(total, func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
		require.NoError(t, x.Add(t.Context(), entries...))

		var mu sync.Mutex
		seen := make(map[retryset.Member]int)
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				for {
					got, err := x.Claim(t.Context(), base, lease, 64)
					if err != nil || len(got.Members) == 0 {
						return
					}
					mu.Lock()
					for _, m := range got.Members {
						seen[m]++
					}
					mu.Unlock()
				}
			})
		}
		group.Wait()
		require.Len(t, seen, total)
		for m, times := range seen {
			require.Equal(t, 1, times, "member %s", m)
		}
	})
}

func exerciseChanges(t *testing.T, fresh func(*testing.T) retryset.Index) {
	t.Helper()
	t.Run("what is dropped is gone, and dropping twice is nothing", func(t *testing.T) {
		x := whole(t, fresh)
		require.NoError(t, x.Add(t.Context(), entry(1, 0), entry(2, 0)))
		require.NoError(t, x.Drop(t.Context(), member(1), member(7)))
		require.NoError(t, x.Drop(t.Context(), member(1)))
		require.NoError(t, x.Drop(t.Context()))
		require.Equal(t, members(2), claim(t, x, 0))
	})
	t.Run("adding again takes no lease away", func(t *testing.T) {
		x := whole(t, fresh)
		require.NoError(t, x.Add(t.Context(), entry(1, 0)))
		require.Equal(t, members(1), claim(t, x, 0))
		require.NoError(t, x.Add(t.Context(), entry(1, 0)))
		require.Empty(t, claim(t, x, time.Second))
	})
	t.Run("moving sets another time, also of what is leased", func(t *testing.T) {
		x := whole(t, fresh)
		require.NoError(t, x.Add(t.Context(), entry(1, 0), entry(2, time.Hour)))
		require.Equal(t, members(1), claim(t, x, 0))
		require.NoError(t, x.Move(t.Context(), entry(1, 0), entry(2, time.Second)))
		require.Equal(t, members(1), claim(t, x, 0))
		require.Equal(t, members(2), claim(t, x, time.Second))
	})
	t.Run("moving what is not in puts nothing in", func(t *testing.T) {
		x := whole(t, fresh)
		require.NoError(t, x.Move(t.Context(), entry(1, 0)))
		require.NoError(t, x.Move(t.Context()))
		require.Empty(t, claim(t, x, time.Hour))
	})
	t.Run("tells which members are missing", func(t *testing.T) {
		x := whole(t, fresh)
		require.NoError(t, x.Add(t.Context(), entry(1, 0), entry(3, 0)))
		missing, err := x.Missing(t.Context(), members(1, 2, 3, 4))
		require.NoError(t, err)
		require.Equal(t, members(2, 4), missing)
		missing, err = x.Missing(t.Context(), nil)
		require.NoError(t, err)
		require.Empty(t, missing)
	})
	t.Run("counts members, leased ones too, and nothing else", func(t *testing.T) {
		x := whole(t, fresh)
		n, err := x.Count(t.Context())
		require.NoError(t, err)
		require.Zero(t, n)
		require.NoError(t, x.Add(t.Context(), entry(1, 0), entry(2, time.Hour)))
		require.NoError(t, x.Add(t.Context()))
		claim(t, x, 0)
		n, err = x.Count(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 2, n)
	})
}

func exerciseRebuilds(t *testing.T, fresh func(*testing.T) retryset.Index) {
	t.Helper()
	t.Run("is lost until it is rebuilt, and claims meanwhile", func(t *testing.T) {
		x := fresh(t)
		require.NoError(t, x.Add(t.Context(), entry(1, 0)))
		got, err := x.Claim(t.Context(), base, lease, 100)
		require.ErrorIs(t, err, retryset.ErrEpochLost)
		require.Equal(t, members(1), got.Members)

		rebuild(t, x, entry(1, 0), entry(2, 0))
		require.Equal(t, members(2), claim(t, x, 0), "the rebuild takes no lease away")
	})
	t.Run("there is nothing to rebuild in a whole index", func(t *testing.T) {
		x := whole(t, fresh)
		r, err := x.BeginRebuild(t.Context())
		require.NoError(t, err)
		require.Zero(t, r.Slots)
		require.False(t, r.Covers(member(1)))
		require.NoError(t, x.Refill(t.Context(), r, []retryset.Entry{entry(1, 0)}))
		require.Empty(t, claim(t, x, 0))
	})
	t.Run("only one rebuild runs at a time", func(t *testing.T) {
		x := fresh(t)
		first, err := x.BeginRebuild(t.Context())
		require.NoError(t, err)
		require.NotZero(t, first.Slots)
		second, err := x.BeginRebuild(t.Context())
		require.NoError(t, err)
		require.Zero(t, second.Slots)

		require.NoError(t, x.AbandonRebuild(t.Context(), first))
		require.NoError(t, x.AbandonRebuild(t.Context(), first))
		rebuild(t, x, entry(1, 0))
		left, err := x.EndRebuild(t.Context(), first)
		require.NoError(t, err)
		require.Equal(t, first.Slots, left, "an abandoned rebuild ends nothing")
		require.Equal(t, members(1), claim(t, x, 0))
	})
	t.Run("what is distrusted needs a rebuild that begins later", func(t *testing.T) {
		x := whole(t, fresh)
		x.Distrust(member(1))
		_, err := x.Claim(t.Context(), base, lease, 100)
		require.ErrorIs(t, err, retryset.ErrEpochLost)
		r, err := x.BeginRebuild(t.Context())
		require.NoError(t, err)
		require.True(t, r.Covers(member(1)))
		x.Distrust(member(1))
		left, err := x.EndRebuild(t.Context(), r)
		require.NoError(t, err)
		require.NotZero(t, left)
		_, err = x.Claim(t.Context(), base, lease, 100)
		require.ErrorIs(t, err, retryset.ErrEpochLost)

		rebuild(t, x, entry(1, 0))
		require.Equal(t, members(1), claim(t, x, 0))
	})
}

func exerciseLocks(t *testing.T, fresh func(*testing.T) retryset.Index) {
	t.Helper()
	t.Run("an advisory lock has one holder until it is released", func(t *testing.T) {
		x := fresh(t)
		lock, ok, err := x.TryLock(t.Context(), "a", time.Minute)
		require.NoError(t, err)
		require.True(t, ok)
		_, ok, err = x.TryLock(t.Context(), "a", time.Minute)
		require.NoError(t, err)
		require.False(t, ok)
		_, ok, err = x.TryLock(t.Context(), "b", time.Minute)
		require.NoError(t, err)
		require.True(t, ok)

		held, err := lock.Extend(t.Context())
		require.NoError(t, err)
		require.True(t, held)
		require.NoError(t, lock.Release(t.Context()))
		held, err = lock.Extend(t.Context())
		require.NoError(t, err)
		require.False(t, held)
		_, ok, err = x.TryLock(t.Context(), "a", time.Minute)
		require.NoError(t, err)
		require.True(t, ok)
		require.NoError(t, lock.Release(t.Context()), "releases nothing of the next holder")
		_, ok, err = x.TryLock(t.Context(), "a", time.Minute)
		require.NoError(t, err)
		require.False(t, ok)
	})
	t.Run("an advisory lock runs out", func(t *testing.T) {
		x := fresh(t)
		_, ok, err := x.TryLock(t.Context(), "a", 20*time.Millisecond)
		require.NoError(t, err)
		require.True(t, ok)
		require.Eventually(t, func() bool {
			_, ok, err := x.TryLock(t.Context(), "a", time.Minute)
			return err == nil && ok
		}, 5*time.Second, 5*time.Millisecond)
	})
}
