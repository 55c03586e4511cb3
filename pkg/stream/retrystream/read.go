package retrystream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// Get reads a record by its sequence; ErrGone if it is not there.
func (s *Streams) Get(ctx context.Context, shard int, sequence uint64) (*Record, error) {
	m, err := s.c.Get(ctx, name(shard), sequence)
	if errors.Is(err, stream.ErrNotFound) || err == nil && !isRecord(m.Subject) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, err
	}
	return decode(shard, m)
}

// GetAll reads many records in one go. The result has the order of the sequences, with nil for
// each that is gone.
func (s *Streams) GetAll(ctx context.Context, shard int, sequences []uint64) ([]*Record, error) {
	stored, err := s.c.GetAll(ctx, name(shard), sequences)
	if err != nil {
		return nil, err
	}
	records := make([]*Record, len(stored))
	for i, m := range stored {
		if m == nil || !isRecord(m.Subject) {
			continue
		}
		if records[i], err = decode(shard, m); err != nil {
			return nil, err
		}
	}
	return records, nil
}

// Last reads the record of a delivery, from the stream's leader; ErrGone if none waits.
func (s *Streams) Last(ctx context.Context, account postrider.AccountID, webhook postrider.WebhookID, delivery postrider.DeliveryID) (*Record, error) {
	d := &recordv1.Delivery{Id: string(delivery), AccountId: string(account), WebhookId: string(webhook)}
	for _, n := range s.c.Layout().Homes(webhook) {
		m, err := s.c.Last(ctx, name(n), recordSubject(n, d))
		if errors.Is(err, stream.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return decode(n, m)
	}
	return nil, ErrGone
}

// Remove removes a record by its sequence, after the caller journalled why; ErrGone if it is not
// there.
func (s *Streams) Remove(ctx context.Context, r Record) error {
	err := s.c.DeleteMessage(ctx, name(r.Shard), r.Sequence)
	if errors.Is(err, stream.ErrNotFound) {
		return ErrGone
	}
	return err
}

// RemoveWebhook removes every record of a webhook on a shard up to and with a sequence, after the
// caller read and journalled them. It answers how many.
func (s *Streams) RemoveWebhook(ctx context.Context, account postrider.AccountID, webhook postrider.WebhookID, upTo Place) (int64, error) {
	if account == "" || webhook == "" || upTo.Sequence == 0 {
		return 0, errors.New("remove records: account, webhook and sequence are required")
	}
	filter := recordPrefix(upTo.Shard) + string(account) + "." + string(webhook) + ".*"
	removed, err := s.c.Purge(ctx, name(upTo.Shard), filter, upTo.Sequence+1)
	if err != nil {
		return 0, fmt.Errorf("remove records of %s: %w", webhook, err)
	}
	return removed, nil
}

// ScanWebhook gives the records of a webhook from a place on to fn, shard by shard and in order of
// sequence, up to what was stored when each shard's turn began. It stops at fn's first error and
// returns it. A place on a shard that the webhook has nothing to do with any more is the beginning of its home.
func (s *Streams) ScanWebhook(ctx context.Context, account postrider.AccountID, webhook postrider.WebhookID, from Place, fn func(Record) error) error {
	if account == "" || webhook == "" {
		return errors.New("scan records: account and webhook are required")
	}
	homes := s.c.Layout().Homes(webhook)
	if from.Sequence > 0 {
		if i := slices.Index(homes, from.Shard); i >= 0 {
			homes = homes[i:]
		} else {
			homes = homes[len(homes)-1:]
		}
	}
	for _, shard := range homes {
		start := uint64(0)
		if shard == from.Shard {
			start = from.Sequence
		}
		filter := recordPrefix(shard) + string(account) + "." + string(webhook) + ".*"
		if err := s.scan(ctx, shard, filter, start, fn); err != nil {
			return err
		}
	}
	return nil
}

func (s *Streams) scan(ctx context.Context, shard int, filter string, from uint64, fn func(Record) error) error {
	return s.c.Scan(ctx, name(shard), stream.Scan{Filter: filter, From: from}, func(m *stream.Stored) error {
		r, err := decode(shard, m)
		if err != nil {
			return err
		}
		return fn(*r)
	})
}

// Entry is what an index needs of a record.
type Entry struct {
	// Account that owns it.
	Account postrider.AccountID
	// Webhook it waits for.
	Webhook postrider.WebhookID
	// Delivery that waits.
	Delivery postrider.DeliveryID
	// Sequence of its record.
	Sequence uint64
	// Due time, without the grace.
	Due time.Time
	// Kind says why it waits.
	Kind recordv1.RetryKind
}

// indexParts is how many ranges of a stream are read side by side for an index.
const indexParts = 2

// ScanIndex gives an entry for every record of a shard to fn without decoding any, for the
// rebuild of an index. Entries may come out of order of sequence; fn is called by one goroutine.
//
// It reads without a filter and skips what is due: matching a pattern costs the server more than
// the few due messages do.
func (s *Streams) ScanIndex(ctx context.Context, shard int, fn func(Entry) error) error {
	return s.c.Scan(ctx, name(shard), stream.Scan{Parts: indexParts}, func(m *stream.Stored) error {
		if !isRecord(m.Subject) {
			return nil
		}
		e, err := entry(shard, m)
		if err != nil {
			return err
		}
		return fn(e)
	})
}

// entry reads a record's subject and headers.
func entry(shard int, m *stream.Stored) (Entry, error) {
	words := strings.SplitN(strings.TrimPrefix(m.Subject, recordPrefix(shard)), ".", 3)
	due, err1 := strconv.ParseInt(m.Header.Get(headerDue), 10, 64)
	kind, err2 := strconv.ParseInt(m.Header.Get(headerKind), 10, 32)
	if err := errors.Join(err1, err2); err != nil || len(words) != 3 {
		return Entry{}, fmt.Errorf("retry %d of shard %d has a malformed subject or headers: %w", m.Sequence, shard, err)
	}
	return Entry{
		Account: postrider.AccountID(words[0]), Webhook: postrider.WebhookID(words[1]), Delivery: postrider.DeliveryID(words[2]),
		Sequence: m.Sequence, Due: time.UnixMilli(due), Kind: recordv1.RetryKind(kind),
	}, nil
}

// Due is the consumer of a shard's due deliveries. It filters: the records beside them must not be
// consumed, since acknowledging one would remove a schedule.
func (s *Streams) Due(ctx context.Context, shard int) (*stream.Consumer, error) {
	return s.c.NewConsumer(ctx, name(shard), durable, func(ctx context.Context) error {
		return s.c.EnsureConsumer(ctx, name(shard), dueConfig(s.c, shard))
	})
}

func dueConfig(c *stream.Client, shard int) jetstream.ConsumerConfig {
	return c.QueueConsumer(jetstream.ConsumerConfig{
		Durable: durable, AckPolicy: jetstream.AckExplicitPolicy, AckWait: stream.AckWait, FilterSubject: duePrefix(shard) + ">",
		MaxAckPending: maxAckPending, MaxDeliver: -1, DeliverPolicy: jetstream.DeliverAllPolicy,
	})
}

// Moved says that a due message was released to be put elsewhere: it may be early.
func Moved(m *stream.Msg) bool { return m.Header().Get(headerMoved) != "" }

// DecodeDue reads a due message. Fired says that the server turned the record into it, late by
// the grace, and no scheduler did.
func DecodeDue(m *stream.Msg) (r *recordv1.Retry, fired bool, err error) {
	r = &recordv1.Retry{}
	if err := proto.Unmarshal(m.Data(), r); err != nil {
		return nil, false, fmt.Errorf("decode due retry: %w", err)
	}
	return r, m.Header().Get(headerReleased) == "", nil
}
