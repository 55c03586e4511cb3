// Package eventstream owns EVENTS: its streams, one for each segment, their subjects and codec, their
// consumers `router` and the bucket `checkpoints` that says how far routing is. EVENTS is the payload's
// home: what is acknowledged here is accepted, and may be lost only by age (Config.MaxAge). A stream
// refuses when full; it never drops.
//
// A segment is chosen by the account (postrider.SegmentOf). Each counts its events by itself, so a
// sequence names an event only together with its account.
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
	firstName   = "EVENTS"
	firstPrefix = "events."
)

// Config is what EVENTS may hold.
type Config struct {
	MaxAge          time.Duration `conf:"max-age" help:"how long events are kept; longer than the longest retry schedule"`
	MaxBytes        int64         `conf:"max-bytes" help:"most bytes of events in one segment; -1 for no limit"`
	MaxMessageBytes int           `conf:"max-message-bytes" help:"largest stored event"`
}

// Default keeps events for a week.
func Default() Config {
	return Config{MaxAge: 7 * 24 * time.Hour, MaxBytes: -1, MaxMessageBytes: 2 << 20}
}

// Stored says where an event is.
type Stored struct {
	// Sequence in the account's segment.
	Sequence uint64
	// Duplicate says that an event with the same message id is stored at Sequence already. It
	// need not be the same event: read and compare before answering for it.
	Duplicate bool
}

// Stream is EVENTS, all segments of it. It is safe for use by many goroutines.
type Stream struct {
	segments []*Segment
	maxAge   time.Duration
}

// Ensure creates the streams of EVENTS, or brings their limits to the configuration.
func Ensure(ctx context.Context, c *stream.Client, cfg Config) (*Stream, error) {
	if limit := c.Conn().MaxPayload(); int64(cfg.MaxMessageBytes) > limit {
		return nil, fmt.Errorf("events may have %d bytes, but the NATS server takes messages of %d only: raise its max_payload", cfg.MaxMessageBytes, limit)
	}
	s := &Stream{segments: newSegments(c), maxAge: cfg.MaxAge}
	for _, seg := range s.segments {
		if _, err := c.EnsureStream(ctx, seg.streamConfig(cfg)); err != nil {
			return nil, err
		}
		seg.publisher = c.NewPublisher(seg.name, 0)
	}
	checkpoints, err := openCheckpoints(ctx, c)
	if err != nil {
		return nil, err
	}
	for _, seg := range s.segments {
		seg.checkpoints = checkpoints
		if err := seg.settle(ctx); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Inspect says how the streams of EVENTS, the routers' consumers and the bucket of checkpoints stand
// against the configuration. It changes nothing.
func Inspect(ctx context.Context, c *stream.Client, cfg Config) ([]stream.Report, error) {
	var all []stream.Report
	var errs []error
	for _, seg := range newSegments(c) {
		events, err1 := c.InspectStream(ctx, seg.streamConfig(cfg))
		routers, err2 := c.InspectConsumer(ctx, seg.name, seg.routerConfig())
		all, errs = append(all, events, routers), append(errs, err1, err2)
	}
	points, err := bucket.Inspect(ctx, c, checkpointsSpec())
	return append(all, points), errors.Join(append(errs, err)...)
}

// Segments are all segments, in order of their numbers.
func (s *Stream) Segments() []*Segment { return s.segments }

// Of is the segment that holds an account's events.
func (s *Stream) Of(account postrider.AccountID) *Segment {
	return s.segments[postrider.SegmentOf(account, len(s.segments))]
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
	seg := s.Of(postrider.AccountID(ev.GetAccountId()))
	m := &nats.Msg{
		Subject: seg.prefix + ev.GetAccountId() + "." + ev.GetType(), Data: data,
		Header: nats.Header{jetstream.MsgIDHeader: {MsgID(ev)}},
	}
	stream.Carry(ctx, m, ev.GetTraceparent())
	return seg.publisher.Publish(ctx, m, func(ack stream.Ack, err error) {
		done(Stored{Sequence: ack.Sequence, Duplicate: ack.Duplicate}, err)
	})
}

// Get reads the event at a sequence of an account's segment. Whose event it is the caller looks at: a
// segment is of many accounts, and after a restore a sequence may be another event's. A replica that
// does not have it yet is never believed: the leader is asked before ErrNotFound is returned.
func (s *Stream) Get(ctx context.Context, account postrider.AccountID, sequence uint64) (*recordv1.Event, error) {
	if sequence == 0 {
		return nil, ErrNotFound
	}
	seg := s.Of(account)
	m, err := seg.c.Get(ctx, seg.name, sequence)
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
	var found *Selected
	seg := s.Of(account)
	scan := stream.Scan{Filter: seg.prefix + string(account) + ".>", Since: chosen.Add(-findBefore)}
	err := seg.scan(ctx, scan, func(m *stream.Stored, each *Selected) error {
		if each.Event.GetId() == string(id) {
			found = each
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
	return found.Event, found.Sequence, nil
}

// Scan gives every event stored from a time on to fn, one segment after the other and each in order of
// sequence, up to what was stored when its turn came. It stops at fn's first error and returns it. The
// time is one that time.Now gave, or reckoned from it: only how long ago it was counts, so that no step
// of this machine's clock hides an event.
func (s *Stream) Scan(ctx context.Context, from time.Time, fn func(sequence uint64, ev *recordv1.Event) error) error {
	for _, seg := range s.segments {
		err := seg.scan(ctx, stream.Scan{Ago: time.Since(from)}, func(_ *stream.Stored, each *Selected) error {
			return fn(each.Sequence, each.Event)
		})
		if err != nil {
			return err
		}
	}
	return nil
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
	// Sequence in the account's segment.
	Sequence uint64
	// Event itself.
	Event *recordv1.Event
}

// Select reads events of an account, at most sel.Limit. It gives none only if there are no more.
func (s *Stream) Select(ctx context.Context, sel Selection) ([]Selected, error) {
	if err := stream.CheckTokens(string(sel.Account)); err != nil || sel.Limit <= 0 {
		return nil, fmt.Errorf("select events: %w", errors.Join(err, errSelection))
	}
	seg := s.Of(sel.Account)
	scan := stream.Scan{Filter: seg.prefix + string(sel.Account) + ".>", From: sel.From, Page: sel.Limit}
	if sel.From == 0 {
		scan.Since = sel.Since
	}
	var out []Selected
	read := 0
	err := seg.scan(ctx, scan, func(m *stream.Stored, each *Selected) error {
		out = append(out, *each)
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

// Incarnation names an account's segment apart from one that stood here before (a restore, a deletion):
// sequences of different incarnations have nothing in common.
func (s *Stream) Incarnation(account postrider.AccountID) string { return s.Of(account).incarnation }

// MaxAge is how long events are kept.
func (s *Stream) MaxAge() time.Duration { return s.maxAge }

// LastSequence is that of the newest event of an account's segment, whosever it is, as its leader says;
// 0 if it never held one.
func (s *Stream) LastSequence(ctx context.Context, account postrider.AccountID) (uint64, error) {
	usage, err := s.Of(account).Usage(ctx)
	return usage.LastSequence, err
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
