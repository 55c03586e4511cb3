package bench

import (
	"sync"
	"time"
)

// remembered is of how many events in a row the times are remembered.
const remembered = 1 << 20

// ledger holds what was accepted against what arrived. Of each event it keeps two bits, so that a
// hundred million take 25 MB; the times of the last million events are in a ring. It is safe for
// concurrent use.
type ledger struct {
	lag histogram

	mu          sync.Mutex
	accepted    bitmap
	arrived     bitmap
	times       [remembered]moment
	acceptances int64
	arrivals    int64 // of events, without duplicates
	both        int64 // accepted and arrived
	duplicates  int64
	forgotten   int64 // accepted and arrived more than remembered events apart: they have no lag
	last        time.Time
}

// moment is when an event was accepted or arrived, whichever came first.
type moment struct {
	event uint64
	at    int64 // Unix nanoseconds; 0 for never
}

// accept notes that event n was accepted.
func (l *ledger) accept(n uint64, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acceptances++
	l.accepted.set(n)
	if !l.arrived.has(n) {
		l.times[n%remembered] = moment{n, at.UnixNano()}
		return
	}
	l.both++
	l.lag.add(0) // it was there before its receipt was
}

// arrive notes that event n arrived.
func (l *ledger) arrive(n uint64, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.arrived.has(n) {
		l.duplicates++
		return
	}
	l.arrived.set(n)
	l.arrivals++
	l.last = at
	if !l.accepted.has(n) {
		return
	}
	l.both++
	if m := l.times[n%remembered]; m.event == n {
		l.lag.add(time.Duration(at.UnixNano() - m.at))
	} else {
		l.forgotten++
	}
}

// counts are the sums so far: accepted, arrived, and both.
func (l *ledger) counts() (accepted, arrived, both int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acceptances, l.arrivals, l.both
}

// bitmap is a set of small numbers.
type bitmap []uint64

func (b *bitmap) set(n uint64) {
	for n/64 >= uint64(len(*b)) {
		*b = append(*b, 0)
	}
	(*b)[n/64] |= 1 << (n % 64)
}

func (b bitmap) has(n uint64) bool { return n/64 < uint64(len(b)) && b[n/64]&(1<<(n%64)) != 0 }
