package order

import (
	"sync"
	"sync/atomic"
)

// Seen is which messages of a stream have come to this process, so that it can be told when all up to
// a place have. A message that was given to another process, or got lost on its way, leaves a gap; it is
// filled when the message comes again, or when the server says that it needs not to. The zero value has
// seen nothing. See is for one goroutine; the rest is safe for concurrent use.
type Seen struct {
	high atomic.Uint64

	mu   sync.Mutex
	gaps []gap // in order
}

// gap is a range of sequences that did not come, both ends in it.
type gap struct{ from, to uint64 }

// See says that a message came, and that everything about it is noted. It takes no lock while messages
// come in order.
func (s *Seen) See(sequence uint64) {
	high := s.high.Load()
	if sequence == high+1 {
		s.high.Store(sequence)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if sequence > high {
		s.gaps = append(s.gaps, gap{high + 1, sequence - 1})
		s.high.Store(sequence)
		return
	}
	s.fill(sequence)
}

func (s *Seen) fill(sequence uint64) {
	for i, g := range s.gaps {
		if sequence < g.from || sequence > g.to {
			continue
		}
		var rest []gap
		if g.from < sequence {
			rest = append(rest, gap{g.from, sequence - 1})
		}
		if sequence < g.to {
			rest = append(rest, gap{sequence + 1, g.to})
		}
		s.gaps = append(s.gaps[:i:i], append(rest, s.gaps[i+1:]...)...)
		return
	}
}

// All says whether all messages up to a place have come, or need not to: those up to the floor are
// acknowledged.
func (s *Seen) All(place, floor uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.gaps) > 0 && s.gaps[0].to <= floor {
		s.gaps = s.gaps[1:]
	}
	if place <= floor {
		return true
	}
	if place > s.high.Load() {
		return false
	}
	return len(s.gaps) == 0 || max(s.gaps[0].from, floor+1) > place
}

// Reset forgets everything if the stream ends before what was seen: it is another one, or was restored.
func (s *Seen) Reset(last uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.high.Load() > last {
		s.high.Store(0)
		s.gaps = nil
	}
}
