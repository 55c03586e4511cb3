package deadletterstream

import (
	"context"
	"fmt"

	"github.com/postrider/postrider/pkg/stream"
)

// Walk gives the dead letters of all accounts that were stored when the walk began to fn, oldest
// first. It stops at fn's first error and returns it.
func (s *Stream) Walk(ctx context.Context, fn func(Item) error) error {
	err := s.c.Scan(ctx, name, stream.Scan{}, func(m *stream.Stored) error {
		letter, err := decode(m)
		if err != nil {
			return err
		}
		return fn(Item{Sequence: m.Sequence, Letter: letter})
	})
	if err != nil {
		return fmt.Errorf("walk dead letters: %w", err)
	}
	return nil
}
