package manage

import (
	"context"
	"errors"
	"time"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	apiv1 "github.com/postrider/postrider/proto/gen/go/postrider/api/v1"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/failing"
	"github.com/postrider/postrider/services/api/internal/logstore"
)

// reasonFailing is the reason of a webhook that was disabled because it failed for too long.
const reasonFailing = "failing"

// maxReports is how many webhooks one call may report of.
const maxReports = 256

// Notices stores and publishes operational events.
type Notices interface {
	State(w *postriderv1.Webhook) []*recordv1.Notice
	Failing(w *postriderv1.Webhook, f *recordv1.Failing, percent int32, limit time.Duration) []*recordv1.Notice
	Prepare(ctx context.Context, list []*recordv1.Notice) error
	Withdraw(ctx context.Context, list []*recordv1.Notice)
	Send(ctx context.Context, list []*recordv1.Notice)
}

// ReportOutcomes takes how attempts end, warns owners and disables what failed for too long.
func (s *StateServer) ReportOutcomes(ctx context.Context, req *apiv1.ReportOutcomesRequest) (*apiv1.ReportOutcomesResponse, error) {
	if len(req.GetWebhooks()) > maxReports {
		return nil, invalid("webhooks", "must be at most 256")
	}
	resp := &apiv1.ReportOutcomesResponse{}
	for _, r := range req.GetWebhooks() {
		if err := s.report(ctx, r); err != nil {
			s.server.deps.Logger.WarnContext(ctx, "outcomes of a webhook will be reported again", "webhook", r.GetWebhookId(), "error", err)
			resp.FailedWebhookIds = append(resp.FailedWebhookIds, r.GetWebhookId())
		}
	}
	return resp, nil
}

// report merges one report, by compare-and-set, since dispatchers may report at once.
func (s *StateServer) report(ctx context.Context, r *apiv1.WebhookOutcomes) error {
	for range maxRetries {
		err := s.reportOnce(ctx, r)
		if !errors.Is(err, config.ErrConflict) && !errors.Is(err, config.ErrExists) {
			return err
		}
	}
	return config.ErrConflict
}

func (s *StateServer) reportOnce(ctx context.Context, r *apiv1.WebhookOutcomes) error {
	store := s.server.deps.Store
	rec, revision, err := store.GetWebhook(ctx, r.GetAccountId(), r.GetWebhookId())
	if errors.Is(err, config.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if w := rec.GetWebhook(); w.GetState() == postriderv1.WebhookState_WEBHOOK_STATE_DISABLED && w.GetStateReason() == reasonFailing {
		// A late report. The spell that the webhook was disabled for can be seen until it is active again.
		return nil
	}
	limit, err := s.server.failingLimit(ctx, rec.GetWebhook())
	if err != nil {
		return err
	}
	before, at, err := store.GetFailing(ctx, r.GetAccountId(), r.GetWebhookId())
	if err != nil && !errors.Is(err, config.ErrNotFound) {
		return err
	}
	after := failing.Merge(before, r, rec.GetWebhook(), limit)
	warn, disable := failing.Judge(after, limit)
	if disable {
		if disable, err = s.failedThroughout(ctx, after); err != nil {
			return err
		}
		if !disable {
			after = nil
		}
	}
	switch {
	case warn > 0:
		return s.warn(ctx, rec.GetWebhook(), after, at, warn, limit)
	case failing.Worth(before, after, limit):
		if err := s.note(ctx, before, after, at); err != nil {
			return err
		}
	}
	if !disable {
		return nil
	}
	// Its own revision, so that a webhook that was changed a moment ago gets another chance.
	_, err = s.DisableWebhook(ctx, &apiv1.DisableWebhookRequest{
		AccountId: r.GetAccountId(), WebhookId: r.GetWebhookId(), Reason: reasonFailing, WebhookRevision: revision,
	})
	return err
}

// note stores what is known of a webhook's failures; after is nil if it fails no more.
func (s *StateServer) note(ctx context.Context, before, after *recordv1.Failing, at uint64) error {
	store := s.server.deps.Store
	var err error
	switch {
	case before == nil:
		_, err = store.CreateFailing(ctx, after)
	case after == nil:
		err = store.DeleteFailing(ctx, before.GetAccountId(), before.GetWebhookId(), at)
		if errors.Is(err, config.ErrNotFound) {
			err = nil
		}
	default:
		_, err = store.UpdateFailing(ctx, after, at)
	}
	return err
}

// warn tells the owner, once for each mark.
//
// Prepare, note, send: a crash before the note leaves a notice of what was not done, which is
// dropped, and the next report warns; a crash after it leaves one that the sweep publishes.
func (s *StateServer) warn(ctx context.Context, w *postriderv1.Webhook, f *recordv1.Failing, at uint64, percent int32, limit time.Duration) error {
	notices := s.server.deps.Notices
	list := notices.Failing(w, f, percent, limit)
	if err := notices.Prepare(ctx, list); err != nil {
		return err
	}
	f.WarnedPercent = percent
	var before *recordv1.Failing
	if at > 0 {
		before = f
	}
	if err := s.note(ctx, before, f, at); err != nil {
		if !errors.Is(err, config.ErrUnknown) { // else the sweep finds out
			notices.Withdraw(ctx, list)
		}
		return err
	}
	s.server.deps.Logger.InfoContext(ctx, "webhook fails", "webhook", w.GetId(), "percent", percent)
	notices.Send(ctx, list)
	return nil
}

// witnesses is how many delivered deliveries are looked at.
const witnesses = 100

// failedThroughout asks the delivery log for a success in a spell: one whose report was lost with
// its dispatcher must not be forgotten. While the log cannot answer, nothing is disabled.
func (s *StateServer) failedThroughout(ctx context.Context, f *recordv1.Failing) (bool, error) {
	page, err := s.server.deps.Log.Deliveries(ctx, logstore.Query{
		Account: postrider.AccountID(f.GetAccountId()), WebhookID: f.GetWebhookId(), State: postrider.Delivered, Limit: witnesses,
	})
	if err != nil {
		return false, err
	}
	for _, d := range page {
		if !d.StateTime.Before(f.GetSince().AsTime()) {
			return false, nil
		}
	}
	return true, nil
}

// failingLimit is how long a webhook may fail, 0 for ever.
func (s *Server) failingLimit(ctx context.Context, w *postriderv1.Webhook) (time.Duration, error) {
	acc, _, err := s.deps.Store.GetAccount(ctx, w.GetAccountId())
	if err != nil && !errors.Is(err, config.ErrNotFound) {
		return 0, err
	}
	return failing.Limit(w, acc.GetAccount(), s.deps.FailingLimit), nil
}

// checkFailingLimit checks the time that a webhook or an account chose.
func checkFailingLimit(d time.Duration, never bool) bool {
	return never && d == 0 || d >= failing.MinLimit && d <= failing.MaxLimit
}

const failingLimitRule = "must be from 1 h to 30 days"

// GetWebhookBacklog counts what waits for a webhook.
func (s *Server) GetWebhookBacklog(ctx context.Context, req *postriderv1.GetWebhookBacklogRequest) (*postriderv1.GetWebhookBacklogResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	rec, _, err := s.deps.Store.GetWebhook(ctx, string(account), req.GetWebhookId())
	if err != nil {
		return nil, stored(err, "webhook", req.GetWebhookId())
	}
	resp, err := s.backlog(ctx, string(account), req.GetWebhookId())
	if err != nil {
		return nil, err
	}
	f, _, err := s.deps.Store.GetFailing(ctx, string(account), req.GetWebhookId())
	if errors.Is(err, config.ErrNotFound) {
		return resp, nil
	}
	if err != nil {
		return nil, stored(err, "failures of webhook", req.GetWebhookId())
	}
	limit, err := s.failingLimit(ctx, rec.GetWebhook())
	if err != nil {
		return nil, fault.New(fault.Unavailable, "STORE_UNAVAILABLE", "the configuration's store did not answer").WithCause(err)
	}
	resp.Failing = shownSpell(f, rec.GetWebhook(), limit)
	return resp, nil
}
