package standalone_test

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/standalone"
)

// described is a running deployment, and the document that it serves.
type described struct {
	svc    *standalone.Service
	doc    *openapi3.T
	router routers.Router
	key    string
	done   map[string]bool // operations that were called
}

func describe(t *testing.T) *described {
	t.Helper()
	svc, _ := start(t, config(t.TempDir()))
	d := &described{svc: svc, key: svc.AdminKey(), done: make(map[string]bool)}
	resp, raw := d.send(t, http.MethodGet, "/openapi.json", "", nil)
	require.Equal(t, http.StatusOK, resp.status)
	var err error
	d.doc, err = openapi3.NewLoader().LoadFromData(raw)
	require.NoError(t, err)
	require.NoError(t, d.doc.Validate(t.Context()))
	for name, schema := range d.doc.Components.Schemas {
		// What is not described must not be answered. JewelMusicAnswer is a part of others.
		if v := schema.Value; len(v.Properties) > 0 && v.AdditionalProperties.Has == nil && v.AdditionalProperties.Schema == nil && name != "JewelMusicAnswer" && name != "CloudEvent" {
			no := false
			v.AdditionalProperties.Has = &no
		}
	}
	d.router, err = gorillamux.NewRouter(d.doc)
	require.NoError(t, err)
	return d
}

// answer is the head of a response.
type answer struct {
	status int
	header http.Header
}

func (d *described) send(t *testing.T, method, path, body string, header http.Header) (answer, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, d.svc.HTTPURL()+path, strings.NewReader(body))
	require.NoError(t, err)
	maps.Copy(req.Header, header)
	if req.Header.Get("Authorization") == "" {
		req.Header.Set("Authorization", "Bearer "+d.key)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return answer{resp.StatusCode, resp.Header}, raw
}

// call makes a request that the document describes, checks that the answer is as it says, and
// returns it.
func (d *described) call(t *testing.T, status int, method, path, body string, header ...string) map[string]any {
	t.Helper()
	h := http.Header{}
	if body != "" {
		h.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	// The router knows paths alone, because its servers are relative.
	ask, err := http.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	require.NoError(t, err)
	ask.Header = h
	route, parameters, err := d.router.FindRoute(ask)
	require.NoError(t, err, "%s %s", method, path)
	in := &openapi3filter.RequestValidationInput{
		Request: ask, PathParams: parameters, Route: route, QueryParams: ask.URL.Query(),
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true},
	}
	if status < 400 {
		require.NoError(t, openapi3filter.ValidateRequest(t.Context(), in), "%s %s", method, path)
	}
	resp, raw := d.send(t, method, path, body, h)
	require.Equal(t, status, resp.status, "%s %s: %s", method, path, raw)
	out := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: resp.status, Header: resp.header, Options: in.Options,
		Body: io.NopCloser(bytes.NewReader(raw)),
	}
	require.NoError(t, openapi3filter.ValidateResponse(t.Context(), out), "%s %s: %s", method, path, raw)
	d.done[route.Operation.OperationID] = true
	var members map[string]any
	_ = json.Unmarshal(raw, &members) // some answers are lists
	return members
}

// at is a member of an answer: at(v, "webhook", "id").
func at(t *testing.T, v map[string]any, path ...string) string {
	t.Helper()
	for _, name := range path[:len(path)-1] {
		inner, ok := v[name].(map[string]any)
		require.True(t, ok, "%s of %v", name, v)
		v = inner
	}
	text, ok := v[path[len(path)-1]].(string)
	require.True(t, ok, "%v of %v", path, v)
	return text
}

func TestTheDocumentDescribesWhatIsServed(t *testing.T) {
	t.Parallel()
	d := describe(t)
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(receiver.Close)

	account := at(t, d.call(t, 200, "POST", "/v1/accounts", `{"display_name":"Acme","subdomain":"acme"}`), "account", "id")
	d.call(t, 200, "GET", "/v1/accounts?page_size=10", "")
	d.call(t, 200, "PATCH", "/v1/accounts/"+account, `{"time_zone":"Europe/Berlin"}`)
	made := d.call(t, 200, "POST", "/v1/keys", `{"account_id":"`+account+`","scopes":["publish","manage","read"]}`)
	d.key = at(t, made, "secret")
	d.call(t, 200, "GET", "/v1/accounts/"+account, "")
	d.call(t, 200, "GET", "/v1/keys", "")
	d.call(t, 404, "DELETE", "/v1/keys/key_none", "")

	d.call(t, 200, "POST", "/v1/event-types", `{"name":"release.live","schema":"e30=","schema_policy":"SCHEMA_POLICY_WARN","example":"e30="}`)
	d.call(t, 200, "GET", "/v1/event-types/release.live", "")
	d.call(t, 200, "GET", "/v1/event-types?page_size=1", "")
	d.call(t, 200, "PATCH", "/v1/event-types/release.live?update_mask=group", `{"group":"Distribution"}`)
	d.call(t, 400, "PATCH", "/v1/event-types/release.live", `{"schema":"W10="}`)
	d.call(t, 200, "POST", "/v1/event-types:import", `{"event_types":[{"name":"release.gone"}]}`)
	d.call(t, 200, "DELETE", "/v1/event-types/release.gone", "")

	hook := at(t, d.call(t, 200, "POST", "/v1/webhooks", `{"webhook":{"url":"`+receiver.URL+`","event_types":["*"],"rate_limit":50,"retry_schedule":{"delays":["1s"]}}}`), "webhook", "id")
	one := "/v1/webhooks/" + hook
	d.call(t, 200, "GET", one, "")
	d.call(t, 404, "GET", "/v1/webhooks/wh_none", "")
	d.call(t, 200, "GET", "/v1/webhooks?page_size=5", "")
	d.call(t, 200, "PATCH", one, `{"display_name":"mine","scopes":{"a":[1]}}`)
	d.call(t, 200, "PATCH", one+"?update_mask=scopes", `{}`)
	d.call(t, 400, "PATCH", one, `{"url":"ftp://x"}`)
	d.call(t, 200, "POST", one+":pause", `{}`)
	d.call(t, 200, "POST", one+":resume", `{}`)
	d.call(t, 200, "POST", one+":rotateSecret", `{"overlap":"60s"}`)
	d.call(t, 200, "GET", one+"/secrets", "")
	d.call(t, 200, "POST", one+":test", `{"event":{"type":"release.live","data":"e30="}}`)
	d.call(t, 400, "POST", one+":verify", `{}`)
	d.call(t, 400, "POST", one+":handshake", `{"rate":1}`)
	d.call(t, 200, "POST", "/v1/events:explainMatch", `{"event":{"type":"release.live","data":"e30="}}`)

	published := d.call(t, 202, "POST", "/v1/events", `{"type":"release.live","data":{"n":1},"labels":{"a":"b"}}`, "Idempotency-Key", `"once"`)
	d.call(t, 200, "GET", "/v1/events/"+at(t, published, "receipt", "event_id"), "")
	d.call(t, 409, "POST", "/v1/events", `{"type":"release.live","data":{"n":2}}`, "Idempotency-Key", `"once"`)
	d.call(t, 202, "POST", "/v1/events", `[{"type":"release.live","data":1},{"type":"release.live","data_base64":"MQ=="}]`)
	d.call(t, 207, "POST", "/v1/events", `[{"type":"release.live","data":1},{"type":"not a type","data":1}]`)
	d.call(t, 202, "POST", "/v1/events", `{"specversion":"1.0","id":"1","source":"/s","type":"release.live","data":{},"comexample":"x"}`, "Content-Type", "application/cloudevents+json")
	d.call(t, 202, "POST", "/v1/events", `[{"specversion":"1.0","id":"2","source":"/s","type":"release.live"}]`, "Content-Type", "application/cloudevents-batch+json")
	d.call(t, 202, "POST", "/v1/events", `hello`, "Content-Type", "text/plain", "ce-specversion", "1.0", "ce-id", "3", "ce-source", "/s", "ce-type", "release.live")
	d.deliveries(t)

	d.call(t, 200, "GET", "/v1/signing-keys/current", "")
	d.call(t, 200, "GET", "/v1/signing-keys", "")
	d.call(t, 200, "POST", "/v1/signing-keys:rotate", `{"publish_delay":"0s"}`)
	d.call(t, 400, "POST", "/v1/client-keys", `{"public_key":"none"}`)
	d.call(t, 200, "GET", "/v1/client-keys", "")
	d.call(t, 404, "DELETE", "/v1/client-keys/none", "")
	d.call(t, 200, "GET", "/.well-known/jwks.json", "")
	d.call(t, 200, "GET", "/.well-known/http-message-signatures-directory?account="+account, "")
	d.call(t, 404, "GET", "/callbacks/handshake/none", "")
	d.call(t, 404, "POST", "/callbacks/handshake/none", "")
	d.surfaces(t, receiver.URL)
	d.call(t, 200, "DELETE", one, "")
	d.call(t, 200, "GET", "/openapi.json", "")
	d.restAnswers(t)
	d.nothingElseAnswers(t)
	d.everyMethodHasARoute(t)
}

// deliveries calls what is about deliveries, once one has ended.
func (d *described) deliveries(t *testing.T) {
	t.Helper()
	var list []any
	require.Eventually(t, func() bool {
		list, _ = d.call(t, 200, "GET", "/v1/deliveries?page_size=3&state=DELIVERY_STATE_DELIVERED", "")["deliveries"].([]any)
		return len(list) > 0
	}, patience, 20*time.Millisecond)
	first, ok := list[0].(map[string]any)
	require.True(t, ok)
	path := "/v1/deliveries/" + at(t, first, "id")
	d.call(t, 200, "GET", path, "")
	d.call(t, 200, "GET", path+"/attempts", "")
	d.call(t, 200, "GET", "/v1/deliveries?outcome=succeeded&status_code=200", "")
	d.call(t, 400, "GET", "/v1/deliveries?outcome=lost", "")
	d.call(t, 200, "GET", "/v1/log", "")
	d.call(t, 200, "GET", "/v1/log:lookUp?id="+at(t, first, "call_id"), "")
	d.call(t, 404, "GET", "/v1/log:lookUp?id=nothing", "")
	d.call(t, 200, "GET", "/v1/log/events?page_size=2&event_type=release.live", "")
	d.call(t, 200, "GET", "/v1/log/flight?reveal=true&id="+at(t, first, "id"), "")
	d.call(t, 200, "POST", "/v1/log/events/"+at(t, first, "event_id")+":expunge", `{}`)
	d.call(t, 404, "POST", "/v1/log/events/evt_01HF7YAT00ZZZZZZZZZZZZZZZZ:expunge", `{}`)
	d.call(t, 403, "POST", "/v1/log:rebuild", `{}`)
	d.call(t, 404, "POST", "/v1/deliveries/dlv_none:cancel", `{}`)
	d.call(t, 404, "POST", "/v1/deliveries/dlv_none:retry", `{}`)
	d.call(t, 200, "GET", "/v1/dead-letters", "")
	d.call(t, 400, "GET", "/v1/dead-letters/dlv_none", "")
}

// surfaces calls the APIs of the source systems.
func (d *described) surfaces(t *testing.T, receiver string) {
	t.Helper()
	const labels, jewels, ingedata = "/compat/labelst/webhooks", "/compat/jewelmusic/v1/webhooks", "/api/v3/notification/webhooks"
	made := d.call(t, 201, "POST", labels, `{"name":"mine","url":"`+receiver+`"}`)
	d.call(t, 200, "GET", labels, "")
	d.call(t, 200, "GET", labels+"/"+at(t, made, "id"), "")
	d.call(t, 200, "POST", "/compat/labelst/verify", `{"token":"`+at(t, made, "token")+`"}`)
	d.call(t, 401, "POST", "/compat/labelst/verify", `{"token":"none"}`)
	d.call(t, 204, "DELETE", labels+"/"+at(t, made, "id"), "")

	made = d.call(t, 201, "POST", jewels, `{"url":"`+receiver+`","events":["release.live"]}`)
	one := jewels + "/" + at(t, made, "data", "id")
	for _, path := range []string{jewels + "?perPage=3", one, jewels + "/events", jewels + "/events/types", one + "/stats", one + "/statistics", one + "/deliveries"} {
		d.call(t, 200, "GET", path, "")
	}
	d.call(t, 200, "PUT", one, `{"description":"x"}`)
	d.call(t, 200, "PUT", one+"/status", `{"active":true}`)
	d.call(t, 200, "PUT", one+"/secret", `{}`)
	d.call(t, 200, "POST", one+"/test", `{}`)
	d.call(t, 404, "GET", one+"/deliveries/dlv_none", "")
	d.call(t, 204, "DELETE", one, "")

	const jsonapi = "application/vnd.api+json"
	document := `{"data":{"type":"notification/webhooks","attributes":{"name":"mine","url":"` + receiver + `","events":["release.live"]}}}`
	made = d.call(t, 201, "POST", ingedata, document, "Content-Type", jsonapi)
	one = "/" + at(t, made, "data", "id")
	d.call(t, 200, "GET", ingedata+"?page[size]=3&page[number]=1", "")
	d.call(t, 200, "GET", ingedata+one, "")
	d.call(t, 200, "GET", ingedata+"/events", "")
	d.call(t, 200, "POST", ingedata+"/test"+one, "")
	d.call(t, 200, "PATCH", ingedata+one, `{"data":{"type":"notification/webhooks","attributes":{"name":"yours"}}}`, "Content-Type", jsonapi)
	d.call(t, 422, "PATCH", ingedata+one, `{"data":{}}`, "Content-Type", jsonapi)
	d.call(t, 204, "DELETE", ingedata+one, "")
	d.call(t, 404, "GET", ingedata+one, "")
	d.call(t, 200, "POST", "/api/v3/iam/auth/api/login", `{"key":"`+d.key+`"}`)
	// Requests of source 003 are signed, so what is answered here is a refusal in its form.
	d.call(t, 401, "GET", "/compat/offblocks/v1/webhooks", "")
}

var parameter = regexp.MustCompile(`\{[^}]+\}`)

// restAnswers asks every operation that was not called, and only wants to be answered by it.
func (d *described) restAnswers(t *testing.T) {
	t.Helper()
	for path, item := range d.doc.Paths.Map() {
		for method, op := range item.Operations() {
			if d.done[op.OperationID] {
				continue
			}
			resp, raw := d.send(t, method, parameter.ReplaceAllString(path, "1"), "", nil)
			require.NotContains(t, []int{http.StatusMethodNotAllowed, http.StatusNotImplemented}, resp.status, "%s %s", method, path)
			require.NotContains(t, string(raw), "NO_ROUTE", "%s %s", method, path)
			require.NotContains(t, string(raw), "no such path", "%s %s", method, path)
			require.NotContains(t, string(raw), "no such route", "%s %s", method, path)
		}
	}
}

// nothingElseAnswers asks every path of the document with the methods that it does not have there.
func (d *described) nothingElseAnswers(t *testing.T) {
	t.Helper()
	for path, item := range d.doc.Paths.Map() {
		known := slices.Collect(maps.Keys(item.Operations()))
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
			if slices.Contains(known, method) {
				continue
			}
			asked := parameter.ReplaceAllString(path, "1")
			if d.otherPathTakes(path, method, asked) {
				continue
			}
			resp, _ := d.send(t, method, asked, "{}", http.Header{"Content-Type": {"application/json"}})
			require.Contains(t, []int{http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented}, resp.status, "%s %s is not in the document", method, path)
		}
	}
}

// otherPathTakes reports whether another path of the document looks so too, and has the method.
func (d *described) otherPathTakes(path, method, asked string) bool {
	for other, item := range d.doc.Paths.Map() {
		form := strings.NewReplacer(`\{`, "{", `\}`, "}").Replace("^" + regexp.QuoteMeta(other) + "$")
		form = parameter.ReplaceAllString(form, "[^/]+")
		if other != path && item.GetOperation(method) != nil && regexp.MustCompile(form).MatchString(asked) {
			return true
		}
	}
	return false
}

// everyMethodHasARoute holds the services of the public API against the document. Streams have no
// route, and a batch is a form of PublishEvent's.
func (d *described) everyMethodHasARoute(t *testing.T) {
	t.Helper()
	known := map[string]bool{"BatchPublishEvents": true}
	for _, item := range d.doc.Paths.Map() {
		for _, op := range item.Operations() {
			known[op.OperationID] = true
		}
	}
	services := 0
	protoregistry.GlobalFiles.RangeFilesByPackage(postriderv1.File_postrider_v1_webhook_proto.Package(), func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			services++
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				m := methods.Get(j)
				require.True(t, known[string(m.Name())] || m.IsStreamingServer() || m.IsStreamingClient(), m.FullName())
			}
		}
		return true
	})
	require.GreaterOrEqual(t, services, 7)
}
