// Package evidence remembers what has become of a shard's messages, so that a message that
// JetStream gives again, because its acknowledgement did not get there, is not POSTed again. It is
// an index of the journal: losing it can cost one POST for each delivery whose message was not acknowledged.
package evidence

import (
	"sync"
	"time"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"

	"github.com/postrider/postrider/pkg/postrider"
)

// Source is the stream that a message came from.
type Source uint8

// The sources.
const (
	// Deliveries is the shard's stream of deliveries.
	Deliveries Source = iota
	// Due is the shard's stream of retries.
	Due
)

// Begun says whether a message of the stream of deliveries is known to be settled for a delivery: it
// ended, or what is left of it is stored elsewhere. Another such message is a repeat, whatever its
// sequence: a server that dies, or a consumer that is made again, forgets that it gave the message
// out, and a server that dies forgets its id too, so that a second routing stores it once more.
func (m *Memory) Begun(delivery string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.begun.has(delivery)
}

// Left is what a predecessor journalled of a message and may not have handed over.
type Left struct {
	// State is waiting, held or dead.
	State postrider.DeliveryState
	// Attempted is the attempt that led there, without its recorded bodies; nil if there was none.
	Attempted *recordv1.Attempted
	// Due is when the delivery is due, if it waits.
	Due time.Time
	// Reason is why it waits, is held, or the cause of its death.
	Reason string
}

// keep is how long what a predecessor left is remembered: its messages come again within an
// acknowledgement's wait.
const keep = 10 * time.Minute

// Memory is one shard's. It is safe for concurrent use.
type Memory struct {
	mu        sync.Mutex
	settled   [2]window
	begun     recent // deliveries whose first message is settled
	left      map[uint64]*Left
	past      map[string]Past // of deliveries, by id, as the journal's tail leaves them
	until     time.Time
	delivered recent
}

// NewMemory returns a memory that knows nothing.
func NewMemory() *Memory {
	return &Memory{left: map[uint64]*Left{}, past: map[string]Past{}}
}

// Settle remembers that everything about a message of a delivery is stored.
func (m *Memory) Settle(source Source, sequence uint64, delivery string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settled[source].add(sequence)
	if source == Deliveries {
		m.begun.add(delivery, time.Now())
	}
	if len(m.left) > 0 {
		delete(m.left, key(source, sequence))
	}
}

// SettlePart is Settle for a delivery that came in a message with others.
func (m *Memory) SettlePart(delivery string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.begun.add(delivery, time.Now())
}

// Pass remembers that a message was handed on to another shard. Its delivery may come back, and is not
// settled here.
func (m *Memory) Pass(source Source, sequence uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settled[source].add(sequence)
}

// Settled says whether everything about a message is known to be stored.
func (m *Memory) Settled(source Source, sequence uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.settled[source].has(sequence)
}

// Left is what a predecessor journalled of a message and may not have handed over, nil if nothing
// is known.
func (m *Memory) Left(source Source, sequence uint64, now time.Time) *Left {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.left) > 0 && now.After(m.until) {
		m.left = map[uint64]*Left{}
	}
	return m.left[key(source, sequence)]
}

// Past is what predecessors journalled last of a delivery, whichever message it was in.
type Past struct {
	// Series that it was about.
	Series int32
	// Ended says that nothing was left to be done.
	Ended bool
	// Left is what may not have been handed over, nil if nothing is known of that.
	Left *Left
}

// Past is what is known of a delivery whose message is new; ok is false if nothing is. A server that
// dies forgets acks and message ids of a moment before, so an event is routed again, under other
// sequences and the same delivery ids.
func (m *Memory) Past(delivery string, now time.Time) (p Past, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.past) > 0 && now.After(m.until) {
		m.past = map[string]Past{}
	}
	p, ok = m.past[delivery]
	return p, ok
}

// Deliver remembers that a delivery that has had records of its own was delivered.
func (m *Memory) Deliver(delivery string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.delivered.add(delivery, time.Now())
}

// Delivered says whether a delivery is known to be delivered, so that whatever is still due of it
// is stale. Deaths are not remembered: a redrive leads out of them.
func (m *Memory) Delivered(delivery string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.delivered.has(delivery)
}

// Load takes in an entry of the journal's tail, oldest first.
func (m *Memory) Load(e *recordv1.JournalEntry, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.until = now.Add(keep)
	l, ended := read(e)
	m.remember(e, l, ended)
	for source, sequence := range [...]uint64{Deliveries: e.GetDeliverySequence(), Due: e.GetDueSequence()} {
		if sequence == 0 {
			continue
		}
		if ended {
			m.settled[source].add(sequence)
			delete(m.left, key(Source(source), sequence))
		} else if l != nil {
			m.left[key(Source(source), sequence)] = l
		}
	}
	if a := e.GetAttempted(); a != nil && a.GetState() == string(postrider.Delivered) && e.GetDueSequence() != 0 {
		m.delivered.add(e.GetDeliveryId(), now)
	}
}

// remember keeps the last entry of each delivery. Within a series an end stands, whatever comes later;
// an attempt without a state, such as a test, says nothing.
func (m *Memory) remember(e *recordv1.JournalEntry, l *Left, ended bool) {
	if e.GetDeliveryId() == "" || e.GetAttempted() != nil && l == nil && !ended {
		return
	}
	if before, ok := m.past[e.GetDeliveryId()]; ok && (before.Series > e.GetSeries() || before.Series == e.GetSeries() && before.Ended) {
		return
	}
	m.past[e.GetDeliveryId()] = Past{Series: e.GetSeries(), Ended: ended, Left: l}
}

// read says what an entry leaves to be done for its message: nothing if the delivery ended by it
// and no more was to be stored.
func read(e *recordv1.JournalEntry) (l *Left, ended bool) {
	switch what := e.GetWhat().(type) {
	case *recordv1.JournalEntry_Attempted:
		return readAttempted(what.Attempted)
	case *recordv1.JournalEntry_Waiting:
		return &Left{State: postrider.Waiting, Due: what.Waiting.GetDueTime().AsTime(), Reason: what.Waiting.GetReason()}, false
	case *recordv1.JournalEntry_Held:
		return &Left{State: postrider.Held, Reason: what.Held.GetReason()}, false
	case *recordv1.JournalEntry_Dead:
		return &Left{State: postrider.Dead, Reason: what.Dead.GetCause()}, false
	case *recordv1.JournalEntry_Cancelled:
		return nil, true
	}
	return nil, false
}

func readAttempted(a *recordv1.Attempted) (l *Left, ended bool) {
	state := postrider.DeliveryState(a.GetState())
	switch state {
	case postrider.Delivered, postrider.Cancelled:
		return nil, true
	case postrider.Waiting, postrider.Held, postrider.Dead:
		l = &Left{State: state, Attempted: Trim(a), Reason: a.GetReason()}
		if a.GetNextAttemptTime() != nil {
			l.Due = a.GetNextAttemptTime().AsTime()
		}
		return l, false
	case postrider.Pending:
	}
	return nil, false // a test
}

// Trim keeps what a record or a dead letter needs of an attempt.
func Trim(a *recordv1.Attempted) *recordv1.Attempted {
	return &recordv1.Attempted{
		AttemptId: a.GetAttemptId(), Number: a.GetNumber(), Outcome: a.GetOutcome(), ErrorClass: a.GetErrorClass(),
		ErrorMessage: a.GetErrorMessage(), StartTime: a.GetStartTime(), DurationUs: a.GetDurationUs(),
		RequestMethod: a.GetRequestMethod(), RequestUrl: a.GetRequestUrl(), StatusCode: a.GetStatusCode(),
		Trigger: a.GetTrigger(), State: a.GetState(), NextAttemptTime: a.GetNextAttemptTime(), Reason: a.GetReason(),
		Series: a.GetSeries(),
	}
}

func key(source Source, sequence uint64) uint64 { return sequence<<1 | uint64(source) }
