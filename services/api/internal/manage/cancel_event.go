package manage

import (
	"context"
	"errors"
	"time"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/logstore"
)

// cancelPage is how many deliveries of an event one call of the scheduler names.
const cancelPage = 1000

// CancelEvent ends every delivery of an event. The event's own mark ends what the log does not know
// yet; what the log knows is removed where it waits.
func (s *Server) CancelEvent(ctx context.Context, req *postriderv1.CancelEventRequest) (*postriderv1.CancelEventResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	event := postrider.EventID(req.GetEventId())
	if !event.Valid() {
		return nil, invalid("event_id", `must be "evt_" and a ULID`)
	}
	resp := &postriderv1.CancelEventResponse{}
	q := logstore.Query{Account: account, EventID: string(event), Limit: cancelPage}
	for known := false; ; known = true {
		page, err := s.deps.Log.Deliveries(ctx, q)
		if err != nil {
			return nil, logUnavailable(err)
		}
		if len(page) == 0 && known {
			return resp, nil
		}
		if len(page) == 0 {
			if err := s.keepsEvent(ctx, account, event); err != nil {
				return nil, err
			}
		}
		if err := s.cancelPage(ctx, account, event, page, resp); err != nil {
			return nil, err
		}
		if len(page) < cancelPage {
			return resp, nil
		}
		last := page[len(page)-1]
		q.After = logstore.Cursor{CreateTime: last.CreateTime, ID: last.ID}
	}
}

// cancelTime bounds how long one call cancels what waits for a webhook.
const cancelTime = 8 * time.Second

// CancelWebhookDeliveries ends what waits for a webhook that lives on.
func (s *Server) CancelWebhookDeliveries(ctx context.Context, req *postriderv1.CancelWebhookDeliveriesRequest) (*postriderv1.CancelWebhookDeliveriesResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	if _, _, err := s.deps.Store.GetWebhook(ctx, string(account), req.GetWebhookId()); err != nil {
		return nil, stored(err, "webhook", req.GetWebhookId())
	}
	resp := &postriderv1.CancelWebhookDeliveriesResponse{}
	for until := time.Now().Add(cancelTime); ; {
		done, err := s.deps.Scheduler.CancelWaiting(ctx, &schedulerv1.CancelWaitingRequest{
			AccountId: string(account), WebhookId: req.GetWebhookId(), Reason: "request",
		})
		if err != nil {
			return nil, err
		}
		resp.Removed += done.GetCancelled()
		resp.Marked += done.GetMarked()
		if resp.Complete = !done.GetMore(); resp.GetComplete() || time.Now().After(until) {
			return resp, nil
		}
	}
}

// keepsEvent refuses an event that the account does not have.
func (s *Server) keepsEvent(ctx context.Context, account postrider.AccountID, event postrider.EventID) error {
	_, _, err := s.deps.Events.Find(ctx, account, event)
	if errors.Is(err, eventstream.ErrNotFound) {
		return fault.New(fault.NotFound, "NOT_FOUND", "no event "+string(event)).WithMetadata("id", string(event))
	}
	if err != nil {
		return recordAway("events", err)
	}
	return nil
}

func (s *Server) cancelPage(ctx context.Context, account postrider.AccountID, event postrider.EventID, page []*logstore.Delivery, resp *postriderv1.CancelEventResponse) error {
	call := &schedulerv1.CancelEventRequest{AccountId: string(account), EventId: string(event), Reason: "request"}
	for _, d := range page {
		if !d.State.Ended() {
			call.Deliveries = append(call.Deliveries, &schedulerv1.CancelTarget{
				WebhookId: d.WebhookID, DeliveryId: d.ID, Apart: d.ReplayID != "" || d.Series > 0,
			})
		}
	}
	done, err := s.deps.Scheduler.CancelEvent(ctx, call)
	if err != nil {
		return err
	}
	resp.Removed += int32(done.GetCancelled())                                   //nolint:gosec // at most a page
	resp.Marked += int32(len(call.GetDeliveries())) - int32(done.GetCancelled()) //nolint:gosec // at most a page
	return nil
}
