package offblocks

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/match"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

const (
	pageSize = 1000
	// upsertTries bounds how often a PUT looks again when another request creates or deletes the
	// same webhook at the same time.
	upsertTries = 4
	upsertPause = 50 * time.Millisecond
)

// entityTypes are the types of events that the source system has.
func entityTypes() []string {
	return []string{"customer.updated", "account.updated", "card.updated", "authorisation.updated", "transaction.updated"}
}

// webhook is one as the source system writes it.
type webhook struct {
	ID          string   `json:"id"`
	CallbackURL string   `json:"callbackUrl"`
	Types       []string `json:"types"`
	CreatedAt   string   `json:"createdAt"`
	UpdatedAt   string   `json:"updatedAt"`
}

func shown(w *postriderv1.Webhook) webhook {
	types := []string{}
	for _, t := range entityTypes() {
		if slices.ContainsFunc(w.GetEventTypes(), func(pattern string) bool { return covers(pattern, t) }) {
			types = append(types, t)
		}
	}
	return webhook{
		ID: w.GetUuid(), CallbackURL: w.GetUrl(), Types: types,
		CreatedAt: w.GetCreateTime().AsTime().Format(time.RFC3339Nano), UpdatedAt: w.GetUpdateTime().AsTime().Format(time.RFC3339Nano),
	}
}

// covers is for webhooks that were made, or changed, elsewhere, and whose types may be patterns.
func covers(pattern, eventType string) bool {
	p, err := match.ParsePattern(pattern)
	return err == nil && p.Match(eventType)
}

// subscription is the body of a PUT.
type subscription struct {
	ID          *string   `json:"id"`
	CallbackURL *string   `json:"callbackUrl"`
	Types       *[]string `json:"types"`
}

// read reads the body and checks what the public API does not.
func (s *subscription) read(body []byte) error {
	if err := json.Unmarshal(body, s); err != nil {
		return errors.New("the body must be a JSON object with callbackUrl and, where wanted, id and types")
	}
	if s.CallbackURL == nil || *s.CallbackURL == "" {
		return errors.New("callbackUrl is required")
	}
	if s.ID != nil {
		id, err := parseUUID(*s.ID)
		if err != nil {
			return errors.New("id must be a UUID")
		}
		s.ID = &id
	}
	if s.Types == nil {
		all := entityTypes()
		s.Types = &all
	}
	if len(*s.Types) == 0 {
		return errors.New("types must name a type, or be left out for all")
	}
	for _, t := range *s.Types {
		if !slices.Contains(entityTypes(), t) {
			return errors.New("types must be of customer.updated, account.updated, card.updated, authorisation.updated and transaction.updated")
		}
	}
	// In one order, each once.
	types := slices.DeleteFunc(entityTypes(), func(t string) bool { return !slices.Contains(*s.Types, t) })
	s.Types = &types
	return nil
}

// put creates a webhook, or changes the one that has the id.
func (h *handler) put(ctx context.Context, r *request) answer {
	var s subscription
	bad := s.read(r.body)
	id := uuid.NewString()
	if bad == nil && s.ID != nil {
		id = *s.ID
	}
	return h.once(ctx, r, id, func(ctx context.Context, id string) answer {
		if bad != nil {
			return *fail(http.StatusBadRequest, bad.Error())
		}
		w, failed := h.upsert(ctx, id, &s)
		if failed != nil {
			return *failed
		}
		return reply(http.StatusOK, shown(w))
	})
}

// upsert may be done again with the same id, after a crash at any point: what was created is found.
func (h *handler) upsert(ctx context.Context, id string, s *subscription) (*postriderv1.Webhook, *answer) {
	for try := range upsertTries {
		if try > 0 && !pause(ctx) {
			break
		}
		found, err := h.find(ctx, id)
		switch {
		case err == nil && s.ID == nil:
			return found, nil // made by this request, before the process that did died
		case err == nil:
			w, err := h.change(ctx, found, s)
			if isKind(err, fault.NotFound) {
				continue // deleted meanwhile
			}
			if err != nil {
				return nil, translate(err)
			}
			return w, nil
		case errors.Is(err, errOtherProfile):
			return nil, fail(http.StatusBadRequest, "id is that of something else")
		case !isKind(err, fault.NotFound):
			return nil, translate(err)
		}
		created, err := h.webhooks.CreateWebhook(ctx, &postriderv1.CreateWebhookRequest{Webhook: &postriderv1.Webhook{
			Uuid: id, Profile: profileName, Url: *s.CallbackURL, EventTypes: *s.Types,
		}})
		if isKind(err, fault.AlreadyExists) {
			continue // created meanwhile
		}
		if err != nil {
			return nil, translate(err)
		}
		return created.GetWebhook(), nil
	}
	return nil, fail(http.StatusConflict, "the webhook is being created by another request")
}

func (h *handler) change(ctx context.Context, w *postriderv1.Webhook, s *subscription) (*postriderv1.Webhook, error) {
	resp, err := h.webhooks.UpdateWebhook(ctx, &postriderv1.UpdateWebhookRequest{
		Webhook:    &postriderv1.Webhook{Id: w.GetId(), Url: *s.CallbackURL, EventTypes: *s.Types},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"url", "event_types"}},
	})
	if err != nil || resp.GetWebhook().GetState() != postriderv1.WebhookState_WEBHOOK_STATE_DISABLED {
		return resp.GetWebhook(), err
	}
	// A rule found it gone or failing; who subscribes anew says that it is mended.
	resumed, err := h.webhooks.ResumeWebhook(ctx, &postriderv1.ResumeWebhookRequest{WebhookId: w.GetId()})
	return resumed.GetWebhook(), err
}

var errOtherProfile = errors.New("the webhook is of another profile")

// find reads the account's webhook of this UUID.
func (h *handler) find(ctx context.Context, id string) (*postriderv1.Webhook, error) {
	resp, err := h.webhooks.GetWebhook(ctx, &postriderv1.GetWebhookRequest{Uuid: id})
	if err != nil {
		return nil, err
	}
	if resp.GetWebhook().GetProfile() != profileName {
		return nil, errOtherProfile
	}
	return resp.GetWebhook(), nil
}

// lookup is find for an id of a path.
func (h *handler) lookup(ctx context.Context, r *request) (*postriderv1.Webhook, *answer) {
	id, err := parseUUID(r.id)
	if err != nil {
		return nil, noSuchWebhook()
	}
	w, err := h.find(ctx, id)
	if errors.Is(err, errOtherProfile) || isKind(err, fault.NotFound) {
		return nil, noSuchWebhook()
	}
	if err != nil {
		return nil, translate(err)
	}
	return w, nil
}

func noSuchWebhook() *answer { return fail(http.StatusNotFound, "there is no such webhook") }

// get reads one.
func (h *handler) get(ctx context.Context, r *request) answer {
	w, failed := h.lookup(ctx, r)
	if failed != nil {
		return *failed
	}
	return reply(http.StatusOK, shown(w))
}

// list reads all that are active.
func (h *handler) list(ctx context.Context, _ *request) answer {
	out := []webhook{}
	for token := ""; ; {
		page, err := h.webhooks.ListWebhooks(ctx, &postriderv1.ListWebhooksRequest{PageSize: pageSize, PageToken: token})
		if err != nil {
			return *translate(err)
		}
		for _, w := range page.GetWebhooks() {
			if w.GetProfile() == profileName && w.GetState() == postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE {
				out = append(out, shown(w))
			}
		}
		if token = page.GetNextPageToken(); token == "" {
			return reply(http.StatusOK, out)
		}
	}
}

// remove deletes one. What was found is kept with the claim, so that who goes on after a crash
// knows that there was something to delete.
func (h *handler) remove(ctx context.Context, r *request) answer {
	w, failed := h.lookup(ctx, r)
	if failed != nil && failed.Status != http.StatusNotFound {
		return *failed
	}
	return h.once(ctx, r, w.GetId(), func(ctx context.Context, id string) answer {
		if id == "" {
			return *noSuchWebhook()
		}
		_, err := h.webhooks.DeleteWebhook(ctx, &postriderv1.DeleteWebhookRequest{WebhookId: id})
		if err != nil && !isKind(err, fault.NotFound) {
			return *translate(err)
		}
		return answer{Status: http.StatusNoContent}
	})
}

// pause waits before another try; false if the request is over.
func pause(ctx context.Context) bool {
	timer := time.NewTimer(upsertPause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
