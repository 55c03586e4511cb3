//go:build e2e

package compat

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/fixture/receivertest"
	"github.com/postrider/postrider/test/system"
)

const labelPath = "/compat/labelst"

var labelToken = regexp.MustCompile(`^whtok_[0-9a-f]{32}$`)

// labelService is a client that knows a name, a URL and a key.
type labelService struct {
	*system.Account
	key string
}

type labelWebhook struct {
	ID, Name, URL, Token string
}

func newLabelService(t *testing.T, s *system.System) *labelService {
	t.Helper()
	a := s.NewAccount(t)
	return &labelService{a, a.Key}
}

func (c *labelService) call(t *testing.T, method, path, body string) (int, string) {
	t.Helper()
	return system.Call(t, method, c.APIURL+labelPath+path, c.key, body, "Content-Type", "application/json")
}

func (c *labelService) create(t *testing.T, url string) labelWebhook {
	t.Helper()
	status, text := c.call(t, "POST", "/webhooks", fmt.Sprintf(`{"name":"label","url":%q}`, url))
	require.Equal(t, http.StatusCreated, status, text)
	return readWebhook(t, text)
}

func readWebhook(t *testing.T, text string) labelWebhook {
	t.Helper()
	var w labelWebhook
	require.NoError(t, json.Unmarshal([]byte(text), &w), text)
	return w
}

// internal is the webhook as the public API shows it.
func (c *labelService) internal(t *testing.T, w labelWebhook) *postriderv1.Webhook {
	t.Helper()
	resp, err := c.Webhooks.GetWebhook(c.Ctx(t), &postriderv1.GetWebhookRequest{Uuid: w.ID})
	require.NoError(t, err)
	return resp.GetWebhook()
}

// verify asks whether a token is live, without a key.
func (c *labelService) verify(t *testing.T, token string) int {
	t.Helper()
	body, err := json.Marshal(map[string]string{"token": token})
	require.NoError(t, err)
	status, _ := system.Call(t, "POST", c.APIURL+labelPath+"/verify", "", string(body), "Content-Type", "application/json")
	return status
}

// labelBody is the body of a delivery.
type labelBody struct {
	Token   string          `json:"token"`
	Type    string          `json:"type"`
	Request json.RawMessage `json:"request"`
}

func readDelivery(t *testing.T, body []byte) labelBody {
	t.Helper()
	var d labelBody
	require.NoError(t, json.Unmarshal(body, &d), "%s", body)
	return d
}

func TestLabelService(t *testing.T) {
	s := open(t)
	labelManagement(t, s)
	labelDeliveries(t, s)
	labelVerification(t, s)
}

func labelManagement(t *testing.T, s *system.System) {
	t.Helper()
	t.Run("1.1.1 a name and a URL make a webhook and show its token", func(t *testing.T) {
		t.Parallel()
		c := newLabelService(t, s)
		one, two := c.create(t, "https://example.com/h"), c.create(t, "https://example.com/h")
		require.Equal(t, "label", one.Name)
		require.Equal(t, "https://example.com/h", one.URL)
		require.Regexp(t, labelToken, one.Token)
		require.NotEqual(t, one.Token, two.Token)
		for _, body := range []string{``, `[]`, `{"name":"n"}`, `{"url":"https://example.com"}`, `{"name":"n","url":"ftp://example.com"}`, `{"name":"n","url":"https://u:p@example.com"}`} {
			status, text := c.call(t, "POST", "/webhooks", body)
			require.Equal(t, 400, status, "%s: %s", body, text)
		}
		status, text := c.call(t, "GET", "/webhooks", "")
		require.Equal(t, 200, status)
		var list struct{ Webhooks []labelWebhook }
		require.NoError(t, json.Unmarshal([]byte(text), &list))
		require.Equal(t, []labelWebhook{one, two}, list.Webhooks)
		for path, status := range map[string]int{"/webhooks": 405, "/webhooks/" + one.ID: 405, "/verify": 405, "/nothing": 404, "/webhooks/" + one.ID + "/x": 404} {
			got, _ := c.call(t, "PATCH", path, "{}")
			require.Equal(t, status, got, path)
		}
	})
	t.Run("1.1.1 the token is shown to who may manage, and to nobody else", func(t *testing.T) {
		t.Parallel()
		c := newLabelService(t, s)
		w := c.create(t, "https://example.com/h")
		reader := &labelService{c.Account, c.NewKey(t, "read")}
		for _, path := range []string{"/webhooks", "/webhooks/" + w.ID} {
			_, text := c.call(t, "GET", path, "")
			require.Contains(t, text, w.Token)
			status, text := reader.call(t, "GET", path, "")
			require.Equal(t, 200, status)
			require.Contains(t, text, w.ID)
			require.NotContains(t, text, "whtok_")
		}
		status, text := reader.call(t, "POST", "/webhooks", `{"name":"n","url":"https://example.com"}`)
		require.Equal(t, 403, status, text)
	})
	t.Run("1.1.1 another account's webhooks are not found, and stay", func(t *testing.T) {
		t.Parallel()
		c, other := newLabelService(t, s), newLabelService(t, s)
		w := c.create(t, "https://example.com/h")
		for _, method := range []string{"GET", "DELETE"} {
			status, _ := other.call(t, method, "/webhooks/"+w.ID, "")
			require.Equal(t, 404, status)
			status, _ = (&labelService{c.Account, "unknown"}).call(t, method, "/webhooks/"+w.ID, "")
			require.Equal(t, 401, status)
		}
		_, text := other.call(t, "GET", "/webhooks", "")
		require.JSONEq(t, `{"webhooks":[]}`, text)
		_, text = c.call(t, "GET", "/webhooks/"+w.ID, "")
		require.Equal(t, w, readWebhook(t, text))
		require.Equal(t, 200, c.verify(t, w.Token))
		elsewhere := c.Webhook(t, &postriderv1.Webhook{Url: "https://example.com", EventTypes: []string{"*"}}).GetWebhook()
		status, _ := c.call(t, "DELETE", "/webhooks/"+elsewhere.GetUuid(), "")
		require.Equal(t, 404, status, "webhooks of other profiles are not this API's")
	})
	t.Run("1.1.2 a choice of events is refused, also over the public API", func(t *testing.T) {
		t.Parallel()
		c := newLabelService(t, s)
		status, text := c.call(t, "POST", "/webhooks", `{"name":"n","url":"https://example.com","events":["release.created"]}`)
		require.Equal(t, 400, status)
		require.Contains(t, text, "events")
		for _, w := range []*postriderv1.Webhook{
			{Profile: "labelst", Url: "https://example.com", EventTypes: []string{"release.created"}},
			{Profile: "labelst", Url: "https://example.com", Filter: "true"},
		} {
			_, err := c.Webhooks.CreateWebhook(c.Ctx(t), &postriderv1.CreateWebhookRequest{Webhook: w})
			require.Error(t, err)
		}
	})
	t.Run("1.1.2 every event type comes, also one that is new", func(t *testing.T) {
		t.Parallel()
		c := newLabelService(t, s)
		r := receivertest.New(t)
		c.create(t, r.URL)
		c.Publish(t, "release.created", `{}`)
		require.Equal(t, "release.created", readDelivery(t, r.Next(t).Body).Type)
		_, err := c.EventTypes.CreateEventType(c.Ctx(t), &postriderv1.CreateEventTypeRequest{EventType: &postriderv1.EventType{Name: "artist.added"}})
		require.NoError(t, err)
		c.Publish(t, "artist.added", `{}`)
		require.Equal(t, "artist.added", readDelivery(t, r.Next(t).Body).Type)
	})
}

func labelDeliveries(t *testing.T, s *system.System) {
	t.Helper()
	t.Run("1.1.3 token, type and request, in this order", func(t *testing.T) {
		t.Parallel()
		c := newLabelService(t, s)
		r := receivertest.New(t)
		w := c.create(t, r.URL)
		c.Publish(t, "release.created", `{"data":{"id":"30602"}}`)
		got := r.Next(t)
		require.Equal(t, http.MethodPost, got.Method)
		require.Equal(t, "application/json", got.Header.Get("Content-Type"))
		require.Equal(t, `{"token":"`+w.Token+`","type":"release.created","request":{"data":{"id":"30602"}}}`, string(got.Body))
	})
	t.Run("1.1.4 types pass through", func(t *testing.T) {
		t.Parallel()
		c := newLabelService(t, s)
		r := receivertest.New(t)
		c.create(t, r.URL)
		for _, name := range []string{"release.created", "release.updated", "release.deleted", "Something.else_entirely"} {
			c.Publish(t, name, `{}`)
			require.Equal(t, name, readDelivery(t, r.Next(t).Body).Type)
		}
	})
	t.Run("1.1.5 the request is the payload, byte for byte", func(t *testing.T) {
		t.Parallel()
		c := newLabelService(t, s)
		r := receivertest.New(t)
		w := c.create(t, r.URL)
		for _, data := range []string{
			`{"updated":"2024-05-08 18:36:47.2137","share":"100.0000000000000000","n":100.0000000000000000,"big":9007199254740993}`,
			`{ "spaced" : [ 1 , 2 ] ,"a":"<&>\u00e9é\/"}`, `{"a":1,"a":2}`, `[]`, `"text"`,
		} {
			c.Publish(t, "release.updated", data)
			require.Equal(t, `{"token":"`+w.Token+`","type":"release.updated","request":`+data+`}`, string(r.Next(t).Body))
		}
	})
	t.Run("1.1.6 a webhook's token is one, and no other webhook's", func(t *testing.T) {
		t.Parallel()
		c := newLabelService(t, s)
		one, two := receivertest.New(t), receivertest.New(t)
		first, second := c.create(t, one.URL), c.create(t, two.URL)
		for range 2 {
			c.Publish(t, "release.created", `{}`)
			require.Equal(t, first.Token, readDelivery(t, one.Next(t).Body).Token)
			require.Equal(t, second.Token, readDelivery(t, two.Next(t).Body).Token)
		}
	})
	t.Run("1.1.10 after a delete nothing is sent, and what waited is cancelled", func(t *testing.T) {
		t.Parallel()
		c := newLabelService(t, s)
		r := receivertest.New(t).Answer(receivertest.RetryAfter(503, "600"))
		w := c.create(t, r.URL)
		id := c.internal(t, w).GetId()
		receipt := c.Publish(t, "release.created", `{}`)
		c.AwaitDelivery(t, receipt.GetEventId(), id, postriderv1.DeliveryState_DELIVERY_STATE_WAITING)
		status, text := c.call(t, "DELETE", "/webhooks/"+w.ID, "")
		require.Equal(t, http.StatusNoContent, status)
		require.Empty(t, text)
		require.Equal(t, 401, c.verify(t, w.Token))
		c.AwaitDelivery(t, receipt.GetEventId(), id, postriderv1.DeliveryState_DELIVERY_STATE_CANCELLED)
		sent := r.Count()
		c.Publish(t, "release.created", `{}`)
		r.Next(t)
		r.None(t, 300*time.Millisecond)
		require.Equal(t, sent, r.Count())
		status, _ = c.call(t, "DELETE", "/webhooks/"+w.ID, "")
		require.Equal(t, 404, status)
	})
	t.Run("1.1.11 a rotated token verifies for its grace, and new deliveries carry the new one", func(t *testing.T) {
		t.Parallel()
		c := newLabelService(t, s)
		r := receivertest.New(t)
		w := c.create(t, r.URL)
		rotate := func(overlap time.Duration) string {
			resp, err := c.Webhooks.RotateWebhookSecret(c.Ctx(t), &postriderv1.RotateWebhookSecretRequest{WebhookId: c.internal(t, w).GetId(), Overlap: durationpb.New(overlap)})
			require.NoError(t, err)
			require.Regexp(t, labelToken, resp.GetSecret())
			return resp.GetSecret()
		}
		second := rotate(time.Hour)
		require.Equal(t, []int{200, 200}, []int{c.verify(t, w.Token), c.verify(t, second)})
		c.Publish(t, "release.created", `{}`)
		require.Equal(t, second, readDelivery(t, r.Next(t).Body).Token)
		third := rotate(0)
		require.Equal(t, []int{401, 401, 200}, []int{c.verify(t, w.Token), c.verify(t, second), c.verify(t, third)}, "without grace both end")
		fourth := rotate(time.Second)
		require.Equal(t, 200, c.verify(t, fourth))
		require.Eventually(t, func() bool { return c.verify(t, third) == 401 }, system.Patience, 100*time.Millisecond, "the grace is over")
	})
	t.Run("1.1.11 a failed delivery is tried again with the same body", func(t *testing.T) {
		t.Parallel()
		c := newLabelService(t, s)
		r := receivertest.New(t).Respond(500, 200)
		w := c.create(t, r.URL)
		receipt := c.Publish(t, "release.created", `{}`)
		c.AwaitDelivery(t, receipt.GetEventId(), c.internal(t, w).GetId(), postriderv1.DeliveryState_DELIVERY_STATE_DELIVERED)
		all := r.All()
		require.Len(t, all, 2)
		require.Equal(t, string(all[0].Body), string(all[1].Body))
		require.Contains(t, string(all[0].Body), w.Token)
	})
	t.Run("1.1.12 the token stands in the body alone, and is masked wherever a delivery is shown", func(t *testing.T) {
		t.Parallel()
		c := newLabelService(t, s)
		r := receivertest.New(t)
		w := c.create(t, r.URL)
		receipt := c.Publish(t, "release.created", `{}`)
		got := r.Next(t)
		for name, values := range got.Header {
			require.NotContains(t, strings.Join(values, " "), w.Token, name)
		}
		for _, name := range []string{"webhook-id", "webhook-timestamp", "webhook-signature"} {
			require.NotEmpty(t, got.Header.Get(name))
		}
		id := c.internal(t, w).GetId()
		d := c.AwaitDelivery(t, receipt.GetEventId(), id, postriderv1.DeliveryState_DELIVERY_STATE_DELIVERED)
		attempts, err := c.Deliveries.ListAttempts(c.Ctx(t), &postriderv1.ListAttemptsRequest{DeliveryId: d.GetId()})
		require.NoError(t, err)
		require.Len(t, attempts.GetAttempts(), 1)
		for _, shown := range []proto.Message{d, attempts, c.internal(t, w)} {
			raw, err := json.Marshal(shown)
			require.NoError(t, err)
			require.NotContains(t, string(raw), w.Token)
		}
	})
	t.Run("1.1.12 a receiver that answers with the token does not bring it into the log", func(t *testing.T) {
		t.Parallel()
		c := newLabelService(t, s)
		token := make(chan string, 1)
		r := receivertest.New(t).Answer(receivertest.Func(func(rw http.ResponseWriter, _ *http.Request) {
			text := <-token
			rw.Header().Set("X-Echo", text)
			_, _ = rw.Write([]byte("got " + text))
		}))
		w := c.create(t, r.URL)
		token <- w.Token
		receipt := c.Publish(t, "release.created", `{}`)
		d := c.AwaitDelivery(t, receipt.GetEventId(), c.internal(t, w).GetId(), postriderv1.DeliveryState_DELIVERY_STATE_DELIVERED)
		attempts, err := c.Deliveries.ListAttempts(c.Ctx(t), &postriderv1.ListAttemptsRequest{DeliveryId: d.GetId()})
		require.NoError(t, err)
		require.Len(t, attempts.GetAttempts(), 1)
		require.Contains(t, string(attempts.GetAttempts()[0].GetResponseBody()), "got ")
		require.NotContains(t, string(attempts.GetAttempts()[0].GetResponseBody()), w.Token)
		require.NotContains(t, attempts.String(), w.Token)
	})
}

func labelVerification(t *testing.T, s *system.System) {
	t.Helper()
	t.Run("1.1.7 the receiver is asked to tell its token from another", func(t *testing.T) {
		t.Parallel()
		c := newLabelService(t, s)
		for name, test := range map[string]struct {
			own, other int
			valid      bool
		}{"one that can": {200, 401, true}, "one that takes all": {200, 200, false}, "one that takes none": {401, 401, false}, "one that errs": {500, 500, false}} {
			var w labelWebhook
			known := make(chan struct{})
			r := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
				<-known
				var asked map[string]string
				if json.NewDecoder(req.Body).Decode(&asked) != nil || len(asked) != 1 {
					rw.WriteHeader(http.StatusBadRequest)
					return
				}
				if asked["token"] == w.Token {
					rw.WriteHeader(test.own)
				} else {
					rw.WriteHeader(test.other)
				}
			}))
			t.Cleanup(r.Close)
			w = c.create(t, r.URL)
			close(known)
			resp, err := c.Webhooks.VerifyWebhook(c.Ctx(t), &postriderv1.VerifyWebhookRequest{WebhookId: c.internal(t, w).GetId()})
			require.NoError(t, err, name)
			for _, shown := range []*postriderv1.Webhook{resp.GetWebhook(), c.internal(t, w)} {
				require.Equal(t, test.valid, shown.GetVerification().GetValid(), name)
				require.EqualValues(t, test.own, shown.GetVerification().GetOwnStatus(), name)
				require.EqualValues(t, test.other, shown.GetVerification().GetOtherStatus(), name)
			}
		}
	})
	t.Run("1.1.8 a live token verifies, all else does not", func(t *testing.T) {
		t.Parallel()
		c := newLabelService(t, s)
		w := c.create(t, "https://example.com")
		require.Equal(t, 200, c.verify(t, w.Token))
		for _, token := range []string{"", "abc", "whtok_" + strings.Repeat("0", 32), w.Token[:len(w.Token)-1], w.Token + "0", strings.ToUpper(w.Token), " " + w.Token} {
			require.Equal(t, 401, c.verify(t, token), token)
		}
		for _, body := range []string{`{}`, `{"token":5}`, `{"token":null}`, `{"token":["` + w.Token + `"]}`, `{"token":{"a":"` + w.Token + `"}}`} {
			status, _ := system.Call(t, "POST", c.APIURL+labelPath+"/verify", "", body, "Content-Type", "application/json")
			require.Equal(t, 401, status, body)
		}
		// A secret of another profile is no token, whatever it looks like.
		other := c.WebhookWith(t, &postriderv1.CreateWebhookRequest{Webhook: &postriderv1.Webhook{Profile: "jewelmusic", Url: "https://example.com", EventTypes: []string{"*"}}, Secret: "whtok_" + strings.Repeat("1", 32)})
		require.Equal(t, 401, c.verify(t, other.GetSecret()))
		paused, err := c.Webhooks.PauseWebhook(c.Ctx(t), &postriderv1.PauseWebhookRequest{WebhookId: c.internal(t, w).GetId()})
		require.NoError(t, err)
		require.Equal(t, 200, c.verify(t, w.Token), "%s", paused.GetWebhook().GetState())
	})
	t.Run("1.1.9 the question is taken as JSON and as a form", func(t *testing.T) {
		t.Parallel()
		c := newLabelService(t, s)
		w := c.create(t, "https://example.com")
		for _, q := range []struct {
			media, body string
			status      int
		}{
			{"application/json", `{"token":"` + w.Token + `"}`, 200},
			{"application/json; charset=utf-8", `{"token":"` + w.Token + `"}`, 200},
			{"application/x-www-form-urlencoded", "token=" + w.Token, 200},
			{"application/x-www-form-urlencoded", "token=" + w.Token + "0", 401},
			{"application/x-www-form-urlencoded", "", 401},
			{"application/json", "token=" + w.Token, 400},
			{"text/plain", w.Token, 415},
		} {
			status, text := system.Call(t, "POST", c.APIURL+labelPath+"/verify", "", q.body, "Content-Type", q.media)
			require.Equal(t, q.status, status, "%s %s: %s", q.media, q.body, text)
			require.NotContains(t, text, w.Token)
		}
	})
	t.Run("1.1.8 an address may ask so often and no oftener", func(t *testing.T) {
		t.Parallel()
		_, own := system.StartStandalone(t, map[string]string{"POSTRIDER_API_VERIFY_LIMIT": "3"})
		c := newLabelService(t, own)
		w := c.create(t, "https://example.com")
		for range 3 {
			require.Equal(t, 200, c.verify(t, w.Token))
		}
		resp, text := system.Exchange(t, "POST", c.APIURL+labelPath+"/verify", "", `{"token":"`+w.Token+`"}`, "Content-Type", "application/json")
		require.Equal(t, 429, resp.StatusCode, text)
		require.NotEmpty(t, resp.Header.Get("Retry-After"))
		status, _ := c.call(t, "GET", "/webhooks", "")
		require.Equal(t, 200, status, "managing goes on")
	})
}
