// Package labelst serves the management API of the label service (source 000): webhooks that are
// created with a name and a URL alone, and the question whether a token is live. Webhooks are those
// of the profile `labelst` of the caller's account, by the public gRPC API; those of other profiles
// are not found. It keeps nothing but the counts of its rate limit.
package labelst

import (
	"context"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/postrider/postrider/pkg/fault"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/caller"
	"github.com/postrider/postrider/services/api/internal/ratelimit"
)

// Paths of the surface.
const (
	Prefix     = "/compat/labelst/"
	webhooks   = Prefix + "webhooks"
	verifyPath = Prefix + "verify"
)

// profileName is the profile of the webhooks that this API manages.
const profileName = "labelst"

const (
	listPage = 1000
	// maxAddresses is how many addresses' counts are kept.
	maxAddresses = 100_000
)

// Deps is what the surface works with.
type Deps struct {
	Conn grpc.ClientConnInterface // to the public API
	// Live reports whether a text is a live token; an error says that it cannot be told now.
	Live func(token string) (bool, error)
	// VerifyLimit is how many tokens an address may ask about in a minute.
	VerifyLimit int
	Now         func() time.Time
}

type handler struct {
	webhooks postriderv1.WebhookServiceClient
	live     func(token string) (bool, error)
	limit    *ratelimit.Limiter
	now      func() time.Time
}

// New returns the handler of /compat/labelst/.
func New(deps Deps) http.Handler {
	return &handler{
		webhooks: postriderv1.NewWebhookServiceClient(deps.Conn), live: deps.Live, now: deps.Now,
		limit: ratelimit.New(deps.VerifyLimit, time.Minute, maxAddresses, deps.Now),
	}
}

// ServeHTTP routes by hand, so that no path is cleaned.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, one := strings.CutPrefix(r.URL.Path, webhooks+"/")
	route := r.Method + " collection"
	switch {
	case r.URL.Path == verifyPath:
		route = r.Method + " verify"
	case one && id != "" && !strings.Contains(id, "/"):
		route = r.Method + " webhook"
	case r.URL.Path != webhooks:
		fault.WriteProblem(w, fault.New(fault.NotFound, "NO_ROUTE", "no such resource"), requestID(r))
		return
	}
	switch route {
	case "POST verify":
		h.verify(w, r)
	case "POST collection":
		h.create(w, r)
	case "GET collection":
		h.list(w, r)
	case "GET webhook":
		h.show(w, r, id)
	case "DELETE webhook":
		h.remove(w, r, id)
	default:
		w.Header().Set("Allow", allowed[strings.TrimPrefix(route, r.Method+" ")])
		writeJSON(w, http.StatusMethodNotAllowed, fault.ProblemContentType, map[string]any{
			"type": "about:blank", "title": "Method Not Allowed", "status": http.StatusMethodNotAllowed,
		})
	}
}

// allowed are the methods of each kind of path.
var allowed = map[string]string{"verify": "POST", "collection": "GET, POST", "webhook": "GET, DELETE"}

func requestID(r *http.Request) string { return r.Header.Get("X-Request-Id") }

// shown is a webhook as callers see it; the token only where they may see it.
type shown struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	URL     string `json:"url"`
	Token   string `json:"token,omitempty"`
	Created string `json:"created"`
	Updated string `json:"updated"`
}

func shownWebhook(w *postriderv1.Webhook, token string) shown {
	return shown{
		ID: w.GetUuid(), Name: w.GetDisplayName(), URL: w.GetUrl(), Token: token,
		Created: w.GetCreateTime().AsTime().UTC().Format(time.RFC3339Nano),
		Updated: w.GetUpdateTime().AsTime().UTC().Format(time.RFC3339Nano),
	}
}

// create makes a webhook that gets every event. A choice of events is refused: it would not hold.
func (h *handler) create(w http.ResponseWriter, r *http.Request) {
	ctx := caller.Outgoing(r.Context(), r.Header)
	req, err := readCreate(r)
	if err != nil {
		// Who has no key learns only that.
		if _, listErr := h.webhooks.ListWebhooks(ctx, &postriderv1.ListWebhooksRequest{PageSize: 1}); listErr != nil {
			err = listErr
		}
		fault.WriteProblem(w, err, requestID(r))
		return
	}
	created, err := h.webhooks.CreateWebhook(ctx, &postriderv1.CreateWebhookRequest{Webhook: &postriderv1.Webhook{
		Profile: profileName, DisplayName: req.Name, Url: req.URL,
	}})
	if err != nil {
		fault.WriteProblem(w, inTheirWords(err), requestID(r))
		return
	}
	w.Header().Set("Location", webhooks+"/"+created.GetWebhook().GetUuid())
	writeJSON(w, http.StatusCreated, "application/json", shownWebhook(created.GetWebhook(), created.GetSecret()))
}

func (h *handler) list(w http.ResponseWriter, r *http.Request) {
	ctx := caller.Outgoing(r.Context(), r.Header)
	out := struct {
		Webhooks []shown `json:"webhooks"`
	}{Webhooks: []shown{}}
	token, may := "", true
	for {
		page, err := h.webhooks.ListWebhooks(ctx, &postriderv1.ListWebhooksRequest{PageSize: listPage, PageToken: token})
		if err != nil {
			fault.WriteProblem(w, err, requestID(r))
			return
		}
		for _, each := range page.GetWebhooks() {
			if each.GetProfile() != profileName {
				continue
			}
			secret := ""
			if may {
				if secret, may, err = h.token(ctx, each.GetId()); err != nil {
					fault.WriteProblem(w, err, requestID(r))
					return
				}
			}
			out.Webhooks = append(out.Webhooks, shownWebhook(each, secret))
		}
		if token = page.GetNextPageToken(); token == "" {
			writeJSON(w, http.StatusOK, "application/json", out)
			return
		}
	}
}

// token is the newest token of a webhook; false if the caller may not see it.
func (h *handler) token(ctx context.Context, id string) (string, bool, error) {
	resp, err := h.webhooks.GetWebhookSecrets(ctx, &postriderv1.GetWebhookSecretsRequest{WebhookId: id})
	if e, ok := fault.As(fault.FromStatus(err)); ok {
		switch e.Kind { //nolint:exhaustive // all others are errors
		case fault.Denied:
			return "", false, nil
		case fault.NotFound:
			return "", true, nil // deleted meanwhile
		}
	}
	if err != nil || len(resp.GetSecrets()) == 0 {
		return "", true, err
	}
	return resp.GetSecrets()[0].GetSecret(), true, nil
}

// find is the webhook with that id, if it is one of this API.
func (h *handler) find(ctx context.Context, id string) (*postriderv1.Webhook, error) {
	resp, err := h.webhooks.GetWebhook(ctx, &postriderv1.GetWebhookRequest{Uuid: id})
	if err != nil {
		return nil, err
	}
	if resp.GetWebhook().GetProfile() != profileName {
		return nil, fault.New(fault.NotFound, "NOT_FOUND", "no webhook "+id).WithMetadata("id", id)
	}
	return resp.GetWebhook(), nil
}

func (h *handler) show(w http.ResponseWriter, r *http.Request, id string) {
	ctx := caller.Outgoing(r.Context(), r.Header)
	found, err := h.find(ctx, id)
	if err != nil {
		fault.WriteProblem(w, err, requestID(r))
		return
	}
	token, _, err := h.token(ctx, found.GetId())
	if err != nil {
		fault.WriteProblem(w, err, requestID(r))
		return
	}
	writeJSON(w, http.StatusOK, "application/json", shownWebhook(found, token))
}

func (h *handler) remove(w http.ResponseWriter, r *http.Request, id string) {
	ctx := caller.Outgoing(r.Context(), r.Header)
	found, err := h.find(ctx, id)
	if err == nil {
		_, err = h.webhooks.DeleteWebhook(ctx, &postriderv1.DeleteWebhookRequest{WebhookId: found.GetId()})
	}
	if err != nil {
		fault.WriteProblem(w, err, requestID(r))
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
