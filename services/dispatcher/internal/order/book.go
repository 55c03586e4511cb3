// Package order keeps the lines of ordered webhooks: which deliveries of a webhook have not ended,
// in the order in which their events were accepted, and which of them may be attempted now. It is an
// index in one process's memory of what the streams hold: losing it costs reading them again, and
// until that is done a line moves for nobody.
//
// A line is a whole webhook, or one ordering key of it. Nothing here waits or asks anybody.
package order

import (
	"slices"
	"time"
)

// State says where a delivery is.
type State uint8

// The states.
const (
	// InHand is in this process: on its way in, or about to be stored.
	InHand State = iota + 1
	// Waiting is in this process and waits for its turn.
	Waiting
	// Running has the turn.
	Running
	// Parked is in a record that waits for the turn alone: whoever keeps the book has it released.
	Parked
	// Coming was released, and its message is on its way.
	Coming
	// Resting is in a record that waits for a time of its own: for its next attempt, at a limit, or held.
	Resting
)

// Limits bound a book.
type Limits struct {
	// Line is how many deliveries of one line are known. At least 2.
	Line int
	// Book is how many of all lines together are. At least 2.
	Book int
	// Window is how many at a line's front are wanted in memory. At least 1, less than Line.
	Window int
}

// Default limits. A delivery takes about 200 bytes.
func Default() Limits { return Limits{Line: 8192, Book: 65536, Window: 64} }

// Entry is one delivery that has not ended.
type Entry[J any] struct {
	// ID of the delivery.
	ID string
	// EventID is its event.
	EventID string
	// Event is the event's sequence, by which a line is ordered.
	Event uint64
	// Key is its ordering key.
	Key string
	// State is where it is.
	State State
	// Sequence of its record, if it is Parked or Resting; 0 if it is not known.
	Sequence uint64
	// Due is when a Resting one may be attempted; zero if it is held.
	Due time.Time
	// Reason is why a Resting one waits.
	Reason string
	// Since is when it was first attempted, or came to wait.
	Since time.Time
	// Tried says that it has been attempted: whether its line will move is not known before it has ended.
	Tried bool
	// Job is the work on it while it is Waiting.
	Job J
	// At is when it came into its state.
	At time.Time
}

// endless is the cut of what is known in full.
const endless = ^uint64(0)

// Book is the lines of one webhook. It is not safe for concurrent use.
type Book[J any] struct {
	limits Limits
	keyed  bool
	lines  map[string]*line[J]
	byID   map[string]*Entry[J]
	// cut is the first event that something may be missing from: all deliveries of earlier events that
	// have not ended are known.
	cut uint64
	// short are the lines that something may be missing from.
	short map[*line[J]]struct{}
	// scan is the run that reads the streams, nil if none does.
	scan *scan
	// changed are the lines to look at; gated those whose first one waits for the horizon or a scan; far says
	// that some do for the horizon, which was at open.
	changed map[*line[J]]struct{}
	gated   map[*line[J]]struct{}
	far     bool
	open    uint64
}

// line is the deliveries of one line, earliest event first.
type line[J any] struct {
	key     string
	entries []*Entry[J]
	cut     uint64
	running int // one at most, but for what was under way when the webhook was divided anew
}

// scan is one run over the streams. What happens to a delivery meanwhile is newer than what is read.
type scan struct {
	touched map[string]struct{}
	found   map[string]struct{}
}

// New returns a book of which nothing is known: nothing may be attempted before a scan has ended.
func New[J any](limits Limits, keyed bool) *Book[J] {
	return &Book[J]{
		limits: limits, keyed: keyed, lines: map[string]*line[J]{}, byID: map[string]*Entry[J]{},
		changed: map[*line[J]]struct{}{}, gated: map[*line[J]]struct{}{}, short: map[*line[J]]struct{}{},
	}
}

// Keyed says whether each ordering key has a line of its own.
func (b *Book[J]) Keyed() bool { return b.keyed }

// SetKeyed divides the webhook into lines anew.
func (b *Book[J]) SetKeyed(keyed bool) {
	if b.keyed == keyed {
		return
	}
	b.keyed = keyed
	for _, l := range b.lines {
		b.cut = min(b.cut, l.cut)
	}
	b.lines = map[string]*line[J]{}
	clear(b.changed)
	clear(b.gated)
	clear(b.short)
	for _, e := range b.byID {
		l := b.line(e)
		l.insert(e)
		if e.State == Running {
			l.running++
		}
		b.changed[l] = struct{}{}
	}
}

func (b *Book[J]) line(e *Entry[J]) *line[J] {
	key := ""
	if b.keyed {
		key = e.Key
	}
	l := b.lines[key]
	if l == nil {
		l = &line[J]{key: key, cut: endless}
		b.lines[key] = l
	}
	return l
}

func byEvent[J any](a, b *Entry[J]) int {
	switch {
	case a.Event != b.Event:
		if a.Event < b.Event {
			return -1
		}
		return 1
	case a.ID < b.ID:
		return -1
	case a.ID > b.ID:
		return 1
	}
	return 0
}

func (l *line[J]) insert(e *Entry[J]) {
	if n := len(l.entries); n == 0 || byEvent(l.entries[n-1], e) < 0 {
		l.entries = append(l.entries, e)
		return
	}
	i, found := slices.BinarySearchFunc(l.entries, e, byEvent[J])
	if !found {
		l.entries = slices.Insert(l.entries, i, e)
	}
}

func (l *line[J]) remove(e *Entry[J]) {
	if len(l.entries) > 0 && l.entries[0] == e {
		l.entries[0] = nil
		l.entries = l.entries[1:]
	} else if i, found := slices.BinarySearchFunc(l.entries, e, byEvent[J]); found {
		l.entries = slices.Delete(l.entries, i, i+1)
	}
	if e.State == Running {
		l.running--
	}
}

// Note says where a delivery is now. It is false if that is not kept, because more is missing from the
// book before its event: then it has to go to a record, and a scan will find it there.
func (b *Book[J]) Note(e Entry[J]) bool {
	b.Touch(e.ID)
	return b.put(e)
}

// Touch says that what is known of a delivery is newer than what a scan that is under way may read.
func (b *Book[J]) Touch(id string) {
	if b.scan != nil {
		b.scan.touched[id] = struct{}{}
	}
}

func (b *Book[J]) put(e Entry[J]) bool {
	if known := b.byID[e.ID]; known != nil {
		l := b.line(known)
		if b.useless(l, &e) {
			b.remove(e.ID)
			return false
		}
		if known.State == Running {
			l.running--
		}
		if !known.Since.IsZero() {
			e.Since = known.Since
		}
		*known = e
		b.changed[l] = struct{}{}
		return true
	}
	l := b.line(&e)
	if b.scan == nil && (e.Event >= b.cut || e.Event >= l.cut) {
		b.changed[l] = struct{}{}
		return false
	}
	kept := &e
	b.byID[e.ID] = kept
	l.insert(kept)
	b.changed[l] = struct{}{}
	if len(l.entries) > b.limits.Line {
		b.drop(l)
	}
	if len(b.byID) > b.limits.Book {
		b.shorten()
	}
	return b.byID[e.ID] == kept
}

// useless says that an entry is in a record and beyond what is known: it gets no turn before a scan, which finds it
// again, and would only pass for one that lasts until then.
func (b *Book[J]) useless(l *line[J], e *Entry[J]) bool {
	return b.scan == nil && e.Event >= min(b.cut, l.cut) && (e.State == Parked || e.State == Resting)
}

// drop forgets the last of a line that has too many.
func (b *Book[J]) drop(l *line[J]) {
	for i := len(l.entries) - 1; i > 0; i-- {
		e := l.entries[i]
		if e.State == Waiting || e.State == Running {
			continue
		}
		l.entries = slices.Delete(l.entries, i, i+1)
		delete(b.byID, e.ID)
		l.cut = min(l.cut, e.Event)
		b.short[l] = struct{}{}
		return
	}
}

// shorten forgets a quarter of a book that is full, the latest events of all lines.
func (b *Book[J]) shorten() {
	all := make([]*Entry[J], 0, len(b.byID))
	for _, e := range b.byID {
		all = append(all, e)
	}
	slices.SortFunc(all, byEvent[J])
	for _, e := range all[len(all)-len(all)/4-1:] {
		if e.State == Waiting || e.State == Running {
			continue
		}
		l := b.line(e)
		l.remove(e)
		delete(b.byID, e.ID)
		b.cut = min(b.cut, e.Event)
		b.changed[l] = struct{}{}
	}
}

// Remove takes a delivery out that has ended, or is not this book's any more.
func (b *Book[J]) Remove(id string) {
	b.Touch(id)
	b.remove(id)
}

func (b *Book[J]) remove(id string) {
	e := b.byID[id]
	if e == nil {
		return
	}
	l := b.line(e)
	l.remove(e)
	delete(b.byID, id)
	b.changed[l] = struct{}{}
}

// Get is what is known of a delivery, nil if nothing is. It must not be changed.
func (b *Book[J]) Get(id string) *Entry[J] { return b.byID[id] }

// Ahead is how many deliveries of its line are known to be before a delivery that is in the book, and
// whether the first of them rests.
func (b *Book[J]) Ahead(id string) (n int, blocked bool) {
	e := b.byID[id]
	if e == nil {
		return 0, false
	}
	l := b.line(e)
	if last := len(l.entries) - 1; l.entries[last] == e {
		n = last
	} else {
		n, _ = slices.BinarySearchFunc(l.entries, e, byEvent[J])
	}
	return n, n > 0 && l.entries[0].State == Resting
}

// Size is how many deliveries are known.
func (b *Book[J]) Size() int { return len(b.byID) }

// Empty says that nothing is known to have not ended, and that nothing is missing.
func (b *Book[J]) Empty() bool {
	return len(b.byID) == 0 && b.scan == nil && b.cut == endless && len(b.short) == 0
}
