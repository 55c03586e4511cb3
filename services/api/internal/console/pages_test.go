package console_test

import (
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/services/api/internal/console"
	"github.com/postrider/postrider/services/api/internal/publicurl"
)

// fill puts real ids into a pattern of the route table.
func fill(pattern string) string {
	return strings.NewReplacer("{account}", account, "{webhook}", hookID, "{delivery}", dlvID, "{event}", eventID, "{replay}", "rpl_1",
		"{type}", "release.live", "{key}", "key_1", "{$}", "").Replace(pattern)
}

// addresses are those of every page that shows something, of the console or of the portal.
func addresses(portal bool) []string {
	var out []string
	for _, r := range console.Routes() {
		if r.Method != http.MethodGet || r.Portal != portal || strings.HasSuffix(r.Pattern, "/tail") || strings.HasSuffix(r.Pattern, "/palette") {
			continue
		}
		path := fill(r.Pattern)
		switch {
		case strings.HasSuffix(path, "/compare"):
			path += "?a=att_a&b=att_b"
		case strings.HasSuffix(path, "webhooks/new"):
			out = append(out, path+"?profile=standard", path+"?profile=audata", path+"?profile=labelst", path+"?profile=custom", path+"?profile=cloudevents")
		case strings.HasSuffix(path, "dead-letters"):
			out = append(out, path+"?webhook="+hookID)
		case strings.HasSuffix(path, "search"):
			out = append(out, path+"?q="+url.QueryEscape(hostile))
		}
		out = append(out, path)
	}
	return out
}

func TestEveryPageIsWholeAndTakesNoTextForMarkup(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	require.Equal(t, http.StatusSeeOther, s.signIn(adminKey).StatusCode)
	missing := regexp.MustCompile(`>[a-z_]+\.[a-z_.]+<`)
	for _, path := range append(addresses(false), "/console/accounts") {
		page := s.get(path)
		if !strings.Contains(path, "search?q=") {
			require.Equal(t, http.StatusOK, page.StatusCode, "%s: %s", path, page.body)
		}
		require.Contains(t, page.body, "</html>", path)
		require.NotContains(t, page.body, "<script>alert", path)
		require.NotContains(t, page.body, "<img src=x", path)
		require.NotContains(t, page.body, "%!", path, "a text and its values do not fit")
		require.NotContains(t, page.body, "style=", path, "the policy forbids it")
		require.NotRegexp(t, `\son[a-z]+=`, strings.ReplaceAll(page.body, hostileEscaped, ""), path)
		for _, found := range missing.FindAllString(page.body, -1) {
			require.Contains(t, []string{">release.live<", ">ecdsa-p384-sha384<"}, found, "%s shows a key in place of a text", path)
		}
	}
}

// hostileEscaped is how the hostile text stands in a page, for a search of handlers that are none.
const hostileEscaped = `&lt;img src=x onerror=alert(1)&gt;`

func TestEveryAnswerSaysWhatABrowserMustNotDo(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.signIn(manageKey)
	for _, path := range append(addresses(false), "/console/sign-in", "/console/assets/console.css", "/console/nothing", "/portal/", "/portal/enter") {
		h := s.get(path).Header
		csp := h.Get("Content-Security-Policy")
		require.Contains(t, csp, "default-src 'none'", path)
		require.NotContains(t, csp, "unsafe", path)
		require.Contains(t, csp, "frame-ancestors 'none'", path)
		require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"), path)
		require.Equal(t, "same-origin", h.Get("Referrer-Policy"), path)
		require.NotEmpty(t, h.Get("Cache-Control"), path)
	}
}

func TestNothingIsShownToWhoHasNotSignedIn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, r := range console.Routes() {
		got := s.do(r.Method, fill(r.Pattern), url.Values{})
		if r.Portal {
			require.Equal(t, http.StatusUnauthorized, got.StatusCode, r.Pattern)
		} else {
			require.Equal(t, http.StatusSeeOther, got.StatusCode, r.Pattern)
			require.Contains(t, got.Header.Get("Location"), "/console/sign-in", r.Pattern)
		}
		require.NotContains(t, got.body, "alert(1)", r.Pattern)
	}
}

// TestAnotherAccountDoesNotExist walks over every route: with any credential, what belongs to another
// account answers as what there is not.
func TestAnotherAccountDoesNotExist(t *testing.T) {
	t.Parallel()
	for _, key := range []string{manageKey, readKey} {
		s := newSite(t)
		s.signIn(key)
		token := s.token(s.get("/console/accounts/" + account + "/"))
		for _, r := range console.Routes() {
			if r.Portal {
				continue
			}
			path := strings.Replace(fill(r.Pattern), account, other, 1)
			form := url.Values{"csrf": {token}, "what": {"all"}, "profile": {"standard"}, "url": {"https://example.com"}, "rate": {"1"}, "from": {"2026-01-01T00:00"}}
			if strings.HasSuffix(path, "webhooks/new") && r.Method == http.MethodGet {
				path += "?profile=standard"
			}
			if strings.HasSuffix(path, "/search") {
				path += "?q=" + eventID
			}
			if r.Method == http.MethodGet {
				form = nil
			}
			got := s.do(r.Method, path, form)
			require.Equal(t, http.StatusNotFound, got.StatusCode, "%s %s: %s", r.Method, path, got.body)
			require.NotContains(t, got.body, hookID, path)
		}
	}
}

func TestAFormWithoutItsTokenDoesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.signIn(manageKey)
	for _, r := range console.Routes() {
		if r.Method != http.MethodPost || r.Portal {
			continue
		}
		for _, form := range []url.Values{{}, {"csrf": {"wrong"}}} {
			require.Equal(t, http.StatusForbidden, s.do(http.MethodPost, fill(r.Pattern), form).StatusCode, r.Pattern)
		}
	}
	token := s.token(s.get("/console/accounts/" + account + "/"))
	path := "/console/accounts/" + account + "/webhooks/" + hookID + "/pause"
	foreign := s.do(http.MethodPost, path, url.Values{"csrf": {token}}, "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example")
	require.Equal(t, http.StatusForbidden, foreign.StatusCode, "from another site")
	require.Empty(t, s.api.calls)
	require.Equal(t, http.StatusSeeOther, s.do(http.MethodPost, path, url.Values{"csrf": {token}}).StatusCode)
	require.Equal(t, "PauseWebhook", <-s.api.calls)
	require.Equal(t, http.StatusForbidden, s.do(http.MethodPost, "/console/sign-out", url.Values{}).StatusCode)
}

func TestASessionIsSealedAndBound(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	got := s.signIn(manageKey)
	i := slices.IndexFunc(got.Cookies(), func(c *http.Cookie) bool { return c.Name == "postrider_console" })
	require.GreaterOrEqual(t, i, 0)
	c := got.Cookies()[i]
	require.True(t, c.HttpOnly)
	require.Equal(t, http.SameSiteStrictMode, c.SameSite)
	require.Equal(t, "/console/", c.Path)
	require.NotContains(t, c.Value, "prk_")
	s.client = s.browser()
	middle := []byte(c.Value)
	middle[len(middle)/2] ^= 1
	changed := string(middle)
	for _, v := range []string{changed, c.Value[:len(c.Value)-2], ""} {
		require.Equal(t, http.StatusSeeOther, s.do(http.MethodGet, "/console/accounts/"+account+"/", nil, "Cookie", "postrider_console="+v).StatusCode)
	}
	require.Equal(t, http.StatusUnauthorized, s.do(http.MethodGet, "/portal/", nil, "Cookie", "postrider_portal="+c.Value).StatusCode, "not the portal's")
	require.Equal(t, http.StatusOK, s.do(http.MethodGet, "/console/accounts/"+account+"/", nil, "Cookie", "postrider_console="+c.Value).StatusCode)
}

func TestOverTLSCookiesAreSecure(t *testing.T) {
	t.Parallel()
	for _, base := range []publicurl.Base{"https://hooks.example.com", "HTTPS://hooks.example.com"} {
		s := newSite(t, func(d *console.Deps) { d.PublicURL = base })
		cookies := s.get("/console/sign-in").Cookies()
		require.NotEmpty(t, cookies)
		for _, c := range cookies {
			require.True(t, c.Secure)
			require.True(t, c.HttpOnly)
			require.Equal(t, http.SameSiteStrictMode, c.SameSite)
			require.True(t, strings.HasPrefix(c.Name, "__Secure-"), c.Name)
		}
	}
}

func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	at := now
	s := newSite(t, func(d *console.Deps) { d.Now = func() time.Time { return at } })
	s.signIn(manageKey)
	require.Equal(t, http.StatusOK, s.get("/console/accounts/"+account+"/").StatusCode)
	at = at.Add(13 * time.Hour)
	require.Equal(t, http.StatusSeeOther, s.get("/console/accounts/"+account+"/").StatusCode)
}

func TestSigningInIsLimitedAndSaysNothingOfKeys(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(d *console.Deps) { d.Config.SignInLimit = 3 })
	for _, key := range []string{"", "prk_wrong", "a b"} {
		require.Equal(t, http.StatusUnauthorized, s.signIn(key).StatusCode)
	}
	got := s.signIn(manageKey)
	require.Equal(t, http.StatusTooManyRequests, got.StatusCode)
	require.NotEmpty(t, got.Header.Get("Retry-After"))
}

func TestSigningInGoesBackToTheConsoleOnly(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	page := "/console/accounts/" + account + "/webhooks?page=x"
	for next, want := range map[string]string{
		page: page, "https://evil.example/console/": "/console/", "//evil.example/console/": "/console/", `/console/\evil`: "/console/", "/v1/keys": "/console/",
		`/\evil.example/console/`: "/console/", "///evil.example/console/": "/console/", "javascript:alert(1)//console/": "/console/",
		"/console/..//evil.example": "/console/", "/console/%2e%2e//evil.example": "/console/", "/console/../portal/": "/console/",
	} {
		form := url.Values{"key": {manageKey}, "next": {next}, "csrf": {s.token(s.get("/console/sign-in"))}}
		require.Equal(t, want, s.do(http.MethodPost, "/console/sign-in", form).Header.Get("Location"), next)
	}
}

func TestWebhooksAreMadeWithoutCode(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.signIn(manageKey)
	base := "/console/accounts/" + account + "/webhooks/new"
	token := s.token(s.get(base + "?profile=labelst"))
	send := func(form url.Values) answer {
		form.Set("csrf", token)
		return s.do(http.MethodPost, base, form)
	}
	got := send(url.Values{"profile": {"labelst"}, "display_name": {"Mine"}, "url": {"https://example.com"}})
	require.Equal(t, http.StatusSeeOther, got.StatusCode, got.body)
	require.Equal(t, "CreateWebhook labelst  ", <-s.api.calls, "a name and a URL, and every event")
	page := s.get(got.Header.Get("Location"))
	require.Contains(t, page.body, "whsec_shown-once")
	require.NotContains(t, s.get(got.Header.Get("Location")).body, "whsec_shown-once", "it is shown once")

	require.Equal(t, http.StatusSeeOther, send(url.Values{"profile": {"audata"}, "event": {"Listener.updated"}, "url": {"https://example.com"}, "method": {"GET"}}).StatusCode)
	require.Equal(t, "CreateWebhook audata GET Listener.updated", <-s.api.calls)

	got = send(url.Values{"profile": {"standard"}, "url": {"http://example.com"}, "types": {"release.live"}, "patterns": {"track.*"}, "display_name": {"Kept"}})
	require.Equal(t, http.StatusUnprocessableEntity, got.StatusCode)
	require.Contains(t, got.body, "must begin with https://")
	require.Contains(t, got.body, `value="Kept"`, "what was written stays")
	require.Contains(t, got.body, `aria-invalid="true"`)
	require.Empty(t, s.api.calls)
}

func TestWhoMayOnlyReadIsShownNoForms(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.signIn(readKey)
	for _, path := range []string{"", "webhooks", "webhooks/" + hookID, "deliveries/" + dlvID, "events/" + eventID, "dead-letters"} {
		page := s.get("/console/accounts/" + account + "/" + path)
		require.Equal(t, http.StatusOK, page.StatusCode)
		require.Equal(t, 1, strings.Count(page.body, `method="post"`), "%q: only that to sign out", path)
	}
}

func TestThePortalShowsOneAccountAndNoKeys(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(d *console.Deps) {
		d.Config.Brand.Name, d.Config.Brand.Accent, d.Config.Ancestors = "Acme Hooks", "#802040", "https://app.example.com"
	})
	for _, token := range []string{"", "prt_wrong", adminKey} {
		require.Equal(t, http.StatusUnauthorized, s.get("/portal/enter?token="+token).StatusCode)
	}
	enter := s.get("/portal/enter?token=" + portalKey)
	require.Equal(t, http.StatusSeeOther, enter.StatusCode)
	require.Equal(t, "/portal/", enter.Header.Get("Location"), "the credential is in no address any more")
	require.Contains(t, enter.Header.Get("Content-Security-Policy"), "frame-ancestors https://app.example.com")
	for _, path := range addresses(true) {
		page := s.get(path)
		if !strings.Contains(path, "search?q=") {
			require.Equal(t, http.StatusOK, page.StatusCode, "%s: %s", path, page.body)
		}
		require.Contains(t, page.body, "Acme Hooks", path)
		require.NotContains(t, page.body, "/console/", path)
		require.NotContains(t, page.body, "portal/keys", path)
	}
	for _, r := range console.Routes() {
		if r.Portal || r.Both {
			continue
		}
		path := strings.Replace(fill(r.Pattern), "/console/accounts/"+account, "/portal", 1)
		if r.Method == http.MethodGet && strings.HasSuffix(path, "event-types/new") {
			continue // there, it is the page of an event type of that name
		}
		got := s.do(r.Method, path, url.Values{"csrf": {s.token(s.get("/portal/"))}})
		require.Contains(t, []int{http.StatusNotFound, http.StatusMethodNotAllowed}, got.StatusCode, path)
	}
	require.Equal(t, http.StatusSeeOther, s.get("/console/accounts/"+account+"/").StatusCode, "its session is none of the console's")
	require.Contains(t, s.get("/portal/brand.css").body, "#802040")
}

func TestTheTailSendsRowsAndEnds(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.signIn(manageKey)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.server.URL+"/console/accounts/"+account+"/deliveries/tail", nil)
	require.NoError(t, err)
	resp, err := s.client.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
	b := make([]byte, 4096)
	n, err := resp.Body.Read(b)
	require.NoError(t, err)
	require.Contains(t, string(b[:n]), "event: row\ndata: <tr id=\""+dlvID)
}

func TestOneSearchBoxTakesAnyID(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.signIn(readKey)
	got := s.get("/console/accounts/" + account + "/search?q=" + eventID)
	require.Equal(t, "/console/accounts/"+account+"/events/"+eventID, got.Header.Get("Location"))
	require.Equal(t, http.StatusNotFound, s.get("/console/accounts/"+account+"/search?q=nothing").StatusCode)
}

func TestASignatureIsVerified(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.signIn(readKey)
	path := "/console/accounts/" + account + "/verify"
	token := s.token(s.get(path))
	// The example of the Standard Webhooks specification's reference libraries.
	form := url.Values{
		"csrf": {token}, "scheme": {"standard"}, "secret": {"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, "body": {`{"test": 2432232314}`},
		"headers": {"webhook-id: msg_p5jXN8AQM9LWM0D4loKWxJek\nwebhook-timestamp: 1614265330\nwebhook-signature: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
	}
	good := s.do(http.MethodPost, path, form)
	require.Contains(t, good.body, "The signature is right.")
	require.Contains(t, good.body, "2021-02-25T15:02:10Z", "and when it was made, for it is old")
	form.Set("body", `{"test": 1}`)
	require.Contains(t, s.do(http.MethodPost, path, form).body, "The signature is not right.")
	form.Set("headers", "")
	require.Contains(t, s.do(http.MethodPost, path, form).body, "header of the signature is missing")
	form.Set("secret", "whsec_!")
	require.Equal(t, http.StatusUnprocessableEntity, s.do(http.MethodPost, path, form).StatusCode)
}

func TestEveryTextIsUsedAndThere(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("words/english.txt")
	require.NoError(t, err)
	keys := map[string]bool{}
	for line := range strings.Lines(string(raw)) {
		if key, _, ok := strings.Cut(strings.TrimSpace(line), " = "); ok && !strings.HasPrefix(line, "#") {
			keys[key] = true
		}
	}
	used := regexp.MustCompile(`\bt "([a-z0-9_.-]+)"`)
	entries, err := os.ReadDir("templates")
	require.NoError(t, err)
	for _, e := range entries {
		text, err := os.ReadFile("templates/" + e.Name())
		require.NoError(t, err)
		for _, m := range used.FindAllStringSubmatch(string(text), -1) {
			require.True(t, keys[m[1]], "%s: no text for %s", e.Name(), m[1])
		}
	}
}
