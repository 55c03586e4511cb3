package model

// The order rules of jobs. What is selected is written down before anything of it is made, and counted
// in the same write that would begin the next batch.
var (
	// RedriveRule makes a dead letter live again.
	RedriveRule = []string{"select", "record", "journal", "remove", "count"}
	// ReplayRule makes a new delivery of an old event.
	ReplayRule = []string{"select", "publish", "journal", "count"}
)

// batchJob is what a redrive and a replay have in common in their states: a holder that may die at each
// step, whose successor makes again what is written down.
type batchJob struct {
	pc      int8 // the holder's next step; len(rule) when the job has ended
	written bool // the batch is written down
	again   bool // it may have been made before
	counted uint8
}

// crash is the holder's death: its successor begins with what is written down, or selects anew.
func (j *batchJob) crash(rule []string, first string) {
	if !j.written {
		j.pc, j.again = 0, false
		return
	}
	j.again = true
	for i, step := range rule {
		if step == first {
			j.pc = int8(i)
			return
		}
	}
}

// Redrive is the world of one dead letter, of a job that makes it live, and of what becomes of the
// delivery then.
type Redrive struct {
	Rule    []string
	Crashes uint8
}

// RedriveState is one state of Redrive.
type RedriveState struct {
	crashes   uint8
	job       batchJob
	letter    bool
	record    bool // of the next series
	due       bool // the record was released, and is attempted
	lives     bool // the log knows the next series
	delivered bool // and its end
	made      bool // a record of the next series was stored
	stale     bool // the holder found that it lives already
	gone      bool // the holder found no letter
}

// Start is a dead letter.
func (w Redrive) Start() RedriveState { return RedriveState{crashes: w.Crashes, letter: true} }

// Moves are the job's next step, and what becomes of the record.
func (w Redrive) Moves(s RedriveState) []Move[RedriveState] {
	var moves []Move[RedriveState]
	if s.record {
		next := s
		next.record, next.due = false, true
		moves = append(moves, Move[RedriveState]{"the record is released", next})
	}
	if s.due {
		next := s
		next.due, next.lives, next.delivered = false, true, true
		moves = append(moves, Move[RedriveState]{"the delivery is attempted, journalled and acked", next})
	}
	if int(s.job.pc) == len(w.Rule) {
		return moves
	}
	step := w.Rule[s.job.pc]
	s.step(step)
	s.job.pc++
	return append(moves, Move[RedriveState]{"job: " + step, s})
}

func (s *RedriveState) step(step string) {
	switch step {
	case "select":
		s.job.written = true
	case "record":
		s.gone, s.stale = !s.letter, s.letter && s.lives
		if s.gone || s.stale || s.record {
			return // of a record that stands it is told, and takes it for its own
		}
		s.record, s.made = true, true
	case "journal":
		s.lives = s.lives || s.letter && !s.stale
	case "remove":
		s.letter = false
	case "count":
		ours := !s.stale && !s.gone || s.job.again
		if ours {
			s.job.counted++
		}
		s.job.written = false
	}
}

// Faults are the deaths of holders.
func (w Redrive) Faults(s RedriveState) []Move[RedriveState] {
	if s.crashes == 0 || int(s.job.pc) == len(w.Rule) {
		return nil
	}
	s.crashes--
	s.job.crash(w.Rule, "record")
	s.gone, s.stale = false, false
	return []Move[RedriveState]{{"the job's holder dies", s}}
}

// Broken holds what must never be.
func (w Redrive) Broken(s RedriveState) string {
	ended := int(s.job.pc) == len(w.Rule)
	switch {
	case !s.letter && !s.made:
		return "a dead letter is gone, and its delivery does not live"
	case ended && s.record && !s.lives:
		return "the log says that a delivery is dead, which waits"
	}
	return ""
}

// Unfinished holds what must be in the end.
func (Redrive) Unfinished(s RedriveState) string {
	switch {
	case !s.delivered:
		return "a redriven delivery was not attempted"
	case s.letter:
		return "the letter of a delivery that lives is left"
	case s.job.counted != 1:
		return "one delivery was made, and another number counted"
	}
	return ""
}

// Replay is the world of one old event, of a job that delivers it again, and of a webhook that may
// go after a crash, so that selecting anew gives nothing.
type Replay struct {
	Rule    []string
	Crashes uint8
}

// ReplayState is one state of Replay.
type ReplayState struct {
	crashes   uint8
	job       batchJob
	selected  bool
	gone      bool // the webhook
	window    bool // the delivery's message id is remembered
	message   bool
	routed    bool // the log knows the delivery
	delivered bool
	posts     uint8
}

// Start is an event that one webhook wants again.
func (w Replay) Start() ReplayState { return ReplayState{crashes: w.Crashes} }

// Moves are the job's next step, and the delivery's attempt.
func (w Replay) Moves(s ReplayState) []Move[ReplayState] {
	var moves []Move[ReplayState]
	if s.message {
		next := s
		next.message, next.delivered = false, true
		next.posts++
		moves = append(moves, Move[ReplayState]{"the delivery is attempted, journalled and acked", next})
	}
	if int(s.job.pc) == len(w.Rule) {
		return moves
	}
	step := w.Rule[s.job.pc]
	switch step {
	case "select":
		s.selected, s.job.written = !s.gone, true
	case "publish":
		known := s.job.again && (s.routed || s.delivered)
		if !s.selected && s.job.written || known {
			break
		}
		if !s.window {
			s.message, s.window = true, true
		}
	case "journal":
		s.routed = s.routed || s.selected
	case "count":
		if s.selected {
			s.job.counted++
		}
		s.job.written = false
	}
	s.job.pc++
	return append(moves, Move[ReplayState]{"job: " + step, s})
}

// Faults are the deaths of holders, after which the webhook may be gone.
func (w Replay) Faults(s ReplayState) []Move[ReplayState] {
	if s.crashes == 0 || int(s.job.pc) == len(w.Rule) {
		return nil
	}
	s.crashes--
	s.selected = s.selected && s.job.written
	s.job.crash(w.Rule, "publish")
	gone := s
	gone.gone = true
	return []Move[ReplayState]{{"the job's holder dies", s}, {"the job's holder dies, and the webhook goes", gone}}
}

// Broken holds what must never be.
func (Replay) Broken(s ReplayState) string {
	if s.posts > 1 {
		return "a replay was POSTed twice within the window of message ids"
	}
	return ""
}

// Unfinished holds what must be in the end: what was made is known, delivered and counted.
func (Replay) Unfinished(s ReplayState) string {
	made := uint8(0)
	if s.posts > 0 {
		made = 1
	}
	switch {
	case s.routed && !s.delivered:
		return "the log shows a delivery that nobody made"
	case s.delivered && !s.routed:
		return "the log does not know what routed a delivery"
	case s.job.counted != made:
		return "another number of deliveries is counted than was made"
	}
	return ""
}
