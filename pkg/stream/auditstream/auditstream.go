// Package auditstream owns the stream AUDIT: who changed what. It may lose what is older than
// Config.MaxAge.
package auditstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/pkg/conf"
	"github.com/postrider/postrider/pkg/stream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

const (
	name    = "AUDIT"
	prefix  = "audit."
	window  = 64
	maxSize = 64 << 10
	// nobody stands in a subject for what belongs to no account.
	nobody = "-"
)

// Config is what the stream may hold.
type Config struct {
	MaxAge time.Duration `conf:"max-age" help:"how long it is known who changed what"`
}

// Default keeps entries for a year.
func Default() Config { return Config{MaxAge: 365 * 24 * time.Hour} }

// Validate reports every fault at once.
func (c Config) Validate() error { return conf.AtLeast("max-age", c.MaxAge, time.Hour) }

// Stream is AUDIT.
type Stream struct {
	c         *stream.Client
	publisher *stream.Publisher
}

// Ensure creates AUDIT, or brings its limits to the configuration.
func Ensure(ctx context.Context, c *stream.Client, cfg Config) (*Stream, error) {
	if _, err := c.EnsureStream(ctx, streamConfig(cfg)); err != nil {
		return nil, err
	}
	return &Stream{c: c, publisher: c.NewPublisher("audit", window)}, nil
}

func streamConfig(cfg Config) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: name, Description: "who changed what", Subjects: []string{prefix + "*"},
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage,
		MaxAge: cfg.MaxAge, MaxBytes: -1, MaxMsgSize: maxSize, AllowDirect: true,
	}
}

// Inspect says how AUDIT stands against the configuration. It changes nothing.
func Inspect(ctx context.Context, c *stream.Client, cfg Config) (stream.Report, error) {
	return c.InspectStream(ctx, streamConfig(cfg))
}

func subject(account string) string { return prefix + cmp.Or(account, nobody) }

// Append stores an entry and returns when it is stored. The id tells a repeat from another entry.
func (s *Stream) Append(ctx context.Context, id string, entry *postriderv1.AuditEntry) error {
	if err := stream.CheckTokens(cmp.Or(entry.GetAccountId(), nobody)); err != nil {
		return fmt.Errorf("subject of an audit entry: %w", err)
	}
	data, err := proto.Marshal(&recordv1.Change{Entry: entry})
	if err != nil {
		return fmt.Errorf("encode an audit entry: %w", err)
	}
	m := &nats.Msg{Subject: subject(entry.GetAccountId()), Data: data, Header: nats.Header{jetstream.MsgIDHeader: {id}}}
	if _, err := s.publisher.PublishSync(ctx, m); err != nil {
		return fmt.Errorf("store an audit entry: %w", err)
	}
	return nil
}

// Windows of sequences that List looks through backwards, each larger than the one before.
const (
	firstWindow = 1024
	growth      = 8
)

// List reads at most limit entries of an account, newest first, before a sequence; 0 for the newest.
func (s *Stream) List(ctx context.Context, account string, before uint64, limit int) ([]*postriderv1.AuditEntry, error) {
	if stream.CheckTokens(cmp.Or(account, nobody)) != nil {
		return nil, nil //nolint:nilerr // nobody has such an account
	}
	if before == 0 {
		last, err := s.c.LastSequence(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("read the audit log: %w", err)
		}
		before = last + 1
	}
	var found []*postriderv1.AuditEntry
	for size := uint64(firstWindow); before > 1 && len(found) < limit; size *= growth {
		from := uint64(1)
		if before > size {
			from = before - size
		}
		part, err := s.between(ctx, account, from, before)
		if err != nil {
			return nil, err
		}
		for i := len(part) - 1; i >= 0 && len(found) < limit; i-- {
			found = append(found, part[i])
		}
		before = from
	}
	return found, nil
}

// errEnough ends a scan that has come to the end of its window.
var errEnough = errors.New("enough")

// between reads the entries of an account with sequences from one to before another, oldest first.
func (s *Stream) between(ctx context.Context, account string, from, before uint64) ([]*postriderv1.AuditEntry, error) {
	var found []*postriderv1.AuditEntry
	err := s.c.Scan(ctx, name, stream.Scan{Filter: subject(account), From: from}, func(m *stream.Stored) error {
		if m.Sequence >= before {
			return errEnough
		}
		var rec recordv1.Change
		if err := proto.Unmarshal(m.Data, &rec); err != nil {
			return fmt.Errorf("decode audit entry %d: %w", m.Sequence, err)
		}
		entry := rec.GetEntry()
		entry.Sequence = m.Sequence
		found = append(found, entry)
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	return found, nil
}
