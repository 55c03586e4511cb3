//go:build logbench

package bench

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	askedFor = 51                     // times that each page is asked for
	mayTake  = 300 * time.Millisecond // a page, at the median
)

var csrf = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

// pages asks for every page of the console that shows something of the log, as a browser does, and for
// the API's answers to the same questions.
func (t *logTenant) pages(b *testing.B, s *system, k known) {
	b.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(b, err)
	browser := &http.Client{Jar: jar}
	get := func(path string) (status int, body string) {
		q, err := http.NewRequestWithContext(b.Context(), http.MethodGet, s.web+path, http.NoBody)
		require.NoError(b, err)
		q.Header.Set("Authorization", "Bearer "+t.key) // the console looks at its cookie alone
		resp, err := browser.Do(q)
		require.NoError(b, err)
		defer func() { _ = resp.Body.Close() }()
		all, err := io.ReadAll(resp.Body)
		require.NoError(b, err)
		return resp.StatusCode, string(all)
	}
	_, form := get("/console/sign-in")
	token := csrf.FindStringSubmatch(form)
	require.NotNil(b, token, form)
	fields := url.Values{"key": {t.key}, "csrf": {token[1]}}
	q, err := http.NewRequestWithContext(b.Context(), http.MethodPost, s.web+"/console/sign-in", strings.NewReader(fields.Encode()))
	require.NoError(b, err)
	q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := browser.Do(q)
	require.NoError(b, err)
	require.NoError(b, resp.Body.Close())
	require.Equal(b, http.StatusOK, resp.StatusCode, "signed in, and led to the account")

	at, week := "/console/accounts/"+t.account, time.Now().Add(-7*24*time.Hour).UTC().Format("2006-01-02T15:04")
	slow := 0
	for _, path := range []string{
		at + "/", at + "/?range=7d",
		at + "/webhooks", at + "/webhooks/" + t.webhooks[7], at + "/webhooks/" + t.webhooks[7] + "?range=7d", at + "/webhooks/" + t.webhooks[7] + "/edit",
		at + "/deliveries", at + "/deliveries?state=dead", at + "/deliveries?state=delivered", at + "/deliveries?status=501", at + "/deliveries?status=204", at + "/deliveries?status=418",
		at + "/deliveries?outcome=retryable", at + "/deliveries?webhook=" + t.webhooks[7], at + "/deliveries?type=" + eventType(3), at + "/deliveries?from=" + week,
		at + "/deliveries?webhook=" + t.webhooks[0] + "&state=dead", at + "/deliveries?webhook=" + t.webhooks[0] + "&status=502",
		at + "/deliveries/" + k.delivery, at + "/deliveries/" + k.failed,
		at + "/events", at + "/events?type=" + eventType(3), at + "/events?unmatched=1", at + "/events/" + k.event,
		at + "/search?q=" + k.event, at + "/search?q=" + k.delivery, at + "/search?q=" + k.attempt, at + "/search?q=" + k.key, at + "/search?q=" + k.trace, at + "/search?q=nothing-has-this",
		at + "/palette", at + "/dead-letters", at + "/replays", at + "/replays/new", at + "/event-types", at + "/event-types/" + eventType(3),
		at + "/explain", at + "/verify", at + "/keys", at + "/audit", at + "/settings",
		"/v1/deliveries?page_size=100", "/v1/deliveries?state=DELIVERY_STATE_DEAD", "/v1/deliveries/" + k.delivery, "/v1/deliveries/" + k.delivery + "/attempts", "/v1/events/" + k.event,
	} {
		times := make([]time.Duration, askedFor)
		status, body := 0, ""
		for i := range times {
			begun := time.Now()
			status, body = get(path)
			times[i] = time.Since(begun)
			require.Less(b, status, http.StatusInternalServerError, "%s: %s", path, body)
		}
		slices.Sort(times)
		median := times[askedFor/2]
		if median > mayTake {
			slow++
		}
		b.Logf("%d  p50 %7.1f ms  p99 %7.1f ms  %7d bytes  %s", status, ms(median), ms(times[askedFor-1]), len(body), masked(path, k, t))
	}
	b.Logf("%d pages took longer than %s at the median", slow, mayTake)
}
