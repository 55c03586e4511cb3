// Package eventstream owns the stream EVENTS, its subjects and codec, its consumer `router` and
// the bucket `checkpoints` that says how far routing is. EVENTS is the payload's home: what is
// acknowledged here is accepted, and may be lost only by age (Config.MaxAge). The stream refuses
// when full; it never drops.
package eventstream

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/bucket"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// ErrNotFound says that EVENTS does not hold the event, as answered by the stream's leader.
var ErrNotFound = errors.New("event not found")

const (
	name   = "EVENTS"
	prefix = "events."
)

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

// Stream is EVENTS. It is safe for use by many goroutines.
type Stream struct {
	c           *stream.Client
	publisher   *stream.Publisher
	checkpoints *bucket.Bucket
	incarnation string
	maxAge      time.Duration
}

// Ensure creates EVENTS, or brings its limits to the configuration.
func Ensure(ctx context.Context, c *stream.Client, cfg Config) (*Stream, error) {
	if limit := c.Conn().MaxPayload(); int64(cfg.MaxMessageBytes) > limit {
		return nil, fmt.Errorf("events may have %d bytes, but the NATS server takes messages of %d only: raise its max_payload", cfg.MaxMessageBytes, limit)
	}
	info, err := c.EnsureStream(ctx, streamConfig(cfg))
	if err != nil {
		return nil, err
	}
	s := &Stream{c: c, publisher: c.NewPublisher(name, 0), maxAge: cfg.MaxAge}
	if err := s.openCheckpoints(ctx); err != nil {
		return nil, err
	}
	if err := s.settle(ctx, info); err != nil {
		return nil, err
	}
	return s, nil
}

func streamConfig(cfg Config) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: name, Description: "events as accepted", Subjects: []string{prefix + ">"},
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage,
		MaxAge: cfg.MaxAge, MaxBytes: cfg.MaxBytes, MaxMsgSize: int32(cfg.MaxMessageBytes), AllowDirect: true, //nolint:gosec // megabytes
	}
}

// Inspect says how EVENTS, the routers' consumer and the bucket of checkpoints stand against the
// configuration. It changes nothing.
func Inspect(ctx context.Context, c *stream.Client, cfg Config) ([]stream.Report, error) {
	events, err1 := c.InspectStream(ctx, streamConfig(cfg))
	routers, err2 := c.InspectConsumer(ctx, name, routerConfig())
	points, err3 := bucket.Inspect(ctx, c, checkpointsSpec())
	return []stream.Report{events, routers, points}, errors.Join(err1, err2, err3)
}

// MsgID is the JetStream message id of an event: a hash of its account and deduplication key, or
// its own id if it has no key. Two accounts may use the same key.
func MsgID(ev *recordv1.Event) string {
	if ev.GetDedupKey() == "" {
		return ev.GetId()
	}
	sum := sha256.Sum256([]byte(ev.GetAccountId() + "\x00" + ev.GetDedupKey()))
	return hex.EncodeToString(sum[:16])
}

// Publish stores an event. See stream.Publisher.Publish for when done is called.
func (s *Stream) Publish(ctx context.Context, ev *recordv1.Event, done func(Stored, error)) error {
	if err := stream.CheckTokens(append(strings.Split(ev.GetType(), "."), ev.GetAccountId())...); err != nil {
		return fmt.Errorf("subject of event %s: %w", ev.GetId(), err)
	}
	data, err := proto.Marshal(ev)
	if err != nil {
		return fmt.Errorf("encode event %s: %w", ev.GetId(), err)
	}
	m := &nats.Msg{
		Subject: prefix + ev.GetAccountId() + "." + ev.GetType(), Data: data,
		Header: nats.Header{jetstream.MsgIDHeader: {MsgID(ev)}},
	}
	stream.Carry(ctx, m, ev.GetTraceparent())
	return s.publisher.Publish(ctx, m, func(ack stream.Ack, err error) {
		done(Stored{Sequence: ack.Sequence, Duplicate: ack.Duplicate}, err)
	})
}

// Get reads the event at a sequence. A replica that does not have it yet is never believed: the
// leader is asked before ErrNotFound is returned.
func (s *Stream) Get(ctx context.Context, sequence uint64) (*recordv1.Event, error) {
	if sequence == 0 {
		return nil, ErrNotFound
	}
	m, err := s.c.Get(ctx, name, sequence)
	if errors.Is(err, stream.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return decode(m.Data)
}

// How far around an id's own time its event is looked for: the id is chosen before the event is
// stored, by another machine's clock, and a claim that was taken over is stored later still.
const (
	findBefore = time.Minute
	findAfter  = 5 * time.Minute
)

// errEnough ends a scan.
var errEnough = errors.New("enough")

// Find looks for an event by its id, from the id's time on; it costs a scan of a few minutes of
// the account's events at most. A receipt's sequence with Get is the quick way.
func (s *Stream) Find(ctx context.Context, account postrider.AccountID, id postrider.EventID) (*recordv1.Event, uint64, error) {
	chosen, ok := id.Time()
	if !ok || !account.Valid() {
		return nil, 0, ErrNotFound
	}
	var found *recordv1.Event
	var sequence uint64
	scan := stream.Scan{Filter: prefix + string(account) + ".>", Since: chosen.Add(-findBefore)}
	err := s.c.Scan(ctx, name, scan, func(m *stream.Stored) error {
		ev, err := decode(m.Data)
		if err != nil {
			return err
		}
		if ev.GetId() == string(id) {
			found, sequence = ev, m.Sequence
			return errEnough
		}
		// Not by its accept time: a clock that was ahead for a while says of an early event that it is
		// late, and the search would end before what it looks for.
		if m.StoredAt().After(chosen.Add(findAfter)) {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, 0, fmt.Errorf("find event %s: %w", id, err)
	}
	if found == nil {
		return nil, 0, ErrNotFound
	}
	return found, sequence, nil
}

// Scan gives every event stored from a time on to fn, in order of sequence, up to what was
// stored when it began. It stops at fn's first error and returns it. The time is one that
// time.Now gave, or reckoned from it: only how long ago it was counts, so that no step of this
// machine's clock hides an event.
func (s *Stream) Scan(ctx context.Context, from time.Time, fn func(sequence uint64, ev *recordv1.Event) error) error {
	return s.c.Scan(ctx, name, stream.Scan{Ago: time.Since(from)}, func(m *stream.Stored) error {
		ev, err := decode(m.Data)
		if err != nil {
			return fmt.Errorf("event at %d: %w", m.Sequence, err)
		}
		return fn(m.Sequence, ev)
	})
}

// Selection is events of one account, in the order of their sequences.
type Selection struct {
	// Account that owns them.
	Account postrider.AccountID
	// From is the first sequence to look at.
	From uint64
	// Since, if set and From is not, begins at the first event stored at or after it.
	Since time.Time
	// Limit is how many are wanted.
	Limit int
	// Bytes ends the reading when the data read are at least as many; 0 for no bound.
	Bytes int
}

// Selected is an event with its place.
type Selected struct {
	// Sequence in EVENTS.
	Sequence uint64
	// Event itself.
	Event *recordv1.Event
}

// Select reads events of an account, at most sel.Limit. It gives none only if there are no more.
func (s *Stream) Select(ctx context.Context, sel Selection) ([]Selected, error) {
	if err := stream.CheckTokens(string(sel.Account)); err != nil || sel.Limit <= 0 {
		return nil, fmt.Errorf("select events: %w", errors.Join(err, errSelection))
	}
	scan := stream.Scan{Filter: prefix + string(sel.Account) + ".>", From: sel.From, Page: sel.Limit}
	if sel.From == 0 {
		scan.Since = sel.Since
	}
	var out []Selected
	read := 0
	err := s.c.Scan(ctx, name, scan, func(m *stream.Stored) error {
		ev, err := decode(m.Data)
		if err != nil {
			return fmt.Errorf("event at %d: %w", m.Sequence, err)
		}
		out = append(out, Selected{m.Sequence, ev})
		if read += len(m.Data); len(out) == sel.Limit || sel.Bytes > 0 && read >= sel.Bytes {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, fmt.Errorf("select events of %s: %w", sel.Account, err)
	}
	return out, nil
}

// errSelection says that a selection cannot be meant.
var errSelection = errors.New("an account and a limit are required")

// Incarnation names this EVENTS apart from one that stood here before (a restore, a deletion):
// sequences of different incarnations have nothing in common.
func (s *Stream) Incarnation() string { return s.incarnation }

// MaxAge is how long events are kept.
func (s *Stream) MaxAge() time.Duration { return s.maxAge }

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
func (s *Stream) Usage(ctx context.Context) (Usage, error) {
	st, err := s.c.JetStream().Stream(ctx, name)
	if err != nil {
		return Usage{}, fmt.Errorf("usage of %s: %w", name, err)
	}
	info := st.CachedInfo()
	return Usage{
		Messages: info.State.Msgs, Bytes: info.State.Bytes, MaxBytes: info.Config.MaxBytes,
		FirstSequence: info.State.FirstSeq, LastSequence: info.State.LastSeq,
	}, nil
}

// Decode reads a message of EVENTS.
func Decode(m *stream.Msg) (*recordv1.Event, error) { return decode(m.Data()) }

func decode(data []byte) (*recordv1.Event, error) {
	ev := &recordv1.Event{}
	if err := proto.Unmarshal(data, ev); err != nil {
		return nil, fmt.Errorf("decode event: %w", err)
	}
	return ev, nil
}
