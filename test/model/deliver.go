package model

// The order rules of a delivery.
var (
	// RouteRule: deliveries and the routed entry, in either order, before the event's ack.
	RouteRule = []string{"deliver", "journal", "ack"}
	// AttemptRule is an attempt with its hand-over: the record (or dead letter) and the index are the
	// scheduler's part, and its reply allows the ack.
	AttemptRule = []string{"check", "post", "journal", "record", "index", "ack"}
	// ReleaseRule: the publish appends the due delivery and removes the record in one step.
	ReleaseRule = []string{"claim", "publish", "drop"}
	// CancelRule ends a delivery on request, or what waits for a webhook: then there is a mark for each,
	// or, if the webhook is deleted, its own end is the mark of all.
	CancelRule = []string{"mark", "barrier", "read", "journal", "remove"}
)

// Rules are the orders of one world.
type Rules struct {
	Route, Attempt, Release, Cancel []string
}

// RightRules are the orders as they are.
func RightRules() Rules {
	return Rules{Route: RouteRule, Attempt: AttemptRule, Release: ReleaseRule, Cancel: CancelRule}
}

// limit is how many attempts the schedule has.
const limit = 2

// Where a message is.
const (
	absent = iota
	pending
	inHand
)

// What becomes of a delivery, as the journal says.
const (
	journalRouted = 1 << iota
	journalFirst  // attempt 1
	journalSecond // attempt 2
	journalDelivered
	journalDead
	journalCancelled
)

// Deliver is the world of one event that one webhook matches: EVENTS, the stream of deliveries, the
// record of retries and its index, the journal, the dead letters, and a router, a dispatcher, a
// scheduler and somebody who may cancel. Each process may crash and is then another.
type Deliver struct {
	Rules
	Crashes uint8 // of any process
	Flushes uint8 // of Redis
	Ends    uint8 // of the window of message ids
	Fires   bool  // whether records fire by themselves
	Rebuild bool  // whether a flushed index is rebuilt
	Cancels bool  // whether the delivery may be cancelled
}

// DeliverState is one state of Deliver.
type DeliverState struct {
	crashes, flushes, ends uint8

	event   uint8 // absent once it is acked
	routing int8  // the router's next step, -1 without an event in hand

	window     bool       // the delivery's message id is remembered
	deliveries [2]message // of the stream of deliveries
	due        [2]message // of the stream of retries
	record     record
	sequence   uint8 // the last of the stream of retries
	index      uint8 // members, by sequence
	flushed    bool  // the index may lack members

	journal  uint8
	letter   bool
	received uint8 // 2xx that the receiver gave
	posts    uint8
	routed   bool // a delivery was made

	job     job
	release release
	cancel  cancel
	bad     uint8
}

// message is one in a stream of which the dispatcher is the only consumer.
type message struct {
	at, attempts uint8
}

// record is what waits in RETRIES, sequence 0 if nothing does.
type record struct {
	sequence, attempts uint8
}

// job is the dispatcher's work on one message.
type job struct {
	pc       int8 // -1 without one
	due      bool
	slot     uint8
	attempts uint8 // that had been made before
	verdict  uint8
	outcome  uint8
	stored   uint8 // sequence of the record that it stored
	marked   bool  // this dispatcher has the cancel mark
}

// Verdicts of the check.
const (
	verdictPost = iota
	verdictStale
	verdictFinish // the attempt is journalled: hand over, and no POST
	verdictCancel
)

// Outcomes of a POST.
const (
	outcomeNone = iota
	outcomeSucceeded
	outcomeFailed
)

// release is the scheduler's work on one member of the index.
type release struct {
	pc       int8 // -1 without one
	sequence uint8
}

// cancel is a request's work.
type cancel struct {
	pc   int8 // 0 before it has begun
	read record
}

// What must never be.
const (
	badNothing = iota
	badPostAfterCancel
	badWaitsAfterCancel
)

// Start is an event that was just accepted.
func (w Deliver) Start() DeliverState {
	return DeliverState{
		crashes: w.Crashes, flushes: w.Flushes, ends: w.Ends, event: pending, routing: -1,
		job: job{pc: -1}, release: release{pc: -1},
	}
}

// Moves are the next steps of every process.
func (w Deliver) Moves(s DeliverState) []Move[DeliverState] {
	var moves []Move[DeliverState]
	add := func(name string, next DeliverState) { moves = append(moves, Move[DeliverState]{name, w.judge(next)}) }
	w.routeMoves(s, add)
	w.attemptMoves(s, add)
	w.releaseMoves(s, add)
	if w.Cancels {
		w.cancelMoves(s, add)
	}
	if w.Fires && s.record.sequence != 0 {
		next := s
		next.fire()
		add("the record fires", next)
	}
	if w.Rebuild && s.flushed {
		next := s
		next.flushed = false
		next.addIndex(next.record.sequence)
		add("the index is rebuilt", next)
	}
	return moves
}

// judge marks what must never be but shows in a step or a pair of states only.
func (w Deliver) judge(s DeliverState) DeliverState {
	answered := int(s.cancel.pc) == len(w.Cancel)
	if w.Cancels && answered && s.job.pc < 0 && s.record.sequence != 0 && s.crashes == w.Crashes {
		s.bad = badWaitsAfterCancel
	}
	return s
}

// Faults are crashes of each process, a flush, and the end of the window of message ids while the
// event is not acked.
func (w Deliver) Faults(s DeliverState) []Move[DeliverState] {
	var moves []Move[DeliverState]
	add := func(name string, next DeliverState) { moves = append(moves, Move[DeliverState]{name, next}) }
	if s.crashes > 0 {
		crashed := s
		crashed.crashes--
		if s.routing >= 0 {
			next := crashed
			next.routing = -1
			if next.event == inHand {
				next.event = pending
			}
			add("crash of the router", next)
		}
		if s.job.pc >= 0 {
			next := crashed
			if w.Attempt[s.job.pc] == "index" { // the scheduler, which was asked, goes on
				next.attemptStep(w, "index")
			}
			if m := &next.slots(s.job.due)[s.job.slot]; m.at == inHand {
				m.at = pending
			}
			next.job = job{pc: -1, marked: s.cancelMarked(w)} // the next one loads the configuration
			add("crash of the dispatcher", next)
		}
		if s.job.pc >= 0 && w.Attempt[s.job.pc] == "index" && s.job.stored != 0 {
			next := crashed
			if next.slots(s.job.due)[s.job.slot].at == inHand {
				next.job.pc-- // the dispatcher has no reply: it asks another
			} else {
				next.job = job{pc: -1, marked: s.job.marked} // it is acked: nobody asks again
			}
			add("crash of the scheduler between record and index", next)
		}
		if s.release.pc >= 0 {
			next := crashed
			next.release = release{pc: -1} // and the lease ends
			add("crash of the scheduler", next)
		}
		if s.cancel.pc > 0 && int(s.cancel.pc) < len(w.Cancel) {
			next := crashed
			next.cancel = cancel{}
			add("crash of the cancel, which is asked for again", next)
		}
	}
	if s.flushes > 0 {
		next := s
		next.flushes--
		next.index, next.flushed = 0, true
		add("flush", next)
	}
	if s.ends > 0 && s.window {
		next := s
		next.ends--
		next.window = false
		add("the window of message ids ends", next)
	}
	return moves
}

// Broken holds what must never be.
func (w Deliver) Broken(s DeliverState) string {
	switch {
	case s.bad == badPostAfterCancel:
		return "an attempt began after the cancel had answered"
	case s.bad == badWaitsAfterCancel:
		return "a delivery waits although its cancel has answered"
	case s.journal&journalDelivered != 0 && s.received == 0:
		return "the journal says delivered, and the receiver got nothing"
	case s.event == absent && s.journal&journalRouted == 0:
		return "the event is acked without its routed entry"
	case s.event == absent && !s.routed:
		return "the event is acked without its delivery"
	case s.record.attempts > 0 && s.record.sequence != 0 && s.journal&attempted(s.record.attempts) == 0:
		return "a record tells of an attempt that the journal does not have"
	case s.posts > limit+w.Crashes+w.Ends:
		return "more POSTs than attempts and what crashes can repeat"
	}
	return ""
}

// Unfinished holds what must be in the end: the delivery has ended, the log says how, and what is
// dead can be read.
func (Deliver) Unfinished(s DeliverState) string {
	ended := s.journal & (journalDelivered | journalDead | journalCancelled)
	switch {
	case s.journal&journalRouted == 0:
		return "the log does not know of the delivery"
	case ended == 0:
		return "the delivery has not ended"
	case ended == journalDead && !s.letter:
		return "a dead delivery has no dead letter"
	case s.record.sequence != 0:
		return "an ended delivery still waits"
	}
	return ""
}
