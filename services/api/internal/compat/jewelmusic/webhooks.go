package jewelmusic

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/profile"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

const (
	// descriptionKey is the annotation that keeps the description.
	descriptionKey = "description"
	defaultTimeout = 30 * time.Second
	defaultPerPage = 20
	maxPerPage     = 100
	fetch          = 1000 // webhooks or deliveries that are read at once
)

// shownWebhook is a webhook as callers see it; the secret only where they may see it.
type shownWebhook struct {
	ID          string            `json:"id"`
	URL         string            `json:"url"`
	Events      []string          `json:"events"`
	Secret      string            `json:"secret,omitempty"`
	Active      bool              `json:"active"`
	Description string            `json:"description,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"`
	Timeout     int64             `json:"timeout"`
	CreatedAt   string            `json:"createdAt"`
	UpdatedAt   string            `json:"updatedAt"`
}

func show(w *postriderv1.Webhook, secret string) shownWebhook {
	return shownWebhook{
		ID: w.GetId(), URL: w.GetUrl(), Events: w.GetEventTypes(), Secret: secret,
		Active:      w.GetState() == postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE,
		Description: w.GetAnnotations()[descriptionKey], Headers: w.GetHeaders(),
		Timeout:   w.GetAttemptTimeout().AsDuration().Milliseconds(),
		CreatedAt: shownTime(w.GetCreateTime().AsTime()), UpdatedAt: shownTime(w.GetUpdateTime().AsTime()),
	}
}

func shownTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }

type pagination struct {
	Page        int  `json:"page"`
	PerPage     int  `json:"perPage"`
	Total       *int `json:"total,omitempty"`      // absent if it was not counted
	TotalPages  *int `json:"totalPages,omitempty"` // likewise
	HasNext     bool `json:"hasNext"`
	HasPrevious bool `json:"hasPrevious"`
}

type listAnswer struct {
	Items      any        `json:"items"`
	Pagination pagination `json:"pagination"`
}

// webhookInput is what callers set; absent members are nil.
type webhookInput struct {
	URL         *string            `json:"url"`
	Events      []string           `json:"events"`
	Secret      *string            `json:"secret"`
	Active      *bool              `json:"active"`
	Description *string            `json:"description"`
	Headers     *map[string]string `json:"headers"`
	Timeout     *int64             `json:"timeout"` // milliseconds
	Profile     string             `json:"profile"` // ours: which of the two forms deliveries have; fixed at creation
}

// webhook turns the input into the public API's, and names the fields that it sets.
func (in *webhookInput) webhook(old *postriderv1.Webhook) (w *postriderv1.Webhook, paths []string) {
	w = &postriderv1.Webhook{}
	if in.URL != nil {
		w.Url = *in.URL
		paths = append(paths, "url")
	}
	if in.Events != nil {
		w.EventTypes = in.Events
		paths = append(paths, "event_types")
	}
	if in.Headers != nil {
		w.Headers = *in.Headers
		paths = append(paths, "headers")
	}
	if in.Timeout != nil {
		w.AttemptTimeout = durationpb.New(time.Duration(*in.Timeout) * time.Millisecond)
		paths = append(paths, "attempt_timeout")
	}
	if in.Description != nil {
		w.Annotations = make(map[string]string)
		maps.Copy(w.Annotations, old.GetAnnotations())
		if w.Annotations[descriptionKey] = *in.Description; *in.Description == "" {
			delete(w.Annotations, descriptionKey)
		}
		paths = append(paths, "annotations")
	}
	return w, paths
}

// check says what the public API cannot: a timeout that overflows, and a secret, which is set by a
// call of its own.
func (in *webhookInput) check(profileName string) error {
	const longest = int64(time.Hour / time.Millisecond)
	var v []fault.Violation
	if in.Timeout != nil && (*in.Timeout < 1 || *in.Timeout > longest) {
		v = append(v, fault.Violation{Field: "timeout", Rule: "must be from 1000 to 30000 ms"})
	}
	prof, found := profile.Lookup(profileName)
	if in.Secret != nil && found {
		if _, err := prof.ParseSecret(*in.Secret); err != nil {
			v = append(v, fault.Violation{Field: "secret", Rule: err.Error()})
		}
	}
	if in.Events != nil && len(in.Events) == 0 {
		v = append(v, fault.Violation{Field: "events", Rule: "at least one is required"})
	}
	if len(v) > 0 {
		return fault.InvalidFields(v...)
	}
	return nil
}

func (h *handler) create(r *request) (int, any, error) {
	in := &webhookInput{}
	if err := readJSON(r, in); err != nil {
		return 0, nil, err
	}
	if in.Secret != nil && *in.Secret == "" {
		in.Secret = nil // an SDK's struct that left it out
	}
	in.Profile = orDefault(in.Profile, profilePage)
	if in.Profile != profilePage && in.Profile != profileSDK {
		return 0, nil, fault.InvalidFields(fault.Violation{Field: "profile", Rule: "must be " + profilePage + " or " + profileSDK})
	}
	if err := in.check(in.Profile); err != nil {
		return 0, nil, err
	}
	w, _ := in.webhook(nil)
	w.Profile = in.Profile
	if in.Timeout == nil {
		w.AttemptTimeout = durationpb.New(defaultTimeout)
	}
	req := &postriderv1.CreateWebhookRequest{Webhook: w, Paused: in.Active != nil && !*in.Active}
	if in.Secret != nil {
		req.Secret = *in.Secret
	}
	resp, err := h.webhooks.CreateWebhook(r.ctx, req)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, show(resp.GetWebhook(), resp.GetSecret()), nil
}

// find is the webhook of the path, if it is one of this API.
func (h *handler) find(r *request) (*postriderv1.Webhook, error) {
	resp, err := h.webhooks.GetWebhook(r.ctx, &postriderv1.GetWebhookRequest{WebhookId: r.webhook})
	if err != nil {
		return nil, err
	}
	if !ours(resp.GetWebhook()) {
		return nil, fault.New(fault.NotFound, "NOT_FOUND", "no webhook "+r.webhook)
	}
	return resp.GetWebhook(), nil
}

func ours(w *postriderv1.Webhook) bool {
	return w.GetProfile() == profilePage || w.GetProfile() == profileSDK
}

// secret is the newest secret, or nothing if the caller may not see it.
func (h *handler) secret(ctx context.Context, id string) (string, error) {
	resp, err := h.webhooks.GetWebhookSecrets(ctx, &postriderv1.GetWebhookSecretsRequest{WebhookId: id})
	if e, ok := fault.As(fault.FromStatus(err)); ok && e.Kind == fault.Denied {
		return "", nil
	}
	if err != nil || len(resp.GetSecrets()) == 0 {
		return "", err
	}
	return resp.GetSecrets()[0].GetSecret(), nil
}

func (h *handler) show(r *request) (int, any, error) {
	w, err := h.find(r)
	if err != nil {
		return 0, nil, err
	}
	return h.shown(r, w)
}

func (h *handler) shown(r *request, w *postriderv1.Webhook) (int, any, error) {
	secret, err := h.secret(r.ctx, w.GetId())
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, show(w, secret), nil
}

// update changes what the body names. All of it is checked before the first change; after an answer
// of 5xx the same request may be made again.
func (h *handler) update(r *request) (int, any, error) {
	w, err := h.find(r)
	if err != nil {
		return 0, nil, err
	}
	in := &webhookInput{}
	if err := readJSON(r, in); err != nil {
		return 0, nil, err
	}
	if err := in.check(w.GetProfile()); err != nil {
		return 0, nil, err
	}
	change, paths := in.webhook(w)
	if len(paths) > 0 {
		change.Id = w.GetId()
		resp, err := h.webhooks.UpdateWebhook(r.ctx, &postriderv1.UpdateWebhookRequest{Webhook: change, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths}})
		if err != nil {
			return 0, nil, err
		}
		w = resp.GetWebhook()
	}
	if in.Secret != nil {
		if w, _, err = h.rotate(r, w, *in.Secret); err != nil {
			return 0, nil, err
		}
	}
	if in.Active != nil {
		if w, err = h.activate(r, w, *in.Active); err != nil {
			return 0, nil, err
		}
	}
	return h.shown(r, w)
}

// rotate switches to a secret; an empty one is made. The header of this system holds one signature,
// so there is no overlap.
func (h *handler) rotate(r *request, w *postriderv1.Webhook, secret string) (*postriderv1.Webhook, string, error) {
	resp, err := h.webhooks.RotateWebhookSecret(r.ctx, &postriderv1.RotateWebhookSecretRequest{
		WebhookId: w.GetId(), Secret: secret, Overlap: durationpb.New(0),
	})
	return resp.GetWebhook(), resp.GetSecret(), err
}

func (h *handler) activate(r *request, w *postriderv1.Webhook, active bool) (*postriderv1.Webhook, error) {
	if active == (w.GetState() == postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE) {
		return w, nil
	}
	if active {
		resp, err := h.webhooks.ResumeWebhook(r.ctx, &postriderv1.ResumeWebhookRequest{WebhookId: w.GetId()})
		return resp.GetWebhook(), err
	}
	resp, err := h.webhooks.PauseWebhook(r.ctx, &postriderv1.PauseWebhookRequest{WebhookId: w.GetId()})
	return resp.GetWebhook(), err
}

func (h *handler) remove(r *request) (int, any, error) {
	w, err := h.find(r)
	if err != nil {
		return 0, nil, err
	}
	_, err = h.webhooks.DeleteWebhook(r.ctx, &postriderv1.DeleteWebhookRequest{WebhookId: w.GetId()})
	return http.StatusNoContent, nil, err
}

func (h *handler) setStatus(r *request) (int, any, error) {
	w, err := h.find(r)
	if err != nil {
		return 0, nil, err
	}
	in := struct {
		Active *bool `json:"active"`
	}{}
	if err := readJSON(r, &in); err != nil {
		return 0, nil, err
	}
	if in.Active == nil {
		return 0, nil, fault.InvalidFields(fault.Violation{Field: "active", Rule: "is required"})
	}
	if w, err = h.activate(r, w, *in.Active); err != nil {
		return 0, nil, err
	}
	return h.shown(r, w)
}

func (h *handler) setSecret(r *request) (int, any, error) {
	w, err := h.find(r)
	if err != nil {
		return 0, nil, err
	}
	in := struct {
		Secret string `json:"secret"`
	}{}
	if err := readJSON(r, &in); err != nil {
		return 0, nil, err
	}
	w, secret, err := h.rotate(r, w, in.Secret)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, show(w, secret), nil
}

// list answers with a page of webhooks that pass the filters.
func (h *handler) list(r *request) (int, any, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return 0, nil, fault.New(fault.Invalid, "BAD_REQUEST", "the query cannot be decoded")
	}
	keep, v := webhookFilter(q)
	page, perPage, wrong := pageOf(q)
	if v = append(v, wrong...); len(v) > 0 {
		return 0, nil, fault.InvalidFields(v...)
	}
	var all []*postriderv1.Webhook
	for token := ""; ; {
		resp, err := h.webhooks.ListWebhooks(r.ctx, &postriderv1.ListWebhooksRequest{PageSize: fetch, PageToken: token})
		if err != nil {
			return 0, nil, err
		}
		for _, w := range resp.GetWebhooks() {
			if ours(w) && keep(w) {
				all = append(all, w)
			}
		}
		if token = resp.GetNextPageToken(); token == "" {
			break
		}
	}
	slices.SortStableFunc(all, func(a, b *postriderv1.Webhook) int {
		c := a.GetCreateTime().AsTime().Compare(b.GetCreateTime().AsTime())
		if q.Get("sortOrder") != "asc" {
			c = -c
		}
		return cmp.Or(c, cmp.Compare(a.GetNumber(), b.GetNumber()))
	})
	from := min((page-1)*perPage, len(all))
	items := []shownWebhook{}
	for _, w := range all[from:min(from+perPage, len(all))] {
		_, shown, err := h.shown(r, w)
		if e, ok := fault.As(fault.FromStatus(err)); ok && e.Kind == fault.NotFound {
			continue // deleted meanwhile
		}
		if err != nil {
			return 0, nil, err
		}
		if each, ok := shown.(shownWebhook); ok {
			items = append(items, each)
		}
	}
	total := len(all)
	return http.StatusOK, listAnswer{items, paginate(page, perPage, &total, total > page*perPage)}, nil
}

func paginate(page, perPage int, total *int, more bool) pagination {
	p := pagination{Page: page, PerPage: perPage, Total: total, HasNext: more, HasPrevious: page > 1}
	if total != nil {
		pages := (*total + perPage - 1) / perPage
		p.TotalPages = &pages
	}
	return p
}

// maxPage bounds page numbers, so that no product overflows.
const maxPage = 1_000_000

func pageOf(q url.Values) (page, perPage int, v []fault.Violation) {
	read := func(name string, def, most int) int {
		text := q.Get(name)
		if text == "" {
			return def
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > most {
			v = append(v, fault.Violation{Field: name, Rule: "must be from 1 to " + strconv.Itoa(most)})
			return def
		}
		return n
	}
	return read("page", 1, maxPage), read("perPage", defaultPerPage, maxPerPage), v
}

// webhookFilter reads active, events (any of them), url (the whole) and search (a part of the URL
// or the description).
func webhookFilter(q url.Values) (keep func(*postriderv1.Webhook) bool, v []fault.Violation) {
	active, err := strconv.ParseBool(cmp.Or(q.Get("active"), "true"))
	if err != nil {
		v = append(v, fault.Violation{Field: "active", Rule: "must be true or false"})
	}
	if by := q.Get("sortBy"); by != "" && by != "createdAt" {
		v = append(v, fault.Violation{Field: "sortBy", Rule: "must be createdAt"})
	}
	if order := q.Get("sortOrder"); order != "" && order != "asc" && order != "desc" {
		v = append(v, fault.Violation{Field: "sortOrder", Rule: "must be asc or desc"})
	}
	var events []string
	if text := strings.Join(q["events"], ","); text != "" {
		events = strings.Split(text, ",")
	}
	search := strings.ToLower(q.Get("search"))
	return func(w *postriderv1.Webhook) bool {
		is := w.GetState() == postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE
		return (q.Get("active") == "" || is == active) &&
			(q.Get("url") == "" || w.GetUrl() == q.Get("url")) &&
			(events == nil || slices.ContainsFunc(events, func(e string) bool { return slices.Contains(w.GetEventTypes(), e) })) &&
			(search == "" || strings.Contains(strings.ToLower(w.GetUrl()+"\n"+w.GetAnnotations()[descriptionKey]), search))
	}, v
}
