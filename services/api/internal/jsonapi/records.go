package jsonapi

import (
	"context"
	"encoding/json"
	"strconv"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/postrider/postrider/pkg/fault"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// reveals is how many secrets are read at once.
const reveals = 8

// Documents of answers.
type (
	oneDocument struct {
		Data resource `json:"data"`
	}
	listDocument struct {
		Data []resource `json:"data"`
		Meta *listMeta  `json:"meta,omitempty"`
	}
	listMeta struct {
		Count int  `json:"count"`
		More  bool `json:"more"` // never: the count is exact
	}
	resource struct {
		Type       string           `json:"type"`
		ID         string           `json:"id"`
		Attributes *shownAttributes `json:"attributes,omitempty"`
	}
	shownAttributes struct {
		ID        *int64          `json:"id,omitempty"`
		AccountID *int64          `json:"account_id,omitempty"`
		Name      *string         `json:"name,omitempty"`
		URL       *string         `json:"url,omitempty"`
		Secret    *string         `json:"secret,omitempty"`
		Events    []string        `json:"events,omitempty"`
		Scopes    json.RawMessage `json:"scopes,omitempty"`
		CreatedAt *string         `json:"created_at,omitempty"`
		UpdatedAt *string         `json:"updated_at,omitempty"`
	}
	eventsDocument struct {
		Data []eventResource `json:"data"`
	}
	eventResource struct {
		Type       string          `json:"type"`
		ID         string          `json:"id"`
		Attributes eventAttributes `json:"attributes"`
	}
	eventAttributes struct {
		Name        string `json:"name"`
		Description string `json:"description"`
	}
	testAnswer struct {
		Success bool   `json:"success"`
		Message string `json:"message"`
	}
	loginDocument struct {
		Meta loginMeta `json:"meta"`
	}
	loginMeta struct {
		Token string `json:"token"`
	}
)

func newRecord(w *postriderv1.Webhook, account *postriderv1.Account) *record {
	r := &record{
		webhookID: w.GetId(), id: w.GetNumber(), accountID: account.GetNumber(), name: w.GetDisplayName(), url: w.GetUrl(),
		events: w.GetEventTypes(), scopes: []byte("{}"), created: w.GetCreateTime().AsTime(), updated: w.GetUpdateTime().AsTime(),
	}
	if len(w.GetScopes().GetFields()) > 0 {
		if raw, err := json.Marshal(w.GetScopes().AsMap()); err == nil { // it came from JSON
			r.scopes = raw
		}
	}
	return r
}

// resource is the record as the query wants it.
func (r *record) resource(q *query) resource {
	out := resource{Type: resourceType, ID: strconv.FormatInt(r.id, 10)}
	a := &shownAttributes{}
	some := false
	want := func(name string) bool {
		wanted := q.wants(name)
		some = some || wanted
		return wanted
	}
	if want("id") {
		a.ID = &r.id
	}
	if want("account_id") {
		a.AccountID = &r.accountID
	}
	if want("name") {
		a.Name = &r.name
	}
	if want("url") {
		a.URL = &r.url
	}
	if r.hasSecret && want("secret") {
		a.Secret = &r.secret
	}
	if want("events") {
		a.Events = r.events
	}
	if want("scopes") {
		a.Scopes = r.scopes
	}
	if want("created_at") {
		a.CreatedAt = shownTime(r.created)
	}
	if want("updated_at") {
		a.UpdatedAt = shownTime(r.updated)
	}
	if some {
		out.Attributes = a
	}
	return out
}

func shownTime(t time.Time) *string {
	text := t.UTC().Format(time.RFC3339Nano)
	return &text
}

// account is the caller's own.
func (h *handler) account(ctx context.Context) (*postriderv1.Account, error) {
	resp, err := h.accounts.GetAccount(ctx, &postriderv1.GetAccountRequest{})
	return resp.GetAccount(), err
}

// one reads a webhook of this API.
func (h *handler) one(ctx context.Context, id int64) (*record, error) {
	account, err := h.account(ctx)
	if err != nil {
		return nil, err
	}
	notFound := fault.New(fault.NotFound, "NOT_FOUND", "there is no such webhook")
	if id == 0 {
		return nil, notFound
	}
	resp, err := h.webhooks.GetWebhook(ctx, &postriderv1.GetWebhookRequest{Number: id})
	if err != nil {
		return nil, err
	}
	if resp.GetWebhook().GetProfile() != profileName {
		return nil, notFound
	}
	return newRecord(resp.GetWebhook(), account), nil
}

// all reads every webhook of this API.
func (h *handler) all(ctx context.Context) ([]*record, error) {
	account, err := h.account(ctx)
	if err != nil {
		return nil, err
	}
	var out []*record
	token := ""
	for {
		page, err := h.webhooks.ListWebhooks(ctx, &postriderv1.ListWebhooksRequest{PageSize: maxPageSize, PageToken: token})
		if err != nil {
			return nil, err
		}
		for _, w := range page.GetWebhooks() {
			if w.GetProfile() == profileName {
				out = append(out, newRecord(w, account))
			}
		}
		if token = page.GetNextPageToken(); token == "" {
			return out, nil
		}
	}
}

// catalogue reads every event type.
func (h *handler) catalogue(ctx context.Context) ([]*postriderv1.EventType, error) {
	var out []*postriderv1.EventType
	token := ""
	for {
		page, err := h.eventTypes.ListEventTypes(ctx, &postriderv1.ListEventTypesRequest{PageSize: maxPageSize, PageToken: token})
		if err != nil {
			return nil, err
		}
		out = append(out, page.GetEventTypes()...)
		if token = page.GetNextPageToken(); token == "" {
			return out, nil
		}
	}
}

// revealWanted reads the secrets of records if the query wants them.
func (h *handler) revealWanted(ctx context.Context, q *query, records []*record) error {
	if !q.wants("secret") {
		return nil
	}
	_, err := h.reveal(ctx, records)
	return err
}

// reveal reads the secrets of records; false if the caller may not see them. A webhook that was
// deleted meanwhile has none.
func (h *handler) reveal(ctx context.Context, records []*record) (bool, error) {
	if len(records) == 0 {
		return true, nil
	}
	if err := h.revealOne(ctx, records[0]); err != nil { // whether the caller may is the same for all
		if e, ok := fault.As(fault.FromStatus(err)); ok && e.Kind == fault.Denied {
			return false, nil
		}
		return false, err
	}
	errs := make(chan error, len(records))
	work := make(chan *record)
	var wg sync.WaitGroup
	for range min(reveals, len(records)-1) {
		wg.Go(func() {
			for each := range work {
				if err := h.revealOne(ctx, each); err != nil {
					errs <- err
				}
			}
		})
	}
	for _, each := range records[1:] {
		work <- each
	}
	close(work)
	wg.Wait()
	close(errs)
	return true, <-errs
}

func (h *handler) revealOne(ctx context.Context, r *record) error {
	if r.hasSecret {
		return nil
	}
	resp, err := h.webhooks.GetWebhookSecrets(ctx, &postriderv1.GetWebhookSecretsRequest{WebhookId: r.webhookID})
	if e, ok := fault.As(fault.FromStatus(err)); ok && e.Kind == fault.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	if len(resp.GetSecrets()) > 0 {
		r.secret, r.hasSecret = resp.GetSecrets()[0].GetSecret(), true
	}
	return nil
}

// change is the request that makes the document's changes but that of the secret; nil for none.
func (a *attributes) change(webhookID string) *postriderv1.UpdateWebhookRequest {
	w := &postriderv1.Webhook{Id: webhookID}
	var paths []string
	if a.name != nil {
		w.DisplayName = *a.name
		paths = append(paths, "display_name")
	}
	if a.url != nil {
		w.Url = *a.url
		paths = append(paths, "url")
	}
	if a.hasEvents {
		w.EventTypes = a.events
		paths = append(paths, "event_types")
	}
	if len(paths) == 0 {
		return nil
	}
	return &postriderv1.UpdateWebhookRequest{Webhook: w, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths}}
}
