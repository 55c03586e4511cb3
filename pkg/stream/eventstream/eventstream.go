// Package eventstream owns the stream EVENTS, its subjects and codec, its consumer `router` and
// the bucket `checkpoints` that says how far routing is. EVENTS is the payload's home: what is
// acknowledged here is accepted, and may be lost only by age (Config.MaxAge). The stream refuses
// when full; it never drops.
package eventstream

import (
	"context"
	"errors"
	"time"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
)

// ErrNotFound says that EVENTS does not hold the event, as answered by the stream's leader.
var ErrNotFound = errors.New("event not found")

// Config is what EVENTS may hold.
type Config struct {
	MaxAge          time.Duration `conf:"max-age" help:"how long events are kept; longer than the longest retry schedule"`
	MaxBytes        int64         `conf:"max-bytes" help:"most bytes of events; -1 for no limit"`
	MaxMessageBytes int           `conf:"max-message-bytes" help:"largest stored event"`
}

// Default keeps events for a week.
func Default() Config {
	return Config{MaxAge: 7 * 24 * time.Hour, MaxBytes: -1, MaxMessageBytes: 2 << 20}
}

// Stored says where an event is.
type Stored struct {
	// Sequence in EVENTS.
	Sequence uint64
	// Duplicate says that an event with the same message id is stored at Sequence already. It
	// need not be the same event: read and compare before answering for it.
	Duplicate bool
}

// Stream is EVENTS.
type Stream struct{}

// Ensure creates EVENTS, or brings its limits to the configuration.
func Ensure(ctx context.Context, c *stream.Client, cfg Config) (*Stream, error) {
	return nil, errors.ErrUnsupported
}

// MsgID is the JetStream message id of an event: a hash of its account and deduplication key, or
// its own id if it has no key. Two accounts may use the same key.
func MsgID(ev *recordv1.Event) string { return "" }

// Publish stores an event. See stream.Publisher.Publish for when done is called.
func (s *Stream) Publish(ctx context.Context, ev *recordv1.Event, done func(Stored, error)) error {
	return errors.ErrUnsupported
}

// Get reads the event at a sequence. A replica that does not have it yet is never believed: the
// leader is asked before ErrNotFound is returned.
func (s *Stream) Get(ctx context.Context, sequence uint64) (*recordv1.Event, error) {
	return nil, errors.ErrUnsupported
}

// Find looks for an event by its id, from the id's time on; it costs a scan of a few minutes of
// the account's events at most. A receipt's sequence with Get is the quick way.
func (s *Stream) Find(ctx context.Context, account postrider.AccountID, id postrider.EventID) (*recordv1.Event, uint64, error) {
	return nil, 0, errors.ErrUnsupported
}

// Scan gives every event stored from a time on to fn, in order of sequence, up to what was
// stored when it began. It stops at fn's first error and returns it.
func (s *Stream) Scan(ctx context.Context, from time.Time, fn func(sequence uint64, ev *recordv1.Event) error) error {
	return errors.ErrUnsupported
}

// Incarnation names this EVENTS apart from one that stood here before (a restore, a deletion):
// sequences of different incarnations have nothing in common.
func (s *Stream) Incarnation() string { return "" }

// MaxAge is how long events are kept.
func (s *Stream) MaxAge() time.Duration { return 0 }

// Router is the durable consumer that all routers share. If it is gone it is made again at the
// checkpoint, and nowhere else.
func (s *Stream) Router(ctx context.Context) (*stream.Consumer, error) {
	return nil, errors.ErrUnsupported
}

// Checkpoint remembers that every event up to floor is routed. It only moves forward.
func (s *Stream) Checkpoint(ctx context.Context, floor uint64) error { return errors.ErrUnsupported }

// Usage is what EVENTS holds.
type Usage struct {
	// Messages stored.
	Messages uint64
	// Bytes stored, of MaxBytes.
	Bytes uint64
	// MaxBytes is the limit, or -1.
	MaxBytes int64
	// FirstSequence is the oldest event's sequence.
	FirstSequence uint64
	// LastSequence is the newest event's sequence.
	LastSequence uint64
}

// Usage asks the leader what EVENTS holds.
func (s *Stream) Usage(ctx context.Context) (Usage, error) { return Usage{}, errors.ErrUnsupported }

// PurgeBelow removes every event below the sequence, to make room near the limit. The caller
// vouches that they are routed and that nothing refers to them.
func (s *Stream) PurgeBelow(ctx context.Context, sequence uint64) error {
	return errors.ErrUnsupported
}

// Decode reads a message of EVENTS.
func Decode(m *stream.Msg) (*recordv1.Event, error) { return nil, errors.ErrUnsupported }
