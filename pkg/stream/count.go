package stream

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// CountSubjects asks the leader how many messages a stream holds on each subject that matches.
func (c *Client) CountSubjects(ctx context.Context, stream, filter string) (map[string]uint64, error) {
	counts := make(map[string]uint64)
	err := c.retry(ctx, func(ctx context.Context) error {
		s, err := c.js.Stream(ctx, stream)
		if err != nil {
			return err
		}
		info, err := s.Info(ctx, jetstream.WithSubjectFilter(filter))
		if err == nil {
			counts = info.State.Subjects
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("count subjects of %s: %w", stream, err)
	}
	return counts, nil
}

// LastSequence asks the leader for the sequence of the last message that was stored.
func (c *Client) LastSequence(ctx context.Context, stream string) (last uint64, err error) {
	err = c.retry(ctx, func(ctx context.Context) error {
		s, err := c.js.Stream(ctx, stream)
		if err == nil {
			last = s.CachedInfo().State.LastSeq
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("last sequence of %s: %w", stream, err)
	}
	return last, nil
}

// Messages asks the leader how many messages a stream holds.
func (c *Client) Messages(ctx context.Context, stream string) (n uint64, err error) {
	err = c.retry(ctx, func(ctx context.Context) error {
		s, err := c.js.Stream(ctx, stream)
		if err == nil {
			n = s.CachedInfo().State.Msgs
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("count messages of %s: %w", stream, err)
	}
	return n, nil
}
