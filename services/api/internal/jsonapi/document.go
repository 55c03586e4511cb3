package jsonapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/postrider/postrider/pkg/profile"
)

// resourceType is the type of webhooks.
const resourceType = "notification/webhooks"

// attributes are those of a request's document, as far as it has them.
type attributes struct {
	id        *int64
	accountID *int64
	name      *string
	url       *string
	secret    *string
	events    []string
	hasEvents bool
	scopes    *structpb.Struct
}

// readDocument reads the body of a request that creates (no id) or changes webhook id. Attributes
// outside the schema are dropped, as the source system's framework does.
func readDocument(r *http.Request, id int64) (*attributes, failures) {
	if f := checkMedia(r); f != nil {
		return nil, f
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			return nil, one(http.StatusRequestEntityTooLarge, "the body is larger than 1 MiB")
		}
		return nil, one(http.StatusBadRequest, "the body cannot be read")
	}
	return parseDocument(body, id)
}

// checkMedia takes JSON:API documents and plain JSON. Only the parameters ext and profile are
// known to JSON:API, and no extension is.
func checkMedia(r *http.Request) failures {
	given := r.Header.Get("Content-Type")
	if given == "" {
		return nil
	}
	media, params, err := mime.ParseMediaType(given)
	ok := err == nil && (media == mediaType || media == "application/json")
	if ok && media == mediaType {
		for name := range params {
			ok = ok && name == "profile"
		}
	}
	if ok {
		return nil
	}
	return failures{{
		status: http.StatusUnsupportedMediaType, title: titleOf(http.StatusUnsupportedMediaType),
		detail: "must be " + mediaType + " or application/json", header: "Content-Type",
	}}
}

// checkAccept refuses a caller that takes JSON:API documents only with parameters that we do not
// know.
func checkAccept(r *http.Request) failures {
	asked := false
	for part := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
		media, params, err := mime.ParseMediaType(strings.TrimSpace(part))
		if err != nil || media != mediaType {
			continue
		}
		asked = true
		delete(params, "q")
		delete(params, "profile")
		if len(params) == 0 {
			return nil
		}
	}
	if !asked {
		return nil
	}
	return failures{{
		status: http.StatusNotAcceptable, title: titleOf(http.StatusNotAcceptable),
		detail: "documents are given without parameters of the media type", header: "Accept",
	}}
}

func parseDocument(body []byte, id int64) (*attributes, failures) {
	var doc struct {
		Data json.RawMessage `json:"data"`
	}
	if !json.Valid(body) {
		return nil, one(http.StatusBadRequest, "the body is not JSON")
	}
	if json.Unmarshal(body, &doc) != nil || !isObject(doc.Data) {
		return nil, at(http.StatusUnprocessableEntity, "/data", "must be a resource object")
	}
	var data map[string]json.RawMessage
	if err := json.Unmarshal(doc.Data, &data); err != nil {
		return nil, at(http.StatusUnprocessableEntity, "/data", "must be a resource object")
	}
	var f failures
	kind, ok := text(data["type"])
	switch {
	case !ok:
		f = append(f, at(http.StatusUnprocessableEntity, "/data/type", "is required")...)
	case kind != resourceType:
		return nil, at(http.StatusConflict, "/data/type", "must be "+resourceType)
	}
	if given, present := data["id"]; present && id != 0 {
		if s, ok := text(given); !ok || s != strconv.FormatInt(id, 10) {
			return nil, at(http.StatusConflict, "/data/id", "is not the resource of the path")
		}
	}
	var members map[string]json.RawMessage
	if !isObject(data["attributes"]) || json.Unmarshal(data["attributes"], &members) != nil {
		return nil, append(f, at(http.StatusUnprocessableEntity, "/data/attributes", "is required")...)
	}
	a, wrong := readAttributes(members, id)
	if f = append(f, wrong...); len(f) > 0 {
		return nil, f
	}
	return a, nil
}

// readAttributes reads the members that a creation, or a change, knows. In a creation, null is the
// same as absent.
func readAttributes(members map[string]json.RawMessage, id int64) (*attributes, failures) {
	a := &attributes{}
	var f failures
	wrong := func(name, rule string) {
		f = append(f, failure{status: http.StatusUnprocessableEntity, title: titleOf(http.StatusUnprocessableEntity), detail: rule, pointer: "/data/attributes/" + name})
	}
	read := func(name string, into any, rule string) {
		raw, present := members[name]
		isNull := bytes.Equal(raw, []byte("null"))
		if !present || isNull && id == 0 {
			return
		}
		if isNull || json.Unmarshal(raw, into) != nil {
			wrong(name, rule)
		}
	}
	read("name", &a.name, "must be a string")
	read("url", &a.url, "must be a string")
	read("secret", &a.secret, "must be a string")
	read("events", &a.events, "must be an array of strings")
	a.hasEvents = a.events != nil
	if id == 0 {
		read("account_id", &a.accountID, "must be an integer")
		if raw, present := members["scopes"]; present && !bytes.Equal(raw, []byte("null")) {
			var err error
			if a.scopes, err = parseScopes(raw); err != nil {
				wrong("scopes", err.Error())
			}
		}
	} else if read("id", &a.id, "must be an integer"); a.id != nil && *a.id != id {
		return nil, at(http.StatusConflict, "/data/attributes/id", "is not the resource of the path")
	}
	if len(f) > 0 {
		return nil, f
	}
	return a, nil
}

func text(raw json.RawMessage) (string, bool) {
	var s string
	return s, len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, &s) == nil
}

func isObject(raw json.RawMessage) bool { return len(raw) > 0 && raw[0] == '{' }

// parseScopes reads a free object. A number that would not come back as it was given is refused.
func parseScopes(raw json.RawMessage) (*structpb.Struct, error) {
	if !isObject(raw) {
		return nil, errors.New("must be an object")
	}
	if err := checkNumbers(raw); err != nil {
		return nil, err
	}
	s := &structpb.Struct{}
	if err := s.UnmarshalJSON(raw); err != nil {
		return nil, errors.New("must be an object without repeated names, and with valid text")
	}
	return s, nil
}

// checkNumbers reports the first number that a float64 does not hold.
func checkNumbers(raw json.RawMessage) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return errors.New("must be JSON")
		}
		if n, ok := token.(json.Number); ok && !keeps(n.String()) {
			return errors.New("the number " + clip(n.String()) + " has more digits than can be kept")
		}
	}
}

func keeps(number string) bool {
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || len(number) > 32 || f == 0 && strings.ContainsAny(mantissa(number), "123456789") {
		return false
	}
	given, ok := new(big.Rat).SetString(number)
	kept, ok2 := new(big.Rat).SetString(strconv.FormatFloat(f, 'g', -1, 64))
	return ok && ok2 && given.Cmp(kept) == 0
}

func mantissa(number string) string {
	if i := strings.IndexAny(number, "eE"); i >= 0 {
		return number[:i]
	}
	return number
}

// check says what is wrong with attributes before the public API is asked, so that an answer names
// everything at once. In a creation, url and events are required.
func (a *attributes) check(creation bool, catalogue []string, prof profile.Profile) failures {
	var f failures
	wrong := func(name, rule string) {
		f = append(f, at(http.StatusUnprocessableEntity, "/data/attributes/"+name, rule)...)
	}
	switch {
	case a.url == nil && creation:
		wrong("url", "is required")
	case a.url != nil:
		if _, err := profile.NormalizeURL(*a.url, true); err != nil {
			wrong("url", err.Error())
		}
	}
	switch {
	case !a.hasEvents && creation:
		wrong("events", "is required")
	case a.hasEvents && len(a.events) == 0:
		wrong("events", "must not be empty")
	}
	for i, event := range a.events {
		if event != "*" && !slices.Contains(catalogue, event) {
			wrong("events/"+strconv.Itoa(i), "is not an event that can be subscribed to")
		}
	}
	if a.secret != nil {
		if _, err := prof.ParseSecret(*a.secret); err != nil {
			wrong("secret", err.Error())
		}
	}
	return f
}
