package eventstream

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/bucket"
)

// Segment is one of the streams that events are split into, with the routers' consumer and what the
// bucket of checkpoints says of it. It is safe for use by many goroutines.
type Segment struct {
	c           *stream.Client
	name        string // of the stream
	prefix      string // of its subjects
	suffix      string // of its keys in the bucket
	share       int    // how many segments share the bounds of a router
	publisher   *stream.Publisher
	checkpoints *bucket.Bucket
	incarnation string
}

// newSegment names a segment of so many. The first has the names that the only one had before there
// were several.
func newSegment(c *stream.Client, number, segments int) *Segment {
	s := &Segment{c: c, name: firstName, prefix: firstPrefix, share: segments}
	if number > 0 {
		n := strconv.Itoa(number)
		s.name, s.prefix, s.suffix = firstName+"_"+n, "events_"+n+".", "_"+n
	}
	return s
}

func newSegments(c *stream.Client) []*Segment {
	all := make([]*Segment, c.Config().Segments)
	for n := range all {
		all[n] = newSegment(c, n, len(all))
	}
	return all
}

func (s *Segment) streamConfig(cfg Config) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: s.name, Description: "events as accepted", Subjects: []string{s.prefix + ">"},
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage,
		MaxAge: cfg.MaxAge, MaxBytes: cfg.MaxBytes, MaxMsgSize: int32(cfg.MaxMessageBytes), AllowDirect: true, //nolint:gosec // megabytes
	}
}

// Name of the segment's stream, for people.
func (s *Segment) Name() string { return s.name }

// Account is whose event a message of the segment is, by its subject.
func (s *Segment) Account(m *stream.Msg) string {
	account, _, _ := strings.Cut(strings.TrimPrefix(m.Subject(), s.prefix), ".")
	return account
}

// Usage is what a segment holds.
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

// Usage asks the leader what the segment holds.
func (s *Segment) Usage(ctx context.Context) (Usage, error) {
	info, err := s.info(ctx)
	if err != nil {
		return Usage{}, fmt.Errorf("usage of %s: %w", s.name, err)
	}
	return Usage{
		Messages: info.State.Msgs, Bytes: info.State.Bytes, MaxBytes: info.Config.MaxBytes,
		FirstSequence: info.State.FirstSeq, LastSequence: info.State.LastSeq,
	}, nil
}

func (s *Segment) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	st, err := s.c.JetStream().Stream(ctx, s.name)
	if err != nil {
		return nil, err
	}
	return st.CachedInfo(), nil
}

// scan gives the segment's events to fn, as stream.Client.Scan does, and the messages that hold them.
// It stops at one that is no event.
func (s *Segment) scan(ctx context.Context, scan stream.Scan, fn func(*stream.Stored, *Selected) error) error {
	return s.c.Scan(ctx, s.name, scan, func(m *stream.Stored) error {
		ev, err := decode(m.Data)
		if err != nil {
			return fmt.Errorf("event at %d of %s: %w", m.Sequence, s.name, err)
		}
		return fn(m, &Selected{m.Sequence, ev})
	})
}

func (s *Segment) serverTime(ctx context.Context) (time.Time, error) {
	info, err := s.info(ctx)
	if err != nil {
		return time.Time{}, fmt.Errorf("time of the server: %w", err)
	}
	return info.TimeStamp, nil
}
