// Package journal owns the stream JOURNAL: what happened to events and deliveries. The delivery
// log and the ledger are built from it. Entries may come twice and in any order. It may lose what
// is older than Config.MaxAge, and the recorded body of an entry that is too big; never an entry
// that was acknowledged.
package journal

import (
	"context"
	"errors"
	"time"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"

	"github.com/postrider/postrider/pkg/stream"
)

// Routed is the shard of Write and Tail for the entries of routing.
const Routed = -1

// Config is what the journal may hold.
type Config struct {
	MaxAge   time.Duration `conf:"max-age" help:"how long the journal is kept"`
	MaxBytes int64         `conf:"max-bytes" help:"most bytes of the journal; the oldest go first; -1 for no limit"`
}

// Default keeps the journal for 30 days.
func Default() Config { return Config{MaxAge: 30 * 24 * time.Hour, MaxBytes: -1} }

// Journal is JOURNAL.
type Journal struct{}

// Ensure creates JOURNAL, or brings its limits to the configuration.
func Ensure(ctx context.Context, c *stream.Client, cfg Config) (*Journal, error) {
	return nil, errors.ErrUnsupported
}

// Writer packs entries into messages: at most 64 entries and 256 KiB, after at most 2 ms.
type Writer struct{}

// NewWriter makes a writer; its goroutine starts on first use and ends with Close.
func (j *Journal) NewWriter(name string) *Writer { return &Writer{} }

// Write queues an entry of a shard, or of routing (Routed). It blocks while the queue is full,
// until ctx ends; an error means that done will not be called. Done is called once, when the
// message that holds the entry is stored or its fate is known otherwise; it must not block. The
// entry belongs to the writer until then.
func (w *Writer) Write(ctx context.Context, shard int, e *recordv1.JournalEntry, done func(error)) error {
	return errors.ErrUnsupported
}

// Close publishes what is queued and waits for it, until ctx ends.
func (w *Writer) Close(ctx context.Context) error { return nil }

// Consumer is a durable consumer of the whole journal under a name of the caller's.
func (j *Journal) Consumer(ctx context.Context, durable string) (*stream.Consumer, error) {
	return nil, errors.ErrUnsupported
}

// Decode reads a message of JOURNAL.
func Decode(m *stream.Msg) (*recordv1.JournalBatch, error) { return nil, errors.ErrUnsupported }

// Tail gives the entries stored in the window before the shard's last entry to fn, oldest first.
// A dispatcher that takes a shard over reads there what its predecessor had already finished.
func (j *Journal) Tail(ctx context.Context, shard int, window time.Duration, fn func(*recordv1.JournalEntry) error) error {
	return errors.ErrUnsupported
}
