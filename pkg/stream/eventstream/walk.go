package eventstream

import (
	"context"
	"errors"
	"fmt"

	"github.com/postrider/postrider/pkg/stream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// Routed is how far routing is: every event up to floor is routed, and pending events are not.
// stream.ErrNotFound if no router has ever run.
func (s *Stream) Routed(ctx context.Context) (floor uint64, pending int64, err error) {
	info, err := s.c.ConsumerInfo(ctx, name, router)
	if err != nil {
		return 0, 0, err
	}
	return info.AckFloor, int64(info.Pending) + int64(info.AckPending), nil //nolint:gosec // far below 1<<63
}

// Walk gives every event that was stored when the walk began to fn, in order of sequence. What is no
// event is left out, as routers leave it out.
func (s *Stream) Walk(ctx context.Context, fn func(sequence uint64, ev *recordv1.Event) error) error {
	return s.c.Scan(ctx, name, stream.Scan{}, func(m *stream.Stored) error {
		ev, err := decode(m.Data)
		if err != nil {
			return nil //nolint:nilerr // its router has refused it
		}
		return fn(m.Sequence, ev)
	})
}

// Erase removes an event for good, overwritten on disk; false if it is not there. What refers to it
// finds nothing any more.
func (s *Stream) Erase(ctx context.Context, sequence uint64) (bool, error) {
	err := s.c.Erase(ctx, name, sequence)
	if errors.Is(err, stream.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("erase event at %d: %w", sequence, err)
	}
	return true, nil
}
