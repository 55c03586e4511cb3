package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/pkg/stream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// Walk gives the entries of each message that was stored when the walk began to fn, oldest first.
func (j *Journal) Walk(ctx context.Context, fn func(sequence uint64, entries []*recordv1.JournalEntry) error) error {
	return j.c.Scan(ctx, name, stream.Scan{}, func(m *stream.Stored) error {
		batch, err := decode(m.Data)
		if err != nil {
			return fmt.Errorf("sequence %d: %w", m.Sequence, err)
		}
		return fn(m.Sequence, batch.GetEntries())
	})
}

// Read gives the entries of messages by their sequences; what is not kept any more is left out.
func (j *Journal) Read(ctx context.Context, sequences []uint64) ([]*recordv1.JournalEntry, error) {
	found, err := j.c.GetAll(ctx, name, sequences)
	if err != nil {
		return nil, err
	}
	var entries []*recordv1.JournalEntry
	for _, m := range found {
		if m == nil {
			continue
		}
		batch, err := decode(m.Data)
		if err != nil {
			return nil, fmt.Errorf("sequence %d: %w", m.Sequence, err)
		}
		entries = append(entries, batch.GetEntries()...)
	}
	return entries, nil
}

// Last is the sequence of the last message.
func (j *Journal) Last(ctx context.Context) (uint64, error) { return j.c.LastSequence(ctx, name) }

// Recorded is how far the consumer of that name is: everything up to floor is recorded, and pending
// messages are not.
func (j *Journal) Recorded(ctx context.Context, durable string) (floor uint64, pending int64, err error) {
	info, err := j.c.ConsumerInfo(ctx, name, durable)
	if err != nil {
		return 0, 0, err
	}
	return info.AckFloor, int64(info.Pending) + int64(info.AckPending), nil //nolint:gosec // far below 1<<63
}

// Oldest is when the first message after a sequence was stored; zero if there is none.
func (j *Journal) Oldest(ctx context.Context, after uint64) (time.Time, error) {
	m, err := j.c.Next(ctx, name, ">", after+1)
	if errors.Is(err, stream.ErrNotFound) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("read the journal after %d: %w", after, err)
	}
	return m.StoredAt(), nil
}

// Forget deletes a reader's consumer; nothing if there is none.
func (j *Journal) Forget(ctx context.Context, durable string) error {
	err := j.c.JetStream().DeleteConsumer(ctx, name, durable)
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("delete consumer %s: %w", durable, err)
	}
	return nil
}

// rewritten is where messages go that were written anew. Nobody takes a shard's past from there.
const rewritten = "journal.rewritten"

// ErrTooFresh says that a message may still be needed by a dispatcher that takes its shard over.
var ErrTooFresh = errors.New("the journal's message is too fresh")

// Rewrite changes entries for good: each message from since on of which strip changes an entry is
// stored anew at the journal's end, and the old one is deleted. A crash in between leaves both, and
// the next call changes the old one: entries are a set, so that a copy does no harm, and neither does
// its place. A message younger than settled is ErrTooFresh: its shard's dispatcher may yet have to
// read there what it had done.
func (j *Journal) Rewrite(ctx context.Context, since time.Time, settled time.Duration, strip func(*recordv1.JournalEntry) bool) (n int, err error) {
	err = j.c.Scan(ctx, name, stream.Scan{Since: since}, func(m *stream.Stored) error {
		batch, err := decode(m.Data)
		if err != nil {
			return fmt.Errorf("sequence %d: %w", m.Sequence, err)
		}
		changed := false
		for _, e := range batch.GetEntries() {
			changed = strip(e) || changed
		}
		if !changed {
			return nil
		}
		if time.Since(m.StoredAt()) < settled {
			return fmt.Errorf("sequence %d: %w", m.Sequence, ErrTooFresh)
		}
		data, err := proto.Marshal(batch)
		if err != nil {
			return fmt.Errorf("sequence %d: %w", m.Sequence, err)
		}
		if _, err := j.c.JetStream().PublishMsg(ctx, &nats.Msg{Subject: rewritten, Data: data}); err != nil {
			return fmt.Errorf("store sequence %d anew: %w", m.Sequence, err)
		}
		if err := j.c.Erase(ctx, name, m.Sequence); err != nil && !errors.Is(err, stream.ErrNotFound) {
			return fmt.Errorf("delete sequence %d: %w", m.Sequence, err)
		}
		n++
		return nil
	})
	return n, err
}
