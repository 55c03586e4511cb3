//go:build chaos

package chaos

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"time"
)

// pair names a delivery: an event, by the id of its receipt, for a webhook, by its place in the
// world.
type pair struct {
	hook  int
	event string
}

// entry is what the ledger knows of a delivery.
type entry struct {
	accepted time.Time // when the producer had the receipt; zero: it has none
	arrived  time.Time // of the first request that was answered 2xx
	requests int       // up to and with that one
	excused  bool      // may be gone
	repeats  []time.Time
}

// ledger is the drill's own account of what was accepted and of what arrived. It knows nothing of
// Postrider but receipts and requests.
type ledger struct {
	// wants is the webhooks that want the event with a number, and data is its body.
	wants func(number int) []int
	data  func(number int) []byte

	mu       sync.Mutex
	events   map[int]string // number to id
	numbers  map[string]int
	entries  map[pair]*entry
	accepted int
	expected int
	open     int // accepted and not arrived
	faults   []string
}

func newLedger(wants func(int) []int, data func(int) []byte) *ledger {
	return &ledger{
		wants: wants, data: data,
		events: map[int]string{}, numbers: map[string]int{}, entries: map[pair]*entry{},
	}
}

// maxFaults bounds what a failure prints.
const maxFaults = 20

func (l *ledger) fault(format string, args ...any) {
	if len(l.faults) < maxFaults {
		l.faults = append(l.faults, fmt.Sprintf(format, args...))
	}
}

func (l *ledger) entry(p pair) *entry {
	e := l.entries[p]
	if e == nil {
		e = &entry{}
		l.entries[p] = e
	}
	return e
}

// accept enters a receipt. A key has one event for ever, however often it is published.
func (l *ledger) accept(number int, id string, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if other, ok := l.events[number]; ok {
		if other != id {
			l.fault("the key of event %d got two receipts: %s and %s", number, other, id)
		}
		return
	}
	l.events[number] = id
	l.enter(number, id, at)
}

// acceptAgain enters a receipt that says that it cannot vouch for the key's past: the event may be
// another one than the key's first, and has to arrive as well.
func (l *ledger) acceptAgain(number int, id string, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known, ok := l.numbers[id]; ok && known == number {
		return
	}
	l.enter(number, id, at)
}

// enter enters an event that has a receipt now. The lock is held.
func (l *ledger) enter(number int, id string, at time.Time) {
	if other, ok := l.numbers[id]; ok {
		l.fault("events %d and %d got the same receipt: %s", other, number, id)
		return
	}
	l.numbers[id] = number
	l.accepted++
	for _, hook := range l.wants(number) {
		e := l.entry(pair{hook, id})
		e.accepted = at
		l.expected++
		if e.arrived.IsZero() {
			l.open++
		}
	}
}

// request enters a request and returns its answer, which the policy gives for a delivery that was
// not taken yet: its argument is how many requests there were with this one. What was taken is
// taken again: it is the receiver's part to drop it.
func (l *ledger) request(p pair, at time.Time, policy func(requests int) int) (status int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entry(p)
	if !e.arrived.IsZero() {
		e.repeats = append(e.repeats, at)
		return 200
	}
	e.requests++
	status = policy(e.requests)
	if status/100 == 2 {
		e.arrived = at
		if !e.accepted.IsZero() && !e.excused {
			l.open--
		}
	}
	return status
}

// body checks what a request carried against the event that it names. The number is the body's own.
func (l *ledger) body(p pair, number int, body []byte) {
	own := bytes.Equal(body, l.data(number))
	l.mu.Lock()
	defer l.mu.Unlock()
	if known, ok := l.numbers[p.event]; !own || ok && known != number {
		l.fault("webhook %d got %s with a body that is not its own", p.hook, p.event)
	}
}

// excuse enters that an event may be gone with all its deliveries, because it was accepted after the
// backup that everything was restored from. Whatever of it arrives all the same is no stranger.
func (l *ledger) excuse(number int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, hook := range l.wants(number) {
		e := l.entry(pair{hook, l.events[number]})
		e.excused = true
		l.expected--
		if e.arrived.IsZero() {
			l.open--
		}
	}
}

// kept lists the deliveries that are expected.
func (l *ledger) kept() []pair {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []pair
	for p, e := range l.entries {
		if !e.accepted.IsZero() && !e.excused {
			out = append(out, p)
		}
	}
	return out
}

// arrivedBetween is how many deliveries arrived in a time.
func (l *ledger) arrivedBetween(from, to time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, e := range l.entries {
		if e.arrived.After(from) && e.arrived.Before(to) {
			n++
		}
	}
	return n
}

// inFlight is how many deliveries are accepted and have not arrived.
func (l *ledger) inFlight() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

func (l *ledger) acceptedCount() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.accepted
}

// knows reports whether a delivery is expected.
func (l *ledger) knows(p pair) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[p]
	return e != nil && !e.accepted.IsZero()
}

// id is the event that has the number's receipt.
func (l *ledger) id(number int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.events[number]
}

// arrival is when a delivery arrived, and in how many requests.
func (l *ledger) arrival(p pair) (at time.Time, requests int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entry(p)
	return e.arrived, e.requests
}

// sums is the ledger's end.
type sums struct {
	accepted, expected, arrived int
	missing, strangers          []pair
	duplicates                  int
	repeats                     []time.Time
	retried                     int // arrived, but not in the first request
	faults                      []string
}

// total adds everything up. Whoever arrived and was never accepted is a stranger; the ledger is to
// be complete before it is called.
func (l *ledger) total() sums {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := sums{accepted: l.accepted, expected: l.expected, faults: slices.Clone(l.faults)}
	for p, e := range l.entries {
		switch {
		case e.accepted.IsZero():
			s.strangers = append(s.strangers, p)
			continue
		case e.excused:
			s.duplicates += len(e.repeats)
			continue
		case e.arrived.IsZero():
			s.missing = append(s.missing, p)
		default:
			s.arrived++
		}
		if e.requests > 1 {
			s.retried++
		}
		s.duplicates += len(e.repeats)
		s.repeats = append(s.repeats, e.repeats...)
	}
	slices.SortFunc(s.repeats, time.Time.Compare)
	return s
}

// waits is how long each delivery took to arrive that was in flight at an instant, of those that
// count.
func (l *ledger) waits(at time.Time, counts func(pair) bool) []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	var waits []time.Duration
	for p, e := range l.entries {
		if counts(p) && !e.accepted.IsZero() && e.accepted.Before(at) && e.arrived.After(at) {
			waits = append(waits, e.arrived.Sub(at))
		}
	}
	slices.Sort(waits)
	return waits
}

// took is how long each delivery that counts took from its receipt to its arrival, sorted.
func (l *ledger) took(counts func(pair) bool) []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	var took []time.Duration
	for p, e := range l.entries {
		if counts(p) && !e.accepted.IsZero() && !e.arrived.IsZero() {
			took = append(took, max(0, e.arrived.Sub(e.accepted)))
		}
	}
	slices.Sort(took)
	return took
}

// spread describes durations that are sorted.
func spread(sorted []time.Duration) string {
	if len(sorted) == 0 {
		return "none"
	}
	at := func(share float64) time.Duration {
		return sorted[int(share*float64(len(sorted)-1))].Round(time.Millisecond)
	}
	return fmt.Sprintf("least %s, p50 %s, p90 %s, p99 %s, most %s", at(0), at(.5), at(.9), at(.99), at(1))
}
