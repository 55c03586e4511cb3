package eventstream

import (
	"context"
	"errors"
	"fmt"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// Routed is how far routing of the segment is: every event up to floor is routed, and pending events
// are not. stream.ErrNotFound if no router has ever run.
func (s *Segment) Routed(ctx context.Context) (floor uint64, pending int64, err error) {
	info, err := s.c.ConsumerInfo(ctx, s.name, router)
	if err != nil {
		return 0, 0, err
	}
	return info.AckFloor, int64(info.Pending) + int64(info.AckPending), nil //nolint:gosec // far below 1<<63
}

// Routing is how far routing was when it was asked for.
type Routing struct {
	// Pending is how many events were not routed, in all segments together.
	Pending int64
	floors  []uint64 // by segment
}

// Floor is the sequence up to which every event of an account is routed.
func (r Routing) Floor(account postrider.AccountID) uint64 {
	if len(r.floors) == 0 {
		return 0
	}
	return r.floors[postrider.SegmentOf(account, len(r.floors))]
}

// Passed is how many places of EVENTS routing had passed, in all segments together.
func (r Routing) Passed() uint64 {
	var sum uint64
	for _, floor := range r.floors {
		sum += floor
	}
	return sum
}

// Routed is how far routing is. A segment that no router has ever worked on counts for nothing.
func (s *Stream) Routed(ctx context.Context) (Routing, error) {
	r := Routing{floors: make([]uint64, len(s.segments))}
	for n, seg := range s.segments {
		floor, pending, err := seg.Routed(ctx)
		if err != nil && !errors.Is(err, stream.ErrNotFound) {
			return Routing{}, err
		}
		r.floors[n], r.Pending = floor, r.Pending+pending
	}
	return r, nil
}

// Walk gives every event that routing had passed to fn, one segment after the other and each in order
// of sequence. Place counts up to r.Passed. What is no event is left out, as routers leave it out.
func (s *Stream) Walk(ctx context.Context, r Routing, fn func(place uint64, ev *recordv1.Event) error) error {
	var before uint64
	for n, floor := range r.floors {
		err := s.segments[n].walk(ctx, floor, func(sequence uint64, ev *recordv1.Event) error { return fn(before+sequence, ev) })
		if err != nil {
			return err
		}
		before += floor
	}
	return nil
}

// walk gives the events up to a sequence.
func (s *Segment) walk(ctx context.Context, upTo uint64, fn func(sequence uint64, ev *recordv1.Event) error) error {
	err := s.c.Scan(ctx, s.name, stream.Scan{}, func(m *stream.Stored) error {
		if m.Sequence > upTo {
			return errEnough
		}
		ev, err := decode(m.Data)
		if err != nil {
			return nil //nolint:nilerr // its router has refused it
		}
		return fn(m.Sequence, ev)
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// Erase removes the event at a sequence of an account's segment for good, overwritten on disk; false if
// it is not there. Whose event it is the caller has looked at. What refers to it finds nothing any more.
func (s *Stream) Erase(ctx context.Context, account postrider.AccountID, sequence uint64) (bool, error) {
	seg := s.Of(account)
	err := seg.c.Erase(ctx, seg.name, sequence)
	if errors.Is(err, stream.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("erase event at %d of %s: %w", sequence, seg.name, err)
	}
	return true, nil
}
