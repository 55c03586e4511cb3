package model

func (w Deliver) routeMoves(s DeliverState, add func(string, DeliverState)) {
	if s.routing < 0 {
		if s.event == pending {
			s.event, s.routing = inHand, 0
			add("router: pull", s)
		}
		return
	}
	step := w.Route[s.routing]
	switch step {
	case "deliver":
		s.routed = true
		if !s.window {
			if slot := free(s.deliveries); slot >= 0 {
				s.deliveries[slot] = message{at: pending}
			}
			s.window = true
		}
	case "journal":
		s.journal |= journalRouted
	case "ack":
		s.event = absent
	}
	if s.routing++; int(s.routing) == len(w.Route) {
		s.routing = -1
	}
	add("router: "+step, s)
}

// free is an empty place, -1 if there is none.
func free(slots [2]message) int {
	for i := range slots {
		if slots[i].at == absent {
			return i
		}
	}
	return -1
}

func (w Deliver) attemptMoves(s DeliverState, add func(string, DeliverState)) {
	if w.Cancels && !s.job.marked && s.cancelMarked(w) {
		next := s
		next.job.marked = true
		add("dispatcher: hears of the mark", next)
	}
	if s.job.pc < 0 {
		for _, due := range []bool{false, true} {
			slots := s.deliveries
			if due {
				slots = s.due
			}
			for i := range slots {
				if slots[i].at == pending {
					next := s
					next.slots(due)[i].at = inHand
					next.job = job{due: due, slot: uint8(i), attempts: slots[i].attempts, marked: s.job.marked}
					add("dispatcher: pull", next)
				}
			}
		}
		return
	}
	step := w.Attempt[s.job.pc]
	advance := func(next DeliverState) DeliverState {
		if next.job.pc++; int(next.job.pc) == len(w.Attempt) {
			next.job = job{pc: -1, marked: next.job.marked}
		}
		return next
	}
	if step == "post" && s.job.verdict == verdictPost {
		for _, outcome := range []uint8{outcomeSucceeded, outcomeFailed} {
			next := s
			next.job.outcome = outcome
			next.posts++
			if outcome == outcomeSucceeded {
				next.received++
			}
			add("dispatcher: post", advance(next))
		}
		return
	}
	s.attemptStep(w, step)
	add("dispatcher: "+step, advance(s))
}

func (s *DeliverState) slots(due bool) *[2]message {
	if due {
		return &s.due
	}
	return &s.deliveries
}

func (s *DeliverState) attemptStep(w Deliver, step string) {
	j := &s.job
	number := j.attempts + 1
	failed := j.outcome == outcomeFailed || j.verdict == verdictFinish
	switch step {
	case "check":
		j.verdict = s.check(w)
	case "journal":
		switch {
		case j.verdict == verdictCancel:
			s.journal |= journalCancelled
		case j.verdict != verdictPost:
		case j.outcome == outcomeFailed && number >= limit:
			s.journal |= attempted(number) | journalDead
		case j.outcome == outcomeFailed:
			s.journal |= attempted(number)
		default: // before the POST, in a wrong order, nobody knows better
			s.journal |= attempted(number) | journalDelivered
		}
	case "record":
		switch {
		case !failed:
		case number >= limit:
			s.letter = true
		case s.record.sequence != 0 && s.record.attempts == number: // superseded by its own repeat
			j.stored = s.record.sequence
		case s.record.sequence != 0 && s.record.attempts > number: // superseded
		default:
			s.sequence++
			s.record = record{s.sequence, number}
			j.stored = s.sequence
		}
	case "index":
		if j.stored != 0 && s.record.sequence == j.stored {
			s.addIndex(j.stored)
			if s.cancelMarked(w) && j.marked { // who stores looks at the marks after the store
				s.journal |= journalCancelled
				s.record = record{}
			}
		}
	case "ack":
		s.slots(j.due)[j.slot] = message{}
	}
}

func attempted(number uint8) uint8 {
	if number == 1 {
		return journalFirst
	}
	return journalSecond
}

// check is what a dispatcher asks before it POSTs: end states, the mark, and what a predecessor
// journalled or stored of a message that comes again.
func (s *DeliverState) check(w Deliver) uint8 {
	number := s.job.attempts + 1
	switch {
	case s.journal&(journalDelivered|journalCancelled) != 0:
		return verdictStale
	case s.journal&journalDead != 0 && s.letter:
		return verdictStale
	case s.job.marked && s.cancelMarked(w):
		return verdictCancel
	case s.record.sequence != 0 && s.record.attempts >= number:
		return verdictStale
	case s.journal&attempted(number) != 0:
		return verdictFinish
	}
	if int(s.cancel.pc) == len(w.Cancel) && w.Cancels {
		s.bad = badPostAfterCancel
	}
	return verdictPost
}

// cancelMarked reports whether the mark stands.
func (s *DeliverState) cancelMarked(w Deliver) bool {
	for i, step := range w.Cancel {
		if step == "mark" {
			return int(s.cancel.pc) > i
		}
	}
	return false
}

func (s *DeliverState) addIndex(sequence uint8) {
	if sequence != 0 {
		s.index |= 1 << sequence
	}
}

// fire appends the due delivery and removes the record, in one step of the server.
func (s *DeliverState) fire() {
	if slot := free(s.due); slot >= 0 {
		s.due[slot] = message{at: pending, attempts: s.record.attempts}
		s.record = record{}
	}
}

func (w Deliver) releaseMoves(s DeliverState, add func(string, DeliverState)) {
	if s.release.pc < 0 {
		for sequence := uint8(1); sequence <= s.sequence; sequence++ {
			if s.index&(1<<sequence) != 0 {
				next := s
				next.release = release{sequence: sequence}
				if w.Release[0] == "claim" {
					next.release.pc = 1
				}
				add("scheduler: claim", next)
			}
		}
		return
	}
	step := w.Release[s.release.pc]
	switch step {
	case "publish":
		if s.record.sequence == s.release.sequence { // else: replaced, released, fired or cancelled
			if free(s.due) < 0 {
				return
			}
			s.fire()
		}
	case "drop":
		s.index &^= 1 << s.release.sequence
	}
	if s.release.pc++; int(s.release.pc) == len(w.Release) {
		s.release = release{pc: -1}
	}
	add("scheduler: "+step, s)
}

func (w Deliver) cancelMoves(s DeliverState, add func(string, DeliverState)) {
	if int(s.cancel.pc) == len(w.Cancel) {
		return
	}
	step := w.Cancel[s.cancel.pc]
	switch step {
	case "barrier":
		if s.cancelMarked(w) && !s.job.marked {
			return // it waits for every dispatcher
		}
	case "read":
		s.cancel.read = s.record
	case "journal":
		if s.cancel.read.sequence != 0 {
			s.journal |= journalCancelled
		}
	case "remove":
		if s.cancel.read.sequence != 0 && s.record.sequence == s.cancel.read.sequence {
			s.record = record{}
		}
	}
	s.cancel.pc++
	add("cancel: "+step, s)
}
