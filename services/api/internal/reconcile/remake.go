package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	"github.com/postrider/postrider/services/api/internal/logstore"
)

// remade is how many records are stored at once.
const remade = 64

// reasonRemade is the reason of a record that a repair made.
const reasonRemade = "reconciled"

// remake stores records of deliveries that have not ended and are in no place, which only a store
// that lost what it had acknowledged can bring about. The record is made of the event and of what
// the log says of the delivery's progress, and is due when the log says, or now. The scheduler stores
// it like any other, so that one that has appeared meanwhile stands. A delivery whose event is not
// kept any more stays named.
func (r *run) remake(ctx context.Context, suspects findings) error {
	var lost []*finding
	for _, f := range suspects {
		if f.kind == nowhere || f.kind == noRecord {
			lost = append(lost, f)
		}
	}
	for part := range slices.Chunk(lost, remade) {
		req := &schedulerv1.ScheduleRetryRequest{}
		var asked []*finding
		for _, f := range part {
			record, err := r.record(ctx, f)
			if errors.Is(err, eventstream.ErrNotFound) || errors.Is(err, logstore.ErrNotFound) {
				continue
			}
			if err != nil {
				return fmt.Errorf("make the record of %s again: %w", f.delivery, err)
			}
			req.Retries, asked = append(req.Retries, record), append(asked, f)
		}
		if len(asked) == 0 {
			continue
		}
		resp, err := r.deps.Scheduler.ScheduleRetry(ctx, req)
		if err != nil {
			return fmt.Errorf("store records again: %w", err)
		}
		for i, result := range resp.GetResults() {
			s := result.GetStatus()
			asked[i].repaired = s == schedulerv1.ScheduleStatus_SCHEDULE_STATUS_STORED || s == schedulerv1.ScheduleStatus_SCHEDULE_STATUS_SUPERSEDED
		}
	}
	return nil
}

// record is the delivery as its last record would be, but for the start of its first attempt: the
// time that its schedule allows begins anew.
func (r *run) record(ctx context.Context, f *finding) (*recordv1.Retry, error) {
	account := postrider.AccountID(f.account)
	row, err := r.deps.Log.Delivery(ctx, account, f.delivery)
	if err != nil {
		return nil, err
	}
	ev, sequence, err := r.deps.Events.Find(ctx, account, postrider.EventID(f.event))
	if err != nil {
		return nil, err
	}
	now := r.deps.Now()
	due := now
	if row.NextAttemptTime.After(now) {
		due = row.NextAttemptTime
	}
	d := deliverystream.Of(ev, sequence, postrider.WebhookID(f.webhook), row.ReplayID)
	d.RouteTime, d.Data = timestamppb.New(row.CreateTime), ev.GetData()
	d.Progress = &recordv1.Progress{
		Attempts: int32(row.AttemptCount), Series: int32(row.Series), //nolint:gosec // both are counts of int32 in the journal
		LastStatusCode: int32(row.LastStatusCode), LastErrorClass: row.LastErrorClass, //nolint:gosec // a status code
	}
	return &recordv1.Retry{
		Kind: recordv1.RetryKind_RETRY_KIND_WAITING, DueTime: timestamppb.New(due), Reason: reasonRemade, Delivery: d,
	}, nil
}
