package admission

import (
	"context"
	"errors"
	"time"

	"github.com/postrider/postrider/pkg/access"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
)

// Reasons of the errors that admission answers with.
const (
	ReasonConflict         = "IDEMPOTENCY_CONFLICT" // the key stands for another body
	ReasonUnknownEventType = "UNKNOWN_EVENT_TYPE"   // the account refuses types that its catalogue lacks
	ReasonSchemaViolation  = "SCHEMA_VIOLATION"     // the data break the schema of their type
	ReasonSchemaUnusable   = "SCHEMA_UNUSABLE"      // this process cannot read the schema of their type
	ReasonNotStable        = "DATA_NOT_STABLE"      // the account wants data as JSON.stringify writes them
	ReasonShare            = "OVER_SHARE"           // the system is full, and the account over its share; nothing was stored
	ReasonFull             = "EVENTS_FULL"          // EVENTS has no room; nothing was stored
	ReasonRecord           = "RECORD_UNAVAILABLE"   // EVENTS did not acknowledge; the event may be stored
	ReasonOverloaded       = "OVERLOADED"           // it waited too long for its turn; nothing was stored
	ReasonKeyHeld          = "KEY_HELD"             // others hold the key for too long
	ReasonUnreadable       = "DUPLICATE_UNREADABLE" // EVENTS knows the key but cannot show its event
	ReasonEventNotFound    = "EVENT_NOT_FOUND"      // no such event, or another account's
	ReasonStopping         = "STOPPING"             // this process is going; another one will answer
	ReasonStale            = "CONFIGURATION_STALE"  // this process does not know the latest accounts
	retryFull              = 5 * time.Second
	retrySoon              = time.Second
)

// retryHint stands in every error after which the event may be stored all the same.
const retryHint = "; repeat it with the same key"

func errConflict(event postrider.EventID) error {
	return fault.New(fault.AlreadyExists, ReasonConflict,
		"the key was used before, for an event with another content").WithMetadata("event_id", string(event))
}

func errEvent(id postrider.EventID) error {
	return fault.New(fault.NotFound, ReasonEventNotFound, "there is no such event").WithMetadata("event_id", string(id))
}

func errRead(cause error) error {
	return fault.New(fault.Unavailable, ReasonRecord, "the event cannot be read now").WithCause(cause).WithRetryAfter(retrySoon)
}

func errUnknownType(eventType string) error {
	return fault.New(fault.Invalid, ReasonUnknownEventType,
		"the event type is not in the account's catalogue, and the account refuses such").WithMetadata("type", eventType)
}

func errAccount(id postrider.AccountID) error {
	return fault.New(fault.NotFound, access.ReasonAccountNotFound, "there is no such account").
		WithMetadata("account_id", string(id))
}

func errStale() error {
	return fault.New(fault.Unavailable, ReasonStale, "the configuration is not up to date here; repeat the request").
		WithRetryAfter(retrySoon)
}

func errStopping() error {
	return fault.New(fault.Unavailable, ReasonStopping, "this server is stopping"+retryHint).WithRetryAfter(retrySoon)
}

func errOverloaded() error {
	return fault.New(fault.Unavailable, ReasonOverloaded, "the event waited too long for its turn and was not stored").
		WithRetryAfter(retrySoon)
}

func errShare(wait time.Duration) error {
	return fault.New(fault.Exhausted, ReasonShare, "too much waits to be delivered, and the account publishes more than its share; the event was not stored").
		WithRetryAfter(wait)
}

func errKeyHeld() error {
	return fault.New(fault.Unavailable, ReasonKeyHeld, "the key is being published by others and none of them comes to an end"+retryHint).
		WithRetryAfter(retrySoon)
}

func errUnreadable(cause error) error {
	return fault.New(fault.Unavailable, ReasonUnreadable, "an event with this key is stored but cannot be compared now"+retryHint).
		WithCause(cause).WithRetryAfter(retrySoon)
}

// errPublish says what an error of EVENTS means to the producer.
func errPublish(err error) error {
	switch {
	case errors.Is(err, stream.ErrUnknown):
		return fault.New(fault.Unavailable, ReasonRecord, "the event was not acknowledged in time and may be stored"+retryHint).
			WithCause(err).WithRetryAfter(retrySoon)
	case errors.Is(err, stream.ErrFull):
		return fault.New(fault.Exhausted, ReasonFull, "there is no room for further events; nothing was stored").
			WithCause(err).WithRetryAfter(retryFull)
	case errors.Is(err, stream.ErrTooLarge):
		return fault.InvalidFields(fault.Violation{Field: "event", Rule: "is larger than this deployment stores"}).WithCause(err)
	case errors.Is(err, context.DeadlineExceeded):
		return errOverloaded()
	case errors.Is(err, stream.ErrClosed), errors.Is(err, context.Canceled):
		return errStopping()
	}
	return fault.New(fault.Unavailable, ReasonRecord, "the event could not be stored"+retryHint).
		WithCause(err).WithRetryAfter(retrySoon)
}
