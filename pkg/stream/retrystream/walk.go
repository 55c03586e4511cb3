package retrystream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// Standing is a message of a retry stream: a record, or a due delivery.
type Standing struct {
	// Sequence in the stream.
	Sequence uint64
	// Due tells a due delivery from a record.
	Due bool
	// FireTime is when the server turns the record into a due delivery by itself.
	FireTime time.Time
	// Retry is what it holds.
	Retry *recordv1.Retry
}

// Walk gives every message that a shard held when the walk began to fn, in order of sequence. It is
// for those who only look: it makes no stream and no consumer.
func Walk(ctx context.Context, c *stream.Client, shard int, fn func(Standing) error) error {
	return walk(ctx, c, shard, 0, fn)
}

// WalkToEnd is Walk until it has caught up with the stream: what is released while it runs moves to
// the stream's end, and a walk of what stood at its beginning would meet it in neither place. It
// gives some messages twice. It goes on for as long as there is no pause between two messages; end
// it by its context.
func WalkToEnd(ctx context.Context, c *stream.Client, shard int, fn func(Standing) error) error {
	for next := uint64(1); ; {
		last, err := c.LastSequence(ctx, name(shard))
		if err != nil {
			return err
		}
		if last < next {
			return nil
		}
		if err := walk(ctx, c, shard, next, fn); err != nil {
			return err
		}
		next = last + 1
	}
}

func walk(ctx context.Context, c *stream.Client, shard int, from uint64, fn func(Standing) error) error {
	return c.Scan(ctx, name(shard), stream.Scan{From: from}, func(m *stream.Stored) error {
		if isAnchor(m.Subject) {
			return nil
		}
		s := Standing{Sequence: m.Sequence, Due: !isRecord(m.Subject), Retry: &recordv1.Retry{}}
		if err := proto.Unmarshal(m.Data, s.Retry); err != nil {
			return fmt.Errorf("decode retry %d of shard %d: %w", m.Sequence, shard, err)
		}
		if !s.Due {
			at, err := time.Parse(time.RFC3339Nano, strings.TrimPrefix(m.Header.Get(jetstream.ScheduleHeader), "@at "))
			if err != nil {
				return fmt.Errorf("schedule of retry %d of shard %d: %w", m.Sequence, shard, err)
			}
			s.FireTime = at
		}
		return fn(s)
	})
}

// ScanAll gives what a shard holds of a webhook to fn: its records, and its due deliveries, those in a
// dispatcher's hands too. What is there while it runs, and is not made or taken by the caller, is given once
// at least, also if it moves within the stream: a record that is replaced or released goes to the stream's
// end. It stops at fn's first error and returns it.
func (s *Streams) ScanAll(ctx context.Context, shard int, account postrider.AccountID, webhook postrider.WebhookID, fn func(Standing) error) error {
	if account == "" || webhook == "" {
		return errors.New("scan what waits: account and webhook are required")
	}
	give := func(due bool) func(*stream.Stored) error {
		return func(m *stream.Stored) error {
			r, err := decode(shard, m)
			if err != nil {
				return err
			}
			return fn(Standing{Sequence: m.Sequence, Due: due, Retry: r.Retry})
		}
	}
	records := recordPrefix(shard) + string(account) + "." + string(webhook) + ".*"
	for from := uint64(1); ; {
		last, err := s.c.LastSequence(ctx, name(shard))
		if err != nil {
			return err
		}
		found := 0
		err = s.c.Scan(ctx, name(shard), stream.Scan{Filter: records, From: from}, func(m *stream.Stored) error {
			found++
			return give(false)(m)
		})
		if err != nil {
			return err
		}
		if found == 0 {
			break // whatever was replaced since its old place was read would have been met now
		}
		from = last + 1
	}
	// After the records: what was released before it was read stands here.
	due := duePrefix(shard) + string(account) + "." + string(webhook)
	return s.c.Scan(ctx, name(shard), stream.Scan{Filter: due}, give(true))
}

// IsDue says whether a shard holds a due message of a delivery, one in a dispatcher's hands too.
func (s *Streams) IsDue(ctx context.Context, shard int, account postrider.AccountID, webhook postrider.WebhookID, delivery postrider.DeliveryID) (found bool, err error) {
	due := duePrefix(shard) + string(account) + "." + string(webhook)
	err = s.c.Scan(ctx, name(shard), stream.Scan{Filter: due}, func(m *stream.Stored) error {
		r, err := decode(shard, m)
		found = found || err == nil && r.Retry.GetDelivery().GetId() == string(delivery)
		return err
	})
	return found, err
}

// Counts is what a shard holds of one account.
type Counts struct {
	// Waiting records: scheduled, parked or delayed.
	Waiting int64
	// Held records.
	Held int64
	// Due deliveries, those in a dispatcher's hands too.
	Due int64
}

// CountByAccount counts what a shard holds of each account. It decodes nothing.
func CountByAccount(ctx context.Context, c *stream.Client, shard int) (map[postrider.AccountID]Counts, error) {
	counts := make(map[postrider.AccountID]Counts)
	err := c.Scan(ctx, name(shard), stream.Scan{Parts: indexParts}, func(m *stream.Stored) error {
		if isAnchor(m.Subject) {
			return nil
		}
		if !isRecord(m.Subject) {
			account, _, _ := strings.Cut(strings.TrimPrefix(m.Subject, duePrefix(shard)), ".")
			n := counts[postrider.AccountID(account)]
			n.Due++
			counts[postrider.AccountID(account)] = n
			return nil
		}
		e, err := entry(shard, m)
		if err != nil {
			return err
		}
		n := counts[e.Account]
		if e.Kind == recordv1.RetryKind_RETRY_KIND_HELD {
			n.Held++
		} else {
			n.Waiting++
		}
		counts[e.Account] = n
		return nil
	})
	if err != nil {
		return nil, err
	}
	return counts, nil
}

// Name of a shard's stream, for people.
func Name(shard int) string { return name(shard) }

// CountAstray is how many due deliveries a shard holds whose webhooks have another home, those in a
// dispatcher's hands too. It reads none of them.
func CountAstray(ctx context.Context, c *stream.Client, shard int, l postrider.Layout) (n uint64, err error) {
	subjects, err := c.CountSubjects(ctx, name(shard), duePrefix(shard)+">")
	if err != nil {
		return 0, err
	}
	for subject, messages := range subjects {
		if webhook := subject[strings.LastIndexByte(subject, '.')+1:]; l.Home(postrider.WebhookID(webhook)) != shard {
			n += messages
		}
	}
	return n, nil
}
