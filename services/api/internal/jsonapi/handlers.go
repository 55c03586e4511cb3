package jsonapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/profile"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/caller"
)

func notAllowed(w http.ResponseWriter, allowed []string) {
	slices.Sort(allowed)
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	one(http.StatusMethodNotAllowed, "must be one of "+strings.Join(allowed, ", ")).write(w)
}

// list answers with the webhooks that pass the filter.
func (h *handler) list(w http.ResponseWriter, r *http.Request) {
	ctx := caller.Outgoing(r.Context(), r.Header)
	q, f := parseQuery(r.URL.RawQuery, takesFields|takesList|takesInclude)
	if f != nil {
		h.refuse(ctx, w, f)
		return
	}
	all, err := h.all(ctx)
	if err != nil {
		writeError(w, err)
		return
	}
	records := make([]*record, 0, len(all))
	for _, each := range all {
		if q.keeps(each) {
			records = append(records, each)
		}
	}
	if conditions := q.secrets(); len(conditions) > 0 {
		shown, err := h.reveal(ctx, records)
		if err != nil {
			writeError(w, err)
			return
		}
		if !shown {
			failures{{
				status: http.StatusForbidden, title: titleOf(http.StatusForbidden), detail: "the key may not read secrets", parameter: "filter[secret]",
			}}.write(w)
			return
		}
		records = slices.DeleteFunc(records, func(each *record) bool {
			return slices.ContainsFunc(conditions, func(c condition) bool { return !c.holds(each) })
		})
	}
	q.order(records)
	page := q.page(records)
	if err := h.revealWanted(ctx, q, page); err != nil {
		writeError(w, err)
		return
	}
	doc := listDocument{Data: make([]resource, len(page))}
	for i, each := range page {
		doc.Data[i] = each.resource(q)
	}
	if q.count {
		doc.Meta = &listMeta{Count: len(records)}
	}
	writeJSON(w, http.StatusOK, mediaType, doc)
}

// refuse answers a request that is wrong in itself, but tells who has no key only that.
func (h *handler) refuse(ctx context.Context, w http.ResponseWriter, f failures) {
	if _, err := h.account(ctx); err != nil {
		writeError(w, err)
		return
	}
	f.write(w)
}

func (h *handler) show(w http.ResponseWriter, r *http.Request, id int64) {
	ctx := caller.Outgoing(r.Context(), r.Header)
	q, f := parseQuery(r.URL.RawQuery, takesFields|takesInclude)
	if f != nil {
		h.refuse(ctx, w, f)
		return
	}
	rec, err := h.one(ctx, id)
	if err != nil {
		writeError(w, err)
		return
	}
	h.answer(ctx, w, http.StatusOK, q, rec)
}

// answer answers with one webhook, and its secret if the caller may see it.
func (h *handler) answer(ctx context.Context, w http.ResponseWriter, status int, q *query, rec *record) {
	if err := h.revealWanted(ctx, q, []*record{rec}); err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, status, mediaType, oneDocument{Data: rec.resource(q)})
}

func (h *handler) create(w http.ResponseWriter, r *http.Request) {
	ctx := caller.Outgoing(r.Context(), r.Header)
	account, err := h.account(ctx)
	if err != nil {
		writeError(w, err)
		return
	}
	a, f := h.readChange(ctx, r, 0, account)
	if f != nil {
		f.write(w)
		return
	}
	req := &postriderv1.CreateWebhookRequest{Webhook: &postriderv1.Webhook{
		Profile: profileName, Url: *a.url, EventTypes: a.events, Scopes: a.scopes,
	}}
	if a.name != nil {
		req.Webhook.DisplayName = *a.name
	}
	if a.secret != nil {
		req.Secret = *a.secret
	}
	created, err := h.webhooks.CreateWebhook(ctx, req)
	if err != nil {
		writeError(w, err)
		return
	}
	rec := newRecord(created.GetWebhook(), account)
	rec.secret, rec.hasSecret = created.GetSecret(), true
	w.Header().Set("Location", webhooks+"/"+strconv.FormatInt(rec.id, 10))
	writeJSON(w, http.StatusCreated, mediaType, oneDocument{Data: rec.resource(&query{})})
}

// readChange reads and checks the document of a creation (no id) or of a change of webhook id.
func (h *handler) readChange(ctx context.Context, r *http.Request, id int64, account *postriderv1.Account) (*attributes, failures) {
	if _, f := parseQuery(r.URL.RawQuery, 0); f != nil {
		return nil, f
	}
	a, f := readDocument(r, id)
	if f != nil {
		return nil, f
	}
	prof, found := profile.Lookup(profileName)
	if !found {
		return nil, one(http.StatusInternalServerError, "this version does not have the profile "+profileName)
	}
	var catalogue []string
	if len(a.events) > 0 {
		types, err := h.catalogue(ctx)
		if err != nil {
			f, _ := translate(err)
			return nil, f
		}
		for _, each := range types {
			catalogue = append(catalogue, each.GetName())
		}
	}
	f = a.check(id == 0, catalogue, prof)
	if a.accountID != nil && *a.accountID != account.GetNumber() {
		f = append(f, at(http.StatusUnprocessableEntity, "/data/attributes/account_id", "must be the caller's own, or left out")...)
	}
	if len(f) > 0 {
		return nil, f
	}
	return a, nil
}

// update changes what the document names. The secret comes last, checked before, so that a fault of
// the document changes nothing; after an answer of 5xx the same request may be made again.
func (h *handler) update(w http.ResponseWriter, r *http.Request, id int64) {
	ctx := caller.Outgoing(r.Context(), r.Header)
	rec, err := h.one(ctx, id)
	if err != nil {
		writeError(w, err)
		return
	}
	a, f := h.readChange(ctx, r, id, &postriderv1.Account{Number: rec.accountID})
	if f != nil {
		f.write(w)
		return
	}
	account := &postriderv1.Account{Number: rec.accountID}
	if req := a.change(rec.webhookID); req != nil {
		resp, err := h.webhooks.UpdateWebhook(ctx, req)
		if err != nil {
			writeError(w, err)
			return
		}
		rec = newRecord(resp.GetWebhook(), account)
	}
	if a.secret != nil {
		resp, err := h.webhooks.RotateWebhookSecret(ctx, &postriderv1.RotateWebhookSecretRequest{
			WebhookId: rec.webhookID, Secret: *a.secret, Overlap: durationpb.New(0),
		})
		if err != nil {
			writeError(w, err)
			return
		}
		rec = newRecord(resp.GetWebhook(), account)
	}
	h.answer(ctx, w, http.StatusOK, &query{}, rec)
}

func (h *handler) remove(w http.ResponseWriter, r *http.Request, id int64) {
	ctx := caller.Outgoing(r.Context(), r.Header)
	rec, err := h.one(ctx, id)
	if err == nil {
		_, err = h.webhooks.DeleteWebhook(ctx, &postriderv1.DeleteWebhookRequest{WebhookId: rec.webhookID})
	}
	if err != nil {
		writeError(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// events answers with what can be subscribed to.
func (h *handler) events(w http.ResponseWriter, r *http.Request) {
	ctx := caller.Outgoing(r.Context(), r.Header)
	if _, f := parseQuery(r.URL.RawQuery, 0); f != nil {
		h.refuse(ctx, w, f)
		return
	}
	types, err := h.catalogue(ctx)
	if err != nil {
		writeError(w, err)
		return
	}
	doc := eventsDocument{Data: make([]eventResource, len(types))}
	for i, each := range types {
		doc.Data[i] = eventResource{
			Type: "notification/events", ID: each.GetName(),
			Attributes: eventAttributes{Name: each.GetName(), Description: each.GetDescription()},
		}
	}
	writeJSON(w, http.StatusOK, mediaType, doc)
}

// test makes one attempt now. Its answer is flat, not a document, and 200 also if the receiver
// failed.
func (h *handler) test(w http.ResponseWriter, r *http.Request, id int64) {
	ctx := caller.Outgoing(r.Context(), r.Header)
	rec, err := h.one(ctx, id)
	if err != nil {
		writeError(w, err)
		return
	}
	resp, err := h.webhooks.TestWebhook(ctx, &postriderv1.TestWebhookRequest{WebhookId: rec.webhookID})
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, "application/json", testAnswer{Success: resp.GetSuccess(), Message: resp.GetMessage()})
}

// login answers with a token for a key. Keys are bearer credentials already, so the token is the
// key itself: it lives as long, and may do the same.
func (h *handler) login(w http.ResponseWriter, r *http.Request) {
	if f := checkMedia(r); f != nil {
		f.write(w)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			one(http.StatusRequestEntityTooLarge, "the body is larger than 1 MiB").write(w)
			return
		}
		one(http.StatusBadRequest, "the body cannot be read").write(w)
		return
	}
	var req struct {
		Key string `json:"key"`
	}
	if json.Unmarshal(body, &req) != nil {
		one(http.StatusBadRequest, `the body must be {"key": "..."}`).write(w)
		return
	}
	if req.Key == "" || strings.ContainsFunc(req.Key, func(c rune) bool { return c <= ' ' || c > '~' }) {
		one(http.StatusUnauthorized, "the key is not valid").write(w)
		return
	}
	ctx := metadata.NewOutgoingContext(r.Context(), metadata.Pairs("authorization", "Bearer "+req.Key))
	_, err = h.account(ctx)
	if e, ok := fault.As(fault.FromStatus(err)); ok && e.Kind == fault.Denied {
		err = nil // a key all the same, which may do something else
	}
	if err != nil {
		writeError(w, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, mediaType, loginDocument{Meta: loginMeta{Token: req.Key}})
}
