package retrystream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// fewDue is how many due deliveries a shard may hold of which ScanToFill makes entries.
const fewDue = 10_000

// ScanToFill is ScanIndex for whoever fills an index that was lost: it costs a quarter, and may give an entry for a due delivery too, which looks like its record. The index then gets a member
// whose record is gone, as it does of a record that is released in between; what claims it finds that out. There are
// at most some ten thousand such: of a shard that holds more due deliveries, none is given.
func (s *Streams) ScanToFill(ctx context.Context, shard int, fn func(Entry) error) error {
	due, err := s.c.CountSubjects(ctx, name(shard), duePrefix(shard)+">")
	if err != nil {
		return err
	}
	var n uint64
	for _, messages := range due {
		n += messages
	}
	if n > fewDue {
		return s.ScanIndex(ctx, shard, fn)
	}
	return s.c.Scan(ctx, name(shard), stream.Scan{Parts: indexParts, Bare: true}, func(m *stream.Stored) (err error) {
		var e Entry
		switch {
		case m.Subject == "" && len(m.Data) == 0:
			return nil // the anchor
		case m.Subject == "":
			e, err = bareEntry(shard, m)
		case isRecord(m.Subject):
			e, err = entry(shard, m)
		default:
			return nil
		}
		if err != nil {
			return err
		}
		return fn(e)
	})
}

// bareEntry reads what an entry needs of a record's body, and steps over the rest of it.
func bareEntry(shard int, m *stream.Stored) (Entry, error) {
	e := Entry{Sequence: m.Sequence}
	var due time.Time
	err := fields(m.Data, func(n int, b []byte, v uint64) error {
		switch n {
		case 1:
			return fields(b, func(n int, b []byte, _ uint64) error {
				switch n {
				case 1:
					e.Delivery = postrider.DeliveryID(b)
				case 2:
					e.Account = postrider.AccountID(b)
				case 3:
					e.Webhook = postrider.WebhookID(b)
				}
				return nil
			})
		case 2:
			e.Kind = recordv1.RetryKind(v) //nolint:gosec // an enum
		case 3:
			var seconds, nanos uint64
			err := fields(b, func(n int, _ []byte, v uint64) error {
				switch n {
				case 1:
					seconds = v
				case 2:
					nanos = v
				}
				return nil
			})
			due = time.Unix(int64(seconds), int64(nanos))
			return err
		}
		return nil
	})
	if err == nil && (e.Account == "" || e.Webhook == "" || e.Delivery == "" || due.IsZero()) {
		err = errors.New("it lacks a field")
	}
	if err != nil {
		return Entry{}, fmt.Errorf("retry %d of shard %d is malformed: %w", m.Sequence, shard, err)
	}
	e.Due = time.UnixMilli(due.UnixMilli()) // as its header says it
	return e, nil
}

// fields gives the fields of a message to fn: bytes, or a varint.
func fields(b []byte, fn func(n int, bytes []byte, varint uint64) error) error {
	for len(b) > 0 {
		n, kind, size := protowire.ConsumeTag(b)
		if size < 0 {
			return protowire.ParseError(size)
		}
		b = b[size:]
		var bytes []byte
		var varint uint64
		size = protowire.ConsumeFieldValue(n, kind, b)
		if kind == protowire.BytesType {
			bytes, size = protowire.ConsumeBytes(b)
		}
		if kind == protowire.VarintType {
			varint, size = protowire.ConsumeVarint(b)
		}
		if size < 0 {
			return protowire.ParseError(size)
		}
		b = b[size:]
		if err := fn(int(n), bytes, varint); err != nil {
			return err
		}
	}
	return nil
}
