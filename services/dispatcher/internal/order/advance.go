package order

import "time"

// Moves is what a call set free. The caller does it outside of any lock.
type Moves[J any] struct {
	// Run are to be attempted.
	Run []J
	// Release are Parked ones whose records are to be released. They are Coming now.
	Release []*Entry[J]
}

// Advance gives the turn to those that may have it: the first of a line of which no other has it, if
// nothing is missing before it. Open is the last event up to which all deliveries have come; room is
// how many more may be released beside the first of each line.
func (b *Book[J]) Advance(open uint64, room int, now time.Time, m *Moves[J]) {
	if open != b.open {
		b.open, b.far = open, false
		for l := range b.gated {
			b.changed[l] = struct{}{}
		}
	}
	for l := range b.changed {
		delete(b.changed, l)
		delete(b.gated, l)
		if len(l.entries) == 0 {
			if l.cut == endless {
				delete(b.lines, l.key)
			}
			continue
		}
		room = b.advance(l, open, room, now, m)
	}
}

func (b *Book[J]) advance(l *line[J], open uint64, room int, now time.Time, m *Moves[J]) int {
	first := l.entries[0]
	turn := first.State == Waiting || first.State == Parked
	if l.running == 0 && turn && !b.admits(l, first, open) {
		b.gated[l] = struct{}{}
		b.far = b.far || first.Event > open && first.Event < min(b.cut, l.cut)
		return room
	}
	switch {
	case first.State == InHand || first.State == Resting:
		return room // nobody knows yet whether the line moves
	case l.running > 0 || !turn:
	case first.State == Waiting:
		first.State, first.At = Running, now
		l.running++
		m.Run = append(m.Run, first.Job)
		var none J
		first.Job = none
	default:
		room = b.release(first, room, now, m)
	}
	if first.Tried {
		return room // likewise
	}
	// Those behind are fetched before their turn comes, so that a backlog does not cost a round trip for
	// each, and not for each alone.
	front := l.entries[:min(len(l.entries), b.limits.Window)]
	parked := 0
	for _, e := range front {
		if e.State == Parked {
			parked++
		}
	}
	if parked == 0 || first.State != Parked && parked < (b.limits.Window+1)/2 && len(l.entries) > len(front) {
		return room
	}
	for _, e := range front {
		if e.State == Parked && room > 0 && b.admits(l, e, open) {
			room = b.release(e, room, now, m)
		}
	}
	return room
}

func (b *Book[J]) admits(l *line[J], e *Entry[J], open uint64) bool {
	return b.scan == nil && e.Event <= open && e.Event < b.cut && e.Event < l.cut
}

func (b *Book[J]) release(e *Entry[J], room int, now time.Time, m *Moves[J]) int {
	e.State, e.At = Coming, now
	m.Release = append(m.Release, e)
	return room - 1
}

// Gated says whether a first one waits for the horizon.
func (b *Book[J]) Gated() bool { return b.far && b.scan == nil }

// Stuck says whether the turn of a line hangs on what should have come long ago, by deliveries that
// are Coming since before the time.
func (b *Book[J]) Stuck(before time.Time) bool {
	for _, l := range b.lines {
		if len(l.entries) > 0 && l.entries[0].State == Coming && l.entries[0].At.Before(before) {
			return true
		}
	}
	return false
}

// Resting adds to the list the records that first ones of lines rest or are parked in, at most so many
// in all, to be looked at whether they still stand.
func (b *Book[J]) Resting(into []*Entry[J], most int) []*Entry[J] {
	for _, l := range b.lines {
		if len(into) >= most {
			break
		}
		if len(l.entries) > 0 && l.entries[0].State == Resting && l.entries[0].Sequence > 0 {
			into = append(into, l.entries[0])
		}
	}
	return into
}

// Dry says whether so little is left of what is known that a scan should bring more.
func (b *Book[J]) Dry() bool {
	if b.scan != nil {
		return false
	}
	if b.cut != endless && len(b.byID) <= b.limits.Book/4 {
		return true
	}
	for l := range b.short {
		if len(l.entries) <= b.limits.Line/4 {
			return true
		}
	}
	return false
}

// BeginScan says that the streams are read from now on. Whatever is in hand now must be noted after
// that, and everything that is met until EndScan.
func (b *Book[J]) BeginScan() {
	b.scan = &scan{touched: map[string]struct{}{}, found: map[string]struct{}{}}
	b.cut = endless
	for l := range b.short {
		l.cut = endless
	}
	clear(b.short)
}

// Scanning says whether a scan is under way.
func (b *Book[J]) Scanning() bool { return b.scan != nil }

// Found says where a scan has met a delivery. What was noted since the scan began is newer.
func (b *Book[J]) Found(e Entry[J]) {
	if b.scan == nil {
		return
	}
	if _, newer := b.scan.touched[e.ID]; newer {
		return
	}
	b.scan.found[e.ID] = struct{}{}
	b.put(e)
}

// EndScan says that everything was read, or, if not complete, that the scan was given up. What was in no
// hand and was not found has ended elsewhere.
func (b *Book[J]) EndScan(complete bool) {
	if b.scan == nil {
		return
	}
	s := b.scan
	b.scan = nil
	if !complete {
		b.cut = 0
	} else {
		for id, e := range b.byID {
			_, touched := s.touched[id]
			_, found := s.found[id]
			gone := !touched && !found && (e.State == Parked || e.State == Resting || e.State == Coming)
			if gone || b.useless(b.line(e), e) {
				b.remove(id)
			}
		}
	}
	for _, l := range b.lines {
		b.changed[l] = struct{}{}
	}
}

// Forget says that nothing is known any more, until a scan has ended.
func (b *Book[J]) Forget() {
	b.scan = nil
	b.cut = 0
	for _, l := range b.lines {
		b.changed[l] = struct{}{}
	}
}
