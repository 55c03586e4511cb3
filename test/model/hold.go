package model

// The order rules of a webhook that is paused and resumed.
var (
	// SwitchRule is a pause or a resume: the write, and the barrier that allows the answer.
	SwitchRule = []string{"write", "barrier"}
	// ParkRule is what a dispatcher does with a delivery that may not be attempted. The look at the
	// webhook's state is the scheduler's, after the store; its reply allows the ack.
	ParkRule = []string{"check", "journal", "record", "look", "ack"}
	// HoldRule turns a waiting record into a held one.
	HoldRule = []string{"journal", "replace", "forget"}
	// DrainRule releases a held record of an active webhook.
	DrainRule = []string{"journal", "release"}
)

// HoldRules are the orders of one world of Hold.
type HoldRules struct {
	Switch, Park, Hold, Drain []string
}

// RightHoldRules are the orders as they are.
func RightHoldRules() HoldRules {
	return HoldRules{Switch: SwitchRule, Park: ParkRule, Hold: HoldRule, Drain: DrainRule}
}

// Hold is the world of one delivery of a webhook that is paused and resumed: its message, its record
// with the index, what the journal said last, a dispatcher and a scheduler that hear of a change when
// they do, and somebody who switches the webhook.
type Hold struct {
	HoldRules
	Switches uint8 // pause, resume, pause
	Failures uint8 // attempts that fail and wait for their schedule
	Crashes  uint8
	Fires    bool // whether records fire by themselves
}

// Records of RETRIES.
const (
	recordNone = iota
	recordWaiting
	recordHeld
)

// What the journal said last.
const (
	saidRouted = iota
	saidWaiting
	saidHeld
	saidPending
	saidDelivered
)

// HoldState is one state of Hold.
type HoldState struct {
	switches, failures, crashes uint8

	paused      bool // as it is written
	dispatcher  bool // what the dispatcher has heard: paused
	scheduler   bool // what the scheduler has heard: paused
	pc          uint8
	quiet       bool  // a pause was answered, and nobody has resumed since
	waits       uint8 // messages before the dispatcher
	taken       bool  // the one in hand is not acked
	record      uint8
	indexed     bool
	said        uint8
	job         holdJob
	work        holdWork
	look        bool // the scheduler is to look at the webhook
	bad         uint8
	everCrashed bool
}

// holdJob is the dispatcher's work on the message.
type holdJob struct {
	pc      int8 // -1 without one
	verdict uint8
}

// Verdicts of the dispatcher's check.
const (
	holdUndecided = iota
	holdIt
	waitForIt // the attempt failed
	delivered
)

// holdWork is the scheduler's work on the record.
type holdWork struct {
	drain bool
	pc    int8 // -1 without any
}

// What must never be.
const (
	badUntold = iota + 1
	badLate
)

// Start is a delivery that was routed.
func (w Hold) Start() HoldState {
	return HoldState{
		switches: w.Switches, failures: w.Failures, crashes: w.Crashes, waits: 1,
		job: holdJob{pc: -1}, work: holdWork{pc: -1},
	}
}

// Moves are the next steps of everybody.
func (w Hold) Moves(s HoldState) []Move[HoldState] {
	var moves []Move[HoldState]
	add := func(name string, next HoldState) { moves = append(moves, Move[HoldState]{name, next}) }
	w.switchMoves(s, add)
	w.jobMoves(s, add)
	w.workMoves(s, add)
	if s.dispatcher != s.paused {
		next := s
		next.dispatcher = s.paused
		add("dispatcher: hears of the change", next)
	}
	if s.scheduler != s.paused {
		next := s
		next.scheduler, next.look = s.paused, true
		add("scheduler: hears of the change", next)
	}
	if s.record == recordWaiting && s.indexed && s.work.pc < 0 {
		next := s
		next.release()
		add("scheduler: release", next)
	}
	if w.Fires && s.record != recordNone && s.work.pc < 0 {
		next := s
		next.release()
		add("the record fires", next)
	}
	return moves
}

func (w Hold) switchMoves(s HoldState, add func(string, HoldState)) {
	if s.pc == 0 && s.switches == 0 {
		return
	}
	step := w.Switch[s.pc]
	switch step {
	case "write":
		s.paused, s.quiet = !s.paused, false
	case "barrier":
		if s.dispatcher != s.paused {
			return // it waits for every dispatcher
		}
	}
	if s.pc++; int(s.pc) == len(w.Switch) {
		s.pc, s.quiet = 0, s.paused
		s.switches--
	}
	add("switch: "+step, s)
}

func (w Hold) jobMoves(s HoldState, add func(string, HoldState)) {
	if s.job.pc < 0 {
		if s.waits > 0 {
			s.waits, s.taken, s.job = s.waits-1, true, holdJob{}
			add("dispatcher: pull", s)
		}
		return
	}
	step := w.Park[s.job.pc]
	advance := func(next HoldState) HoldState {
		if next.job.pc++; int(next.job.pc) == len(w.Park) {
			next.job = holdJob{pc: -1}
		}
		return next
	}
	if step != "check" {
		w.parkStep(&s, step)
		add("dispatcher: "+step, advance(s))
		return
	}
	if s.dispatcher {
		s.job.verdict = holdIt
		add("dispatcher: may not", advance(s))
		return
	}
	if s.quiet {
		s.bad = badLate
	}
	success := s
	success.job.verdict = delivered
	add("dispatcher: delivers", advance(success))
	if s.failures > 0 {
		s.failures--
		s.job.verdict = waitForIt
		add("dispatcher: fails", advance(s))
	}
}

func (w Hold) parkStep(s *HoldState, step string) {
	switch step {
	case "journal":
		switch s.job.verdict {
		case holdIt:
			s.said = saidHeld
		case waitForIt:
			s.said = saidWaiting
		case delivered:
			s.said = saidDelivered
		}
	case "record":
		switch s.job.verdict {
		case holdIt:
			s.hold()
		case waitForIt:
			s.record, s.indexed = recordWaiting, true
		}
	case "look":
		if s.record == recordHeld && !s.scheduler || s.record == recordWaiting && s.scheduler {
			s.look = true
		}
	case "ack":
		s.taken = false
	}
}

// release makes a message of the record.
func (s *HoldState) release() {
	s.record, s.indexed = recordNone, false
	s.waits++
}

// hold makes a held record, of which the journal must have told.
func (s *HoldState) hold() {
	s.record, s.indexed = recordHeld, false
	if s.said != saidHeld {
		s.bad = badUntold
	}
}

func (w Hold) workMoves(s HoldState, add func(string, HoldState)) {
	if s.work.pc < 0 {
		switch {
		case !s.look:
			return
		case s.record == recordHeld && !s.scheduler:
			s.work = holdWork{drain: true}
		case s.record == recordWaiting && s.scheduler:
			s.work = holdWork{}
		}
		s.look = false
		add("scheduler: looks", s)
		return
	}
	rule := w.Hold
	if s.work.drain {
		rule = w.Drain
	}
	step := rule[s.work.pc]
	switch {
	case s.work.drain && step == "journal":
		s.said = saidPending
	case step == "release":
		if s.record == recordHeld {
			s.release()
		}
	case step == "journal":
		s.said = saidHeld
	case step == "replace":
		s.hold()
	case step == "forget":
		s.indexed = false
	}
	if s.work.pc++; int(s.work.pc) == len(rule) {
		s.work = holdWork{pc: -1}
	}
	add("scheduler: "+step, s)
}

// Faults are crashes of the dispatcher and of the scheduler, whose successors know what is written,
// and look at every webhook.
func (w Hold) Faults(s HoldState) []Move[HoldState] {
	if s.crashes == 0 {
		return nil
	}
	var moves []Move[HoldState]
	s.crashes--
	s.everCrashed = true
	if s.job.pc >= 0 {
		next := s
		if w.Park[s.job.pc] == "look" { // the scheduler, which was asked, goes on
			w.parkStep(&next, "look")
		}
		next.job, next.dispatcher = holdJob{pc: -1}, s.paused
		// The successor finds a record, a message or an end that came of the one in hand, and lets that be.
		if next.taken && next.record == recordNone && next.waits == 0 && next.said != saidDelivered {
			next.waits++
		}
		next.taken = false
		moves = append(moves, Move[HoldState]{"crash of the dispatcher", next})
	}
	next := s
	next.work, next.scheduler, next.look = holdWork{pc: -1}, s.paused, true
	if s.job.pc >= 0 && w.Park[s.job.pc] == "look" && !s.taken {
		next.job = holdJob{pc: -1} // acked before: nobody asks another scheduler
	}
	moves = append(moves, Move[HoldState]{"crash of the scheduler", next})
	return moves
}

// Broken holds what must never be.
func (Hold) Broken(s HoldState) string {
	switch s.bad {
	case badUntold:
		return "a record is held and no entry of the journal says so"
	case badLate:
		return "an attempt began after a pause had been answered"
	}
	return ""
}

// Unfinished holds what must be in the end: an active webhook's delivery is delivered, a paused one's
// is held, and the log says so.
func (Hold) Unfinished(s HoldState) string {
	switch {
	case s.said == saidDelivered && s.record == recordNone && s.waits == 0:
		return ""
	case s.record == recordNone:
		return "the delivery is nowhere"
	case !s.paused && s.record == recordHeld:
		return "a delivery of an active webhook is stranded as held"
	case !s.paused:
		return "a delivery of an active webhook waits, and nobody will release it"
	case s.record != recordHeld:
		return "a delivery of a paused webhook is not held"
	case s.said != saidHeld && !s.everCrashed:
		return "the log does not say that the delivery is held"
	}
	return ""
}
