package fifo_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/services/dispatcher/internal/fifo"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func all(int) bool { return true }

func TestItemsComeOutInOrderAndOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		q := fifo.New[int]()
		var model, got []int
		for next := range rapid.IntRange(0, 500).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				if len(model) > 0 {
					v, ok := q.Pop()
					if !ok {
						t.Fatal("closed")
					}
					got = append(got, v)
				}
			case 1:
				got = append(got, q.Take(nil, rapid.IntRange(0, 9).Draw(t, "most"), func(v int) bool { return v%7 != 0 })...)
			default:
				q.Push(next)
				model = append(model, next)
			}
			if len(got)+q.Len() < len(model) {
				t.Fatalf("%d out and %d in of %d", len(got), q.Len(), len(model))
			}
			if len(model) == len(got) && q.Len() != 0 {
				t.Fatal("too many")
			}
			if len(got) == len(model) {
				check(t, model, got)
				model, got = nil, nil
			}
		}
		got = q.Take(got, len(model), all)
		check(t, model, got)
	})
}

func check(t *rapid.T, model, got []int) {
	if len(model) != len(got) {
		t.Fatalf("%v in, %v out", model, got)
	}
	for i := range model {
		if model[i] != got[i] {
			t.Fatalf("%v in, %v out", model, got)
		}
	}
}

func TestManyPushAndManyPop(t *testing.T) {
	t.Parallel()
	q := fifo.New[int]()
	var pushers, poppers sync.WaitGroup
	var mu sync.Mutex
	seen := map[int]int{}
	for range 4 {
		poppers.Go(func() {
			for v, ok := q.Pop(); ok; v, ok = q.Pop() {
				mu.Lock()
				seen[v]++
				mu.Unlock()
			}
		})
	}
	for p := range 4 {
		pushers.Go(func() {
			for i := range 1000 {
				q.Push(p*1000 + i)
			}
		})
	}
	pushers.Wait()
	q.Close()
	q.Close()
	poppers.Wait()
	require.Len(t, seen, 4000)
	require.False(t, q.Push(1))
}

func TestWhatIsLeftComesOutAfterClosing(t *testing.T) {
	t.Parallel()
	q := fifo.New[string]()
	q.Push("a")
	q.Close()
	v, ok := q.Pop()
	require.True(t, ok)
	require.Equal(t, "a", v)
	_, ok = q.Pop()
	require.False(t, ok)
}
