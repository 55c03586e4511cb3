// Package jewelmusic serves the management API that the SDKs of JewelMusic (source 001) speak, by
// the public gRPC API. Webhooks are those of the profiles `jewelmusic` and `jewelmusic-sdk` of the
// caller's account; those of other profiles are not found. It keeps nothing but the counts of its
// rate limit, which each process counts for itself.
//
// The SDKs disagree with each other and with their specification. Where they do, this serves what
// the specification says and, beside it, what an SDK reads: meta has request_id and requestId, and
// a route that has two names is served under both.
package jewelmusic

import (
	"context"
	"crypto/sha256"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/postrider/postrider/pkg/fault"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/caller"
	"github.com/postrider/postrider/services/api/internal/ratelimit"
)

// Prefix is that of the surface. An SDK's base URL is the deployment's with Prefix and "v1".
const (
	Prefix   = "/compat/jewelmusic/"
	webhooks = Prefix + "v1/webhooks"
)

// Profiles of the webhooks that this API manages.
const (
	profilePage = "jewelmusic"
	profileSDK  = "jewelmusic-sdk"
)

// maxCredentials is how many credentials' counts are kept; only valid ones are counted.
const maxCredentials = 100_000

// Deps is what the surface works with.
type Deps struct {
	Conn  grpc.ClientConnInterface // to the public API
	Limit int                      // requests that a credential may make in a minute
	Now   func() time.Time
}

type handler struct {
	accounts   postriderv1.AccountServiceClient
	webhooks   postriderv1.WebhookServiceClient
	eventTypes postriderv1.EventTypeServiceClient
	deliveries postriderv1.DeliveryServiceClient
	limit      *ratelimit.Limiter
	now        func() time.Time
}

// New returns the handler of /compat/jewelmusic/.
func New(deps Deps) http.Handler {
	return &handler{
		accounts:   postriderv1.NewAccountServiceClient(deps.Conn),
		webhooks:   postriderv1.NewWebhookServiceClient(deps.Conn),
		eventTypes: postriderv1.NewEventTypeServiceClient(deps.Conn),
		deliveries: postriderv1.NewDeliveryServiceClient(deps.Conn),
		limit:      ratelimit.New(deps.Limit, time.Minute, maxCredentials, deps.Now),
		now:        deps.Now,
	}
}

// request is one call of the API: who calls, and what the path names.
type request struct {
	*http.Request
	ctx      context.Context //nolint:containedctx // it ends with the request, which it replaces
	id       string          // of the request
	webhook  string
	delivery string
	limited  ratelimit.Verdict
}

// serveFunc answers with data and a status, or an error.
type serveFunc func(r *request) (status int, data any, err error)

// route is the function of a method and a path below /webhooks, and what the path names.
func (h *handler) route(method, path string) (serve serveFunc, webhook, delivery string, allowed []string) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if path == "" {
		parts = nil
	}
	routes := h.routesOf(parts)
	for each := range routes {
		allowed = append(allowed, each)
	}
	if len(parts) > 0 {
		webhook = parts[0]
	}
	if len(parts) > 2 {
		delivery = parts[2]
	}
	return routes[method], webhook, delivery, allowed
}

// routesOf are the functions of a path by method; none if there is no such path. The catalogue's
// paths go before those of webhooks, whose ids never look like them.
func (h *handler) routesOf(parts []string) map[string]serveFunc {
	switch {
	case len(parts) == 0:
		return map[string]serveFunc{http.MethodGet: h.list, http.MethodPost: h.create}
	case len(parts) == 1 && parts[0] == "events":
		return map[string]serveFunc{http.MethodGet: h.events}
	case len(parts) == 2 && parts[0] == "events" && parts[1] == "types":
		return map[string]serveFunc{http.MethodGet: h.eventNames}
	case len(parts) == 1:
		return map[string]serveFunc{http.MethodGet: h.show, http.MethodPut: h.update, http.MethodDelete: h.remove}
	case len(parts) == 2:
		return h.routesOfOne(parts[1])
	case len(parts) == 3 && parts[1] == "deliveries":
		return map[string]serveFunc{http.MethodGet: h.showDelivery}
	case len(parts) == 4 && parts[1] == "deliveries" && (parts[3] == "redeliver" || parts[3] == "retry"):
		return map[string]serveFunc{http.MethodPost: h.redeliver}
	}
	return nil
}

func (h *handler) routesOfOne(action string) map[string]serveFunc {
	switch action {
	case "test":
		return map[string]serveFunc{http.MethodPost: h.test}
	case "deliveries":
		return map[string]serveFunc{http.MethodGet: h.listDeliveries}
	case "status":
		return map[string]serveFunc{http.MethodPut: h.setStatus}
	case "secret":
		return map[string]serveFunc{http.MethodPut: h.setSecret}
	case "stats", "statistics":
		return map[string]serveFunc{http.MethodGet: h.stats}
	}
	return nil
}

// ServeHTTP authenticates, counts, and then serves: who has no valid key is neither counted nor
// told what there is.
func (h *handler) ServeHTTP(w http.ResponseWriter, httpRequest *http.Request) {
	ctx := caller.Outgoing(httpRequest.Context(), httpRequest.Header)
	r := &request{Request: httpRequest, ctx: ctx, id: requestID(httpRequest)}
	if _, err := h.accounts.GetAccount(ctx, &postriderv1.GetAccountRequest{}); err != nil {
		h.fail(w, r, forAccounts(err))
		return
	}
	credential := sha256.Sum256([]byte(r.Header.Get("Authorization")))
	r.limited = h.limit.Take(string(credential[:]))
	if !r.limited.OK {
		err := fault.New(fault.Exhausted, "RATE_LIMIT_EXCEEDED", "the limit of requests is reached")
		err.RetryAfter = max(r.limited.Reset.Sub(h.now()), time.Second)
		h.fail(w, r, err)
		return
	}
	path, ok := strings.CutPrefix(r.URL.Path, webhooks)
	if !ok || path != "" && path[0] != '/' {
		h.fail(w, r, errNoRoute)
		return
	}
	serve, webhook, delivery, allowed := h.route(r.Method, path)
	switch {
	case len(allowed) == 0:
		h.fail(w, r, errNoRoute)
		return
	case serve == nil:
		h.refuseMethod(w, r, allowed)
		return
	}
	r.webhook, r.delivery = webhook, delivery
	status, data, err := serve(r)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	h.succeed(w, r, status, data)
}

var errNoRoute = fault.New(fault.NotFound, "NOT_FOUND", "there is no such resource")

// forAccounts tells operators' keys, which have no account, what they cannot do here.
func forAccounts(err error) error {
	if e, ok := fault.As(fault.FromStatus(err)); ok && e.Kind == fault.Invalid {
		return fault.New(fault.Denied, "FORBIDDEN", "this API is for keys of accounts")
	}
	return err
}
