// Package jsonapi serves Ingedata's management API of webhooks (source 004; JSON:API in the manner
// of verse-rb) by the public gRPC API. It is a translation and holds no state: who may do what is
// decided by the API that it calls with the caller's own credential.
//
// A webhook here is one of the profile `ingedata`; those of other profiles are not found.
package jsonapi

import (
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/grpc"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// Paths of the surface.
const (
	Prefix    = "/api/v3/"
	webhooks  = Prefix + "notification/webhooks"
	loginPath = Prefix + "iam/auth/api/login"
)

// profileName is the profile of the webhooks that this API manages.
const profileName = "ingedata"

type handler struct {
	accounts   postriderv1.AccountServiceClient
	webhooks   postriderv1.WebhookServiceClient
	eventTypes postriderv1.EventTypeServiceClient
}

// New returns the handler of /api/v3/, which calls the public API over conn.
func New(conn grpc.ClientConnInterface) http.Handler {
	return &handler{
		accounts:   postriderv1.NewAccountServiceClient(conn),
		webhooks:   postriderv1.NewWebhookServiceClient(conn),
		eventTypes: postriderv1.NewEventTypeServiceClient(conn),
	}
}

// ServeHTTP routes by hand: "/events" goes before "/:resource_id", and no path is cleaned.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f := checkAccept(r); f != nil {
		f.write(w)
		return
	}
	if r.URL.Path == loginPath {
		serve(w, r, methods{http.MethodPost: h.login})
		return
	}
	rest, ok := strings.CutPrefix(r.URL.Path, webhooks)
	switch {
	case !ok:
		noRoute(w)
	case rest == "":
		serve(w, r, methods{http.MethodGet: h.list, http.MethodPost: h.create})
	case rest == "/events":
		serve(w, r, methods{http.MethodGet: h.events})
	case strings.HasPrefix(rest, "/test/"):
		h.serveOne(w, r, strings.TrimPrefix(rest, "/test/"), methodsOfOne{http.MethodPost: h.test})
	case strings.HasPrefix(rest, "/"):
		h.serveOne(w, r, rest[1:], methodsOfOne{http.MethodGet: h.show, http.MethodPatch: h.update, http.MethodDelete: h.remove})
	default:
		noRoute(w)
	}
}

type (
	methods      map[string]http.HandlerFunc
	methodsOfOne map[string]func(http.ResponseWriter, *http.Request, int64)
)

func serve(w http.ResponseWriter, r *http.Request, m methods) {
	serveFunc, ok := m[methodOf(r)]
	if !ok {
		allowed := make([]string, 0, len(m))
		for method := range m {
			allowed = append(allowed, method)
		}
		notAllowed(w, allowed)
		return
	}
	serveFunc(w, r)
}

func (h *handler) serveOne(w http.ResponseWriter, r *http.Request, id string, m methodsOfOne) {
	number, err := strconv.ParseInt(id, 10, 64)
	if err != nil || number < 1 || strconv.FormatInt(number, 10) != id {
		if strings.Contains(id, "/") {
			noRoute(w)
			return
		}
		number = 0 // who calls is asked before it is told that there is no such record
	}
	all := make(methods, len(m))
	for method, serveFunc := range m {
		all[method] = func(w http.ResponseWriter, r *http.Request) { serveFunc(w, r, number) }
	}
	serve(w, r, all)
}

// methodOf is the request's method; a HEAD is answered as a GET, without the body.
func methodOf(r *http.Request) string {
	if r.Method == http.MethodHead {
		return http.MethodGet
	}
	return r.Method
}

func noRoute(w http.ResponseWriter) {
	failures{{status: http.StatusNotFound, title: "Not found", detail: "there is no such route"}}.write(w)
}
