package fifo_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/services/dispatcher/internal/fifo"
)

func TestKeysTakeTurns(t *testing.T) {
	t.Parallel()
	q := fifo.NewTurns[string, string]()
	for _, v := range []string{"a1", "a2", "a3", "b1", "a4", "c1", "b2"} {
		require.True(t, q.Push(v[:1], v))
	}
	require.Equal(t, 7, q.Len())
	var got []string
	for q.Len() > 0 {
		v, ok := q.Pop()
		require.True(t, ok)
		got = append(got, v)
	}
	require.Equal(t, "a1 b1 c1 a2 b2 a3 a4", strings.Join(got, " "))
	q.Close()
	_, ok := q.Pop()
	require.False(t, ok)
	require.False(t, q.Push("a", "a5"))
}

// A key that comes now waits for no more than one item of each other.
func TestWhoComesLateIsNextButOne(t *testing.T) {
	t.Parallel()
	q := fifo.NewTurns[string, int]()
	for i := range 10_000 {
		q.Push("flood", i)
	}
	_, _ = q.Pop()
	q.Push("quiet", -1)
	first, _ := q.Pop()
	second, _ := q.Pop()
	require.Contains(t, []int{first, second}, -1)
}

func TestTurnsLoseNothingAndKeepTheOrderOfAKey(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		q := fifo.NewTurns[int, [2]int]()
		pushed, popped := map[int]int{}, map[int]int{}
		length := 0
		take := func() {
			v, ok := q.Pop()
			if !ok || v[1] != popped[v[0]] {
				t.Fatalf("item %d of key %d came after %d", v[1], v[0], popped[v[0]])
			}
			popped[v[0]]++
			length--
		}
		for range rapid.IntRange(0, 2000).Draw(t, "steps") {
			if length > 0 && rapid.IntRange(0, 2).Draw(t, "pop") == 0 {
				take()
				continue
			}
			key := rapid.IntRange(0, 5).Draw(t, "key")
			q.Push(key, [2]int{key, pushed[key]})
			pushed[key]++
			length++
		}
		for length > 0 {
			take()
		}
		for key, n := range pushed {
			if popped[key] != n {
				t.Fatalf("%d of %d items of key %d came", popped[key], n, key)
			}
		}
	})
}

func TestManyWaitForTurns(t *testing.T) {
	t.Parallel()
	q := fifo.NewTurns[int, int]()
	const each = 1000
	var workers, pushers sync.WaitGroup
	var mu sync.Mutex
	seen := map[int]int{}
	for range 8 {
		workers.Go(func() {
			for v, ok := q.Pop(); ok; v, ok = q.Pop() {
				mu.Lock()
				seen[v]++
				mu.Unlock()
			}
		})
	}
	for key := range 4 {
		pushers.Go(func() {
			for i := range each {
				q.Push(key, key*each+i)
			}
		})
	}
	pushers.Wait()
	q.Close()
	workers.Wait()
	require.Len(t, seen, 4*each)
	for v, n := range seen {
		require.Equal(t, 1, n, "%d", v)
	}
}
