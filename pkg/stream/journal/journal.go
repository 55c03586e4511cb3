// Package journal owns the stream JOURNAL: what happened to events and deliveries. The delivery
// log and the ledger are built from it. Entries may come twice and in any order. It may lose what
// is older than Config.MaxAge, and the recorded body of an entry that is too big; never an entry
// that was acknowledged.
package journal

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/pkg/stream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// Routed is the shard of Write and Tail for the entries of routing.
const Routed = -1

const (
	name     = "JOURNAL"
	subjects = "journal.>"
	// maxAckPending is above what a reader records in one go.
	maxAckPending = 4096
)

// Config is what the journal may hold.
type Config struct {
	MaxAge   time.Duration `conf:"max-age" help:"how long the journal is kept"`
	MaxBytes int64         `conf:"max-bytes" help:"most bytes of the journal; the oldest go first; -1 for no limit"`
}

// Default keeps the journal for 30 days.
func Default() Config { return Config{MaxAge: 30 * 24 * time.Hour, MaxBytes: -1} }

// Journal is JOURNAL.
type Journal struct {
	c *stream.Client
}

// Ensure creates JOURNAL, or brings its limits to the configuration.
func Ensure(ctx context.Context, c *stream.Client, cfg Config) (*Journal, error) {
	if _, err := c.EnsureStream(ctx, streamConfig(cfg)); err != nil {
		return nil, err
	}
	return &Journal{c: c}, nil
}

func streamConfig(cfg Config) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: name, Description: "what happened to events and deliveries", Subjects: []string{subjects},
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld, Storage: jetstream.FileStorage,
		MaxAge: cfg.MaxAge, MaxBytes: cfg.MaxBytes, AllowDirect: true,
	}
}

// Inspect says how JOURNAL stands against the configuration. It changes nothing.
func Inspect(ctx context.Context, c *stream.Client, cfg Config) (stream.Report, error) {
	return c.InspectStream(ctx, streamConfig(cfg))
}

// InspectConsumer says how a consumer of the whole journal stands, and how much it has not been given.
// It changes nothing.
func InspectConsumer(ctx context.Context, c *stream.Client, durable string) (stream.Report, error) {
	return c.InspectConsumer(ctx, name, consumerConfig(durable))
}

// subject of the entries of a shard, or of routing.
func subject(shard int) string {
	if shard == Routed {
		return "journal.routed"
	}
	return "journal." + strconv.Itoa(shard)
}

// recordWait is the ack wait of those who record the journal. A log store may take its time over a
// transaction; nobody waits for what it holds.
const recordWait = 60 * time.Second

// forgetAfter is how long a consumer is kept that nobody uses: that of a log that was dropped.
const forgetAfter = 14 * 24 * time.Hour

// Consumer is a durable consumer of the whole journal under a name of the caller's. It begins with
// the first entry that is kept, so a log that was dropped is built again under a new name.
// One that nobody uses is forgotten after forgetAfter.
func (j *Journal) Consumer(ctx context.Context, durable string) (*stream.Consumer, error) {
	return j.c.NewConsumer(ctx, name, durable, func(ctx context.Context) error {
		return j.c.EnsureConsumer(ctx, name, consumerConfig(durable))
	})
}

func consumerConfig(durable string) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable: durable, AckPolicy: jetstream.AckExplicitPolicy, AckWait: recordWait,
		MaxAckPending: maxAckPending, MaxDeliver: -1, DeliverPolicy: jetstream.DeliverAllPolicy,
		InactiveThreshold: forgetAfter,
	}
}

// Decode reads a message of JOURNAL.
func Decode(m *stream.Msg) (*recordv1.JournalBatch, error) { return decode(m.Data()) }

func decode(data []byte) (*recordv1.JournalBatch, error) {
	batch := &recordv1.JournalBatch{}
	if err := proto.Unmarshal(data, batch); err != nil {
		return nil, fmt.Errorf("decode journal: %w", err)
	}
	return batch, nil
}

// Tail gives the entries stored in the window before the shard's last entry to fn, oldest first.
// A dispatcher that takes a shard over reads there what its predecessor had already finished. The
// window counts from the last entry and not from now, so that it holds the predecessor's last work
// however long ago that was.
func (j *Journal) Tail(ctx context.Context, shard int, window time.Duration, fn func(*recordv1.JournalEntry) error) error {
	last, err := j.c.Last(ctx, name, subject(shard))
	if errors.Is(err, stream.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read journal of shard %d: %w", shard, err)
	}
	scan := stream.Scan{Filter: subject(shard), Since: last.Time.Add(-window)}
	return j.c.Scan(ctx, name, scan, func(m *stream.Stored) error {
		batch, err := decode(m.Data)
		if err != nil {
			return err
		}
		for _, e := range batch.GetEntries() {
			if err := fn(e); err != nil {
				return err
			}
		}
		return nil
	})
}
