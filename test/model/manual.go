package model

import "fmt"

// ManualRule is an attempt by hand, beside the schedule.
var ManualRule = []string{"check", "post", "journal", "end"}

// Manual is the world of a delivery that waits, of attempts by hand beside its schedule, and of a
// cancel that may come.
type Manual struct {
	Rule    []string
	Crashes uint8 // of the process that makes the attempts by hand
	Cancels bool
}

// hands is how many attempts by hand there are; they may run side by side.
const hands = 2

// ManualState is one state of Manual.
type ManualState struct {
	crashes   uint8
	marked    bool // and confirmed by everybody, and answered
	sequence  uint8
	record    record // that waits
	due       bool   // the schedule's own attempt is due or under way
	attempts  uint8
	delivered bool
	ended     uint8 // dead or cancelled, as the journal says
	received  uint8
	posts     uint8 // by hand
	hand      [hands]manualTry
	late      bool
}

// manualTry is one attempt by hand.
type manualTry struct {
	pc      uint8
	gone    bool // its process died
	allowed bool
	outcome uint8
}

// Start is a delivery whose first attempt failed.
func (w Manual) Start() ManualState {
	return ManualState{crashes: w.Crashes, sequence: 1, record: record{sequence: 1, attempts: 1}, attempts: 1}
}

// Moves are the next steps of the attempts by hand, of the schedule and of the cancel.
func (w Manual) Moves(s ManualState) []Move[ManualState] {
	var moves []Move[ManualState]
	add := func(name string, next ManualState) { moves = append(moves, Move[ManualState]{name, next}) }
	for i := range s.hand {
		w.handMoves(s, i, func(name string, next ManualState) { add(fmt.Sprintf("hand %d: %s", i, name), next) })
	}
	if s.record.sequence != 0 {
		next := s
		next.record, next.due = record{}, true
		add("the record is released", next)
	}
	if s.due {
		w.scheduleMoves(s, add)
	}
	if w.Cancels && !s.marked && !s.delivered {
		next := s
		next.marked = true
		if next.record.sequence != 0 {
			next.record, next.ended = record{}, journalCancelled
		}
		add("cancel: marked, confirmed, journalled, removed and answered", next)
	}
	return moves
}

// scheduleMoves are the end of the schedule's own attempt: its order is another world's.
func (w Manual) scheduleMoves(s ManualState, add func(string, ManualState)) {
	s.due = false
	if s.marked {
		s.ended |= journalCancelled
		add("schedule: met as cancelled", s)
		return
	}
	s.attempts++
	success := s
	success.delivered = true
	success.received++
	add("schedule: delivers", success)
	if s.attempts > limit {
		s.ended |= journalDead
		add("schedule: is spent", s)
		return
	}
	s.sequence++
	s.record = record{s.sequence, s.attempts}
	add("schedule: fails and waits", s)
}

func (w Manual) handMoves(s ManualState, i int, add func(string, ManualState)) {
	h := &s.hand[i]
	if h.gone || int(h.pc) == len(w.Rule) {
		return
	}
	step := w.Rule[h.pc]
	h.pc++
	switch step {
	case "check":
		if s.marked || s.delivered || s.ended != 0 {
			h.pc = uint8(len(w.Rule)) // it is refused
		} else {
			h.allowed = true
		}
	case "post":
		s.late = s.late || s.marked && !h.allowed
		s.posts++
		failed := s
		failed.hand[i].outcome = outcomeFailed
		add("post fails", failed)
		h.outcome = outcomeSucceeded
		s.received++
	case "journal":
		if h.outcome != outcomeFailed { // before the POST, in a wrong order, nobody knows better
			s.delivered = true
		}
	case "end":
		if h.outcome == outcomeSucceeded {
			s.record = record{}
		}
	}
	add(step, s)
}

// Faults are deaths of the process that makes an attempt by hand; it is not made again by itself.
func (w Manual) Faults(s ManualState) []Move[ManualState] {
	var moves []Move[ManualState]
	for i := range s.hand {
		if h := s.hand[i]; s.crashes > 0 && !h.gone && h.pc > 0 && int(h.pc) < len(w.Rule) {
			next := s
			next.crashes--
			next.hand[i].gone = true
			moves = append(moves, Move[ManualState]{fmt.Sprintf("crash of hand %d", i), next})
		}
	}
	return moves
}

// Broken holds what must never be.
func (Manual) Broken(s ManualState) string {
	switch {
	case s.late:
		return "an attempt by hand began after a cancel had been answered"
	case s.delivered && s.received == 0:
		return "the journal says delivered, and the receiver got nothing"
	case s.record.sequence == 0 && !s.due && !s.delivered && s.ended == 0:
		return "the delivery is nowhere, and nothing says that it has ended"
	}
	return ""
}

// Unfinished holds what must be in the end: an end that the journal knows, and nothing that waits.
func (Manual) Unfinished(s ManualState) string {
	switch {
	case !s.delivered && s.ended == 0:
		return "the delivery has not ended"
	case s.record.sequence != 0 || s.due:
		return "an ended delivery still waits"
	}
	return ""
}
