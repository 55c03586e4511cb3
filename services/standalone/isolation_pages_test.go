//go:build !race

package standalone_test

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// pageParams say what the parameters of pages name.
var pageParams = map[string]kind{
	"account": anAccount, "webhook": aWebhook, "delivery": aDelivery, "event": anEvent, "replay": aReplay, "key": anAPIKey, "type": anEventType,
}

// pagesOfNone are those that show nothing of an account.
var pagesOfNone = []string{
	"GET /{$}", "GET /console/assets/{file}", "GET /portal/assets/{file}", "GET /console/session", "GET /portal/session", "/console/", "/portal/",
	"POST /console/sign-out", "POST /portal/sign-out", "GET /console/sign-in", "POST /console/sign-in", "GET /portal/brand.css", "GET /portal/logo",
}

// browser is a caller who has signed in to the console, or has entered the portal.
type browser struct {
	caller
	prefix string
	cookie string
	token  string // that forms bring
}

var (
	csrfForm  = regexp.MustCompile(`name="csrf" value="([^"]+)"`)
	pageNoise = regexp.MustCompile(`name="csrf" value="[^"]+"|datetime="[^"]*"|value="\d{4}-\d\d-\d\dT\d\d:\d\d"`)
)

// browsers are the callers who may sign in.
func (s *isolation) browsers(t *testing.T) []*browser {
	t.Helper()
	var out []*browser
	for _, c := range s.callers {
		if b := s.signIn(t, c, s.mine.account); b != nil {
			out = append(out, b)
		}
	}
	require.Len(t, out, 4, "keys to manage and to read sign in, and both portal links")
	return out
}

// signIn signs in to the console with a key and enters the portal with a link; nil if that is refused.
func (s *isolation) signIn(t *testing.T, c caller, account string) *browser {
	t.Helper()
	b, first := &browser{caller: c, prefix: "/console/"}, "/console/accounts/"+account+"/explain"
	if strings.HasPrefix(c.name, "a portal link") {
		b.prefix, first = "/portal/", "/portal/explain"
		b.visit(t, s, &ask{method: http.MethodGet, path: "/portal/enter", query: url.Values{"token": {c.credential}}})
	} else {
		b.visit(t, s, &ask{method: http.MethodGet, path: "/console/sign-in"})
		b.visit(t, s, &ask{method: http.MethodPost, path: "/console/sign-in", body: url.Values{"key": {c.credential}}.Encode()})
	}
	if page := b.visit(t, s, &ask{method: http.MethodGet, path: first}); !strings.HasPrefix(page.head, "200") {
		return nil
	}
	return b
}

// visit asks for a page, and keeps cookie and token as a browser does.
func (b *browser) visit(t *testing.T, s *isolation, a *ask) reply {
	t.Helper()
	if a.header == nil {
		a.header = http.Header{}
	}
	a.header.Set("Cookie", b.cookie)
	if a.method == http.MethodPost {
		a.header.Set("Content-Type", "application/x-www-form-urlencoded")
		form, err := url.ParseQuery(a.body)
		require.NoError(t, err)
		form.Set("csrf", b.token)
		a = &ask{method: a.method, path: a.path, query: a.query, header: a.header, body: form.Encode()}
	}
	a.keep = func(resp *http.Response) {
		for _, c := range resp.Cookies() {
			if !strings.HasSuffix(c.Name, "_flash") {
				b.cookie = c.Name + "=" + c.Value
			}
		}
	}
	r := s.send(t, caller{}, a)
	if m := csrfForm.FindStringSubmatch(r.text); m != nil {
		b.token = m[1]
	}
	r.text = pageNoise.ReplaceAllString(r.text, "")
	return r
}

// pages calls do for each page, or each form, of an account.
func (s *isolation) pages(t *testing.T, change bool, do func(method, path string)) {
	t.Helper()
	patterns := s.svc.PagePatterns()
	require.Greater(t, len(patterns), 80)
	for _, pattern := range patterns {
		if slices.Contains(pagesOfNone, pattern) {
			continue
		}
		method, path, ok := strings.Cut(pattern, " ")
		require.True(t, ok, "%s: say in pagesOfNone that it shows nothing of an account", pattern)
		if (method == http.MethodPost) == change {
			do(method, path)
		}
	}
}

// walkPages asks for every page, or sends every form.
func (s *isolation) walkPages(t *testing.T, change bool) {
	t.Helper()
	browsers := s.browsers(t)
	s.pages(t, change, func(method, path string) {
		theirs, none := pageAsks(t, method, path, s.mine.account, s.theirs.ids), pageAsks(t, method, path, s.mine.account, s.nothing)
		for _, b := range browsers {
			if !strings.HasPrefix(path, b.prefix) {
				continue
			}
			for i := range theirs {
				s.compare(t, change, b.name+" visits", theirs[i], none[i], func(a *ask) reply { return b.visit(t, s, a) })
			}
		}
	})
}

// pageAsks are the requests of a page: of the caller's own account and of the other, with the things
// in the path, in the query and in the form.
func pageAsks(t *testing.T, method, path, own string, ids things) []*ask {
	t.Helper()
	kinds := idFields["postrider.v1.LookUpRequest.id"]
	var out []*ask
	for i, account := range []string{own, ids.at(anAccount, 0)} {
		for n := range len(ids.of(kinds...)) {
			values := url.Values{
				"webhook": {ids.at(aWebhook, n)}, "delivery": {ids.at(aDelivery, n)}, "event": {ids.at(anEvent, n)}, "call": {ids.at(aCall, n)},
				"a": {ids.at(anAttempt, 0)}, "b": {ids.at(anAttempt, 1)}, "letter": {ids.at(aDelivery, n)}, "q": {ids.of(kinds...)[n]}, "reveal": {"1"},
				"what": {[]string{"selected", "group"}[n%2]}, "url": {"https://receiver.example.com/"}, "name": {ids.at(anEventType, 0)}, "scopes": {"read"},
				"hours": {"1"}, "display_name": {"mine"}, "scheme": {"standard"}, "account": {ids.at(anAccount, 0)}, "data": {"{}"}, "types": {"release.*"},
				"token": {ids.at(anAPIKey, 0)}, "key": {ids.at(anAPIKey, 0)},
			}
			a := &ask{method: method, path: strings.TrimSuffix(path, "{$}")}
			for _, m := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(a.path, -1) {
				k, ok := pageParams[m[1]]
				require.True(t, ok, "%s: say in pageParams what %s names", path, m[1])
				id := ids.at(k, n)
				if k == anAccount {
					id = account
				}
				a.path = strings.Replace(a.path, m[0], url.PathEscape(id), 1)
			}
			if method == http.MethodPost {
				a.body = values.Encode()
			} else {
				a.query = values
			}
			out = append(out, a)
			// Only a search depends on the kind, and of another's account nothing is shown in any way.
			if i > 0 || !strings.HasSuffix(path, "search") && n >= 1 {
				break
			}
		}
		if !strings.Contains(path, "{account}") {
			break
		}
	}
	return out
}
