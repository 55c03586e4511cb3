// Package fault owns the kinds of errors that a caller acts on, and their way over gRPC and
// HTTP. Handlers return *Error (or wrap one); interceptors and HTTP handlers convert, once.
//
// What survives a call is the outermost *Error: its kind, reason, message, violations, metadata
// and RetryAfter. What may be lost is everything else: text wrapped around the *Error, and its
// Cause, stay in the process that made them. An error that holds no *Error crosses as Internal
// with a fixed text.
package fault

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"
)

// Kind says what a caller can do about an error.
type Kind int

// The kinds. Their numbers are not stored and not sent; their gRPC codes are.
const (
	// Invalid is a request that no state of the system could accept.
	Invalid Kind = iota + 1
	// NotFound is a thing that does not exist, or that the caller may not know of.
	NotFound
	// AlreadyExists is a thing that exists, where it should be new.
	AlreadyExists
	// Precondition is a request that the present state of the system does not allow.
	Precondition
	// Unauthenticated is a missing or unknown credential.
	Unauthenticated
	// Denied is a known credential without the right.
	Denied
	// Exhausted is a limit that has been reached; try again after RetryAfter.
	Exhausted
	// Unavailable is a passing trouble of ours; the same request may be sent again.
	Unavailable
	// Deadline is a time limit that passed; the request may or may not have had its effect.
	Deadline
	// Aborted is a conflict with another change; read again and repeat.
	Aborted
	// Unimplemented is a call that this server does not serve.
	Unimplemented
	// Canceled is a call that its caller gave up.
	Canceled
)

// Violation is one broken rule of one field.
type Violation struct {
	// Field is the path of the field in the request: "webhook.event_types[2]".
	Field string
	// Rule is the rule that it breaks, for people: "must be an absolute URL".
	Rule string
}

// Error is an error with a kind. Its fields may be read freely; build it with New or InvalidFields.
type Error struct {
	// Kind says what the caller can do about it.
	Kind Kind
	// Reason is a constant that programs compare, UPPER_SNAKE, at most 63 characters.
	Reason string
	// Message is for people. It may be shown to the caller, so it holds no secret.
	Message string
	// Violations lists the broken rules of an Invalid request.
	Violations []Violation
	// RetryAfter, if positive, is how long the caller should wait before it repeats the request.
	RetryAfter time.Duration
	// Metadata holds the dynamic parts of the message, for programs.
	Metadata map[string]string
	// Cause is what lay beneath. It is for our logs and never leaves the process.
	Cause error
	// Status, if not 0, is the HTTP status in place of the kind's, where HTTP has a word of its
	// own for it: 413, 415. It does not cross gRPC.
	Status int
}

// New makes an error of a kind; reason is UPPER_SNAKE, message is for people.
func New(kind Kind, reason, message string) *Error {
	return &Error{Kind: kind, Reason: reason, Message: message}
}

// InvalidFields makes an Invalid error, reason INVALID_ARGUMENT, whose message lists each field
// with its rule.
func InvalidFields(violations ...Violation) *Error {
	parts := make([]string, len(violations))
	for i, v := range violations {
		parts[i] = v.Field + ": " + v.Rule
	}
	message := strings.Join(parts, "; ")
	if message == "" {
		message = "the request is not valid"
	}
	return &Error{Kind: Invalid, Reason: reasonInvalid, Message: message, Violations: violations}
}

// Error is the message, and the cause if there is one.
func (e *Error) Error() string {
	if e.Cause == nil {
		return e.Message
	}
	return e.Message + ": " + e.Cause.Error()
}

// Unwrap gives the cause to errors.Is and errors.As.
func (e *Error) Unwrap() error { return e.Cause }

// Is reports whether target is an *Error of the same kind and reason, so that a package can
// declare errors as values and errors.Is still finds them after a builder or gRPC copied them.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Kind == e.Kind && t.Reason == e.Reason
}

// WithCause returns a copy that keeps what lay beneath.
func (e *Error) WithCause(cause error) *Error {
	c := e.clone()
	c.Cause = cause
	return c
}

// WithRetryAfter returns a copy that asks the caller to wait for d.
func (e *Error) WithRetryAfter(d time.Duration) *Error {
	c := e.clone()
	c.RetryAfter = d
	return c
}

// WithMetadata returns a copy that has the pair in its metadata.
func (e *Error) WithMetadata(key, value string) *Error {
	c := e.clone()
	if c.Metadata == nil {
		c.Metadata = make(map[string]string, 1)
	}
	c.Metadata[key] = value
	return c
}

// WithStatus returns a copy that HTTP answers with a status of its own.
func (e *Error) WithStatus(status int) *Error {
	c := e.clone()
	c.Status = status
	return c
}

// clone is a copy that shares nothing that a builder writes, so that builders on a package's
// error values are safe.
func (e *Error) clone() *Error {
	c := *e
	c.Metadata = maps.Clone(e.Metadata)
	return &c
}

// As finds the outermost *Error in err's chain.
func As(err error) (*Error, bool) { return errors.AsType[*Error](err) }

// KindOf is the kind of the outermost *Error in err's chain; ok is false if there is none.
func KindOf(err error) (kind Kind, ok bool) {
	e, ok := As(err)
	if !ok {
		return 0, false
	}
	return e.Kind, true
}

// String is the kind's name, for logs and metrics.
func (k Kind) String() string {
	if r, ok := rows[k]; ok {
		return r.name
	}
	return fmt.Sprintf("kind(%d)", int(k))
}
