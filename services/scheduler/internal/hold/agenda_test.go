package hold

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/postrider"
)

func TestAgenda(t *testing.T) {
	t.Parallel()
	start := time.Unix(1_800_000_000, 0)
	ids := func(list ...postrider.WebhookID) []postrider.WebhookID { return list }

	t.Run("gives out what is due, and says when more will be", func(t *testing.T) {
		t.Parallel()
		a := newAgenda()
		a.add("wh_1", start)
		a.add("wh_2", start.Add(time.Minute))
		got, next := a.take(start, 10)
		require.Equal(t, ids("wh_1"), got)
		require.Equal(t, start.Add(time.Minute), next)
	})
	t.Run("the earlier of two times counts", func(t *testing.T) {
		t.Parallel()
		a := newAgenda()
		a.add("wh_1", start.Add(time.Minute))
		a.add("wh_1", start)
		a.add("wh_1", start.Add(time.Hour))
		got, _ := a.take(start, 10)
		require.Equal(t, ids("wh_1"), got)
		got, next := a.take(start, 10)
		require.Empty(t, got)
		require.True(t, next.IsZero())
	})
	t.Run("a webhook is never given out twice at once, and not again at once", func(t *testing.T) {
		t.Parallel()
		a := newAgenda()
		a.add("wh_1", start)
		got, _ := a.take(start, 10)
		require.Len(t, got, 1)
		a.add("wh_1", start)
		got, _ = a.take(start.Add(time.Hour), 10)
		require.Empty(t, got)
		end := start.Add(2 * time.Hour)
		a.done("wh_1", end)
		got, next := a.take(end, 10)
		require.Empty(t, got)
		require.Equal(t, end.Add(gap), next)
		got, _ = a.take(next, 10)
		require.Equal(t, ids("wh_1"), got)
	})
	t.Run("what is beyond the limit is due still", func(t *testing.T) {
		t.Parallel()
		a := newAgenda()
		for _, id := range ids("wh_1", "wh_2", "wh_3") {
			a.add(id, start)
		}
		got, next := a.take(start, 2)
		require.Len(t, got, 2)
		require.Equal(t, start, next)
		more, next := a.take(start, 2)
		require.Len(t, more, 1)
		require.True(t, next.IsZero())
		require.ElementsMatch(t, ids("wh_1", "wh_2", "wh_3"), append(got, more...))
	})
}
