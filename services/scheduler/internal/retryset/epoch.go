package retryset

// epoch is how much of a slot's life this process has seen. The generation is the moment, in
// microseconds, at which the slot's last rebuild began; the count is moved on by every claim
// of every replica. Both are stored in the slot's own key, so that nothing can lose the
// members and keep the epoch. It is zero until this process has looked.
type epoch struct {
	generation int64
	count      int64
}

// slotState is what this process thinks of a slot.
type slotState struct {
	epoch

	// lost says that the slot was found to be other than what this process remembers. It
	// stays until a rebuild gives the slot a later generation: the count alone would catch up.
	lost bool
	// doubts counts the adds of this process that failed since its last rebuild of the slot.
	// A rebuild by another replica does not answer them, it may have begun before.
	doubts uint64
	// seen is the highest count read since the rebuild that runs, if any, began.
	seen int64
}

// needsRebuild reports whether members may be missing from the slot.
func (s *slotState) needsRebuild() bool { return s.generation == 0 || s.lost || s.doubts > 0 }

// begin notes, by the clock of the server that has the slot, when this process first looked at it:
// a slot that was rebuilt after that moment needs no rebuild by this process. It reports whether
// this was the first look.
func (s *slotState) begin(now int64) bool {
	if s.generation != 0 {
		return false
	}
	s.epoch, s.lost = epoch{generation: now}, true
	return true
}

// observe judges what a claim found against what was known when the claim was sent; answers
// of concurrent claims may be read in any order. Sound says that the slot is in the process of a
// server that it was rebuilt in. There are five cases:
//
//  1. A later generation: the slot was rebuilt by someone. Everything that was in RETRIES when
//     that rebuild began is in the slot, and what came later was added to it.
//  2. The same generation and a higher count: nothing happened.
//  3. The same generation, and a count that this process has seen before, though every claim
//     moves it on: the slot was restored from an older state.
//  4. An earlier generation, or none: it was restored from a still older state, or flushed.
//  5. Whatever generation and count, but not sound: a replica was promoted, a server was started
//     again, or the slot moved to another one. The last that was added to it may be missing.
//
// It reports whether this is the first that was seen of a loss.
func (s *slotState) observe(sent, found epoch, sound bool) (vanished bool) {
	s.seen = max(s.seen, found.count)
	switch {
	case found.generation > s.generation:
		vanished = !sound && !s.lost
		s.epoch, s.lost = found, !sound
	case s.generation != sent.generation:
		// A rebuild was finished after the claim was sent; what it found is history.
	case sound && found.generation == sent.generation && found.count > sent.count:
		s.count = max(s.count, found.count)
	default:
		vanished = !s.lost
		s.lost = true
	}
	return vanished
}

// rebuilt notes that a rebuild of this process gave the slot the epoch.
func (s *slotState) rebuilt(e epoch, doubts uint64) {
	if e.generation > s.generation {
		s.epoch, s.lost = e, false
	}
	// What was distrusted after the rebuild began may have been stored behind its reader.
	s.doubts -= min(s.doubts, doubts)
}
