// Package httpapi serves the EventService of the public API over HTTP: POST /v1/events takes the
// JSON envelope and CloudEvents 1.0 in binary, structured and batched mode, GET /v1/events/{id}
// reads an event back. The data of an event are the bytes that stood in the request, never a
// rewritten form of them. It checks the form of requests only, and holds nothing.
package httpapi

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/postrider/postrider/pkg/access"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/rpc"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/services/ingest/internal/admission"
)

// acceptor is all that the API needs of admission.
type acceptor interface {
	Accept(ctx context.Context, req *admission.Request) (*postriderv1.Receipt, error)
	AcceptAll(ctx context.Context, reqs []*admission.Request) []admission.Verdict
	Read(ctx context.Context, account postrider.AccountID, id postrider.EventID, sequence uint64) (*postriderv1.Event, error)
}

// Reasons of the errors that this package answers with.
const (
	ReasonMalformed = "BODY_MALFORMED"         // not JSON, or not the JSON that was announced
	ReasonTooLarge  = "BODY_TOO_LARGE"         // more than may be sent in one request
	ReasonMediaType = "UNSUPPORTED_MEDIA_TYPE" // none of the forms that are taken
	ReasonNoRoute   = "NO_ROUTE"               // no such path
	ReasonNoMethod  = "METHOD_NOT_ALLOWED"     // the path has other methods
)

const (
	pathEvents      = "/v1/events"
	pathOneEvent    = "/v1/events/{id}"
	requestIDHeader = "X-Request-Id"
)

// Config bounds requests.
type Config struct {
	// MaxDataBytes is the largest event's data.
	MaxDataBytes int
	// MaxBatch is how many events a batch may have.
	MaxBatch int
	// MaxBatchBytes is the largest body of a batch.
	MaxBatchBytes int64
	// BodyTimeout bounds how long a producer may take to send a body. Defaults to 30 s.
	BodyTimeout time.Duration
}

// API serves events over HTTP.
type API struct {
	events acceptor
	cfg    Config
}

// New returns the API.
func New(events acceptor, cfg Config) (*API, error) {
	if events == nil || cfg.MaxDataBytes < 1 || cfg.MaxBatch < 1 || cfg.MaxBatchBytes < 1 {
		return nil, errors.New("events over HTTP: admission and positive limits are required")
	}
	cfg.BodyTimeout = cmp.Or(cfg.BodyTimeout, 30*time.Second)
	return &API{events: events, cfg: cfg}, nil
}

// Handler serves the API to callers with the scopes that they need. Measured, if not nil, is put
// around what is served to callers that are known.
func (a *API) Handler(auth *access.Authenticator, measured func(http.Handler) http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+pathEvents, a.guarded(postrider.ScopePublish, a.publish))
	mux.HandleFunc("GET "+pathOneEvent, a.guarded(postrider.ScopeRead, a.get))
	mux.HandleFunc(pathEvents, notAllowed("POST"))
	mux.HandleFunc(pathOneEvent, notAllowed("GET, HEAD"))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, r, fault.New(fault.NotFound, ReasonNoRoute, "there is nothing at this path"))
	})
	var served http.Handler = mux
	if measured != nil {
		served = measured(mux)
	}
	protected := access.HTTP(auth, served)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := rpc.ContextWithRequestID(r.Context(), r.Header.Get(requestIDHeader))
		w.Header().Set(requestIDHeader, rpc.RequestID(ctx))
		protected.ServeHTTP(w, r.WithContext(ctx))
	})
}

// guarded calls serve for callers with the scope, with the account that the request is about.
func (a *API) guarded(scope postrider.Scope, serve func(http.ResponseWriter, *http.Request, access.Principal)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p, err := access.FromContext(r.Context())
		if err == nil {
			err = p.Require(scope)
		}
		if err != nil {
			refuse(w, r, err)
			return
		}
		serve(w, r, p)
	}
}

func notAllowed(methods string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", methods)
		refuse(w, r, fault.New(fault.Unimplemented, ReasonNoMethod, "the path takes "+methods).WithStatus(http.StatusMethodNotAllowed))
	}
}

// refuse answers with problem details.
func refuse(w http.ResponseWriter, r *http.Request, err error) {
	fault.WriteProblem(w, err, rpc.RequestID(r.Context()))
}

// get reads an event back.
func (a *API) get(w http.ResponseWriter, r *http.Request, p access.Principal) {
	query := r.URL.Query()
	account, err := p.For(query.Get("account_id"))
	if err != nil {
		refuse(w, r, err)
		return
	}
	id := postrider.EventID(r.PathValue("id"))
	var broken []fault.Violation
	if !id.Valid() {
		broken = append(broken, fault.Violation{Field: "event_id", Rule: `must be "evt_" and a ULID`})
	}
	var sequence uint64
	if text := query.Get("sequence"); text != "" {
		if sequence, err = strconv.ParseUint(text, 10, 64); err != nil || sequence == 0 {
			broken = append(broken, fault.Violation{Field: "sequence", Rule: "must be a positive number, as in a receipt"})
		}
	}
	if len(broken) > 0 {
		refuse(w, r, fault.InvalidFields(broken...))
		return
	}
	ev, err := a.events.Read(r.Context(), account, id, sequence)
	if err != nil {
		refuse(w, r, err)
		return
	}
	if !admission.ShowsData(p) {
		ev.Data = nil
	}
	answer(w, http.StatusOK, &postriderv1.GetEventResponse{Event: ev})
}
