package console_test

import (
	"net/http"
	"net/url"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// called is the next call that changed something, with the spaces that prototext varies made one.
func (s *site) called() string {
	s.t.Helper()
	require.NotEmpty(s.t, s.api.calls)
	return regexp.MustCompile(` +`).ReplaceAllString(<-s.api.calls, " ")
}

func TestARetryScheduleIsWrittenAsPeopleWriteIt(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.signIn(manageKey)
	path := "/console/accounts/" + account + "/webhooks/" + hookID + "/edit"
	token := s.token(s.get(path))
	post := func(fields url.Values) answer {
		form := url.Values{"csrf": {token}, "url": {"https://example.com"}, "types": {"a"}}
		for k, v := range fields {
			form[k] = v
		}
		return s.do(http.MethodPost, path, form)
	}
	for name, c := range map[string]struct {
		form url.Values
		want string
	}{
		"empty is the profile's":    {nil, "UpdateWebhook <nil>"},
		"none is one attempt":       {url.Values{"retry_schedule": {" none "}}, "UpdateWebhook "},
		"lines, spaces and commas":  {url.Values{"retry_schedule": {"5s, 1m30s\n2h"}}, "UpdateWebhook delays:{seconds:5} delays:{seconds:90} delays:{seconds:7200}"},
		"with a share and a moment": {url.Values{"retry_schedule": {"1m"}, "retry_jitter": {"0.2"}, "retry_basis": {"first_attempt"}}, "UpdateWebhook delays:{seconds:60} jitter:0.2 delay_basis:DELAY_BASIS_FIRST_ATTEMPT"},
	} {
		require.Equal(t, http.StatusSeeOther, post(c.form).StatusCode, name)
		require.Equal(t, c.want, s.called(), name)
	}
	for name, c := range map[string]struct {
		form     url.Values
		id, says string
	}{
		"no time":                {url.Values{"retry_schedule": {"5s, soon"}}, "retry_schedule", "&#34;soon&#34; is no time such as"},
		"too long":               {url.Values{"retry_schedule": {"5s, 30h"}}, "retry_schedule", "no. 2: must be 0 s to 24 h"},
		"no number":              {url.Values{"retry_schedule": {"5s"}, "retry_jitter": {"some"}}, "retry_jitter", "must be a number"},
		"a share of nothing":     {url.Values{"retry_jitter": {"0.5"}}, "retry_jitter", "needs waits of its own"},
		"a moment of no waiting": {url.Values{"retry_basis": {"first_attempt"}}, "retry_basis", "needs waits of its own"},
	} {
		page := post(c.form)
		require.Equal(t, http.StatusUnprocessableEntity, page.StatusCode, name)
		require.Regexp(t, `(?s)id="f-`+c.id+`"[^>]*aria-invalid="true"[^>]*aria-describedby="h-`+c.id+`"`, page.body, name)
		require.Regexp(t, `(?s)id="h-`+c.id+`"><div class="error">[^<]*`+regexp.QuoteMeta(c.says), page.body, name)
		require.Contains(t, page.body, `<details class="more" open>`, "%s: what is wrong is not folded away", name)
		require.Empty(t, s.api.calls, name)
	}
}

func TestWhatAKeyMayDoIsChangedByForm(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.signIn(manageKey) // with key_1, which is the account's one key
	at := "/console/accounts/" + account + "/"
	form := s.get(at + "keys/key_1/edit")
	require.Contains(t, form.body, `value="read" checked`)
	require.NotContains(t, form.body, `value="manage" checked`)
	require.Contains(t, form.body, "You signed in with this key.")
	token := s.token(form)
	post := func(scopes ...string) answer {
		return s.do(http.MethodPost, at+"keys/key_1/edit", url.Values{"csrf": {token}, "scopes": scopes})
	}
	for says, scopes := range map[string][]string{"the key lacks the scope publish": {"read", "publish"}, "at least one is required": nil} {
		page := post(scopes...)
		require.Equal(t, http.StatusUnprocessableEntity, page.StatusCode, page.body)
		require.Contains(t, page.body, `id="h-scopes"><div class="error">`+says)
	}
	require.Equal(t, at+"keys", post("read", "manage").Header.Get("Location"))
	require.Equal(t, "UpdateApiKey key_1 read,manage", s.called())
	// Whoever leaves their own key less is shown no forms from then on.
	require.Equal(t, at, post("read").Header.Get("Location"))
	require.NotContains(t, s.get(at+"webhooks/"+hookID).body, "/pause")
	require.Equal(t, http.StatusNotFound, s.get(at+"keys/key_nobody/edit").StatusCode)
}
