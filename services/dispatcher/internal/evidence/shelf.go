package evidence

import (
	"sync"
	"time"
)

// Shelf keeps the memories of shards that were given up. A process that lost a lease because the
// server was away has it back soon, and then knows what it did before, however much of it the server
// forgot: the journal's tail reaches back less far. What others did meanwhile is in that tail. The
// zero value is an empty shelf; it is safe for concurrent use.
type Shelf struct {
	mu       sync.Mutex
	memories map[int]shelved
}

type shelved struct {
	memory *Memory
	since  time.Time
}

// Take gives the memory of a shard, a new one if there is none, and has it no more.
func (s *Shelf) Take(shard int, now time.Time) *Memory {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(now)
	kept, ok := s.memories[shard]
	delete(s.memories, shard)
	if !ok {
		return NewMemory()
	}
	return kept.memory
}

// Put keeps the memory of a shard that is given up, for ten minutes: what it knows of comes again
// within an acknowledgement's wait of the server's return.
func (s *Shelf) Put(shard int, m *Memory, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(now)
	if s.memories == nil {
		s.memories = map[int]shelved{}
	}
	s.memories[shard] = shelved{m, now}
}

func (s *Shelf) forget(now time.Time) {
	for shard, kept := range s.memories {
		if now.Sub(kept.since) > keep {
			delete(s.memories, shard)
		}
	}
}
