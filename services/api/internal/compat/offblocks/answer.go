package offblocks

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/services/api/internal/idempotency"
)

// answer is a response that can be kept and given again.
type answer idempotency.Answer

const contentType = "Content-Type"

// reply is an answer with a JSON body.
func reply(status int, body any) answer {
	raw, err := json.Marshal(body)
	if err != nil { // the bodies are structs of strings
		return *fail(http.StatusInternalServerError, "the answer cannot be written")
	}
	return answer{Status: status, Headers: map[string]string{contentType: "application/json"}, Body: raw}
}

// failure is the body of an answer that refuses.
type failure struct {
	Status  int    `json:"status"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// codes are what the source system calls its errors.
var codes = map[int]string{
	http.StatusBadRequest:          "invalid_request",
	http.StatusUnauthorized:        "not_authorised",
	http.StatusNotFound:            "not_found",
	http.StatusMethodNotAllowed:    "method_not_allowed",
	http.StatusConflict:            "request_in_progress",
	http.StatusUnprocessableEntity: "idempotency_key_reused",
	http.StatusTooManyRequests:     "too_many_requests",
	http.StatusInternalServerError: "internal_error",
}

func fail(status int, message string) *answer {
	a := reply(status, failure{Status: status, Code: codes[status], Message: message})
	if status == http.StatusUnauthorized {
		a.Headers["WWW-Authenticate"] = "Bearer"
	}
	return &a
}

// members are the members of a webhook here that the public API's fields are.
var members = map[string]string{"webhook.url": "callbackUrl", "webhook.event_types": "types", "webhook.uuid": "id", "public_key": "publicKey"}

// translate turns an error of the public API into an answer with one of the statuses that the
// source system has.
func translate(err error) *answer {
	e, ok := fault.As(fault.FromStatus(err))
	if !ok {
		return fail(http.StatusInternalServerError, "internal error")
	}
	var a *answer
	switch e.Kind {
	case fault.Invalid, fault.Precondition:
		a = fail(http.StatusBadRequest, message(e))
	case fault.Unauthenticated, fault.Denied:
		a = fail(http.StatusUnauthorized, e.Message)
	case fault.NotFound:
		a = fail(http.StatusNotFound, e.Message)
	case fault.AlreadyExists, fault.Aborted:
		a = fail(http.StatusConflict, e.Message)
	case fault.Exhausted:
		a = fail(http.StatusTooManyRequests, e.Message)
	case fault.Unavailable, fault.Deadline, fault.Unimplemented, fault.Canceled:
		a = fail(http.StatusInternalServerError, "the service cannot do this now; try again")
	default:
		a = fail(http.StatusInternalServerError, "internal error")
	}
	if e.RetryAfter > 0 {
		a.Headers["Retry-After"] = strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10)
	}
	return a
}

func message(e *fault.Error) string {
	if len(e.Violations) == 0 {
		return e.Message
	}
	parts := make([]string, len(e.Violations))
	for i, v := range e.Violations {
		name, index, _ := strings.Cut(v.Field, "[")
		if own, ok := members[name]; ok {
			name = own
		}
		if index != "" {
			name += "[" + index
		}
		parts[i] = name + " " + v.Rule
	}
	return strings.Join(parts, "; ")
}

func isKind(err error, kind fault.Kind) bool {
	k, ok := fault.KindOf(fault.FromStatus(err))
	return ok && k == kind
}

func (a answer) write(w http.ResponseWriter) {
	for name, value := range a.Headers {
		w.Header().Set(name, value)
	}
	if len(a.Body) > 0 {
		w.Header().Set("Content-Length", strconv.Itoa(len(a.Body)))
		w.Header().Set("X-Content-Type-Options", "nosniff")
	}
	w.WriteHeader(a.Status)
	_, _ = w.Write(a.Body) // the client may be gone; there is nobody left to tell
}
