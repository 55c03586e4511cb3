package console_test

import (
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/postrider/postrider/pkg/fault"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
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
		maps.Copy(form, fields)
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

func TestAPayloadIsRemovedFromTheEventsPage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.signIn(manageKey)
	path := "/console/accounts/" + account + "/events/" + eventID
	page := s.get(path)
	require.Contains(t, page.body, path+"/expunge")
	form := url.Values{"csrf": {s.token(page)}}
	done := s.do(http.MethodPost, path+"/expunge", form)
	require.Equal(t, path, done.Header.Get("Location"))
	require.Equal(t, "ExpungeEvent "+eventID, s.called())
	require.Contains(t, s.get(path).body, "with 1 dead letters and the bodies of 3 attempts")
	for says, err := range map[string]error{
		"a delivery of this event has not ended":    fault.New(fault.Precondition, "EVENT_IN_FLIGHT", "in flight"),
		"an attempt was made within the last two":   fault.New(fault.Unavailable, "JOURNAL_TOO_FRESH", "too fresh"),
		"the journal could not be changed; ask aga": fault.New(fault.Unavailable, "JOURNAL_UNAVAILABLE", "the journal could not be changed; ask again"),
	} {
		s.api.expunge = err
		refused := s.do(http.MethodPost, path+"/expunge", form)
		require.GreaterOrEqual(t, refused.StatusCode, http.StatusBadRequest)
		require.Contains(t, refused.body, says)
		require.Contains(t, refused.body, "What happened", "it is the event's page still")
	}
	s = newSite(t)
	s.signIn(readKey)
	require.NotContains(t, s.get(path).body, "/expunge")
}

// What was removed cannot be shown, delivered again or removed again, and no page offers it.
func TestAnExpungedEventOffersNothingThatItHasNot(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.signIn(manageKey)
	at := "/console/accounts/" + account + "/"
	offered := func() (out []string) {
		event, delivery := s.get(at+"events/"+eventID), s.get(at+"deliveries/"+dlvID)
		require.Equal(t, http.StatusOK, event.StatusCode)
		require.Equal(t, http.StatusOK, delivery.StatusCode)
		for words, page := range map[string]string{
			"Show what is masked": event.body, "replays/new?event=": event.body, "/expunge": event.body, "Redrive it": event.body,
			"/retry": delivery.body, `class="button" href="` + at + `dead-letters"`: delivery.body,
		} {
			if strings.Contains(page, words) {
				out = append(out, words)
			}
		}
		return out
	}
	require.Len(t, offered(), 6)
	s.api.expunged = true
	require.Empty(t, offered())
	page := s.get(at + "events/" + eventID).body
	require.Contains(t, page, "The payload was removed on request")
	require.Contains(t, page, "Bodies were removed with the event")
	require.NotContains(t, page, "Masked")
	require.NotContains(t, page, "0 bytes")
	require.NotContains(t, s.get(at+"events/"+eventID+"?reveal=1").body, "Mask again")
}

// An address that is shared holds its filters, in whatever form a time has there.
func TestTheListsAddressHoldsItsFilters(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.signIn(readKey)
	at := "/console/accounts/" + account + "/"
	page := s.get(at + "deliveries?outcome=gone&status=410&from=2026-11-30T13:30:00%2B01:30&to=2026-12-01").body
	asked := s.api.listed.Load()
	require.Equal(t, "gone", asked.GetOutcome())
	require.EqualValues(t, 410, asked.GetStatusCode())
	require.Equal(t, now, asked.GetStartTime().AsTime())
	require.Contains(t, page, `<option value="gone" selected>`)
	require.Contains(t, page, `name="status" value="410"`)
	require.Contains(t, page, `name="from" type="datetime-local" value="2026-11-30T12:00"`)
	require.Contains(t, page, `name="to" type="datetime-local" value="2026-12-01T00:00"`)
	require.Contains(t, s.get(at+"events?from=2026-11-30T12:00:00Z").body, `value="2026-11-30T12:00"`)
	require.Equal(t, http.StatusBadRequest, s.get(at+"deliveries?status=abc").StatusCode)
}

// Who may not see payloads is told so, and offered no button that is refused.
func TestWhatIsMaskedIsOfferedToWhoMaySeeIt(t *testing.T) {
	t.Parallel()
	for key, may := range map[string]bool{readKey: false, manageKey: true, adminKey: true} {
		s := newSite(t)
		s.signIn(key)
		page := s.get("/console/accounts/" + account + "/events/" + eventID).body
		require.Equal(t, may, strings.Contains(page, "Show what is masked"), key)
		require.Equal(t, !may, strings.Contains(page, "this key may not see what events hold"), key)
	}
}

func TestHowFarTheDeliveryLogIsIsShown(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status             *postriderv1.GetLogStatusResponse
		settings, overview []string
	}{
		"not known": {nil, []string{"Not known", "How far it is cannot be told"}, nil},
		"current":   {&postriderv1.GetLogStatusResponse{Store: "sqlite", Lag: durationpb.New(time.Second), JournalSequence: 12345}, []string{"Up to date", "SQLite", "12\u202f345"}, []string{"Up to date"}},
		"behind":    {&postriderv1.GetLogStatusResponse{Store: "postgresql", Lag: durationpb.New(3 * time.Minute), Unrecorded: 7}, []string{"Behind", "PostgreSQL", "3m", ">7<"}, []string{"Behind", "is 3m behind"}},
		"rebuilt":   {&postriderv1.GetLogStatusResponse{Store: "sqlite", Rebuilding: true}, []string{"Being rebuilt", "is being built again"}, []string{"Being rebuilt", "is being built again", "does not answer just now"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.api.status = c.status
			s.signIn(readKey)
			for path, texts := range map[string][]string{"settings": c.settings, "": c.overview} {
				page := s.get("/console/accounts/" + account + "/" + path)
				require.Equal(t, http.StatusOK, page.StatusCode)
				for _, text := range texts {
					require.Contains(t, page.body, text)
				}
			}
			s.get("/portal/enter?token=" + portalKey)
			require.NotContains(t, s.get("/portal/").body, "Delivery log<", "whose readers have nothing to do with it")
		})
	}
}
