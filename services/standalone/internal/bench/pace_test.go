package bench

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAnOpenLoopCountsFromWhenACallWasDue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		p := pace{began: began, end: began.Add(time.Second), every: 100 * time.Millisecond}
		for i := range 3 {
			due, ok := p.next(t.Context())
			require.True(t, ok)
			require.Equal(t, time.Duration(i)*100*time.Millisecond, due.Sub(began))
			require.Equal(t, due, time.Now())
		}
		time.Sleep(450 * time.Millisecond) //nolint:forbidigo // time stands still here: a call that took so long
		due, ok := p.next(t.Context())
		require.True(t, ok)
		require.Equal(t, 300*time.Millisecond, due.Sub(began), "the clock went on")
		require.Equal(t, 650*time.Millisecond, time.Since(began))
		time.Sleep(time.Second) //nolint:forbidigo // as above
		_, ok = p.next(t.Context())
		require.False(t, ok)
		var left []time.Duration
		p.left(func(due time.Time) { left = append(left, due.Sub(began)) })
		require.Len(t, left, 6)
		require.Equal(t, 400*time.Millisecond, left[0])
		require.Equal(t, 900*time.Millisecond, left[5])
	})
}

func TestAnOpenLoopThatKeepsUpLeavesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		p := pace{began: began, end: began.Add(time.Second), every: 300 * time.Millisecond}
		n := 0
		for {
			if _, ok := p.next(t.Context()); !ok {
				break
			}
			n++
		}
		require.Equal(t, 4, n)
		p.left(func(due time.Time) { require.Fail(t, "left", due.Sub(began)) })
	})
}

func TestAClosedLoopIsDueAtOnceUntilTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := pace{began: time.Now(), end: time.Now().Add(time.Second)}
		due, ok := p.next(t.Context())
		require.True(t, ok)
		require.Equal(t, time.Now(), due)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_, ok = p.next(ended)
		require.False(t, ok)
		require.True(t, pause(t.Context(), time.Second))
		_, ok = p.next(t.Context())
		require.False(t, ok)
		p.left(func(time.Time) { require.Fail(t, "nothing is due by a clock") })
	})
}
