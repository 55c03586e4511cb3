package deliverystream

import (
	"context"
	"fmt"
	"strings"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// Walk gives every delivery that a shard held when the walk began to fn, with its message's sequence. It is
// for those who only look: it makes no stream and no consumer. It stops at fn's first error and returns it.
func Walk(ctx context.Context, c *stream.Client, shard int, fn func(sequence uint64, d *recordv1.Delivery) error) error {
	return c.Scan(ctx, name(shard), stream.Scan{}, func(m *stream.Stored) error {
		all, err := decode(m.Subject, m.Data)
		if err != nil {
			return fmt.Errorf("sequence %d: %w", m.Sequence, err)
		}
		for _, d := range all {
			if err := fn(m.Sequence, d); err != nil {
				return err
			}
		}
		return nil
	})
}

// CountByAccount is how many deliveries of each account a shard holds, those in a dispatcher's
// hands too, and for a few seconds those that ended while others of their message have not. It reads none of them.
func CountByAccount(ctx context.Context, c *stream.Client, shard int) (map[postrider.AccountID]int64, error) {
	subjects, err := c.CountSubjects(ctx, name(shard), ">")
	if err != nil {
		return nil, err
	}
	counts := make(map[postrider.AccountID]int64)
	for subject, n := range subjects {
		words := strings.Split(subject, ".")
		if len(words) != 4 {
			return nil, fmt.Errorf("subject %s of shard %d is malformed", subject, shard)
		}
		counts[postrider.AccountID(words[2])] += int64(n) * int64(max(countOf(subject), 1)) //nolint:gosec // far below 1<<63
	}
	return counts, nil
}

// Name of a shard's stream, for people.
func Name(shard int) string { return name(shard) }

// CountAstray is how many deliveries a shard holds whose webhooks have another home, those in a
// dispatcher's hands too. It reads all that the shard holds.
func CountAstray(ctx context.Context, c *stream.Client, shard int, l postrider.Layout) (n uint64, err error) {
	err = Walk(ctx, c, shard, func(_ uint64, d *recordv1.Delivery) error {
		if l.Home(postrider.WebhookID(d.GetWebhookId())) != shard {
			n++
		}
		return nil
	})
	return n, err
}
