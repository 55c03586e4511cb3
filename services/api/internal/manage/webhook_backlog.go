package manage

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// backlog asks the scheduler, which owns what waits.
func (s *Server) backlog(ctx context.Context, account, webhook string) (*postriderv1.GetWebhookBacklogResponse, error) {
	counted, err := s.deps.Scheduler.GetBacklog(ctx, &schedulerv1.GetBacklogRequest{AccountId: account, WebhookId: webhook})
	if err != nil {
		return nil, err
	}
	resp := &postriderv1.GetWebhookBacklogResponse{
		Held: &postriderv1.Backlog{}, Waiting: &postriderv1.Backlog{}, Parked: &postriderv1.Backlog{}, Delayed: &postriderv1.Backlog{},
		Complete: counted.GetComplete(),
	}
	for _, c := range counted.GetCounts() {
		shown := &postriderv1.Backlog{Count: c.GetCount(), OldestAcceptTime: c.GetOldestAcceptTime(), NextAttemptTime: c.GetNextDueTime()}
		switch c.GetKind() {
		case recordv1.RetryKind_RETRY_KIND_HELD:
			shown.NextAttemptTime = nil // Its due time only bounds the hold.
			resp.Held = shown
		case recordv1.RetryKind_RETRY_KIND_PARKED:
			resp.Parked = shown
		case recordv1.RetryKind_RETRY_KIND_DELAYED:
			resp.Delayed = shown
		case recordv1.RetryKind_RETRY_KIND_WAITING, recordv1.RetryKind_RETRY_KIND_UNSPECIFIED:
			resp.Waiting = shown
		}
	}
	return resp, nil
}

// shownSpell is what callers see of a spell of failing; nil if a change of state has ended it.
func shownSpell(f *recordv1.Failing, w *postriderv1.Webhook, limit time.Duration) *postriderv1.FailingSpell {
	active := w.GetState() == postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE
	if active && f.GetSince().AsTime().Before(w.GetStateTime().AsTime()) {
		return nil
	}
	shown := &postriderv1.FailingSpell{
		StartTime: f.GetSince(), LastFailureTime: f.GetLastFailureTime(),
		LastStatusCode: f.GetLastStatusCode(), LastErrorClass: f.GetLastErrorClass(),
	}
	if active && limit > 0 {
		shown.DisableTime = timestamppb.New(f.GetSince().AsTime().Add(limit))
	}
	return shown
}
