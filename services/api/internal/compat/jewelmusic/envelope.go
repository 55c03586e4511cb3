package jewelmusic

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/pkg/fault"
)

// envelope is around every answer that has a body.
type envelope struct {
	Success bool        `json:"success"`
	Data    any         `json:"data,omitempty"`
	Error   *errorShown `json:"error,omitempty"`
	Meta    meta        `json:"meta"`
}

type meta struct {
	Timestamp  string      `json:"timestamp"`
	RequestID  string      `json:"request_id"`
	RequestID2 string      `json:"requestId"`
	RateLimit  *limitShown `json:"rateLimit,omitempty"`
}

type limitShown struct {
	Limit     int   `json:"limit"`
	Remaining int   `json:"remaining"`
	Reset     int64 `json:"reset"`
}

type errorShown struct {
	Code      string         `json:"code"`
	Message   string         `json:"message"`
	Details   map[string]any `json:"details,omitempty"`
	RequestID string         `json:"requestId"`
}

// requestID is the caller's own, or one that is made.
func requestID(r *http.Request) string {
	const longest = 128
	given := r.Header.Get("X-Request-Id")
	if given != "" && len(given) <= longest && !strings.ContainsFunc(given, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return given
	}
	return "req_" + rand.Text()
}

func (h *handler) meta(r *request) meta {
	m := meta{Timestamp: h.now().UTC().Format(time.RFC3339), RequestID: r.id, RequestID2: r.id}
	if r.limited.Limit > 0 {
		m.RateLimit = &limitShown{r.limited.Limit, r.limited.Remaining, resetOf(r)}
	}
	return m
}

// resetOf is the second by which the window has ended: not before it.
func resetOf(r *request) int64 { return r.limited.Reset.Add(time.Second - 1).Unix() }

func (h *handler) succeed(w http.ResponseWriter, r *request, status int, data any) {
	if status == http.StatusNoContent {
		h.headers(w, r)
		w.WriteHeader(status)
		return
	}
	h.write(w, r, status, envelope{Success: true, Data: data, Meta: h.meta(r)})
}

// theirFields are the members that the public API's fields are.
var theirFields = map[string]string{
	"webhook.url": "url", "webhook.event_types": "events", "webhook.headers": "headers", "secret": "secret",
	"webhook.attempt_timeout": "timeout", "webhook.annotations": "description", "event.type": "eventType",
}

// fieldOf is the member of this API that a field of the public API is.
func fieldOf(field string) string {
	name, _, _ := strings.Cut(field, "[")
	if theirs, ok := theirFields[name]; ok {
		return theirs
	}
	return field
}

// fail answers with an error: its code and message, and for each member what is wrong with it.
func (h *handler) fail(w http.ResponseWriter, r *request, err error) {
	e, ok := fault.As(fault.FromStatus(err))
	if !ok {
		e = fault.New(0, "INTERNAL_ERROR", "internal error")
	}
	status := e.Kind.HTTP()
	if e.Status != 0 {
		status = e.Status
	}
	shown := &errorShown{Code: e.Reason, Message: e.Message, RequestID: r.id}
	if len(e.Violations) > 0 {
		status, shown.Code, shown.Message = http.StatusUnprocessableEntity, "VALIDATION_ERROR", "Validation failed"
		shown.Details = make(map[string]any)
		for _, v := range e.Violations {
			name := fieldOf(v.Field)
			rules, _ := shown.Details[name].([]string)
			shown.Details[name] = append(rules, v.Rule)
		}
	}
	if e.RetryAfter > 0 {
		seconds := int64((e.RetryAfter + time.Second - 1) / time.Second)
		w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
		shown.Details = map[string]any{"retryAfter": seconds}
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	h.write(w, r, status, envelope{Error: shown, Meta: h.meta(r)})
}

func (h *handler) refuseMethod(w http.ResponseWriter, r *request, allowed []string) {
	slices.Sort(allowed)
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	h.write(w, r, http.StatusMethodNotAllowed, envelope{
		Error: &errorShown{Code: "METHOD_NOT_ALLOWED", Message: "must be one of " + strings.Join(allowed, ", "), RequestID: r.id}, Meta: h.meta(r),
	})
}

// headers tells what the limiter said; who was not counted is told nothing.
func (h *handler) headers(w http.ResponseWriter, r *request) {
	w.Header().Set("X-Request-Id", r.id)
	if r.limited.Limit > 0 {
		w.Header().Set("X-RateLimit-Limit", strconv.Itoa(r.limited.Limit))
		w.Header().Set("X-RateLimit-Remaining", strconv.Itoa(r.limited.Remaining))
		w.Header().Set("X-RateLimit-Reset", strconv.FormatInt(resetOf(r), 10))
	}
}

func (h *handler) write(w http.ResponseWriter, r *request, status int, answer envelope) {
	body, err := json.Marshal(answer)
	if err != nil { // strings, numbers and booleans only: cannot happen
		status, body = http.StatusInternalServerError, []byte(`{"success":false}`)
	}
	h.headers(w, r)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may be gone; there is nobody left to tell
}

// readJSON reads a body into a struct. An empty body leaves it as it is.
func readJSON(r *request, into any) error {
	body, err := io.ReadAll(r.Body)
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return fault.New(fault.Invalid, "BODY_TOO_LARGE", "the body is larger than 1 MiB").WithStatus(http.StatusRequestEntityTooLarge)
	}
	if err != nil {
		return fault.New(fault.Invalid, "BAD_REQUEST", "the body cannot be read").WithCause(err)
	}
	return parseJSON(body, into)
}

func parseJSON(body []byte, into any) error {
	if len(strings.TrimSpace(string(body))) == 0 {
		return nil
	}
	if !json.Valid(body) {
		return fault.New(fault.Invalid, "BAD_REQUEST", "the body is not JSON")
	}
	err := json.Unmarshal(body, into)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		field, _, _ := strings.Cut(wrong.Field, ".")
		if field == "" {
			field = "body"
		}
		return fault.InvalidFields(fault.Violation{Field: field, Rule: "must not be a JSON " + wrong.Value})
	}
	if err != nil {
		return fault.New(fault.Invalid, "BAD_REQUEST", "the body cannot be read").WithCause(err)
	}
	return nil
}
