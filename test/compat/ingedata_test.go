//go:build e2e

package compat

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/postrider"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/fixture/receivertest"
	"github.com/postrider/postrider/test/system"
)

const (
	ingedataType  = "notification/webhooks"
	ingedataPath  = "/api/v3/notification/webhooks"
	documentMedia = "application/vnd.api+json"
)

// ingedata is a client that knows what the page and the framework say.
type ingedata struct {
	*system.Account
	key string
}

// exchange is one answer.
type exchange struct {
	status int
	header http.Header
	text   string
	doc    map[string]any
}

// documents are those that were answered, for the validator.
var (
	documentsMu sync.Mutex
	documents   []json.RawMessage
)

func newIngedata(t *testing.T, s *system.System, types ...string) *ingedata {
	t.Helper()
	a := s.NewAccount(t)
	for _, name := range append([]string{"release.created", "release.live"}, types...) {
		_, err := a.EventTypes.CreateEventType(a.Ctx(t), &postriderv1.CreateEventTypeRequest{
			EventType: &postriderv1.EventType{Name: name, Description: "what " + name + " means"},
		})
		require.NoError(t, err)
	}
	return &ingedata{a, a.Key}
}

func (c *ingedata) call(t *testing.T, method, path, body string, headers ...string) exchange {
	t.Helper()
	if body != "" && len(headers) == 0 {
		headers = []string{"Content-Type", documentMedia}
	}
	resp, text := system.Exchange(t, method, c.APIURL+path, c.key, body, headers...)
	out := exchange{status: resp.StatusCode, header: resp.Header, text: text}
	if text != "" && method != http.MethodHead {
		require.NoError(t, json.Unmarshal([]byte(text), &out.doc), "%s", text)
		if resp.Header.Get("Content-Type") == documentMedia {
			documentsMu.Lock()
			if len(text) < 1<<16 {
				documents = append(documents, json.RawMessage(text))
			}
			documentsMu.Unlock()
		}
	}
	return out
}

func (c *ingedata) list(t *testing.T, query string) exchange {
	t.Helper()
	got := c.call(t, http.MethodGet, ingedataPath+"?"+query, "")
	return got
}

func document(attributes map[string]any) string {
	raw, _ := json.Marshal(map[string]any{"data": map[string]any{"type": ingedataType, "attributes": attributes}})
	return string(raw)
}

func (c *ingedata) create(t *testing.T, attributes map[string]any) exchange {
	t.Helper()
	if _, ok := attributes["url"]; !ok {
		attributes["url"] = "https://example.com/h"
	}
	if _, ok := attributes["events"]; !ok {
		attributes["events"] = []string{"release.created"}
	}
	got := c.call(t, http.MethodPost, ingedataPath, document(attributes))
	require.Equal(t, http.StatusCreated, got.status, "%s", got.text)
	return got
}

func (e exchange) id() string { return e.doc["data"].(map[string]any)["id"].(string) }

func (e exchange) attributes() map[string]any {
	return e.doc["data"].(map[string]any)["attributes"].(map[string]any)
}

func (e exchange) ids(t *testing.T) []string {
	t.Helper()
	require.Equal(t, http.StatusOK, e.status, "%s", e.text)
	ids := []string{}
	for _, each := range e.doc["data"].([]any) {
		ids = append(ids, each.(map[string]any)["id"].(string))
	}
	return ids
}

// names are the names of a list, in order.
func (e exchange) names(t *testing.T) []string {
	t.Helper()
	require.Equal(t, http.StatusOK, e.status, "%s", e.text)
	names := []string{}
	for _, each := range e.doc["data"].([]any) {
		names = append(names, each.(map[string]any)["attributes"].(map[string]any)["name"].(string))
	}
	return names
}

// fails requires an error document with one status, and returns its sources.
func (e exchange) fails(t *testing.T, status int) []string {
	t.Helper()
	require.Equal(t, status, e.status, "%s", e.text)
	require.Equal(t, documentMedia, e.header.Get("Content-Type"))
	require.NotContains(t, e.doc, "data")
	sources := []string{}
	for _, each := range e.doc["errors"].([]any) {
		one := each.(map[string]any)
		require.Equal(t, strconv.Itoa(status), one["status"])
		require.NotEmpty(t, one["title"])
		for _, source := range asMap(one["source"]) {
			sources = append(sources, source.(string))
		}
	}
	return sources
}

func asMap(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

func TestIngedata(t *testing.T) {
	s := open(t)
	t.Run("checks", func(t *testing.T) {
		ingedataDocuments(t, s)
		ingedataLists(t, s)
		ingedataDeliveries(t, s)
	})
	t.Run("1.5.14 every document is JSON:API by a validator of its own", func(t *testing.T) {
		documentsMu.Lock()
		raw, err := json.Marshal(documents)
		documentsMu.Unlock()
		require.NoError(t, err)
		require.Greater(t, len(documents), 100)
		cmd := exec.CommandContext(t.Context(), "node", "jsonapi.js")
		cmd.Dir, cmd.Stdin = system.NodeDir(t), bytes.NewReader(raw)
		said, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", said)
	})
}

func ingedataDocuments(t *testing.T, s *system.System) {
	t.Helper()
	t.Run("1.5.1 the seven routes, and /events before /:resource_id", func(t *testing.T) {
		t.Parallel()
		c := newIngedata(t, s)
		id := c.create(t, map[string]any{"url": receivertest.New(t).URL}).id()
		for _, route := range []struct {
			method, path, body string
			status             int
		}{
			{"GET", "", "", 200},
			{"POST", "", document(map[string]any{"url": "https://example.com", "events": []string{"*"}}), 201},
			{"GET", "/events", "", 200},
			{"GET", "/" + id, "", 200},
			{"PATCH", "/" + id, document(map[string]any{"name": "n"}), 200},
			{"POST", "/test/" + id, "", 200},
			{"DELETE", "/" + id, "", 204},
		} {
			got := c.call(t, route.method, ingedataPath+route.path, route.body)
			require.Equal(t, route.status, got.status, "%s %s: %s", route.method, route.path, got.text)
		}
		require.Contains(t, c.call(t, "GET", ingedataPath+"/events", "").text, "notification/events")
		for path, allow := range map[string]string{"": "GET, POST", "/events": "GET", "/1": "DELETE, GET, PATCH", "/test/1": "POST"} {
			got := c.call(t, "PUT", ingedataPath+path, "{}")
			got.fails(t, 405)
			require.Equal(t, allow, got.header.Get("Allow"))
		}
		c.call(t, "GET", ingedataPath+"/1/2", "").fails(t, 404)
		c.call(t, "GET", "/api/v3/other", "").fails(t, 404)
		require.Equal(t, 200, c.call(t, "HEAD", ingedataPath, "").status)
	})
	t.Run("1.5.2 the type, a string as id and the same number among the attributes", func(t *testing.T) {
		t.Parallel()
		c := newIngedata(t, s)
		got := c.create(t, map[string]any{})
		require.Equal(t, ingedataType, got.doc["data"].(map[string]any)["type"])
		require.Equal(t, got.id(), strconv.FormatInt(int64(got.attributes()["id"].(float64)), 10))
	})
	t.Run("1.5.3 the attributes of the page, and times in UTC", func(t *testing.T) {
		t.Parallel()
		c := newIngedata(t, s)
		got := c.create(t, map[string]any{"scopes": map[string]any{}})
		names := []string{}
		for name := range got.attributes() {
			names = append(names, name)
		}
		require.ElementsMatch(t, []string{"id", "account_id", "name", "url", "secret", "events", "scopes", "created_at", "updated_at"}, names)
		require.EqualValues(t, c.Record.GetNumber(), got.attributes()["account_id"])
		for _, name := range []string{"created_at", "updated_at"} {
			at, err := time.Parse(time.RFC3339Nano, got.attributes()[name].(string))
			require.NoError(t, err)
			require.True(t, strings.HasSuffix(got.attributes()[name].(string), "Z"))
			require.WithinDuration(t, time.Now(), at, time.Minute)
		}
	})
	t.Run("1.5.4 POST answers 201, fills what is left out and ignores what is ours", func(t *testing.T) {
		t.Parallel()
		c := newIngedata(t, s)
		body := `{"data":{"type":"notification/webhooks","attributes":{"name":"prod","url":"https://example.com/h","secret":"s3cr3t","events":["release.created"],"scopes":{"project_id":[12]}}}}`
		got := c.call(t, "POST", ingedataPath, body)
		require.Equal(t, 201, got.status, "%s", got.text)
		require.Equal(t, documentMedia, got.header.Get("Content-Type"))
		require.Equal(t, ingedataPath+"/"+got.id(), got.header.Get("Location"))
		for name, want := range map[string]any{"name": "prod", "url": "https://example.com/h", "secret": "s3cr3t", "events": []any{"release.created"}, "scopes": map[string]any{"project_id": []any{12.0}}} {
			require.Equal(t, want, got.attributes()[name], name)
		}
		filled := c.call(t, "POST", ingedataPath, `{"data":{"type":"notification/webhooks","id":"77","attributes":{"id":99,"created_at":"1999-01-01T00:00:00Z","updated_at":1,"more":{},"url":"https://Host.Example:443/x#y","events":["*"]}}}`, "Content-Type", "application/json; charset=utf-8")
		require.Equal(t, 201, filled.status, "%s", filled.text)
		require.NotEqual(t, "99", filled.id())
		require.Equal(t, "host.example", filled.attributes()["name"])
		require.Equal(t, "https://host.example/x", filled.attributes()["url"])
		require.Regexp(t, "^whsec_", filled.attributes()["secret"])
		require.NotContains(t, filled.attributes()["created_at"], "1999")
		require.Equal(t, map[string]any{}, filled.attributes()["scopes"])

		wrong := map[string][]string{
			`{"data":{"attributes":{"url":"https://example.com","events":["*"]}}}`:                                                       {"/data/type"},
			`{"data":{"type":"notification/webhooks"}}`:                                                                                  {"/data/attributes"},
			`{"data":{"type":"notification/webhooks","attributes":{}}}`:                                                                  {"/data/attributes/url", "/data/attributes/events"},
			`{"data":{"type":"notification/webhooks","attributes":{"url":"ftp://x","events":[],"secret":""}}}`:                           {"/data/attributes/url", "/data/attributes/events", "/data/attributes/secret"},
			`{"data":{"type":"notification/webhooks","attributes":{"url":"https://example.com","events":["*"],"account_id":999999999}}}`: {"/data/attributes/account_id"},
		}
		for body, pointers := range wrong {
			require.ElementsMatch(t, pointers, c.call(t, "POST", ingedataPath, body).fails(t, 422), body)
		}
		require.Len(t, c.list(t, "").ids(t), 2, "nothing else was made")
	})
	t.Run("1.5.5 PATCH changes five members and drops the rest", func(t *testing.T) {
		t.Parallel()
		c := newIngedata(t, s)
		made := c.create(t, map[string]any{"name": "a", "secret": "s3cr3t", "scopes": map[string]any{"p": "1"}})
		path := ingedataPath + "/" + made.id()
		id, _ := strconv.Atoi(made.id())
		got := c.call(t, "PATCH", path, document(map[string]any{
			"id": id, "name": "b", "account_id": 99, "scopes": map[string]any{}, "created_at": "1999-01-01T00:00:00Z", "updated_at": "x", "more": 1,
		}))
		require.Equal(t, 200, got.status, "%s", got.text)
		require.Equal(t, "b", got.attributes()["name"])
		for _, same := range []string{"id", "account_id", "url", "secret", "events", "scopes", "created_at"} {
			require.Equal(t, made.attributes()[same], got.attributes()[same], same)
		}
		require.NotEqual(t, made.attributes()["updated_at"], got.attributes()["updated_at"])
		got = c.call(t, "PATCH", path, document(map[string]any{"url": "https://example.org/", "secret": "0ther", "events": []string{"*"}}))
		require.Equal(t, []any{"https://example.org/", "0ther", []any{"*"}}, []any{got.attributes()["url"], got.attributes()["secret"], got.attributes()["events"]})
		require.Equal(t, got.text, c.call(t, "GET", path, "").text)

		c.call(t, "PATCH", path, document(map[string]any{"id": id + 1})).fails(t, 409)
		c.call(t, "PATCH", path, `{"data":{"type":"webhooks","attributes":{}}}`).fails(t, 409)
		c.call(t, "PATCH", path, `{"data":{"type":"notification/webhooks","id":"x","attributes":{}}}`).fails(t, 409)
		require.Equal(t, []string{"/data/attributes/events/0"}, c.call(t, "PATCH", path, document(map[string]any{"name": "c", "secret": "third", "events": []string{"unlisted"}})).fails(t, 422))
		require.Equal(t, []string{"/data/attributes/secret"}, c.call(t, "PATCH", path, document(map[string]any{"name": "c", "secret": ""})).fails(t, 422))
		require.Equal(t, got.text, c.call(t, "GET", path, "").text, "a refused change changed nothing")
	})
	t.Run("1.5.6 DELETE answers 204, and then 404", func(t *testing.T) {
		t.Parallel()
		c := newIngedata(t, s)
		path := ingedataPath + "/" + c.create(t, map[string]any{}).id()
		got := c.call(t, "DELETE", path, "")
		require.Equal(t, 204, got.status)
		require.Empty(t, got.text)
		c.call(t, "DELETE", path, "").fails(t, 404)
		c.call(t, "GET", path, "").fails(t, 404)
	})
	t.Run("1.5.14 shapes and media types", func(t *testing.T) {
		t.Parallel()
		c := newIngedata(t, s)
		path := ingedataPath + "/" + c.create(t, map[string]any{}).id()
		require.Len(t, c.call(t, "GET", path, "").doc, 1, "data alone")
		require.Len(t, c.list(t, "").doc, 1, "data alone")
		body := document(map[string]any{"name": "n"})
		for media, status := range map[string]int{
			documentMedia: 200, documentMedia + `; profile="https://example.com/p"`: 200, "application/json": 200,
			documentMedia + `; ext="https://example.com/e"`: 415, documentMedia + "; charset=utf-8": 415, "text/plain": 415, "application/x-www-form-urlencoded": 415,
		} {
			got := c.call(t, "PATCH", path, body, "Content-Type", media)
			require.Equal(t, status, got.status, media)
		}
		for accept, status := range map[string]int{"*/*": 200, "application/json": 200, documentMedia: 200, documentMedia + "; ext=x": 406, documentMedia + "; ext=x, " + documentMedia: 200} {
			require.Equal(t, status, c.call(t, "GET", path, "", "Accept", accept).status, accept)
		}
	})
	t.Run("1.5.15 errors are error documents", func(t *testing.T) {
		t.Parallel()
		c := newIngedata(t, s)
		c.call(t, "POST", ingedataPath, "{").fails(t, 400)
		c.call(t, "GET", ingedataPath+"/999999999", "").fails(t, 404)
		c.call(t, "GET", ingedataPath+"/abc", "").fails(t, 404)
		c.call(t, "POST", ingedataPath, strings.Repeat(" ", 2<<20)).fails(t, 413)
		stranger := &ingedata{c.Account, "prk_" + strings.Repeat("0", 40)}
		got := stranger.list(t, "filter[nothing]=1")
		got.fails(t, 401)
		require.Equal(t, "Bearer", got.header.Get("WWW-Authenticate"))
		(&ingedata{c.Account, c.NewKey(t, "publish")}).list(t, "").fails(t, 403)
		(&ingedata{c.Account, c.NewKey(t, "read")}).call(t, "POST", ingedataPath, document(map[string]any{"url": "https://example.com", "events": []string{"*"}})).fails(t, 403)
		(&ingedata{c.Account, c.AdminKey}).list(t, "").fails(t, 403)
	})
	t.Run("1.5.19 secrets are shown to who may manage", func(t *testing.T) {
		t.Parallel()
		c := newIngedata(t, s)
		id := c.create(t, map[string]any{"secret": "s3cr3t"}).id()
		require.Equal(t, "s3cr3t", c.call(t, "GET", ingedataPath+"/"+id, "").attributes()["secret"])
		require.Contains(t, c.list(t, "").text, "s3cr3t")
		reader := &ingedata{c.Account, c.NewKey(t, "read")}
		require.NotContains(t, reader.call(t, "GET", ingedataPath+"/"+id, "").attributes(), "secret")
		require.NotContains(t, reader.list(t, "").text, "secret")
		require.Equal(t, []string{"filter[secret]"}, reader.list(t, "filter[secret]=s3cr3t").fails(t, 403))
	})
	t.Run("1.5.21 a key is exchanged for a token, and callers see their own account only", func(t *testing.T) {
		t.Parallel()
		c, other := newIngedata(t, s), newIngedata(t, s)
		id := c.create(t, map[string]any{}).id()
		before := c.call(t, "GET", ingedataPath+"/"+id, "").text
		for method, body := range map[string]string{"GET": "", "DELETE": "", "PATCH": document(map[string]any{"name": "theirs", "secret": "theirs"})} {
			other.call(t, method, ingedataPath+"/"+id, body).fails(t, 404)
		}
		other.call(t, "POST", ingedataPath+"/test/"+id, "").fails(t, 404)
		require.Empty(t, other.list(t, "").ids(t))
		require.Empty(t, other.list(t, "filter[id]="+id).ids(t))
		require.Equal(t, before, c.call(t, "GET", ingedataPath+"/"+id, "").text)

		elsewhere := c.Webhook(t, &postriderv1.Webhook{Url: "https://example.com", EventTypes: []string{"*"}}).GetWebhook()
		c.call(t, "GET", fmt.Sprintf("%s/%d", ingedataPath, elsewhere.GetNumber()), "").fails(t, 404)
		require.Equal(t, []string{id}, c.list(t, "").ids(t), "webhooks of other profiles are not this API's")

		anonymous := &ingedata{c.Account, ""}
		login := anonymous.call(t, "POST", "/api/v3/iam/auth/api/login", `{"key":"`+c.Key+`"}`, "Content-Type", "application/json")
		require.Equal(t, 200, login.status, "%s", login.text)
		token := login.doc["meta"].(map[string]any)["token"].(string)
		require.Equal(t, []string{id}, (&ingedata{c.Account, token}).list(t, "").ids(t))
		for _, key := range []string{"", "x", `a\nb`, "prk_0"} {
			anonymous.call(t, "POST", "/api/v3/iam/auth/api/login", `{"key":"`+key+`"}`).fails(t, 401)
		}
		anonymous.list(t, "").fails(t, 401)
	})
}

func ingedataLists(t *testing.T, s *system.System) {
	t.Helper()
	t.Run("1.5.7 2345 webhooks come in pages", func(t *testing.T) {
		t.Parallel()
		c := newIngedata(t, s)
		const count = 2345
		c.createMany(t, count)
		began := time.Now()
		require.Len(t, c.list(t, "").ids(t), 1000)
		t.Logf("a page of 1000 of %d webhooks, with secrets, took %s", count, time.Since(began))
		began = time.Now()
		require.Len(t, c.list(t, "fields[notification/webhooks]=name").ids(t), 1000)
		t.Logf("the same without secrets took %s", time.Since(began))
		var all []string
		for number, want := range []int{1000, 1000, 345, 0} {
			page := c.list(t, fmt.Sprintf("page[number]=%d&fields[notification/webhooks]=name&count=true", number+1))
			require.Len(t, page.ids(t), want)
			require.EqualValues(t, count, page.doc["meta"].(map[string]any)["count"])
			all = append(all, page.ids(t)...)
		}
		seen := make(map[string]bool)
		last := 0
		for _, id := range all {
			n, err := strconv.Atoi(id)
			require.NoError(t, err)
			require.Greater(t, n, last, "in the order of ids")
			last, seen[id] = n, true
		}
		require.Len(t, seen, count)
		for query, parameter := range map[string]string{
			"page[size]=1001": "page[size]", "page[size]=abc": "page[size]", "page[size]=0": "page[size]", "page[number]=0": "page[number]", "page[number]=-1": "page[number]",
		} {
			require.Equal(t, []string{parameter}, c.list(t, query).fails(t, 422))
		}
	})

	c := newIngedata(t, s, "x.y")
	var ids []string
	for _, name := range []string{"prod-b", "a%b", "prod-a", "axb", "PROD_c"} {
		events := []string{"release.created"}
		if name == "axb" {
			events = []string{"release.live", "x.y"}
		}
		ids = append(ids, c.create(t, map[string]any{"name": name, "url": "https://example.com/" + url.PathEscape(name), "events": events, "secret": "secret of " + name}).id())
	}
	times := c.list(t, "").doc["data"].([]any)
	createdAt := func(i int) string {
		return url.QueryEscape(times[i].(map[string]any)["attributes"].(map[string]any)["created_at"].(string))
	}
	t.Run("1.5.8 lists sort by fields and then by id", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, ids, c.list(t, "").ids(t))
		require.Equal(t, []string{"PROD_c", "axb", "prod-a", "a%b", "prod-b"}, c.list(t, "sort=-created_at,name").names(t))
		require.Equal(t, []string{"PROD_c", "a%b", "axb", "prod-a", "prod-b"}, c.list(t, "sort=name").names(t))
		require.Equal(t, ids, c.list(t, "sort=-account_id").ids(t), "equal keys: by id")
		for _, key := range []string{"nothing", "secret", "name;drop", "-"} {
			require.Equal(t, []string{"sort"}, c.list(t, "sort="+url.QueryEscape(key)).fails(t, 400))
		}
	})
	t.Run("1.5.9 count=true tells the exact total of what matches", func(t *testing.T) {
		t.Parallel()
		got := c.list(t, "page[number]=2&page[size]=2&sort=-created_at,name&count=true&filter[name__match]=PRO&fields[notification/webhooks]=name,url")
		require.Equal(t, []string{"prod-b"}, got.names(t))
		require.Equal(t, map[string]any{"count": 3.0, "more": false}, got.doc["meta"])
		require.NotContains(t, c.list(t, "").doc, "meta")
		require.NotContains(t, c.list(t, "count=false").doc, "meta")
	})
	t.Run("1.5.10 filters and their operators", func(t *testing.T) {
		t.Parallel()
		for query, want := range map[string][]string{
			"filter[name]=a%25b": {"a%b"},
			"filter[created_at__gte]=" + createdAt(1) + "&filter[created_at__lt]=" + createdAt(3): {"a%b", "prod-a"},
			"filter[id__in][]=" + ids[0] + "&filter[id__in][]=" + ids[3]:                          {"prod-b", "axb"},
			"filter[id][]=" + ids[0] + "&filter[id][]=" + ids[3]:                                  {"prod-b", "axb"},
			"filter[id__neq]=" + ids[0] + "&filter[name__neq]=axb":                                {"a%b", "prod-a", "PROD_c"},
			"filter[id__gt]=" + ids[2] + "&filter[id__lte]=" + ids[3]:                             {"axb"},
			"filter[url__prefix]=https://ex":                                                      {"prod-b", "a%b", "prod-a", "axb", "PROD_c"},
			"filter[url__suffix]=/axb":                                                            {"axb"},
			"filter[name__match]=PROD-":                                                           {"prod-b", "prod-a"},
			"filter[name__prefix]=PROD":                                                           {"PROD_c"},
			"filter[name__match]=%25":                                                             {"a%b"},
			"filter[name__match]=_":                                                               {"PROD_c"},
			"filter[events__contains][]=x.y":                                                      {"axb"},
			"filter[events__contains][]=x.y&filter[events__contains][]=z":                         {"axb"},
			"filter[events][]=release.live":                                                       {},
			"filter[events][]=release.live&filter[events][]=x.y":                                  {"axb"},
			"filter[name__exists]=false":                                                          {},
			"filter[name__exists]=true&filter[name]=axb":                                          {"axb"},
			"filter[id][]=":                             {},
			"filter[id__in][]=":                         {},
			"filter[events__contains][]=":               {},
			"filter[id__neq][]=&filter[name]=axb":       {"axb"},
			"filter%5Bname%5D=axb":                      {"axb"},
			"filter[name]=axb&filter[account_id__lt]=0": {},
		} {
			require.Equal(t, want, c.list(t, query).names(t), query)
		}
	})
	t.Run("1.5.11 unknown filters are refused, and secrets compare as a whole", func(t *testing.T) {
		t.Parallel()
		for _, name := range []string{"nothing", "name__like", "id'; drop table webhooks; --", "name__", "__eq", "webhooks.id", `"`, "id__gt__lt", "secret__prefix", "secret__match", "secret__gt", "secret__neq", "secret__exists", "secret__in"} {
			require.Equal(t, []string{"filter[" + name + "]"}, c.list(t, "filter["+url.QueryEscape(name)+"]=1").fails(t, 400), name)
		}
		require.Equal(t, []string{"filters[name]"}, c.list(t, "filters[name]=1").fails(t, 400))
		require.Equal(t, []string{"axb"}, c.list(t, "filter[secret]="+url.QueryEscape("secret of axb")).names(t))
		require.Empty(t, c.list(t, "filter[secret]=secret").ids(t))
	})
	t.Run("1.5.12 sparse fields in both spellings", func(t *testing.T) {
		t.Parallel()
		for _, query := range []string{
			"fields[notification/webhooks][]=name&fields[notification/webhooks][]=url", "fields[notification/webhooks]=name,url",
			"fields%5Bnotification%2Fwebhooks%5D=name%2Curl", "fields%5Bnotification%2Fwebhooks%5D%5B%5D=name&fields%5Bnotification%2Fwebhooks%5D%5B%5D=url",
		} {
			want := map[string]any{"type": ingedataType, "id": ids[3], "attributes": map[string]any{"name": "axb", "url": "https://example.com/axb"}}
			require.Equal(t, want, c.list(t, query+"&filter[name]=axb").doc["data"].([]any)[0])
			require.Equal(t, want, c.call(t, "GET", ingedataPath+"/"+ids[3]+"?"+query, "").doc["data"])
		}
		require.Equal(t, []string{"fields[notification/webhooks]"}, c.list(t, "fields[notification/webhooks]=nothing").fails(t, 400))
	})
	t.Run("1.5.13 nothing can be included", func(t *testing.T) {
		t.Parallel()
		for query, parameter := range map[string]string{"included[]=account": "included[]", "include=account,user": "include", "include=nothing": "include"} {
			require.Equal(t, []string{parameter}, c.call(t, "GET", ingedataPath+"/"+ids[0]+"?"+query, "").fails(t, 422))
		}
		require.Equal(t, 200, c.call(t, "GET", ingedataPath+"/"+ids[0]+"?include=", "").status)
	})
	t.Run("1.5.16 the event list is what may be subscribed", func(t *testing.T) {
		t.Parallel()
		c := newIngedata(t, s)
		got := c.call(t, "GET", ingedataPath+"/events", "")
		require.Equal(t, []string{"release.created", "release.live"}, got.ids(t))
		for _, each := range got.doc["data"].([]any) {
			event := each.(map[string]any)
			require.Equal(t, "notification/events", event["type"])
			require.Equal(t, map[string]any{"name": event["id"], "description": "what " + event["id"].(string) + " means"}, event["attributes"])
			c.create(t, map[string]any{"events": []any{event["id"]}})
		}
		for _, unlisted := range []string{"unlisted", "release.*", "", "Release.created"} {
			got := c.call(t, "POST", ingedataPath, document(map[string]any{"url": "https://example.com", "events": []string{"release.created", unlisted}}))
			require.Equal(t, []string{"/data/attributes/events/1"}, got.fails(t, 422))
		}
	})
}

// createMany makes webhooks over the public API, which is the same and quicker to call.
func (c *ingedata) createMany(t *testing.T, count int) {
	t.Helper()
	work := make(chan int)
	errs := make(chan error, count)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for i := range work {
				_, err := c.Webhooks.CreateWebhook(system.As(t.Context(), c.Key), &postriderv1.CreateWebhookRequest{Webhook: &postriderv1.Webhook{
					Profile: "ingedata", DisplayName: fmt.Sprintf("webhook %d", i), Url: "https://example.com/h", EventTypes: []string{"release.created"},
				}})
				errs <- err
			}
		})
	}
	for i := range count {
		work <- i
	}
	close(work)
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
}

// byNumber is the webhook as the public API shows it.
func (c *ingedata) byNumber(t *testing.T, id string) *postriderv1.Webhook {
	t.Helper()
	number, err := strconv.ParseInt(id, 10, 64)
	require.NoError(t, err)
	resp, err := c.Webhooks.GetWebhook(c.Ctx(t), &postriderv1.GetWebhookRequest{Number: number})
	require.NoError(t, err)
	return resp.GetWebhook()
}

func ingedataDeliveries(t *testing.T, s *system.System) {
	t.Helper()
	t.Run("1.5.17 a test sends one delivery now and answers flat", func(t *testing.T) {
		t.Parallel()
		c := newIngedata(t, s)
		r := receivertest.New(t).Respond(200, 500)
		id := c.create(t, map[string]any{"url": r.URL}).id()
		for _, want := range []bool{true, false} {
			got := c.call(t, "POST", ingedataPath+"/test/"+id, "")
			require.Equal(t, 200, got.status)
			require.Equal(t, "application/json", got.header.Get("Content-Type"))
			require.Len(t, got.doc, 2)
			require.Equal(t, want, got.doc["success"])
			require.NotEmpty(t, got.doc["message"])
		}
		require.Len(t, r.All(), 2, "no retry")
		require.NotEmpty(t, r.All()[0].Header.Get("webhook-signature"))
		c.call(t, "POST", ingedataPath+"/test/999999999", "").fails(t, 404)
		inner := c.create(t, map[string]any{"url": "https://169.254.169.254/latest"}).id()
		got := c.call(t, "POST", ingedataPath+"/test/"+inner, "")
		require.Equal(t, false, got.doc["success"])
		require.Contains(t, got.doc["message"], "ssrf_blocked")
		logged := postrider.DeliveryIDFor(postrider.EventID(r.All()[0].Header.Get("webhook-id")), postrider.WebhookID(c.byNumber(t, id).GetId()), "test")
		require.Eventually(t, func() bool {
			attempts, err := c.Deliveries.ListAttempts(c.Ctx(t), &postriderv1.ListAttemptsRequest{DeliveryId: string(logged)})
			return err == nil && len(attempts.GetAttempts()) == 1 && attempts.GetAttempts()[0].GetTrigger() == "test"
		}, system.Patience, 20*time.Millisecond)
	})
	t.Run("1.5.18 deliveries are signed in both ways, with the secret as given or decoded", func(t *testing.T) {
		t.Parallel()
		for name, secret := range map[string]struct{ text, key string }{
			"text": {"s3cr3t", "s3cr3t"}, "whsec": {"whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", "01234567890123456789012345678901"},
		} {
			c := newIngedata(t, s)
			r := receivertest.New(t)
			c.create(t, map[string]any{"url": r.URL, "secret": secret.text})
			c.Publish(t, "release.created", `{"a":1}`)
			got := r.Next(t)
			mac := hmac.New(sha256.New, []byte(secret.key))
			mac.Write(got.Body)
			require.Equal(t, "sha256="+hex.EncodeToString(mac.Sum(nil)), got.Header.Get("X-Webhook-Signature"), name)
			for _, header := range []string{"webhook-id", "webhook-timestamp", "webhook-signature"} {
				require.NotEmpty(t, got.Header.Get(header), name)
			}
		}
	})
	t.Run("1.5.20 scopes come back as given and choose by label", func(t *testing.T) {
		t.Parallel()
		c := newIngedata(t, s)
		r := receivertest.New(t)
		scopes := map[string]any{"project_id": []any{12.0, 13.0}, "region": "eu"}
		id := c.create(t, map[string]any{"url": r.URL, "scopes": scopes}).id()
		require.Equal(t, scopes, c.call(t, "GET", ingedataPath+"/"+id, "").attributes()["scopes"])
		publish := func(labels map[string]string, data string) {
			c.PublishEvent(t, &postriderv1.EventInput{Type: "release.created", Data: []byte(data), Labels: labels})
		}
		publish(map[string]string{"project_id": "14", "region": "eu"}, `"another project"`)
		publish(map[string]string{"project_id": "12"}, `"no region"`)
		publish(map[string]string{"project_id": "13", "region": "eu"}, `"this one"`)
		require.Contains(t, string(r.Next(t).Body), "this one")
		require.Len(t, r.All(), 1)
		require.Equal(t, []string{"/data/attributes/scopes"}, c.call(t, "POST", ingedataPath, document(map[string]any{"url": "https://example.com", "events": []string{"*"}, "scopes": []string{}})).fails(t, 422))
	})
	t.Run("1.5.22 a delivery is type, timestamp and data, for subscribed names only", func(t *testing.T) {
		t.Parallel()
		c := newIngedata(t, s)
		some, all := receivertest.New(t), receivertest.New(t)
		c.create(t, map[string]any{"url": some.URL, "events": []string{"release.live"}})
		c.create(t, map[string]any{"url": all.URL, "events": []string{"*"}})
		at := time.Date(2026, 11, 21, 21, 0, 0, 0, time.UTC)
		c.Publish(t, "release.created", `{}`)
		c.PublishEvent(t, &postriderv1.EventInput{Type: "release.live", Data: []byte(`{"z":1.50,"a":"<é>"}`), Time: timestamppb.New(at)})
		got := some.Next(t)
		require.Equal(t, http.MethodPost, got.Method)
		require.Equal(t, "application/json", got.Header.Get("Content-Type"))
		require.Equal(t, `{"type":"release.live","timestamp":"2026-11-21T21:00:00Z","data":{"z":1.50,"a":"<é>"}}`, string(got.Body)) //nolint:testifylint // byte for byte
		all.AwaitCount(t, 2)
		require.Len(t, some.All(), 1)
	})
}
