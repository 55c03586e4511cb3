package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// Msg is a message of a consumer. Its methods are safe for concurrent use.
type Msg struct {
	raw        *nats.Msg
	nc         *nats.Conn
	con        *Consumer
	sequence   uint64
	deliveries uint64
	pending    uint64
	stored     int64 // unix nanoseconds
	settled    atomic.Bool

	// touched is when the server heard of the message last; the consumer's own, while it waits in
	// its queue.
	touched time.Time
}

// What acknowledgements say.
var (
	ackDone     = []byte("+ACK")
	ackAgain    = []byte("-NAK")
	ackProgress = []byte("+WPI")
)

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
func (m *Msg) Ack() error { return m.settle(ackDone) }

// AckSync is Ack that waits for the server's confirmation; a lost one is asked for again for a few
// seconds, or until ctx ends. After an error it may be called again.
func (m *Msg) AckSync(ctx context.Context) error {
	if !m.settled.CompareAndSwap(false, true) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, ackBudget)
	defer cancel()
	for {
		err := m.confirm(ctx)
		if err == nil {
			return nil
		}
		if errors.Is(err, nats.ErrConnectionClosed) || !wait(ctx, maxTick) {
			m.settled.Store(false)
			return fmt.Errorf("acknowledge sequence %d: %w", m.sequence, err)
		}
	}
}

// How long AckSync waits for one confirmation, and in all.
const (
	ackTimeout = time.Second
	ackBudget  = 8 * time.Second
)

func (m *Msg) confirm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	_, err := m.nc.RequestWithContext(ctx, m.raw.Reply, ackDone)
	return err
}

// Nak asks for the message again after a delay. It is for short technical pauses: a message
// that waits this way occupies one of the consumer's pending acknowledgements.
func (m *Msg) Nak(delay time.Duration) error {
	if delay <= 0 {
		return m.settle(ackAgain)
	}
	return m.settle(fmt.Appendf(nil, `-NAK {"delay": %d}`, delay.Nanoseconds()))
}

// Term says that the message must not come again, and why.
func (m *Msg) Term(reason string) error { return m.settle([]byte("+TERM " + reason)) }

// InProgress restarts the time within which the message must be acknowledged.
func (m *Msg) InProgress() error {
	if m.settled.Load() {
		return nil
	}
	return m.send(ackProgress)
}

// settle sends the first final word about the message, and swallows every further one.
func (m *Msg) settle(word []byte) error {
	if !m.settled.CompareAndSwap(false, true) {
		return nil
	}
	if err := m.send(word); err != nil {
		m.settled.Store(false)
		return err
	}
	return nil
}

func (m *Msg) send(word []byte) error {
	if err := m.nc.Publish(m.raw.Reply, word); err != nil {
		return fmt.Errorf("acknowledge sequence %d: %w", m.sequence, err)
	}
	return nil
}

// Tokens of an acknowledgement subject:
//
//	$JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<time>.<pending>
//	$JS.ACK.<domain>.<account hash>.<stream>.<consumer>.<deliveries>. ... .<pending>[.<random>]
const (
	ackPrefix  = "$JS.ACK."
	ackTokens  = 9
	ackTokens2 = 11
)

// newMsg reads what the acknowledgement subject says of the message.
func newMsg(con *Consumer, raw *nats.Msg) (*Msg, bool) {
	rest, ok := strings.CutPrefix(raw.Reply, ackPrefix)
	if !ok {
		return nil, false
	}
	skip := 2 // stream and consumer
	switch n := strings.Count(raw.Reply, ".") + 1; {
	case n == ackTokens:
	case n >= ackTokens2:
		skip = 4
	default:
		return nil, false
	}
	for range skip {
		_, rest, _ = strings.Cut(rest, ".")
	}
	var fields [5]uint64 // deliveries, stream sequence, consumer sequence, time, pending
	for i := range fields {
		var token string
		token, rest, _ = strings.Cut(rest, ".")
		n, err := strconv.ParseUint(token, 10, 64)
		if err != nil {
			return nil, false
		}
		fields[i] = n
	}
	return &Msg{
		raw: raw, nc: con.c.nc, con: con, deliveries: fields[0], sequence: fields[1],
		stored:  int64(fields[3]), //nolint:gosec // nanoseconds since 1970 fit until 2262
		pending: fields[4],
	}, true
}
