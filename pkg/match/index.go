package match

import (
	"slices"
	"sync"
)

// Index finds the keys (webhooks) of which a pattern matches an event type, in time that depends
// on the number of words of the type and on the number of hits, not on the number of keys.
//
// It is safe for any number of readers and writers. A read-write mutex guards the maps; lists are
// never changed where a reader may see them (appending writes behind the length that readers
// hold, removing copies), so readers visit without holding the mutex, and each visit sees the
// index at one moment. The zero Index is empty and ready.
type Index[K comparable] struct {
	mu    sync.RWMutex
	keys  map[K][]Pattern
	exact map[string][]K
	below map[string][]K // by prefix with its dot
	all   []K            // but not for reserved types
}

// maxLists is the most lists that one event type can hit: every other byte a dot, the type
// itself, and all.
const maxLists = MaxEventTypeBytes/2 + 2

// Add sets the patterns of k, in place of those that it had. No reader sees k without patterns in
// between.
func (x *Index[K]) Add(k K, patterns []Pattern) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.keys == nil {
		x.keys = make(map[K][]Pattern)
		x.exact = make(map[string][]K)
		x.below = make(map[string][]K)
	}
	x.remove(k)
	disjoint := disjointPatterns(patterns)
	if len(disjoint) == 0 {
		return
	}
	x.keys[k] = disjoint
	for _, p := range disjoint {
		switch p.kind {
		case patternExact:
			x.exact[p.text] = append(x.exact[p.text], k)
		case patternBelow:
			x.below[p.text] = append(x.below[p.text], k)
		case patternAll:
			x.all = append(x.all, k)
		case patternNone:
		}
	}
}

// Remove forgets k; a k that is not there is no error.
func (x *Index[K]) Remove(k K) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.remove(k)
}

func (x *Index[K]) remove(k K) {
	for _, p := range x.keys[k] {
		switch p.kind {
		case patternExact:
			without(x.exact, p.text, k)
		case patternBelow:
			without(x.below, p.text, k)
		case patternAll:
			x.all = copyWithout(x.all, k)
		case patternNone:
		}
	}
	delete(x.keys, k)
}

// Len is the number of keys.
func (x *Index[K]) Len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.keys)
}

// Candidates calls visit once for each key of which a pattern matches the event type, in no
// particular order. It allocates nothing, holds no lock while visit runs, and visit may change the
// index, which shows from the next call on.
func (x *Index[K]) Candidates(eventType string, visit func(K)) {
	var lists [maxLists][]K
	for _, list := range lists[:x.lists(eventType, &lists)] {
		for _, k := range list {
			visit(k)
		}
	}
}

// lists puts the lists that the type hits into out and returns how many they are. The patterns of
// one key are disjoint, so no key is in two of them.
func (x *Index[K]) lists(eventType string, out *[maxLists][]K) int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	out[0] = x.exact[eventType]
	n := 1
	if !Reserved(eventType) {
		out[1] = x.all
		n = 2
	}
	if len(x.below) == 0 {
		return n
	}
	for i := range min(len(eventType), MaxEventTypeBytes) {
		if eventType[i] != '.' {
			continue
		}
		if list := x.below[eventType[:i+1]]; len(list) > 0 && n < maxLists {
			out[n] = list
			n++
		}
	}
	return n
}

// disjointPatterns is the patterns without those that another one covers, so that an event type
// matches at most one of what is left: two prefixes that do not cover one another share no type.
func disjointPatterns(patterns []Pattern) []Pattern {
	var out []Pattern
	for i, p := range patterns {
		if p.kind == patternNone {
			continue
		}
		covered := slices.ContainsFunc(patterns[:i], func(q Pattern) bool { return q.covers(p) }) ||
			slices.ContainsFunc(patterns[i+1:], func(q Pattern) bool { return q != p && q.covers(p) })
		if !covered {
			out = append(out, p)
		}
	}
	return out
}

func without[K comparable](lists map[string][]K, text string, k K) {
	if rest := copyWithout(lists[text], k); len(rest) > 0 {
		lists[text] = rest
	} else {
		delete(lists, text)
	}
}

// copyWithout leaves the list as it is for those who read it.
func copyWithout[K comparable](list []K, k K) []K {
	i := slices.Index(list, k)
	if i < 0 {
		return list
	}
	out := make([]K, 0, len(list))
	return append(append(out, list[:i]...), list[i+1:]...)
}
