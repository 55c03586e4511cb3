// Package entries writes what the scheduler does to the journal. It owns nothing. Its methods
// return when every entry is acknowledged, so that what is done next never outruns the
// journal.
package entries

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/stream/retrystream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// writer is all that is needed of the journal's writer.
type writer interface {
	Write(ctx context.Context, shard int, e *recordv1.JournalEntry, done func(error)) error
}

// Log writes entries.
type Log struct {
	writer writer
	now    func() time.Time
}

// New returns a log that writes to the journal.
func New(w writer, now func() time.Time) *Log { return &Log{writer: w, now: now} }

// Held says that the records' deliveries are held.
func (l *Log) Held(ctx context.Context, records []retrystream.Record, reason string) error {
	return l.write(ctx, records, func(e *recordv1.JournalEntry) {
		e.What = &recordv1.JournalEntry_Held{Held: &recordv1.Held{Reason: reason}}
	})
}

// Released says that the records' deliveries are pending again.
func (l *Log) Released(ctx context.Context, records []retrystream.Record, reason string) error {
	return l.write(ctx, records, func(e *recordv1.JournalEntry) {
		e.What = &recordv1.JournalEntry_Released{Released: &recordv1.Released{Reason: reason}}
	})
}

// Cancelled says that the records' deliveries have ended.
func (l *Log) Cancelled(ctx context.Context, records []retrystream.Record, reason string) error {
	return l.write(ctx, records, func(e *recordv1.JournalEntry) {
		e.What = &recordv1.JournalEntry_Cancelled{Cancelled: &recordv1.Cancelled{Reason: reason}}
	})
}

func (l *Log) write(ctx context.Context, records []retrystream.Record, what func(*recordv1.JournalEntry)) error {
	results := make(chan error, len(records))
	now := timestamppb.New(l.now())
	var errs []error
	sent := 0
	for _, r := range records {
		d := r.Retry.GetDelivery()
		e := &recordv1.JournalEntry{
			Time:       now,
			AccountId:  d.GetAccountId(),
			EventId:    d.GetEventId(),
			DeliveryId: d.GetId(),
			WebhookId:  d.GetWebhookId(),
			EventType:  d.GetEventType(),
			Series:     d.GetProgress().GetSeries(),
			CreateTime: d.GetRouteTime(),
		}
		what(e)
		if err := l.writer.Write(ctx, r.Shard, e, func(err error) { results <- err }); err != nil {
			errs = append(errs, err)
			break
		}
		sent++
	}
	for range sent {
		select {
		case err := <-results:
			if err != nil {
				errs = append(errs, err)
			}
		case <-ctx.Done():
			return fmt.Errorf("journal %d entries: %w", len(records), context.Cause(ctx))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("journal %d entries: %w", len(records), err)
	}
	return nil
}
