// Package offblocks serves OffBlocks' management API of webhooks (source 003) by the public gRPC
// API. Requests are signed by RFC 9421 with a client key of the account, and PUT and DELETE happen
// once for each Idempotency-Key. It is a translation: who may do what is decided by the API that it
// calls with the caller's own credential. It keeps nothing but the answers to repeated requests.
//
// A webhook here is one of the profile `offblocks`, named by its UUID; those of other profiles are
// not found.
package offblocks

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/caller"
	"github.com/postrider/postrider/services/api/internal/idempotency"
	"github.com/postrider/postrider/services/api/internal/publicurl"
)

// Prefix is below which the surface lies.
const Prefix = "/compat/offblocks/"

// profileName is the profile of the webhooks that this API manages.
const profileName = "offblocks"

// KeyKept is how long an Idempotency-Key lives, as the source system says.
const KeyKept = time.Hour

// Deps is what the surface works with.
type Deps struct {
	Conn      grpc.ClientConnInterface // to the public API
	Keeper    *idempotency.Keeper
	PublicURL publicurl.Base
	Now       func() time.Time
}

type handler struct {
	deps     Deps
	accounts postriderv1.AccountServiceClient
	webhooks postriderv1.WebhookServiceClient
	keys     postriderv1.SigningKeyServiceClient
}

// New returns the handler of the paths below Prefix.
func New(deps Deps) http.Handler {
	return &handler{
		deps:     deps,
		accounts: postriderv1.NewAccountServiceClient(deps.Conn),
		webhooks: postriderv1.NewWebhookServiceClient(deps.Conn),
		keys:     postriderv1.NewSigningKeyServiceClient(deps.Conn),
	}
}

// endpoint answers a request that was admitted.
type endpoint func(h *handler, ctx context.Context, r *request) answer

// routes are the paths, without Prefix, and their methods. A path that ends in "/" is followed by
// the id of a webhook.
var routes = []struct {
	path    string
	methods map[string]endpoint
}{
	{"v1/webhooks", map[string]endpoint{http.MethodGet: (*handler).list, http.MethodPut: (*handler).put}},
	{"v1/webhooks/key", map[string]endpoint{http.MethodGet: (*handler).verificationKey}},
	{"v1/webhooks/verification-key", map[string]endpoint{http.MethodGet: (*handler).verificationKey}},
	{"v1/webhooks/keys", map[string]endpoint{http.MethodGet: (*handler).verificationKeys}},
	{"v1/webhooks/", map[string]endpoint{http.MethodGet: (*handler).get, http.MethodDelete: (*handler).remove}},
	{"auth/signing", map[string]endpoint{http.MethodPut: (*handler).putClientKey, http.MethodDelete: (*handler).removeClientKey}},
	{"v1/auth/signing", map[string]endpoint{http.MethodPut: (*handler).putClientKey, http.MethodDelete: (*handler).removeClientKey}},
}

// ServeHTTP finds the route, admits the request and answers it.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, Prefix)
	for _, route := range routes {
		id := ""
		if strings.HasSuffix(route.path, "/") {
			id = strings.TrimPrefix(path, route.path)
			if id == path || id == "" || strings.Contains(id, "/") {
				continue
			}
		} else if path != route.path {
			continue
		}
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		serve, ok := route.methods[method]
		if !ok {
			notAllowed(w, route.methods)
			return
		}
		ctx := caller.Outgoing(r.Context(), r.Header)
		req, failed := h.admit(ctx, w, r, id)
		if failed != nil {
			failed.write(w)
			return
		}
		serve(h, ctx, req).write(w)
		return
	}
	fail(http.StatusNotFound, "there is no such path").write(w)
}

func notAllowed(w http.ResponseWriter, methods map[string]endpoint) {
	allowed := make([]string, 0, len(methods))
	for m := range methods {
		allowed = append(allowed, m)
	}
	slices.Sort(allowed)
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	fail(http.StatusMethodNotAllowed, "the path has no such method").write(w)
}
