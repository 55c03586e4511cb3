package model

import "fmt"

// AcceptRule is the order in which ingest accepts an event.
var AcceptRule = []string{"claim", "publish", "finish", "answer"}

// tries is how many publishes of one key there are; they may run side by side.
const tries = 3

// Claims of a key, as Redis has them.
const (
	claimNone = iota
	claimPending
	claimDone
)

// Accept is the world of one idempotency key: its claim in Redis, the record of events with its
// window of message ids, and producers that publish the same event under it.
type Accept struct {
	Rule    []string
	Crashes uint8 // of an ingest in the middle of a publish
	Flushes uint8 // of Redis
}

// AcceptState is one state of Accept.
type AcceptState struct {
	crashes, flushes uint8

	claim      uint8
	claimEvent uint8 // the id that was chosen at the claim; ids are 1 + the try that chose them
	claimOwner uint8

	stored   [tries + 1]uint8 // copies of each id in EVENTS
	window   uint8            // the id that the message id stands for, 0 once it is forgotten
	flushed  bool             // the long window is degraded
	answered uint8            // the id that an OK named, 0 for none
	otherOK  bool             // an OK named another
	waited   bool             // a repeat had to wait although an OK had been given

	try [tries]acceptTry
}

// acceptTry is one publish.
type acceptTry struct {
	pc    uint8 // next step; len(rule) when it has ended
	dead  bool
	event uint8 // the id that it works with
	taken bool  // it took a claim over
}

// Start is before the first publish.
func (w Accept) Start() AcceptState {
	s := AcceptState{crashes: w.Crashes, flushes: w.Flushes}
	for i := range s.try {
		s.try[i].event = uint8(i) + 1
	}
	return s
}

// Moves are the next steps of the publishes, and what passes by itself.
func (w Accept) Moves(s AcceptState) []Move[AcceptState] {
	var moves []Move[AcceptState]
	busy := false
	for i := range s.try {
		t := s.try[i]
		if t.dead || int(t.pc) == len(w.Rule) {
			continue
		}
		busy = busy || t.pc > 0
		if next, ok := w.step(s, i); ok {
			moves = append(moves, Move[AcceptState]{fmt.Sprintf("try %d: %s", i, w.Rule[t.pc]), next})
		}
	}
	// The window is longer than any publish: it does not end while one is at work.
	if s.window != 0 && !busy {
		next := s
		next.window = 0
		moves = append(moves, Move[AcceptState]{"the window of message ids ends", next})
	}
	if s.flushed && s.claim == claimNone {
		if id := s.event(); id != 0 {
			next := s
			next.claim, next.claimEvent, next.flushed = claimDone, id, false
			moves = append(moves, Move[AcceptState]{"the window of keys is rebuilt from EVENTS", next})
		}
	}
	return moves
}

// event is an id that is stored, 0 if none is.
func (s *AcceptState) event() uint8 {
	for id := range s.stored {
		if s.stored[id] > 0 {
			return uint8(id)
		}
	}
	return 0
}

// step is the next step of a publish; ok is false if it waits for another.
func (w Accept) step(s AcceptState, i int) (AcceptState, bool) {
	t := &s.try[i]
	switch w.Rule[t.pc] {
	case "claim":
		switch {
		case s.claim == claimNone:
			s.claim, s.claimEvent, s.claimOwner = claimPending, t.event, uint8(i)
		case s.claim == claimPending && !s.try[s.claimOwner].dead && int(s.try[s.claimOwner].pc) < len(w.Rule):
			return s, false
		case s.claim == claimPending: // its holder is silent: the same id goes on
			s.waited = s.waited || s.answered != 0 && !s.flushed
			s.claimOwner, t.event, t.taken = uint8(i), s.claimEvent, true
		default: // done: a duplicate
			t.event = s.claimEvent
			s.ok(t.event)
			t.pc = uint8(len(w.Rule))
			return s, true
		}
	case "publish":
		switch {
		case s.window != 0:
			t.event = s.window // a duplicate: the stored event is read, and compared
		case t.taken && s.stored[t.event] > 0: // a claim older than the window is looked up first
		default:
			s.stored[t.event]++
			s.window = t.event
		}
	case "finish":
		if s.claim == claimPending && int(s.claimOwner) == i {
			s.claim, s.claimEvent = claimDone, t.event
		}
	case "answer":
		s.ok(t.event)
	}
	t.pc++
	return s, true
}

func (s *AcceptState) ok(id uint8) {
	s.otherOK = s.otherOK || s.answered != 0 && s.answered != id
	s.answered = id
}

// Faults are crashes and flushes.
func (w Accept) Faults(s AcceptState) []Move[AcceptState] {
	var moves []Move[AcceptState]
	for i := range s.try {
		if t := s.try[i]; s.crashes > 0 && !t.dead && t.pc > 0 && int(t.pc) < len(w.Rule) {
			next := s
			next.crashes--
			next.try[i].dead = true
			moves = append(moves, Move[AcceptState]{fmt.Sprintf("crash of try %d", i), next})
		}
	}
	if s.flushes > 0 {
		next := s
		next.flushes--
		next.claim, next.claimEvent, next.claimOwner, next.flushed = claimNone, 0, 0, true
		moves = append(moves, Move[AcceptState]{"flush", next})
	}
	return moves
}

// Broken holds the promises of a receipt.
func (w Accept) Broken(s AcceptState) string {
	copies := 0
	for _, n := range s.stored {
		copies += int(n)
	}
	switch {
	case s.answered != 0 && s.stored[s.answered] == 0:
		return "an OK was given for an event that is not stored"
	case w.Flushes == 0 && copies > 1:
		return "one key stored two events"
	case w.Flushes == 0 && s.otherOK:
		return "two OKs of one key named two events"
	case s.waited:
		return "a repeat waited for a takeover although its OK had been given"
	}
	return ""
}

// Unfinished is nothing: a publish that crashed may be repeated or not.
func (Accept) Unfinished(AcceptState) string { return "" }
