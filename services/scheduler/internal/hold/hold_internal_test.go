package hold

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/pkg/stream/retrystream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

func TestHoldable(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	tests := map[string]struct {
		kind recordv1.RetryKind
		due  time.Time
		want bool
	}{
		"a retry that waits is held":                    {recordv1.RetryKind_RETRY_KIND_WAITING, now.Add(time.Hour), true},
		"a parked delivery is held":                     {recordv1.RetryKind_RETRY_KIND_PARKED, now.Add(time.Second), true},
		"a delayed delivery keeps its time":             {recordv1.RetryKind_RETRY_KIND_DELAYED, now.Add(time.Second), false},
		"a delayed delivery is held when its time came": {recordv1.RetryKind_RETRY_KIND_DELAYED, now, true},
		"what is held stays as it is":                   {recordv1.RetryKind_RETRY_KIND_HELD, now, false},
		"a kind of a later version is left alone":       {77, now, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, Holdable(test.kind, test.due, now))
		})
	}
}

func TestWindowKeepsTheEarliestEvents(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 200).Draw(t, "held")
		size := rapid.IntRange(1, 50).Draw(t, "window")
		all := make([]place, n)
		for i := range all {
			all[i] = place{rapid.Uint64Range(0, 50).Draw(t, "event"), retrystream.Place{Shard: rapid.IntRange(0, 2).Draw(t, "shard"), Sequence: uint64(i)}}
		}
		var window latest
		for _, i := range rand.Perm(n) {
			heap.Push(&window, all[i])
			if len(window) > size {
				heap.Pop(&window)
			}
		}
		slices.SortFunc(window, byEvent)
		slices.SortFunc(all, byEvent)
		require.Equal(t, all[:min(n, size)], []place(window)[:min(n, size)])
	})
}
