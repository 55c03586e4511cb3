package logstore

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// entry is a JournalEntry of which only that is read which rows are made of: an attempt is stored as the journal
// has it, and so its headers and bodies need not be read and written again.
type entry struct {
	time, create                                 int64 // as stored
	account, event, delivery, webhook, eventType string
	series                                       int32
	what                                         int32  // the field of JournalEntry.what; 0 for none
	body                                         []byte // its bytes
}

// Fields of JournalEntry, by their numbers.
const (
	entryTime, entryAccount, entryEvent, entryDelivery, entryWebhook, entryType, entrySeries, entryCreate = 1, 2, 3, 4, 5, 6, 9, 20

	whatRouted, whatAttempted, whatWaiting, whatHeld, whatReleased, whatDead, whatCancelled, whatExpunged = 10, 11, 12, 13, 14, 15, 16, 17
)

// routing is what is read of Routed. The record has the fields that Event.Routed says.
type routing struct {
	deliveries          []routedDelivery
	matched, unmatched  int32
	sequence, accept    int64
	replay, key, parent string
	record              []byte
}

type routedDelivery struct{ delivery, webhook string }

// Fields of Routed and of RoutedDelivery.
const (
	routedDeliveries, routedUnmatched, routedUnmatchedTotal, routedSequence, routedMatchedTotal = 1, 2, 3, 4, 5
	routedAccept, routedReplay, routedKey, routedParent, routedWindow, routedOthers             = 6, 7, 8, 9, 10, 11

	routedDeliveryID, routedWebhookID = 1, 2
)

// trying is what is read of Attempted.
type trying struct {
	id, outcome, class, trigger, state, reason string
	number, status                             int32
	start, took, next                          int64
}

// Fields of Attempted, of what says why (Held, Released, Dead, Cancelled), of Waiting and of Timestamp.
const (
	attemptID, attemptNumber, attemptOutcome, attemptClass, attemptStart, attemptTook = 1, 2, 3, 4, 6, 7
	attemptStatus, attemptTrigger, attemptState, attemptNext, attemptReason           = 11, 15, 16, 17, 18

	whyReason = 1

	waitingDue, waitingReason = 1, 2

	stampSeconds, stampNanos = 1, 2

	batchEntries = 1
)

var errText = errors.New("a text is not UTF-8")

// field is one field of a message: its number and, by its kind, its value.
type field struct {
	number int32
	bytes  []byte
	varint uint64
	raw    []byte // with its tag
}

// eachField gives the fields of a message to fn.
func eachField(b []byte, fn func(f *field) error) error {
	var f field
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		f = field{number: int32(number)}
		m := -1 // there are no other kinds
		switch kind {
		case protowire.BytesType:
			f.bytes, m = protowire.ConsumeBytes(b[n:])
		case protowire.VarintType:
			f.varint, m = protowire.ConsumeVarint(b[n:])
		case protowire.Fixed32Type, protowire.Fixed64Type, protowire.StartGroupType, protowire.EndGroupType:
			m = protowire.ConsumeFieldValue(number, kind, b[n:])
		}
		if m < 0 {
			return protowire.ParseError(m)
		}
		f.raw = b[:n+m]
		if err := fn(&f); err != nil {
			return err
		}
		b = b[n+m:]
	}
	return nil
}

// texts makes strings of bytes. Most of a batch name the same few accounts, types and webhooks.
type texts map[string]string

func (t texts) known(b []byte, to *string) error {
	if s, ok := t[string(b)]; ok {
		*to = s
		return nil
	}
	if err := text(b, to); err != nil {
		return err
	}
	if len(t) < maxTexts {
		t[*to] = *to
	}
	return nil
}

// maxTexts bounds what is remembered.
const maxTexts = 4096

func text(b []byte, to *string) error {
	if !utf8.Valid(b) {
		return errText
	}
	*to = string(b)
	return nil
}

// stamp is a Timestamp as stored.
func stamp(b []byte, to *int64) error {
	var seconds, nanos int64
	err := eachField(b, func(f *field) error {
		switch f.number {
		case stampSeconds:
			seconds = int64(f.varint) //nolint:gosec // as it is encoded
		case stampNanos:
			nanos = int64(f.varint) //nolint:gosec // as it is encoded
		}
		return nil
	})
	*to = seconds*1e6 + nanos/1e3
	return err
}

func int32Of(f *field) int32 { return int32(f.varint) } //nolint:gosec // as it is encoded

// eachEntry reads the entries of a JournalBatch.
func (t texts) eachEntry(batch []byte, fn func(e *entry) error) error {
	return eachField(batch, func(f *field) error {
		if f.number != batchEntries {
			return nil
		}
		var e entry
		if err := t.entry(f.bytes, &e); err != nil {
			return err
		}
		return fn(&e)
	})
}

func (t texts) entry(b []byte, e *entry) error {
	return eachField(b, func(f *field) error {
		switch f.number {
		case entryTime:
			return stamp(f.bytes, &e.time)
		case entryAccount:
			return t.known(f.bytes, &e.account)
		case entryEvent:
			return text(f.bytes, &e.event)
		case entryDelivery:
			return text(f.bytes, &e.delivery)
		case entryWebhook:
			return t.known(f.bytes, &e.webhook)
		case entryType:
			return t.known(f.bytes, &e.eventType)
		case entrySeries:
			e.series = int32Of(f)
		case entryCreate:
			return stamp(f.bytes, &e.create)
		case whatRouted, whatAttempted, whatWaiting, whatHeld, whatReleased, whatDead, whatCancelled, whatExpunged:
			e.what, e.body = f.number, f.bytes
		}
		return nil
	})
}

func (t texts) routing(b []byte) (*routing, error) {
	r := &routing{record: make([]byte, 0, 128)}
	return r, eachField(b, func(f *field) error {
		switch f.number {
		case routedDeliveries:
			var d routedDelivery
			err := eachField(f.bytes, func(f *field) error {
				switch f.number {
				case routedDeliveryID:
					return text(f.bytes, &d.delivery)
				case routedWebhookID:
					return t.known(f.bytes, &d.webhook)
				}
				return nil
			})
			r.deliveries = append(r.deliveries, d)
			return err
		case routedUnmatchedTotal:
			r.unmatched = int32Of(f)
		case routedSequence:
			r.sequence = int64(f.varint) //nolint:gosec // a stream sequence
		case routedMatchedTotal:
			r.matched = int32Of(f)
		case routedAccept:
			return stamp(f.bytes, &r.accept)
		case routedReplay:
			return text(f.bytes, &r.replay)
		case routedUnmatched, routedKey, routedParent, routedWindow, routedOthers:
			r.record = append(r.record, f.raw...)
		}
		switch f.number {
		case routedKey:
			return text(f.bytes, &r.key)
		case routedParent:
			return text(f.bytes, &r.parent)
		}
		return nil
	})
}

func (t texts) trying(b []byte) (*trying, error) {
	a := &trying{}
	return a, eachField(b, func(f *field) error {
		switch f.number {
		case attemptID:
			return text(f.bytes, &a.id)
		case attemptNumber:
			a.number = int32Of(f)
		case attemptOutcome:
			return t.known(f.bytes, &a.outcome)
		case attemptClass:
			return t.known(f.bytes, &a.class)
		case attemptStart:
			return stamp(f.bytes, &a.start)
		case attemptTook:
			a.took = int64(f.varint) //nolint:gosec // as it is encoded
		case attemptStatus:
			a.status = int32Of(f)
		case attemptTrigger:
			return t.known(f.bytes, &a.trigger)
		case attemptState:
			return t.known(f.bytes, &a.state)
		case attemptNext:
			return stamp(f.bytes, &a.next)
		case attemptReason:
			return text(f.bytes, &a.reason)
		}
		return nil
	})
}

// why reads the reason that a message has in a field, and the time that one which waits has.
func (t texts) why(b []byte, reason int32) (text string, due int64, err error) {
	err = eachField(b, func(f *field) error {
		if f.number == reason {
			return t.known(f.bytes, &text)
		}
		if f.number == waitingDue {
			return stamp(f.bytes, &due)
		}
		return nil
	})
	return text, due, err
}

// Batch is what messages of the journal say, merged: what a store records in one transaction. It is made by
// NewBatch, and keeps parts of the messages.
type Batch struct {
	facts   *facts
	texts   texts
	entries int
}

// NewBatch is a batch that says nothing.
func NewBatch() *Batch { return &Batch{facts: newFacts(), texts: make(texts)} }

// Add merges a message of the journal, a JournalBatch as it is encoded. Of one that cannot be read it may have
// taken what stands before the fault, which is true.
func (b *Batch) Add(message []byte) error {
	err := b.texts.eachEntry(message, func(e *entry) error {
		b.entries++
		return b.facts.entry(b.texts, e)
	})
	if err != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	return nil
}

// Entries is how many entries were added.
func (b *Batch) Entries() int { return b.entries }

// batchOf is the batch of entries that are read already.
func batchOf(entries []*recordv1.JournalEntry) (*Batch, error) {
	raw, err := proto.Marshal(&recordv1.JournalBatch{Entries: entries})
	if err != nil {
		return nil, err
	}
	b := NewBatch()
	return b, b.Add(raw)
}
