package deadletterstream

import (
	"context"
	"errors"
	"fmt"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// At reads the dead letter at a sequence; ErrNotFound if it is gone.
func (s *Stream) At(ctx context.Context, sequence uint64) (*recordv1.DeadLetter, error) {
	m, err := s.c.Get(ctx, name, sequence)
	if errors.Is(err, stream.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read dead letter %d: %w", sequence, err)
	}
	return decode(m)
}

// LastSequence is the sequence of the newest dead letter of any account; 0 if there has been none.
func (s *Stream) LastSequence(ctx context.Context) (uint64, error) {
	st, err := s.c.JetStream().Stream(ctx, name)
	if err != nil {
		return 0, fmt.Errorf("read dead letters: %w", err)
	}
	return st.CachedInfo().State.LastSeq, nil
}

// Select reads dead letters of an account, or of one of its webhooks, from a sequence on, oldest
// first: at most limit, and no more once their payloads are at least so many bytes. It gives none
// only if there are no more.
func (s *Stream) Select(ctx context.Context, account postrider.AccountID, webhook postrider.WebhookID, from uint64, limit, bytes int) ([]Item, error) {
	if webhook == "" {
		webhook = "*"
	} else if stream.CheckTokens(string(webhook)) != nil {
		return nil, nil //nolint:nilerr // nobody has such a webhook
	}
	var items []Item
	read := 0
	scan := stream.Scan{Filter: subject(string(account), string(webhook), "*"), From: from, Page: limit}
	err := s.c.Scan(ctx, name, scan, func(m *stream.Stored) error {
		letter, err := decode(m)
		if err != nil {
			return err
		}
		items = append(items, Item{Sequence: m.Sequence, Letter: letter})
		if read += len(m.Data); len(items) >= limit || read >= bytes {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, fmt.Errorf("select dead letters of %s: %w", account, err)
	}
	return items, nil
}
