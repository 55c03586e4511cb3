package labelst

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/postrider/postrider/pkg/fault"
)

// Media types that callers send.
const (
	typeJSON = "application/json"
	typeForm = "application/x-www-form-urlencoded"
)

type createRequest struct {
	Name string
	URL  string
}

// readCreate reads what a webhook is created from.
func readCreate(r *http.Request) (*createRequest, error) {
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	return parseCreate(body)
}

func parseCreate(body []byte) (*createRequest, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil || members == nil {
		return nil, fault.New(fault.Invalid, "BODY_MALFORMED", "the body must be a JSON object")
	}
	req := &createRequest{}
	var v []fault.Violation
	for name, into := range map[string]*string{"name": &req.Name, "url": &req.URL} {
		if raw, ok := members[name]; !ok || json.Unmarshal(raw, into) != nil || *into == "" {
			v = append(v, fault.Violation{Field: name, Rule: "is required, and a string"})
		}
	}
	for _, name := range []string{"events", "event_types", "types", "filter", "scopes"} {
		if _, ok := members[name]; ok {
			v = append(v, fault.Violation{Field: name, Rule: "must be left out: a webhook gets every event"})
		}
	}
	if len(v) > 0 {
		return nil, fault.InvalidFields(v...)
	}
	return req, nil
}

func readBody(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(r.Body)
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return nil, fault.New(fault.Invalid, "BODY_TOO_LARGE", "the body is larger than 1 MiB").WithStatus(http.StatusRequestEntityTooLarge)
	}
	if err != nil {
		return nil, fault.New(fault.Invalid, "BODY_MALFORMED", "the body cannot be read").WithCause(err)
	}
	return body, nil
}

// theirNames are the members that the public API's fields are.
var theirNames = map[string]string{"webhook.display_name": "name", "webhook.url": "url"}

// inTheirWords names the members of this API in an error about the public API's fields.
func inTheirWords(err error) error {
	e, ok := fault.As(fault.FromStatus(err))
	if !ok || len(e.Violations) == 0 {
		return err
	}
	v := make([]fault.Violation, len(e.Violations))
	for i, each := range e.Violations {
		if name, ok := theirNames[each.Field]; ok {
			each.Field = name
		}
		v[i] = each
	}
	return fault.InvalidFields(v...)
}

// verify says whether a token is live: 200 if it is, and 401 if it is unknown, no text, replaced or
// of a deleted webhook. It takes JSON and forms, as the source's page shows both, and no key.
func (h *handler) verify(w http.ResponseWriter, r *http.Request) {
	verdict := h.limit.Take(address(r))
	if !verdict.OK {
		err := fault.New(fault.Exhausted, "TOO_MANY_REQUESTS", "too many tokens were asked about from this address")
		err.RetryAfter = max(verdict.Reset.Sub(h.now()), time.Second)
		fault.WriteProblem(w, err, requestID(r))
		return
	}
	body, err := readBody(r)
	if err != nil {
		fault.WriteProblem(w, err, requestID(r))
		return
	}
	media := r.Header.Get("Content-Type")
	if media != "" {
		if media, _, err = mime.ParseMediaType(media); err != nil || media != typeJSON && media != typeForm {
			writeJSON(w, http.StatusUnsupportedMediaType, fault.ProblemContentType, map[string]any{
				"type": "about:blank", "title": "Unsupported Media Type", "status": http.StatusUnsupportedMediaType,
				"detail": "must be " + typeJSON + " or " + typeForm,
			})
			return
		}
	}
	token, err := parseToken(body, media == typeForm)
	if err != nil {
		fault.WriteProblem(w, err, requestID(r))
		return
	}
	live, err := h.live(token)
	if err != nil {
		fault.WriteProblem(w, err, requestID(r))
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	status := http.StatusOK
	if !live || token == "" {
		status, live = http.StatusUnauthorized, false
		w.Header().Set("WWW-Authenticate", "Bearer") // RFC 9110 wants a challenge with every 401
	}
	writeJSON(w, status, typeJSON, map[string]bool{"valid": live})
}

// parseToken reads the token of a body; a token that is not there or no text is empty.
func parseToken(body []byte, form bool) (string, error) {
	if form {
		values, err := url.ParseQuery(string(body))
		if err != nil {
			return "", fault.New(fault.Invalid, "BODY_MALFORMED", "the body must be a form")
		}
		return values.Get("token"), nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return "", fault.New(fault.Invalid, "BODY_MALFORMED", "the body must be a JSON object")
	}
	var token any
	if raw, ok := members["token"]; ok {
		if err := json.Unmarshal(raw, &token); err != nil {
			return "", fault.New(fault.Invalid, "BODY_MALFORMED", "the body must be a JSON object")
		}
	}
	text, _ := token.(string)
	return text, nil
}

// address is who asks: an IPv4 address, or the network of an IPv6 address, since whoever has one
// has the others of it too.
func address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if ip = ip.Unmap(); ip.Is6() {
		const network = 64
		if prefix, err := ip.WithZone("").Prefix(network); err == nil {
			return prefix.String()
		}
	}
	return ip.String()
}

func writeJSON(w http.ResponseWriter, status int, contentType string, value any) {
	body, err := json.Marshal(value)
	if err != nil { // strings, numbers and booleans only: cannot happen
		status, body = http.StatusInternalServerError, []byte(`{}`)
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may be gone; there is nobody left to tell
}
