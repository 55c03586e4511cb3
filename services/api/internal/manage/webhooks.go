package manage

import (
	"context"
	"net/url"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/access"
	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/profile"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// webhookFields are those that the owner sets; profile is fixed at creation.
var webhookFields = []string{
	"display_name", "url", "method", "event_types", "filter", "scopes", "headers", "attempt_timeout", "retry_schedule",
	"max_in_flight", "rate_limit", "trace_context", "annotations", "options", "disable_failing_after", "ordering",
}

// Reasons of a webhook's state.
const (
	reasonOwner    = "owner"
	reasonOperator = "operator"
)

// CreateWebhook registers a webhook; events published after the answer reach it.
func (s *Server) CreateWebhook(ctx context.Context, req *postriderv1.CreateWebhookRequest) (*postriderv1.CreateWebhookResponse, error) {
	acc, err := s.existingAccount(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	w := &postriderv1.Webhook{}
	if err := copyFields(w, req.GetWebhook(), append(webhookFields, "profile")); err != nil {
		return nil, err
	}
	w.Profile = orDefault(w.GetProfile(), profile.Default)
	prof, found := profile.Lookup(w.GetProfile())
	if !found {
		return nil, invalid("webhook.profile", "must be one of "+joined(profile.Names()))
	}
	if err := s.normalize(w, prof, acc); err != nil {
		return nil, err
	}
	if prof, err = s.bind(ctx, w, acc.GetId()); err != nil {
		return nil, err
	}
	text, secret, err := s.newSecret(prof, req.GetSecret(), req.GetSecretKind())
	if err != nil {
		return nil, err
	}
	number, err := s.deps.Store.NextNumber(ctx, config.BucketWebhooks)
	if err != nil {
		return nil, stored(err, "webhook", "")
	}
	now := timestamppb.New(s.deps.Now())
	w.Id, w.Number, w.AccountId = string(postrider.NewWebhookID()), number, acc.GetId()
	w.State, w.StateTime, w.CreateTime, w.UpdateTime = postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE, now, now, now
	if req.GetPaused() {
		w.State, w.StateReason = postriderv1.WebhookState_WEBHOOK_STATE_PAUSED, pauseReason(ctx)
	}
	s.gate(w)
	chosen := req.GetWebhook().GetUuid()
	if err := s.claimUUID(ctx, w, chosen); err != nil {
		return nil, err
	}
	if err := s.sealSecret(w, secret, text); err != nil { // for the id that the claim settled
		return nil, err
	}
	rec := &recordv1.Webhook{Webhook: w, Secrets: []*recordv1.SealedSecret{secret}}
	revision, err := s.deps.Store.CreateWebhook(ctx, rec)
	if err != nil {
		return nil, stored(err, "webhook", w.GetId())
	}
	if chosen != "" {
		if err := s.holdsUUID(ctx, w, revision); err != nil {
			return nil, err
		}
	}
	if err := s.deps.Barrier.Confirm(ctx, config.BucketWebhooks, revision); err != nil {
		return nil, unconfirmed(err)
	}
	rec, revision = s.handshakeAfter(ctx, rec, revision)
	return &postriderv1.CreateWebhookResponse{Webhook: shownWebhook(rec, revision), Secret: text}, nil
}

// GetWebhook reads one, by its id, its UUID or its number.
func (s *Server) GetWebhook(ctx context.Context, req *postriderv1.GetWebhookRequest) (*postriderv1.GetWebhookResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	id, err := s.webhookID(string(account), req)
	if err != nil {
		return nil, err
	}
	rec, revision, err := s.deps.Store.GetWebhook(ctx, string(account), id)
	if err != nil {
		return nil, stored(err, "webhook", id)
	}
	return &postriderv1.GetWebhookResponse{Webhook: shownWebhook(rec, revision)}, nil
}

// ListWebhooks lists the account's webhooks, oldest first.
func (s *Server) ListWebhooks(ctx context.Context, req *postriderv1.ListWebhooksRequest) (*postriderv1.ListWebhooksResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	after, err := parsePageToken(req.GetPageToken(), "webhooks", string(account))
	if err != nil {
		return nil, err
	}
	page, err := s.listWebhooks(ctx, string(account), after, size+1)
	if err != nil {
		return nil, stored(err, "webhooks", "")
	}
	resp := &postriderv1.ListWebhooksResponse{}
	bytes := 0
	for i, item := range page {
		// A page that is large in bytes is short (AIP-158): the answer must fit into a message.
		if i == size || bytes > maxPageBytes {
			resp.NextPageToken = pageToken(page[i-1].Record.GetWebhook().GetId(), "webhooks", string(account))
			break
		}
		shown := shownWebhook(item.Record, item.Revision)
		bytes += proto.Size(shown)
		resp.Webhooks = append(resp.Webhooks, shown)
	}
	return resp, nil
}

// UpdateWebhook changes the fields of the mask.
func (s *Server) UpdateWebhook(ctx context.Context, req *postriderv1.UpdateWebhookRequest) (*postriderv1.UpdateWebhookResponse, error) {
	acc, err := s.existingAccount(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	if req.GetWebhook().GetId() == "" {
		return nil, invalid("webhook.id", "is required")
	}
	fields, err := maskFields("webhook", req.GetWebhook(), req.GetUpdateMask(), webhookFields)
	if err != nil {
		return nil, err
	}
	var before *postriderv1.Webhook
	asks := false
	rec, revision, err := s.changeWebhook(ctx, acc.GetId(), req.GetWebhook().GetId(), req.GetWebhook().GetEtag(), func(rec *recordv1.Webhook) error {
		before = proto.CloneOf(rec.GetWebhook())
		if err := copyFields(rec.GetWebhook(), req.GetWebhook(), fields); err != nil {
			return err
		}
		prof, found := profile.Lookup(rec.GetWebhook().GetProfile())
		if !found {
			return fault.New(fault.Precondition, "UNKNOWN_PROFILE", "this version does not have the webhook's profile "+rec.GetWebhook().GetProfile())
		}
		if err := s.normalize(rec.GetWebhook(), prof, acc); err != nil {
			return err
		}
		if prof, err = s.bind(ctx, rec.GetWebhook(), acc.GetId()); err != nil {
			return err
		}
		if err := s.keepsSecrets(rec, prof); err != nil {
			return err
		}
		asks = asksAnew(before, rec.GetWebhook())
		s.gate(rec.GetWebhook())
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.passed(ctx, before, rec.GetWebhook(), revision)
	if asks {
		rec, revision = s.handshakeAfter(ctx, rec, revision)
	}
	return &postriderv1.UpdateWebhookResponse{Webhook: shownWebhook(rec, revision)}, nil
}

// changeWebhook reads a webhook, changes it and stores it by compare-and-set, and returns when
// every router and dispatcher has the change. Without an etag, a change that met another one is
// made again on top of it.
func (s *Server) changeWebhook(ctx context.Context, account, id, givenEtag string, change func(*recordv1.Webhook) error) (*recordv1.Webhook, uint64, error) {
	for range maxRetries {
		rec, revision, err := s.deps.Store.GetWebhook(ctx, account, id)
		if err != nil {
			return nil, 0, stored(err, "webhook", id)
		}
		if err := checkEtag("webhook", id, givenEtag, revision); err != nil {
			return nil, 0, err
		}
		if err := change(rec); err != nil {
			return nil, 0, err
		}
		rec.GetWebhook().UpdateTime = timestamppb.New(s.deps.Now())
		revision, err = s.deps.Store.UpdateWebhook(ctx, rec, revision)
		if again(err, givenEtag) {
			continue
		}
		if err != nil {
			return nil, 0, stored(err, "webhook", id)
		}
		if err := s.deps.Barrier.Confirm(ctx, config.BucketWebhooks, revision); err != nil {
			return nil, 0, unconfirmed(err)
		}
		return rec, revision, nil
	}
	return nil, 0, stored(config.ErrConflict, "webhook", id)
}

// DeleteWebhook removes a webhook.
//
// Delete, barrier, then cancel what waits: after the barrier nobody attempts or parks a delivery
// of this webhook any more without meeting its absence, so what is read after it is all there is.
// If the scheduler is away, its own sweep cancels what is left when it comes back.
func (s *Server) DeleteWebhook(ctx context.Context, req *postriderv1.DeleteWebhookRequest) (*postriderv1.DeleteWebhookResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	id := req.GetWebhookId()
	rec, revision, err := s.deps.Store.GetWebhook(ctx, string(account), id)
	if err != nil {
		return nil, stored(err, "webhook", id)
	}
	if err := checkEtag("webhook", id, req.GetEtag(), revision); err != nil {
		return nil, err
	}
	if req.GetEtag() == "" {
		revision = 0 // whatever it is
	}
	if err := s.releaseUUID(ctx, rec.GetWebhook()); err != nil {
		return nil, err
	}
	if revision, err = s.deps.Store.DeleteWebhook(ctx, string(account), id, revision); err != nil {
		return nil, stored(err, "webhook", id)
	}
	if err := s.deps.Barrier.Confirm(ctx, config.BucketWebhooks, revision); err != nil {
		return nil, unconfirmed(err)
	}
	resp := &postriderv1.DeleteWebhookResponse{}
	cancelled, err := s.deps.Scheduler.Cancel(ctx, &schedulerv1.CancelRequest{
		AccountId: string(account), WebhookId: id, Reason: "webhook_deleted",
	})
	if err != nil {
		s.deps.Logger.WarnContext(ctx, "deliveries of a deleted webhook are left to the scheduler's sweep", "webhook", id, "error", err)
		return resp, nil
	}
	resp.CancelledDeliveries = cancelled.GetCancelled()
	return resp, nil
}

// PauseWebhook holds a webhook's deliveries.
func (s *Server) PauseWebhook(ctx context.Context, req *postriderv1.PauseWebhookRequest) (*postriderv1.PauseWebhookResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	rec, revision, err := s.setState(ctx, string(account), req.GetWebhookId(), postriderv1.WebhookState_WEBHOOK_STATE_PAUSED, pauseReason(ctx), nil)
	if err != nil {
		return nil, err
	}
	s.hold(ctx, string(account), req.GetWebhookId(), "paused", revision)
	return &postriderv1.PauseWebhookResponse{Webhook: shownWebhook(rec, revision)}, nil
}

// pauseReason says who pauses.
func pauseReason(ctx context.Context) string {
	if p, err := access.FromContext(ctx); err == nil && p.Admin {
		return reasonOperator
	}
	return reasonOwner
}

// hold asks the scheduler to hold what waits. The dispatchers hold what is due in any case, and
// the scheduler follows the configuration itself, so a failure costs only promptness.
func (s *Server) hold(ctx context.Context, account, id, reason string, revision uint64) {
	_, err := s.deps.Scheduler.Hold(ctx, &schedulerv1.HoldRequest{AccountId: account, WebhookId: id, Reason: reason, WebhookRevision: revision})
	if err != nil {
		s.deps.Logger.WarnContext(ctx, "holding is left to the scheduler's own watch", "webhook", id, "error", err)
	}
}

// ResumeWebhook makes a webhook active; the scheduler, which follows the configuration, releases
// what it held.
func (s *Server) ResumeWebhook(ctx context.Context, req *postriderv1.ResumeWebhookRequest) (*postriderv1.ResumeWebhookResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	var notices []*recordv1.Notice
	rec, revision, err := s.setState(ctx, string(account), req.GetWebhookId(), postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE, "", &notices)
	if err != nil {
		return nil, err
	}
	s.deps.Notices.Send(ctx, notices)
	_, err = s.deps.Scheduler.Resume(ctx, &schedulerv1.ResumeRequest{AccountId: string(account), WebhookId: req.GetWebhookId()})
	if err != nil {
		s.deps.Logger.WarnContext(ctx, "releasing is left to the scheduler's own watch", "webhook", req.GetWebhookId(), "error", err)
	}
	return &postriderv1.ResumeWebhookResponse{Webhook: shownWebhook(rec, revision)}, nil
}

// setState stores a state. If the caller tells of it, notices are prepared before it is stored, for
// the caller to send when it is; those of a try that met another change are withdrawn.
func (s *Server) setState(
	ctx context.Context, account, id string, state postriderv1.WebhookState, reason string, notices *[]*recordv1.Notice,
) (*recordv1.Webhook, uint64, error) {
	return s.changeWebhook(ctx, account, id, "", func(rec *recordv1.Webhook) error {
		w := rec.GetWebhook()
		if notices != nil && len(*notices) > 0 {
			s.deps.Notices.Withdraw(ctx, *notices)
			*notices = nil
		}
		if state == postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE {
			if err := errMissing(w); err != nil {
				return err
			}
		}
		changes := w.GetState() != state
		if changes {
			w.StateTime = timestamppb.New(s.deps.Now())
		}
		w.State, w.StateReason = state, reason
		if notices == nil || !changes {
			return nil
		}
		*notices = s.deps.Notices.State(w)
		if err := s.deps.Notices.Prepare(ctx, *notices); err != nil {
			return stored(err, "webhook", id)
		}
		return nil
	})
}

func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Host
}
