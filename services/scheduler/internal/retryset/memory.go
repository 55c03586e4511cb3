package retryset

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// Memory is an index in this process: a heap by due time and a map to find members in it.
// It is bounded by what its owner stores records for, and is empty, hence lost, at the start.
type Memory struct {
	now func() time.Time

	mu     sync.Mutex
	items  []memoryItem
	places map[Member]int
	lost   bool
	doubts uint64
	build  string // token of the rebuild that runs, if any
	locks  map[string]*memoryLock
}

var _ Index = (*Memory)(nil)

// memoryItem is a place in the heap.
type memoryItem struct {
	due    int64
	member Member
}

// NewMemory returns an empty index, which is lost until it is rebuilt.
func NewMemory() *Memory {
	return &Memory{
		now:    time.Now,
		places: make(map[Member]int),
		lost:   true,
		locks:  make(map[string]*memoryLock),
	}
}

// Add implements Index.
func (x *Memory) Add(_ context.Context, entries ...Entry) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range entries {
		x.add(e)
	}
	return nil
}

func (x *Memory) add(e Entry) {
	due := score(e.Due)
	place, ok := x.places[e.Member]
	if !ok {
		heap.Push((*memoryHeap)(x), memoryItem{due: due, member: e.Member})
		return
	}
	if x.items[place].due < due {
		x.set(place, due)
	}
}

// set gives the item at a place another time, and its right place.
func (x *Memory) set(place int, due int64) {
	x.items[place].due = due
	heap.Fix((*memoryHeap)(x), place)
}

// Claim implements Index.
func (x *Memory) Claim(_ context.Context, now time.Time, lease time.Duration, limit int) (Claimed, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	until := score(now.Add(lease))
	var got Claimed
	for len(got.Members) < limit && len(x.items) > 0 && x.items[0].due <= now.UnixMilli() {
		got.Members = append(got.Members, x.items[0].member)
		x.set(0, until)
	}
	if len(x.items) > 0 {
		got.Next = time.UnixMilli(x.items[0].due)
	}
	if x.lost || x.doubts > 0 {
		return got, ErrEpochLost
	}
	return got, nil
}

// Drop implements Index.
func (x *Memory) Drop(_ context.Context, members ...Member) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, m := range members {
		if place, ok := x.places[m]; ok {
			heap.Remove((*memoryHeap)(x), place)
		}
	}
	return nil
}

// Move implements Index.
func (x *Memory) Move(_ context.Context, entries ...Entry) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range entries {
		if place, ok := x.places[e.Member]; ok {
			x.set(place, score(e.Due))
		}
	}
	return nil
}

// Missing implements Index.
func (x *Memory) Missing(_ context.Context, members []Member) ([]Member, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	var missing []Member
	for _, m := range members {
		if _, ok := x.places[m]; !ok {
			missing = append(missing, m)
		}
	}
	return missing, nil
}

// Count implements Index.
func (x *Memory) Count(context.Context) (int64, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return int64(len(x.items)), nil
}

// Distrust implements Index.
func (x *Memory) Distrust(...Member) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.doubts++
}

// memoryHeap is the heap's face of Memory: it keeps the places up to date.
type memoryHeap Memory

func (h *memoryHeap) Len() int           { return len(h.items) }
func (h *memoryHeap) Less(i, j int) bool { return h.items[i].due < h.items[j].due }

func (h *memoryHeap) Swap(i, j int) {
	h.items[i], h.items[j] = h.items[j], h.items[i]
	h.places[h.items[i].member] = i
	h.places[h.items[j].member] = j
}

func (h *memoryHeap) Push(v any) {
	item, ok := v.(memoryItem)
	if !ok {
		return
	}
	h.places[item.member] = len(h.items)
	h.items = append(h.items, item)
}

func (h *memoryHeap) Pop() any {
	last := len(h.items) - 1
	item := h.items[last]
	h.items = h.items[:last]
	delete(h.places, item.member)
	return item
}
