package stream

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
)

// Msg is a message of a consumer. Its methods are safe for concurrent use.
type Msg struct {
	raw        *nats.Msg
	sequence   uint64
	deliveries uint64
	pending    uint64
	stored     int64
}

// Subject is the message's subject.
func (m *Msg) Subject() string { return m.raw.Subject }

// Data is the message's body; it must not be changed.
func (m *Msg) Data() []byte { return m.raw.Data }

// Header is the message's header, or nil; it must not be changed.
func (m *Msg) Header() nats.Header { return m.raw.Header }

// Sequence is the message's place in the stream.
func (m *Msg) Sequence() uint64 { return m.sequence }

// Deliveries says how often the message was given to a consumer, 1 for the first time.
func (m *Msg) Deliveries() uint64 { return m.deliveries }

// Pending is how many messages waited for the consumer behind this one.
func (m *Msg) Pending() uint64 { return m.pending }

// Time is when the message was stored.
func (m *Msg) Time() time.Time { return time.Unix(0, m.stored) }

// Ack says that the message is done with. It does not wait for the server, so the message may
// come again after a crash. Only the first of Ack, AckSync, Nak and Term counts.
func (m *Msg) Ack() error { return errors.ErrUnsupported }

// AckSync is Ack that waits for the server's confirmation.
func (m *Msg) AckSync(ctx context.Context) error { return errors.ErrUnsupported }

// Nak asks for the message again after a delay. It is for short technical pauses: a message
// that waits this way occupies one of the consumer's pending acknowledgements.
func (m *Msg) Nak(delay time.Duration) error { return errors.ErrUnsupported }

// Term says that the message must not come again, and why.
func (m *Msg) Term(reason string) error { return errors.ErrUnsupported }

// InProgress restarts the time within which the message must be acknowledged.
func (m *Msg) InProgress() error { return errors.ErrUnsupported }
