package jsonapi

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/pkg/fault"
)

// mediaType is that of JSON:API documents.
const mediaType = "application/vnd.api+json"

// failure is one entry of an error document.
type failure struct {
	status    int
	code      string
	title     string
	detail    string
	pointer   string
	parameter string
	header    string
}

// failures are what is wrong with a request; never empty where it is returned.
type failures []failure

type errorDocument struct {
	Errors []errorObject `json:"errors"`
}

type errorObject struct {
	Status string       `json:"status"`
	Code   string       `json:"code,omitempty"`
	Title  string       `json:"title"`
	Detail string       `json:"detail,omitempty"`
	Source *errorSource `json:"source,omitempty"`
}

type errorSource struct {
	Pointer   string `json:"pointer,omitempty"`
	Parameter string `json:"parameter,omitempty"`
	Header    string `json:"header,omitempty"`
}

// titles are those of the source system, where it has one.
var titles = map[int]string{
	http.StatusBadRequest:            "Bad request",
	http.StatusUnauthorized:          "Not authenticated",
	http.StatusForbidden:             "Not allowed",
	http.StatusNotFound:              "Record not found",
	http.StatusConflict:              "Conflict",
	http.StatusUnprocessableEntity:   "Validation failed",
	http.StatusRequestEntityTooLarge: "Body too large",
}

func titleOf(status int) string {
	if title, ok := titles[status]; ok {
		return title
	}
	return http.StatusText(status)
}

// one is a single failure without a source.
func one(status int, detail string) failures {
	return failures{{status: status, title: titleOf(status), detail: detail}}
}

// at is a single failure of a member of the request's document.
func at(status int, pointer, detail string) failures {
	return failures{{status: status, title: titleOf(status), detail: detail, pointer: pointer}}
}

// pointers are the members of the document that the public API's fields are.
var pointers = map[string]string{
	"webhook.url": "/data/attributes/url", "webhook.display_name": "/data/attributes/name",
	"webhook.event_types": "/data/attributes/events", "webhook.scopes": "/data/attributes/scopes",
	"secret": "/data/attributes/secret",
}

// pointerOf is the member that a field is, if it is one: "webhook.event_types[2]" is
// "/data/attributes/events/2".
func pointerOf(field string) string {
	name, rest, _ := strings.Cut(field, "[")
	pointer, ok := pointers[name]
	if !ok {
		return ""
	}
	if index, err := strconv.Atoi(strings.TrimSuffix(rest, "]")); err == nil {
		return pointer + "/" + strconv.Itoa(index)
	}
	return pointer
}

// translate turns an error of the public API into failures, and the time after which to try again.
func translate(err error) (failures, time.Duration) {
	e, ok := fault.As(fault.FromStatus(err))
	if !ok {
		return one(http.StatusInternalServerError, "internal error"), 0
	}
	status := e.Kind.HTTP()
	if e.Kind == fault.Invalid {
		status = http.StatusUnprocessableEntity
	}
	if len(e.Violations) == 0 {
		return failures{{status: status, code: e.Reason, title: titleOf(status), detail: e.Message}}, e.RetryAfter
	}
	var out failures
	for _, v := range e.Violations {
		if v.Field == "account_id" { // only operators' keys have none
			return one(http.StatusForbidden, "this API is for keys of accounts"), 0
		}
		out = append(out, failure{status: status, title: titleOf(status), detail: v.Rule, pointer: pointerOf(v.Field)})
	}
	return out.onePerSource(), e.RetryAfter
}

// onePerSource keeps the first failure of each member and parameter.
func (f failures) onePerSource() failures {
	seen := make(map[string]bool)
	var out failures
	for _, each := range f {
		if source := each.pointer + "?" + each.parameter; source == "?" || !seen[source] {
			seen[source] = true
			out = append(out, each)
		}
	}
	return out
}

// status is that of the whole answer: that of its failures if they agree, else the general one.
func (f failures) status() int {
	for _, each := range f[1:] {
		if each.status != f[0].status {
			return http.StatusBadRequest
		}
	}
	return f[0].status
}

func (f failures) write(w http.ResponseWriter) {
	doc := errorDocument{Errors: make([]errorObject, len(f))}
	for i, each := range f {
		doc.Errors[i] = errorObject{Status: strconv.Itoa(each.status), Code: each.code, Title: each.title, Detail: each.detail}
		if each.pointer != "" || each.parameter != "" || each.header != "" {
			doc.Errors[i].Source = &errorSource{Pointer: each.pointer, Parameter: each.parameter, Header: each.header}
		}
	}
	status := f.status()
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	writeJSON(w, status, mediaType, doc)
}

// writeError answers with an error of the public API.
func writeError(w http.ResponseWriter, err error) {
	f, after := translate(err)
	if after > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(int64((after+time.Second-1)/time.Second), 10))
	}
	f.write(w)
}

// writeJSON answers with a value.
func writeJSON(w http.ResponseWriter, status int, contentType string, value any) {
	body, err := json.Marshal(value)
	if err != nil { // strings, numbers and checked JSON only: cannot happen, and must not hide the status
		status, body = http.StatusInternalServerError, []byte(`{"errors":[{"status":"500","title":"Internal Server Error"}]}`)
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may be gone; there is nobody left to tell
}
