//go:build !race

package standalone_test

import (
	"crypto"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/postrider/postrider/pkg/httpsig"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// operation is a route of the document that the server describes itself with, which
// TestTheDocumentDescribesWhatIsServed holds to the routes that there are.
type operation struct {
	*openapi3.Operation
	method, path string
}

// body is the name of the message that the body is, and whether there is one.
func (o *operation) body() (name string, ok bool) {
	if o.RequestBody == nil {
		return "", false
	}
	media := o.RequestBody.Value.Content.Get("application/json")
	if media == nil || media.Schema == nil {
		return "", true
	}
	return strings.TrimPrefix(media.Schema.Ref, "#/components/schemas/"), true
}

// operations are all of the document, those that take something for ever last.
func (s *isolation) operations(t *testing.T) []*operation {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData([]byte(s.send(t, caller{}, &ask{method: http.MethodGet, path: "/openapi.json"}).text))
	require.NoError(t, err)
	var out []*operation
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			out = append(out, &operation{op, method, path})
		}
	}
	require.Greater(t, len(out), 80)
	slices.SortFunc(out, func(a, b *operation) int { return strings.Compare(a.OperationID, b.OperationID) })
	slices.SortStableFunc(out, func(a, b *operation) int {
		last := func(o *operation) int {
			return strings.Count(o.OperationID, "Delete") + strings.Count(o.OperationID, "DeleteClientKey")
		}
		return last(a) - last(b)
	})
	return out
}

// ask is an HTTP request.
type ask struct {
	method, path, body string
	query              url.Values
	header             http.Header
	message            proto.Message        // of a call of the gRPC API, whose method is path
	keep               func(*http.Response) // sees the answer's header, if set
}

func (a *ask) String() string {
	return a.method + " " + a.path + "?" + a.query.Encode() + " " + a.body
}

// asked is everything that a request names, in plain text.
func (a *ask) asked() string {
	text := a.String()
	if plain, err := url.QueryUnescape(text); err == nil {
		text += " " + plain
	}
	return text
}

// send makes a request and returns status and place with the body.
func (s *isolation) send(t *testing.T, c caller, a *ask) reply {
	t.Helper()
	target := s.svc.HTTPURL() + a.path
	if len(a.query) > 0 {
		target += "?" + a.query.Encode()
	}
	req, err := http.NewRequestWithContext(t.Context(), a.method, target, strings.NewReader(a.body))
	require.NoError(t, err)
	req.Header.Set("X-Request-Id", "isolation")
	if c.credential != "" {
		req.Header.Set("Authorization", "Bearer "+c.credential)
	}
	maps.Copy(req.Header, a.header)
	if strings.HasPrefix(a.path, "/compat/offblocks/") {
		c.client.sign(t, req, a.body)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	if a.keep != nil {
		a.keep(resp)
	}
	head := fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Location"), " ")
	if resp.Header.Get("Content-Type") == "text/event-stream" {
		return reply{head: head, text: "a live list"}
	}
	raw, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return reply{failed: resp.StatusCode >= http.StatusBadRequest, head: head, text: compact(raw)}
}

// clientKey is the key of an account's client.
type clientKey struct {
	id     string
	signer crypto.Signer
}

// sign signs a request of the surface of OffBlocks.
func (k clientKey) sign(t *testing.T, req *http.Request, body string) {
	t.Helper()
	components := []string{"@method", "@target-uri"}
	if req.Method != http.MethodGet {
		req.Header.Set("Idempotency-Key", uuid.NewString())
		components = append(components, "idempotency-key")
	}
	if body != "" {
		req.Header.Set("Content-Digest", httpsig.ContentDigest([]byte(body)))
		components = append(components, "content-type", "content-digest")
	}
	signer, err := httpsig.NewSigner(httpsig.Ed25519, k.id, k.signer)
	require.NoError(t, err)
	require.NoError(t, httpsig.Sign(&httpsig.Message{Method: req.Method, URL: req.URL.String(), Header: req.Header},
		&httpsig.Params{Components: components, Created: time.Now()}, signer))
}

// uploadClientKey gives the account a client key.
func (u *user) uploadClientKey(t *testing.T) clientKey {
	t.Helper()
	key, err := httpsig.GenerateKey(httpsig.Ed25519)
	require.NoError(t, err)
	up, err := postriderv1.NewSigningKeyServiceClient(u.conn).UploadClientKey(u.ctx(t), &postriderv1.UploadClientKeyRequest{PublicKey: publicPEM(t, key.Public())})
	require.NoError(t, err)
	return clientKey{up.GetClientKey().GetId(), key}
}

// walkRoutes asks every route of the document.
func (s *isolation) walkRoutes(t *testing.T, change bool) {
	t.Helper()
	for _, op := range s.operations(t) {
		if s.opChanges(t, op) != change {
			continue
		}
		theirs, none := s.routeAsks(t, op, s.theirs.ids), s.routeAsks(t, op, s.nothing)
		require.Len(t, none, len(theirs))
		require.NotEmpty(t, theirs, "%s %s: no request can be made of it", op.method, op.path)
		for i := range theirs {
			for _, c := range s.callers {
				s.compare(t, change, c.name+" asks", theirs[i], none[i], func(a *ask) reply { return s.send(t, c, a) })
			}
		}
	}
}

// methodOf is the method of the gRPC API that a route calls, or nil.
func (s *isolation) methodOf(op *operation) protoreflect.MethodDescriptor {
	for _, m := range s.methods {
		if string(m.Name()) == op.OperationID {
			return m
		}
	}
	return nil
}

func (s *isolation) opChanges(t *testing.T, op *operation) bool {
	t.Helper()
	if m := s.methodOf(op); m != nil {
		return s.changes(t, m)
	}
	return op.method != http.MethodGet
}

// routeAsks are the requests of a route.
func (s *isolation) routeAsks(t *testing.T, op *operation, ids things) []*ask {
	t.Helper()
	m := s.methodOf(op)
	if m == nil || op.OperationID == "PublishEvent" { // which has a form of its own over HTTP
		return surfaceAsks(t, op, ids)
	}
	require.True(t, strings.HasPrefix(op.path, "/v1/"), op.path)
	return restAsks(t, m, op, ids)
}

// restAsks are the requests of a method of the gRPC API, over REST: path, body and query as the
// document says.
func restAsks(t *testing.T, m protoreflect.MethodDescriptor, op *operation, ids things) []*ask {
	t.Helper()
	var out []*ask
	for _, how := range choices(t, m, ids) {
		_, msg := requestOf(t, m, ids, how)
		var members map[string]any
		decode(t, encoded(t, msg), &members)
		a := &ask{method: op.method, path: op.path, query: url.Values{}, header: http.Header{}}
		bodyName, hasBody := op.body()
		inner := members
		if field := fieldOf(m, bodyName); field != "" {
			inner, _ = members[field].(map[string]any)
			delete(members, field)
		}
		whole := true
		for _, p := range op.Parameters {
			if p.Value.In != openapi3.ParameterInPath {
				continue
			}
			text := take(members, inner, p.Value.Name)
			whole = whole && text != ""
			a.path = strings.Replace(a.path, "{"+p.Value.Name+"}", url.PathEscape(text), 1)
		}
		if !whole {
			continue // this choice leaves out what the path needs
		}
		if hasBody {
			raw, err := json.Marshal(inner)
			require.NoError(t, err)
			a.body = string(raw)
			a.header.Set("Content-Type", "application/json")
		}
		if !hasBody || bodyName != "" {
			flatten(members, a.query)
		}
		out = append(out, a)
	}
	return out
}

// fieldOf is the field of a method's request that is a message of this name.
func fieldOf(m protoreflect.MethodDescriptor, message string) string {
	fields := m.Input().Fields()
	for i := range fields.Len() {
		if fd := fields.Get(i); message != "" && fd.Message() != nil && string(fd.Message().Name()) == message {
			return string(fd.Name())
		}
	}
	return ""
}

// take removes what a path parameter is from a request, and returns it: "webhook_id" is the request's
// member of that name, or the id of the webhook that is the body.
func take(members, inner map[string]any, name string) string {
	for _, place := range []map[string]any{members, inner} {
		for _, key := range []string{name, name[strings.LastIndexByte(name, '_')+1:]} {
			if text, ok := place[key].(string); ok {
				delete(place, key)
				return text
			}
		}
	}
	return ""
}

func flatten(members map[string]any, into url.Values) {
	for name, v := range members {
		switch v := v.(type) {
		case []any:
			for _, each := range v {
				into.Add(name, fmt.Sprint(each))
			}
		case map[string]any:
		default:
			into.Set(name, fmt.Sprint(v))
		}
	}
}

// surfaceParams say what the path parameters of each surface name.
var surfaceParams = map[string]map[string]kind{
	"/compat/labelst/":    {"id": aUUID.as("labelst")},
	"/compat/jewelmusic/": {"webhook_id": aWebhook.as("jewelmusic"), "delivery_id": aDelivery},
	"/compat/offblocks/":  {"id": aUUID.as("offblocks")},
	"/api/v3/":            {"id": aNumber.as("ingedata")},
	"/.well-known/":       {},
	"/callbacks/":         {"token": aGivenID}, // a token is its own credential, and is none
	"/openapi.json":       {},
	"/v1/events":          {},
}

// surfaceBodies are the bodies of the routes that take one, by operation; an id of a thing of theirs
// stands as <kind> in it.
var surfaceBodies = map[string][]string{
	"PublishEvent": {
		`{"type":"release.unannounced","data":{},"id":"<given>","source":"/theirs"}`,
		`[{"type":"release.unannounced","data":{},"id":"<given>","source":"/theirs"}]`,
		`{"account_id":"<account>","type":"release.unannounced","data":{}}`,
	},
	"IngedataLogin":             {`{"key":"<api-key>"}`},
	"IngedataCreateWebhook":     {ingedata(`"name":"mine","url":"https://receiver.example.com/","events":["release.live"],"scopes":{"webhook":["<webhook>"]}`)},
	"IngedataUpdateWebhook":     {ingedata(`"name":"mine"`)},
	"JewelMusicCreateWebhook":   {`{"url":"https://receiver.example.com/","events":["release.live"]}`},
	"JewelMusicUpdateWebhook":   {`{"description":"mine"}`},
	"JewelMusicSetSecret":       {`{}`},
	"JewelMusicSetStatus":       {`{"active":false}`, `{"active":true}`},
	"JewelMusicTestWebhook":     {`{}`},
	"LabelServiceVerifyToken":   {`{"token":"<api-key>"}`},
	"LabelServiceCreateWebhook": {`{"name":"mine","url":"https://receiver.example.com/"}`},
	"OffBlocksPutClientKey":     {`{"publicKey":"none"}`},
	"OffBlocksPutClientKeyV1":   {`{"publicKey":"none"}`},
	"OffBlocksPutWebhook":       {`{"id":"<uuid of offblocks>","callbackUrl":"https://receiver.example.com/"}`},
}

func ingedata(attributes string) string {
	return `{"data":{"type":"notification/webhooks","attributes":{` + attributes + `}}}`
}

// surfaceQueries are queries that name something.
var surfaceQueries = map[string]string{
	"IngedataListWebhooks":   "filter=id==<number of ingedata>",
	"JewelMusicListWebhooks": "search=" + theirName,
	"PublishEvent":           "account_id=<account>",
}

// surfaceAsks are the requests of a route that is no method's.
func surfaceAsks(t *testing.T, op *operation, ids things) []*ask {
	t.Helper()
	var params map[string]kind
	for prefix, each := range surfaceParams {
		if strings.HasPrefix(op.path, prefix) {
			params = each
		}
	}
	require.NotNil(t, params, "%s: say in surfaceParams what its parameters name", op.path)
	bodies, ok := surfaceBodies[op.OperationID]
	_, takes := op.body()
	require.Equal(t, takes, ok, "%s: say in surfaceBodies what to send", op.OperationID)
	if !ok {
		bodies = []string{""}
	}
	insert := func(text string) string {
		for k := range ids {
			text = strings.ReplaceAll(text, "<"+string(k)+">", ids.at(k, 0))
		}
		return text
	}
	var queries []url.Values
	for _, text := range []string{"", surfaceQueries[op.OperationID]} {
		q, err := url.ParseQuery(insert(text))
		require.NoError(t, err)
		queries = append(queries, q)
	}
	if len(queries[1]) == 0 {
		queries = queries[:1]
	}
	var out []*ask
	for _, body := range bodies {
		for _, q := range queries {
			a := &ask{method: op.method, path: op.path, query: q, header: http.Header{}, body: insert(body)}
			if body != "" {
				a.header.Set("Content-Type", "application/json")
			}
			if op.OperationID == "PublishEvent" {
				a.header.Set("Idempotency-Key", `"`+ids.at(anIdempotency, 0)+`"`)
				if strings.Contains(body, `"id"`) {
					a.header.Del("Idempotency-Key")
				}
			}
			for _, p := range op.Parameters {
				if p.Value.In == openapi3.ParameterInPath {
					k, ok := params[p.Value.Name]
					require.True(t, ok, "%s: say in surfaceParams what %s names", op.path, p.Value.Name)
					a.path = strings.Replace(a.path, "{"+p.Value.Name+"}", ids.at(k, 0), 1)
				}
			}
			out = append(out, a)
		}
	}
	return out
}
