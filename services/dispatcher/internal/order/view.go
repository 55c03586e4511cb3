package order

import (
	"slices"
	"time"
)

// View is what a book shows of itself.
type View struct {
	// Settling says that nothing gets the turn before the streams have been read.
	Settling bool
	// Lines that have deliveries which have not ended.
	Lines int
	// Blocked is how many of them have a first one that rests.
	Blocked int
	// Waiting is how many deliveries of all lines have not ended.
	Waiting int
	// More says that there are more than are known.
	More bool
	// Heads are the blocked lines, those that have been so for longest first.
	Heads []Head
}

// Head is the first delivery of a blocked line.
type Head struct {
	Key, Delivery, Event, Reason string
	// Since is when it was first attempted, or came to wait.
	Since time.Time
	// Due is when it may be attempted; zero if it is held.
	Due time.Time
	// Behind is how many of its line are known to be behind it.
	Behind int
	// More says that there are more.
	More bool
}

// View shows the book, with so many blocked lines at most.
func (b *Book[J]) View(most int) View {
	v := View{Settling: b.scan != nil || b.cut == 0, Waiting: len(b.byID), More: b.cut != endless && b.cut != 0}
	for _, l := range b.lines {
		if len(l.entries) == 0 {
			continue
		}
		v.Lines++
		more := l.cut != endless
		v.More = v.More || more
		first := l.entries[0]
		if first.State != Resting {
			continue
		}
		v.Blocked++
		v.Heads = append(v.Heads, Head{
			Key: l.key, Delivery: first.ID, Event: first.EventID, Reason: first.Reason, Since: first.Since, Due: first.Due,
			Behind: len(l.entries) - 1, More: more || v.More,
		})
	}
	slices.SortFunc(v.Heads, func(x, y Head) int { return x.Since.Compare(y.Since) })
	v.Heads = v.Heads[:min(len(v.Heads), most)]
	return v
}

// Blocked is how many lines have a first delivery that rests, and how many lines there are.
func (b *Book[J]) Blocked() (blocked, lines int) {
	for _, l := range b.lines {
		if len(l.entries) > 0 {
			lines++
			if l.entries[0].State == Resting {
				blocked++
			}
		}
	}
	return blocked, lines
}
