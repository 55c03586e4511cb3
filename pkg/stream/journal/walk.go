package journal

import (
	"context"
	"fmt"

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
