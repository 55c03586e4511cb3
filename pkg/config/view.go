package config

import (
	"errors"
	"slices"
	"time"

	"github.com/postrider/postrider/pkg/stream/bucket"
)

// errForeignKey says that a bucket holds a key that this package did not write.
var errForeignKey = errors.New("not a key of this bucket")

// maxQuestions is how many answers wait for their messages.
const maxQuestions = 8

// answer is a leader's answer to how far the bucket is.
type answer struct {
	began   time.Duration // when the question was begun, by the mirror's clock
	until   time.Duration // when the registration that it was begun under stops to count
	before  uint64        // position that the view had when the question was begun
	last    uint64
	created time.Time
}

// view is a mirror's state of one bucket. It is pure and belongs to the mirror's loop: messages and
// answers go in, calls of handlers and the time until which it is fresh come out.
//
// A bucket keeps the last message of each key only. So having been given every message up to a
// position does not mean to know the state at it: a message may be missing because a later one
// replaced it that has not come yet. A gap in the sequence shows that. What replaced the missing
// message was stored before the gap was seen, so the answer to a question that is begun after it
// includes it: only such an answer, reached without another gap, says that the view is whole. The
// same rule makes the first load and a rescan whole, which are full of gaps.
type view struct {
	sink   sink
	report func(key string, err error)

	pos     uint64              // of the last message
	gap     time.Duration       // when the last gap was seen
	whole   bool                // whether the state at pos is known
	applied uint64              // the last position at which it was
	keys    map[string]uint64   // live keys and their revisions
	seen    map[string]struct{} // while scanning: those that the scan has shown
	answers []answer            // those not reached yet, oldest first
	until   time.Duration       // fresh until then
	contact time.Duration       // when the last question that it was fresh by was begun
	created time.Time
	behind  int // answers in a row that were behind what was given before they were asked for
}

func newView(s sink, report func(string, error)) *view {
	return &view{sink: s, report: report, keys: make(map[string]uint64)}
}

// begin starts a scan: what comes next is the bucket from its beginning, perhaps as a server has it
// that is behind. So the view is not fresh until the scan has caught up. If the bucket is another
// one, revisions known so far mean nothing, and everything is told again.
func (v *view) begin(now time.Duration, renewed bool) {
	v.pos, v.gap, v.whole, v.until, v.answers = 0, now, false, 0, nil
	v.seen = make(map[string]struct{}, len(v.keys))
	if renewed {
		v.applied, v.created, v.behind = 0, time.Time{}, 0
		for k := range v.keys {
			v.keys[k] = 0
		}
	}
}

// message takes the next message.
func (v *view) message(now time.Duration, e bucket.Entry) {
	if e.Revision <= v.pos {
		return
	}
	if e.Revision != v.pos+1 {
		v.gap, v.whole = now, false
	}
	v.pos = e.Revision
	v.give(e)
	if v.whole {
		v.applied = v.pos // what was whole stays whole as long as there is no gap
	}
	v.settle()
}

// give tells the handlers what a message says, unless they know it.
func (v *view) give(e bucket.Entry) {
	known, live := v.keys[e.Key]
	if e.Deleted {
		delete(v.seen, e.Key)
		if live {
			v.drop(e.Key, e.Revision)
		}
		return
	}
	if v.seen != nil {
		v.seen[e.Key] = struct{}{}
	}
	if live && known >= e.Revision {
		return
	}
	v.keys[e.Key] = e.Revision
	if err := v.sink.put(e); err != nil {
		v.report(e.Key, err)
	}
}

func (v *view) drop(key string, rev uint64) {
	delete(v.keys, key)
	if err := v.sink.gone(key, rev); err != nil {
		v.report(key, err)
	}
}

// answer takes a leader's answer. It returns true if the bucket is not the one that was read: it
// was made again, or it has lost its end, and its revisions mean something else now.
func (v *view) answer(a answer) (renewed bool) {
	if !v.created.IsZero() && !a.created.Equal(v.created) {
		return true
	}
	v.created = a.created
	if a.last < a.before {
		// A leader that was just elected may not have said all that it knows; it soon does.
		v.behind++
		return v.behind > 2
	}
	v.behind = 0
	if len(v.answers) == maxQuestions {
		v.answers = v.answers[1:]
	}
	v.answers = append(v.answers, a)
	v.settle()
	return false
}

// settle finds the newest answer that was reached and makes the view fresh by it.
func (v *view) settle() {
	for i, a := range slices.Backward(v.answers) {
		if a.last > v.pos || a.began < v.gap {
			continue
		}
		v.endScan()
		v.whole, v.applied, v.contact = true, v.pos, a.began
		v.until = min(a.began+Lease, a.until)
		v.answers = append(v.answers[:0], v.answers[i+1:]...)
		return
	}
}

// endScan drops what the scan did not show: its deletion was missed.
func (v *view) endScan() {
	if v.seen == nil {
		return
	}
	for k := range v.keys {
		if _, ok := v.seen[k]; !ok {
			v.drop(k, v.pos)
		}
	}
	v.seen = nil
}
