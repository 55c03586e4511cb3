// Package logstore keeps the delivery log, the journal's read model: what happened to each event
// and delivery, in a form that can be asked. It may lose everything: it is never on the path of a
// delivery, and the recorder builds it again from the journal.
package logstore

import (
	"errors"
	"time"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// ErrNotFound says that the log has no such delivery in the account.
var ErrNotFound = errors.New("not in the delivery log")

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
}

// Attempt is one recorded attempt of a delivery.
type Attempt struct {
	DeliveryID string
	Record     *recordv1.Attempted
}

// Query selects deliveries of one account; every field that is set must hold.
type Query struct {
	Account    postrider.AccountID
	EventID    string
	WebhookID  string
	EventType  string
	CallID     string
	State      postrider.DeliveryState
	Start, End time.Time // of creation, half open
	// Before is the last delivery of the previous page; zero for the first.
	Before Cursor
	// Limit is the size of the page, at least 1.
	Limit int
}

// Cursor is a place in the order of the list: newest first.
type Cursor struct {
	CreateTime time.Time
	ID         string
}
