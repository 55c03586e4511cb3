//go:build e2e

package compat

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/fixture/receivertest"
	"github.com/postrider/postrider/test/system"
)

const jewelPath = "/compat/jewelmusic/v1/webhooks"

// jewelClient is a client that knows what the SDKs know.
type jewelClient struct {
	*system.Account
	key string
}

type jewelAnswer struct {
	Status  int
	Header  http.Header
	Success bool
	Data    json.RawMessage
	Error   struct {
		Code, Message string
		Details       map[string][]string
	}
	Meta struct {
		Timestamp string
		RequestID string `json:"request_id"`
	}
}

type jewelWebhook struct {
	ID, URL, Secret, Description, CreatedAt, UpdatedAt string
	Events                                             []string
	Active                                             bool
	Headers                                            map[string]string
	Timeout                                            int
}

type jewelDelivery struct {
	ID, WebhookID, EventID, EventType, Status string
	Attempts, ResponseStatus                  int
	History                                   []struct {
		Number, Status int
	}
	Response struct {
		Status int
		Body   string
	}
}

type jewelPage[T any] struct {
	Items      []T
	Pagination struct {
		Page, PerPage, Total, TotalPages int
		HasNext, HasPrevious             bool
	}
}

func newJewelClient(t *testing.T, s *system.System) *jewelClient {
	t.Helper()
	a := s.NewAccount(t)
	return &jewelClient{a, a.Key}
}

func (c *jewelClient) call(t *testing.T, method, path, body string) jewelAnswer {
	t.Helper()
	resp, text := system.Exchange(t, method, c.APIURL+jewelPath+path, c.key, body, "Content-Type", "application/json")
	out := jewelAnswer{Status: resp.StatusCode, Header: resp.Header}
	if resp.StatusCode == http.StatusNoContent {
		require.Empty(t, text)
		return out
	}
	var loose struct {
		Success bool
		Data    json.RawMessage
		Error   struct {
			Code, Message string
			Details       json.RawMessage
		}
		Meta struct {
			Timestamp string
			RequestID string `json:"request_id"`
		}
	}
	require.NoError(t, json.Unmarshal([]byte(text), &loose), "%s", text)
	out.Success, out.Data, out.Meta = loose.Success, loose.Data, loose.Meta
	out.Error.Code, out.Error.Message = loose.Error.Code, loose.Error.Message
	_ = json.Unmarshal(loose.Error.Details, &out.Error.Details)
	require.Equal(t, resp.StatusCode < 300, out.Success, "%s", text)
	at, err := time.Parse(time.RFC3339, out.Meta.Timestamp)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), at, time.Minute)
	require.NotEmpty(t, out.Meta.RequestID)
	return out
}

// read reads the data of a successful answer.
func read[T any](t *testing.T, a jewelAnswer, status int) T {
	t.Helper()
	var out T
	require.Equal(t, status, a.Status, "%s %v %s", a.Error.Message, a.Error.Details, a.Data)
	require.NoError(t, json.Unmarshal(a.Data, &out), "%s", a.Data)
	return out
}

func (c *jewelClient) create(t *testing.T, url string, more ...string) jewelWebhook {
	t.Helper()
	body := fmt.Sprintf(`{"url":%q,"events":["release.live"]%s}`, url, strings.Join(more, ""))
	return read[jewelWebhook](t, c.call(t, "POST", "", body), 201)
}

// importCatalogue imports the catalogue that comes with Postrider.
func importCatalogue(t *testing.T, a *system.Account) []*postriderv1.EventType {
	t.Helper()
	raw, err := os.ReadFile("../../catalogues/jewelmusic.json")
	require.NoError(t, err)
	var file struct {
		EventTypes []struct{ Name, Group, Description string } `json:"event_types"`
	}
	require.NoError(t, json.Unmarshal(raw, &file))
	req := &postriderv1.ImportEventTypesRequest{}
	for _, e := range file.EventTypes {
		req.EventTypes = append(req.EventTypes, &postriderv1.EventType{Name: e.Name, Group: e.Group, Description: e.Description})
	}
	_, err = a.EventTypes.ImportEventTypes(a.Ctx(t), req)
	require.NoError(t, err)
	return req.GetEventTypes()
}

func TestJewelMusicAPI(t *testing.T) {
	s := open(t)
	t.Run("1.2.8 the catalogue has sixteen events with groups, each of which can be subscribed by itself", func(t *testing.T) {
		t.Parallel()
		c := newJewelClient(t, s)
		importCatalogue(t, c.Account)
		events := read[[]struct{ Type, Description, Group string }](t, c.call(t, "GET", "/events", ""), 200)
		names := read[[]string](t, c.call(t, "GET", "/events/types", ""), 200)
		groups := map[string]int{}
		for i, e := range events {
			require.Equal(t, e.Type, names[i])
			require.NotEmpty(t, e.Description)
			groups[e.Group]++
		}
		require.Equal(t, map[string]int{"Track": 4, "Distribution": 4, "Royalties": 4, "Security": 4}, groups)
		receivers := map[string]*receivertest.Receiver{}
		for _, name := range names {
			receivers[name] = receivertest.New(t)
			read[jewelWebhook](t, c.call(t, "POST", "", fmt.Sprintf(`{"url":%q,"events":[%q]}`, receivers[name].URL, name)), 201)
		}
		for _, name := range names {
			c.Publish(t, name, `{}`)
			require.Equal(t, name, receivers[name].Next(t).Header.Get("X-JewelMusic-Event"))
		}
		for name, r := range receivers {
			require.Equal(t, 1, r.Count(), name)
		}
	})
	jewelWebhooks(t, s)
	jewelLog(t, s)
	jewelLimits(t, s)
}

func jewelWebhooks(t *testing.T, s *system.System) {
	t.Helper()
	t.Run("1.2.15 webhooks are made, read, changed and deleted", func(t *testing.T) {
		t.Parallel()
		c := newJewelClient(t, s)
		made := c.create(t, "https://example.com/h")
		require.Equal(t, []string{"release.live"}, made.Events)
		require.True(t, made.Active)
		require.Equal(t, 30000, made.Timeout)
		require.NotEmpty(t, made.Secret)
		full := read[jewelWebhook](t, c.call(t, "POST", "", `{"url":"https://example.com/f","events":["release.live","track.uploaded"],"secret":"my_webhook_secret_123",
			"active":true,"description":"Main app","headers":{"X-Mine":"1"},"timeout":5000,"retryPolicy":{"maxRetries":3}}`), 201)
		require.Equal(t, "my_webhook_secret_123", full.Secret)
		require.Equal(t, "Main app", full.Description)
		require.Equal(t, map[string]string{"X-Mine": "1"}, full.Headers)
		require.Equal(t, 5000, full.Timeout)
		require.Equal(t, full, read[jewelWebhook](t, c.call(t, "GET", "/"+full.ID, ""), 200))

		changed := read[jewelWebhook](t, c.call(t, "PUT", "/"+full.ID, `{"description":"Other","active":false,"secret":"another_secret"}`), 200)
		require.Equal(t, "Other", changed.Description)
		require.Equal(t, "another_secret", changed.Secret)
		require.False(t, changed.Active)
		require.Equal(t, full.URL, changed.URL)
		require.Equal(t, full.Headers, changed.Headers)
		require.NotEqual(t, full.UpdatedAt, changed.UpdatedAt)
		changed = read[jewelWebhook](t, c.call(t, "PUT", "/"+full.ID, `{"headers":{},"events":["*"],"url":"https://example.org/","timeout":1000,"description":""}`), 200)
		require.Equal(t, []any{"https://example.org/", 1000, "", 0}, []any{changed.URL, changed.Timeout, changed.Description, len(changed.Headers)})

		page := read[jewelPage[jewelWebhook]](t, c.call(t, "GET", "", ""), 200)
		require.Len(t, page.Items, 2)
		require.Equal(t, full.ID, page.Items[0].ID, "newest first")
		require.Equal(t, 2, page.Pagination.Total)
		page = read[jewelPage[jewelWebhook]](t, c.call(t, "GET", "?page=2&perPage=1&sortBy=createdAt&sortOrder=asc", ""), 200)
		require.Equal(t, full.ID, page.Items[0].ID)
		require.Equal(t, []any{2, 1, 2, 2, false, true}, []any{page.Pagination.Page, page.Pagination.PerPage, page.Pagination.Total, page.Pagination.TotalPages, page.Pagination.HasNext, page.Pagination.HasPrevious})
		for query, want := range map[string]int{"?active=true": 1, "?active=false": 1, "?events=release.live,x": 1, "?url=https://example.com/h": 1, "?search=EXAMPLE.ORG": 1, "?page=9": 0} {
			require.Len(t, read[jewelPage[jewelWebhook]](t, c.call(t, "GET", query, ""), 200).Items, want, query)
		}
		require.Equal(t, 204, c.call(t, "DELETE", "/"+full.ID, "").Status)
		require.Equal(t, 404, c.call(t, "DELETE", "/"+full.ID, "").Status)
		require.Equal(t, "NOT_FOUND", c.call(t, "GET", "/"+full.ID, "").Error.Code)
	})
	t.Run("1.2.15 what is wrong is said by member, and nothing is stored", func(t *testing.T) {
		t.Parallel()
		c := newJewelClient(t, s)
		for body, members := range map[string][]string{
			`{}`:                            {"url", "events"},
			`{"url":"https://example.com"}`: {"events"},
			`{"url":"x","events":["a b"]}`:  {"url", "events"},
			`{"url":"https://example.com","events":[]}`:                                                {"events"},
			`{"url":"https://example.com","events":["a"],"timeout":1}`:                                 {"timeout"},
			`{"url":"https://example.com","events":["a"],"timeout":99999999999999}`:                    {"timeout"},
			`{"url":"https://example.com","events":["a"],"timeout":"1"}`:                               {"timeout"},
			`{"url":"https://example.com","events":["a"],"headers":{"Webhook-Id":"1"}}`:                {"headers"},
			`{"url":"https://example.com","events":"a"}`:                                               {"events"},
			`{"url":"https://example.com","events":["a"],"profile":"standard"}`:                        {"profile"},
			`{"url":"https://example.com","events":["a"],"secret":"` + strings.Repeat("x", 300) + `"}`: {"secret"},
		} {
			got := c.call(t, "POST", "", body)
			require.Equal(t, 422, got.Status, body)
			require.Equal(t, "VALIDATION_ERROR", got.Error.Code)
			said := []string{}
			for member := range got.Error.Details {
				said = append(said, member)
			}
			require.ElementsMatch(t, members, said, body)
		}
		require.Equal(t, 400, c.call(t, "POST", "", `{`).Status)
		require.Equal(t, 404, c.call(t, "GET", "/x/y/z", "").Status)
		got := c.call(t, "PATCH", "", `{}`)
		require.Equal(t, 405, got.Status)
		require.Equal(t, "GET, POST", got.Header.Get("Allow"))
		for _, query := range []string{"?page=0", "?perPage=101", "?page=x", "?active=maybe", "?sortBy=url"} {
			require.Equal(t, 422, c.call(t, "GET", query, "").Status, query)
		}
		require.Empty(t, read[jewelPage[jewelWebhook]](t, c.call(t, "GET", "", ""), 200).Items)
	})
	t.Run("1.2.15 an inactive webhook gets nothing until it is active", func(t *testing.T) {
		t.Parallel()
		c := newJewelClient(t, s)
		r := receivertest.New(t)
		w := c.create(t, r.URL, `,"active":false`)
		require.False(t, w.Active)
		c.Publish(t, "release.live", `{"held":1}`)
		r.None(t, 300*time.Millisecond)
		require.True(t, read[jewelWebhook](t, c.call(t, "PUT", "/"+w.ID+"/status", `{"active":true}`), 200).Active)
		require.Contains(t, string(r.Next(t).Body), `"held":1`)
		require.False(t, read[jewelWebhook](t, c.call(t, "PUT", "/"+w.ID+"/status", `{"active":false}`), 200).Active)
		require.Equal(t, 422, c.call(t, "PUT", "/"+w.ID+"/status", `{}`).Status)
	})
	t.Run("1.2.15 a secret is replaced by one that is given or made", func(t *testing.T) {
		t.Parallel()
		c := newJewelClient(t, s)
		w := c.create(t, "https://example.com")
		given := read[jewelWebhook](t, c.call(t, "PUT", "/"+w.ID+"/secret", `{"secret":"given_secret"}`), 200)
		require.Equal(t, "given_secret", given.Secret)
		made := read[jewelWebhook](t, c.call(t, "PUT", "/"+w.ID+"/secret", ``), 200)
		require.NotContains(t, []string{"", "given_secret", w.Secret}, made.Secret)
		secrets, err := c.Webhooks.GetWebhookSecrets(c.Ctx(t), &postriderv1.GetWebhookSecretsRequest{WebhookId: w.ID})
		require.NoError(t, err)
		require.Len(t, secrets.GetSecrets(), 1, "a switch, no overlap")
		reader := &jewelClient{c.Account, c.NewKey(t, "read")}
		require.Empty(t, read[jewelWebhook](t, reader.call(t, "GET", "/"+w.ID, ""), 200).Secret)
		require.Equal(t, 403, reader.call(t, "PUT", "/"+w.ID+"/secret", ``).Status)
	})
}

func jewelLog(t *testing.T, s *system.System) {
	t.Helper()
	t.Run("1.2.15 a test sends one event and tells how it went", func(t *testing.T) {
		t.Parallel()
		c := newJewelClient(t, s)
		r := receivertest.New(t).Respond(200, 503)
		w := c.create(t, r.URL)
		type outcome struct {
			Success        bool
			ResponseStatus int
			Message        string
			EventType      string
		}
		got := read[outcome](t, c.call(t, "POST", "/"+w.ID+"/test", `{"eventType":"track.uploaded"}`), 200)
		require.Equal(t, []any{true, 200, "track.uploaded"}, []any{got.Success, got.ResponseStatus, got.EventType})
		require.Equal(t, "track.uploaded", r.Next(t).Header.Get("X-JewelMusic-Event"))
		got = read[outcome](t, c.call(t, "POST", "/"+w.ID+"/test", ``), 200)
		require.Equal(t, []any{false, 503, "webhook.test"}, []any{got.Success, got.ResponseStatus, got.EventType})
		require.Equal(t, "webhook.test", r.Next(t).Header.Get("X-JewelMusic-Event"))
		require.Equal(t, 422, c.call(t, "POST", "/"+w.ID+"/test", `{"eventType":"a b"}`).Status)
	})
	t.Run("1.2.15 deliveries are listed, read and redelivered, and counted", func(t *testing.T) {
		t.Parallel()
		c := newJewelClient(t, s)
		r := receivertest.New(t).Answer(receivertest.Status(204), receivertest.Status(503), receivertest.Body(200, "at last"))
		w, other := c.create(t, r.URL), c.create(t, "https://example.com", `,"active":false`)
		// The next attempt is so far off that only a redelivery makes it.
		_, err := c.Webhooks.UpdateWebhook(c.Ctx(t), &postriderv1.UpdateWebhookRequest{Webhook: &postriderv1.Webhook{
			Id: w.ID, RetrySchedule: &postriderv1.RetrySchedule{Delays: []*durationpb.Duration{durationpb.New(24 * time.Hour)}},
		}})
		require.NoError(t, err)
		path := "/" + w.ID + "/deliveries"
		first := c.Publish(t, "release.live", `{"n":1}`).GetEventId()
		done := c.AwaitDelivery(t, first, w.ID, postriderv1.DeliveryState_DELIVERY_STATE_DELIVERED)
		second := c.Publish(t, "release.live", `{"n":2}`).GetEventId()
		waiting := c.AwaitDelivery(t, second, w.ID, postriderv1.DeliveryState_DELIVERY_STATE_WAITING)

		page := read[jewelPage[jewelDelivery]](t, c.call(t, "GET", path, ""), 200)
		require.Len(t, page.Items, 2)
		require.Equal(t, 2, page.Pagination.Total)
		require.Equal(t, []any{waiting.GetId(), "retrying", 503, 1, second, w.ID, "release.live"}, []any{
			page.Items[0].ID, page.Items[0].Status, page.Items[0].ResponseStatus, page.Items[0].Attempts, page.Items[0].EventID, page.Items[0].WebhookID, page.Items[0].EventType,
		})
		for query, want := range map[string]int{
			"?status=success": 1, "?status=failed": 0, "?eventType=release.live": 2, "?eventType=x": 0, "?page=2&perPage=1": 1, "?page=3&perPage=1": 0,
			"?startDate=2020-01-01&endDate=2020-01-02": 0, "?startDate=2020-01-01T00:00:00Z": 2,
		} {
			require.Len(t, read[jewelPage[jewelDelivery]](t, c.call(t, "GET", path+query, ""), 200).Items, want, query)
		}
		for _, query := range []string{"?status=x", "?startDate=x", "?page=1000&perPage=100", "?sortOrder=asc"} {
			require.Equal(t, 422, c.call(t, "GET", path+query, "").Status, query)
		}
		one := read[jewelPage[jewelDelivery]](t, c.call(t, "GET", path+"?perPage=1", ""), 200)
		require.True(t, one.Pagination.HasNext)

		for _, verb := range []string{"redeliver", "retry"} {
			require.Equal(t, 409, c.call(t, "POST", path+"/"+done.GetId()+"/"+verb, "").Status, "it does not wait")
		}
		require.Equal(t, 404, c.call(t, "GET", "/"+other.ID+"/deliveries/"+waiting.GetId(), "").Status, "another webhook's")
		require.Equal(t, 404, c.call(t, "POST", "/"+other.ID+"/deliveries/"+waiting.GetId()+"/redeliver", "").Status)
		require.Equal(t, 200, c.call(t, "POST", path+"/"+waiting.GetId()+"/redeliver", "").Status)
		c.AwaitDelivery(t, second, w.ID, postriderv1.DeliveryState_DELIVERY_STATE_DELIVERED)
		single := read[jewelDelivery](t, c.call(t, "GET", path+"/"+waiting.GetId(), ""), 200)
		require.Equal(t, "success", single.Status)
		require.Len(t, single.History, 2)
		require.Equal(t, []int{503, 200}, []int{single.History[0].Status, single.History[1].Status})
		require.Equal(t, "at last", single.Response.Body)

		for _, name := range []string{"/stats", "/statistics?period=last_30_days&groupBy=day", "/stats?period=custom&startDate=2020-01-01"} {
			stats := read[struct {
				TotalDeliveries, SuccessfulDeliveries, FailedDeliveries, DeliveryAttempts int
				SuccessRate                                                               float64
				Truncated                                                                 bool
			}](t, c.call(t, "GET", "/"+w.ID+name, ""), 200)
			require.Equal(t, []any{2, 2, 0, 2, 1.0, false}, []any{stats.TotalDeliveries, stats.SuccessfulDeliveries, stats.FailedDeliveries, stats.DeliveryAttempts, stats.SuccessRate, stats.Truncated}, name)
		}
		require.Equal(t, 422, c.call(t, "GET", "/"+w.ID+"/stats?period=x", "").Status)
	})
	t.Run("1.2.15 another account's webhooks are not found on any route, and stay", func(t *testing.T) {
		t.Parallel()
		c, other := newJewelClient(t, s), newJewelClient(t, s)
		w := c.create(t, receivertest.New(t).URL)
		event := c.Publish(t, "release.live", `{}`).GetEventId()
		d := c.AwaitDelivery(t, event, w.ID, postriderv1.DeliveryState_DELIVERY_STATE_DELIVERED)
		elsewhere := c.Webhook(t, &postriderv1.Webhook{Url: "https://example.com", EventTypes: []string{"*"}}).GetWebhook().GetId()
		before := c.call(t, "GET", "/"+w.ID, "").Data
		for _, route := range []struct{ method, path, body string }{
			{"GET", "", ""},
			{"PUT", "", `{"url":"https://theirs.example"}`},
			{"DELETE", "", ""},
			{"POST", "/test", ""},
			{"GET", "/deliveries", ""},
			{"GET", "/deliveries/" + d.GetId(), ""},
			{"POST", "/deliveries/" + d.GetId() + "/redeliver", ""},
			{"POST", "/deliveries/" + d.GetId() + "/retry", ""},
			{"PUT", "/status", `{"active":false}`},
			{"PUT", "/secret", `{"secret":"theirs"}`},
			{"GET", "/stats", ""},
			{"GET", "/statistics", ""},
		} {
			require.Equal(t, 404, other.call(t, route.method, "/"+w.ID+route.path, route.body).Status, route)
			require.Equal(t, 404, c.call(t, route.method, "/"+elsewhere+route.path, route.body).Status, "%v of another profile", route)
			require.Equal(t, 401, (&jewelClient{c.Account, "unknown"}).call(t, route.method, "/"+w.ID+route.path, route.body).Status, route)
		}
		require.Empty(t, read[jewelPage[jewelWebhook]](t, other.call(t, "GET", "", ""), 200).Items)
		require.JSONEq(t, string(before), string(c.call(t, "GET", "/"+w.ID, "").Data))
		require.Equal(t, 403, (&jewelClient{c.Account, c.AdminKey}).call(t, "GET", "", "").Status)
	})
}

func jewelLimits(t *testing.T, s *system.System) {
	t.Helper()
	t.Run("1.2.15 the headers of the rate limit tell the truth", func(t *testing.T) {
		t.Parallel()
		c := newJewelClient(t, s)
		number := func(a jewelAnswer, name string) int {
			n, err := strconv.Atoi(a.Header.Get("X-RateLimit-" + name))
			require.NoError(t, err, name)
			return n
		}
		first := c.call(t, "GET", "", "")
		limit, reset := number(first, "Limit"), number(first, "Reset")
		require.Equal(t, 100, limit)
		require.Equal(t, limit-1, number(first, "Remaining"))
		require.InDelta(t, time.Now().Add(time.Minute).Unix(), reset, 3)
		for left := limit - 2; left >= 0; left-- {
			got := c.call(t, "GET", "/nothing", "")
			require.Equal(t, 404, got.Status)
			require.Equal(t, []int{limit, left, reset}, []int{number(got, "Limit"), number(got, "Remaining"), number(got, "Reset")})
		}
		refused := c.call(t, "GET", "", "")
		require.Equal(t, 429, refused.Status)
		require.Equal(t, 0, number(refused, "Remaining"))
		after, err := strconv.Atoi(refused.Header.Get("Retry-After"))
		require.NoError(t, err)
		require.InDelta(t, time.Until(time.Unix(int64(reset), 0)).Seconds(), after, 2)
		require.Equal(t, 200, (&jewelClient{c.Account, c.NewKey(t, "manage")}).call(t, "GET", "", "").Status, "another key has its own")
		require.Empty(t, (&jewelClient{c.Account, "unknown"}).call(t, "GET", "", "").Header.Get("X-RateLimit-Limit"))
	})
}
