// Package logstore keeps the delivery log, the journal's read model: what happened to each event
// and delivery, in a form that can be asked. There are two stores, SQLite and PostgreSQL, which
// merge and answer alike. It may lose everything: it is never on the path of a delivery, and the
// recorder builds it again from the journal.
package logstore

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

var (
	// ErrNotFound says that the log has no such thing in the account.
	ErrNotFound = errors.New("not in the delivery log")
	// ErrRebuilding says that the log is being built from the journal and does not answer yet.
	ErrRebuilding = errors.New("the delivery log is being built again")
)

// Store is a delivery log. Reads answer ErrRebuilding while it is incomplete, and take at most
// queryTimeout. All methods are safe for concurrent use.
type Store interface {
	// Kind is "sqlite" or "postgresql".
	Kind() string

	// Record merges a batch into the log in one transaction. It is idempotent, and no order of entries
	// matters to it, within a batch or between batches.
	Record(ctx context.Context, b *Batch) error
	// Apply is Record of entries that are read already.
	Apply(ctx context.Context, entries []*recordv1.JournalEntry) error

	// Delivery reads one delivery of the account.
	Delivery(ctx context.Context, account postrider.AccountID, id string) (*Delivery, error)
	// Deliveries reads a page of the account's deliveries, newest first unless the query says otherwise.
	Deliveries(ctx context.Context, q Query) ([]*Delivery, error)
	// Attempts reads the attempts of a delivery or a test of the account, oldest first, beginning
	// after the first skip of them.
	Attempts(ctx context.Context, account postrider.AccountID, deliveryID string, skip, limit int) ([]*Attempt, error)
	// Moves reads how a delivery's state changed without attempts, oldest first.
	Moves(ctx context.Context, account postrider.AccountID, deliveryID string, limit int) ([]*Move, error)
	// Event reads one event of the account.
	Event(ctx context.Context, account postrider.AccountID, id string) (*Event, error)
	// RecordedEvents reads a page of the account's events, the last accepted first.
	RecordedEvents(ctx context.Context, q EventQuery) ([]*Event, error)
	// AttemptOwner is the delivery that an attempt belongs to, and when the attempt began.
	AttemptOwner(ctx context.Context, account postrider.AccountID, attemptID string) (deliveryID string, start time.Time, err error)

	// Activity counts attempts over time, those of tests left out.
	Activity(ctx context.Context, q ActivityQuery) ([]ActivityCount, error)

	// Ledger counts the log's deliveries by account.
	Ledger(ctx context.Context) (map[postrider.AccountID]Counts, error)
	// Standings reads where the log sees deliveries; those that it does not know are left out.
	Standings(ctx context.Context, ids []string) (map[string]*Standing, error)
	// Unfinished gives every delivery that has not ended to fn, and those that died at or after a
	// time. What moves meanwhile may be given or not.
	Unfinished(ctx context.Context, diedSince time.Time, fn func(*Standing) error) error
	// Events says which of the events, whose ids lead to their accounts, the log knows.
	Events(ctx context.Context, owners map[string]string) (map[string]bool, error)
	// Unrecorded names the deliveries and events of which the entries say what the log does not know.
	Unrecorded(ctx context.Context, entries []*recordv1.JournalEntry) (deliveries, events []Standing, err error)

	// Redact takes the recorded bodies of an event's attempts away and says how many had some.
	Redact(ctx context.Context, account postrider.AccountID, eventID string) (attempts int, err error)
	// Expire deletes what happened to some of the account's events that were accepted before a time,
	// of which no delivery is unfinished. It says whether there may be more.
	Expire(ctx context.Context, account postrider.AccountID, before time.Time) (more bool, err error)
	// Prune does what keeps the store small: it drops what every account has expired before the time,
	// if that is cheaper than Expire, and compacts counters.
	Prune(ctx context.Context, before time.Time) error

	// Token names what the log holds: it is another one after each Reset, and in each new log. The
	// journal's consumer that fills the log is named after it, so that an empty log is always filled
	// from the journal's beginning.
	Token() string
	// Refresh looks whether the log was reset by another process. It is called every second.
	Refresh(ctx context.Context) error
	// Incomplete is the place in the journal that must be recorded before the log answers: 0 if it
	// answers, negative if the place is not known yet.
	Incomplete() int64
	// SetIncomplete sets that place; 0 lets the log answer. It does nothing if the log has another
	// token by now.
	SetIncomplete(ctx context.Context, token string, place int64) error
	// Reset drops everything and gives the log another token. The log does not answer from then on.
	Reset(ctx context.Context) error

	io.Closer
}

// queryTimeout bounds a read.
const queryTimeout = 10 * time.Second

// Event is what the log knows of one event.
type Event struct {
	ID, Type, TraceID      string
	Account                postrider.AccountID
	Sequence               uint64
	AcceptTime, RouteTime  time.Time
	ExpungeTime            time.Time // zero: never
	Matched, UnmatchedMany int
	// Routed has the fields unmatched, other_types, dedup_key, traceparent and dedup_window.
	Routed *recordv1.Routed
}

// EventQuery selects events of one account; every field that is set must hold.
type EventQuery struct {
	Account    postrider.AccountID
	EventType  string
	Key        string // the idempotency key, or the producer's own id
	TraceID    string // 32 hexadecimal digits
	Unmatched  bool   // only those that no webhook matched
	Start, End time.Time
	Before     string // id of the last event of the previous page
	Limit      int
}

// Delivery is what the log knows of one delivery.
type Delivery struct {
	ID, CallID, ReplayID string
	Account              postrider.AccountID
	EventID, EventType   string
	WebhookID            string
	Series               int // one more with each redrive
	State                postrider.DeliveryState
	StateTime            time.Time
	Reason               string
	NextAttemptTime      time.Time // zero: none
	CreateTime           time.Time
	AttemptCount         int
	LastStatusCode       int
	LastErrorClass       string
	LastOutcome          postrider.Outcome // empty before the first attempt
}

// Attempt is one recorded attempt of a delivery.
type Attempt struct {
	DeliveryID string
	Record     *recordv1.Attempted
}

// Move is a change of a delivery's state without an attempt.
type Move struct {
	Time            time.Time
	State           postrider.DeliveryState
	Reason          string
	Series          int
	NextAttemptTime time.Time // zero: none
}

// Query selects deliveries of one account; every field that is set must hold.
type Query struct {
	Account    postrider.AccountID
	EventID    string
	WebhookID  string
	EventType  string
	CallID     string
	State      postrider.DeliveryState
	Outcome    postrider.Outcome // of the last attempt
	StatusCode int               // of the last attempt
	Start, End time.Time         // of creation, half open
	// After is the last delivery of the previous page; zero for the first.
	After Cursor
	// OldestFirst turns the order round.
	OldestFirst bool
	// Limit is the size of the page, at least 1.
	Limit int
}

// Cursor is a place in the order of the list. A delivery's place does not change, so
// that pages neither repeat nor skip one that is there while they are read.
type Cursor struct {
	CreateTime time.Time
	ID         string
}
