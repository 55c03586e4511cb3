package stream

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go"
)

// Ack says where a message was stored.
type Ack struct {
	// Sequence of the message in the stream.
	Sequence uint64
	// Duplicate says that a message with the same id was stored before, at Sequence.
	Duplicate bool
	// Stream is the stream's name.
	Stream string
}

// Publisher publishes asynchronously with a bounded window. It starts on first use.
type Publisher struct{ name string }

// NewPublisher makes a publisher with a window of its own; a window of 0 takes the configured
// one. The client closes it.
func (c *Client) NewPublisher(name string, window int) *Publisher { return &Publisher{name: name} }

// Publish sends the message and returns; done is called when its fate is known. It blocks while
// the window is full, until ctx ends. An error means that nothing was sent and that done will
// not be called; otherwise done is called exactly once, on the publisher's goroutine and in order
// of publishing where nothing had to be repeated. It must not block. The message belongs to the
// publisher until then.
//
// A message whose acknowledgement does not come within the publish timeout is published again,
// with the same headers, until the budget ends. So a message needs an id or an expected sequence,
// or readers that can bear it twice.
func (p *Publisher) Publish(ctx context.Context, m *nats.Msg, done func(Ack, error)) error {
	return errors.ErrUnsupported
}

// PublishSync publishes and waits for the fate of the message. When ctx ends first, the error
// has ErrUnknown in its chain.
func (p *Publisher) PublishSync(ctx context.Context, m *nats.Msg) (Ack, error) {
	return Ack{}, errors.ErrUnsupported
}

// InFlight is the number of messages whose fate is not known yet.
func (p *Publisher) InFlight() int { return 0 }

// Flush returns when nothing is in flight, or ctx ends.
func (p *Publisher) Flush(ctx context.Context) error { return errors.ErrUnsupported }

// Close reports what is in flight as ErrUnknown and ErrClosed, and returns when the publisher's
// goroutine has ended.
func (p *Publisher) Close() {}
