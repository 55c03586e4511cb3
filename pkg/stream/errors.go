package stream

import "errors"

// Errors of publishing. ErrFull, ErrWrongSequence, ErrTooLarge and ErrRefused prove that nothing
// was stored, unless ErrUnknown is in the chain too.
var (
	// ErrFull says that the stream or the server has no room.
	ErrFull = errors.New("stream is full")
	// ErrWrongSequence says that the expected last sequence is not the last (10071).
	ErrWrongSequence = errors.New("wrong last sequence")
	// ErrTooLarge says that the message is larger than the stream or the server allows.
	ErrTooLarge = errors.New("message is too large")
	// ErrRefused says that the server refused for any other reason.
	ErrRefused = errors.New("stream refused the message")
	// ErrUnknown says that no acknowledgement came within the budget: the message may be stored.
	ErrUnknown = errors.New("outcome of publish is unknown")
	// ErrUnavailable says that nothing listened for the message during the whole budget: it is
	// not stored.
	ErrUnavailable = errors.New("stream is unavailable")
	// ErrClosed says that the publisher or the client was closed.
	ErrClosed = errors.New("closed")
)

// ErrNotFound says that the stream holds no such message, as answered by the stream's leader.
var ErrNotFound = errors.New("message not found")

// NotStored reports whether the error proves that the message was not stored.
func NotStored(err error) bool {
	if err == nil || errors.Is(err, ErrUnknown) {
		return false
	}
	return errors.Is(err, ErrFull) || errors.Is(err, ErrWrongSequence) || errors.Is(err, ErrTooLarge) ||
		errors.Is(err, ErrRefused) || errors.Is(err, ErrUnavailable)
}
