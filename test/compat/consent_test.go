//go:build e2e

package compat

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/postrider/postrider/pkg/fault"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/system"
)

// consenting is a receiver that knows the handshake of HTTP 1.1 Web Hooks for Event Delivery and
// takes deliveries only after it.
type consenting struct {
	*httptest.Server
	mu         sync.Mutex
	consents   bool // at once
	asked      []*http.Request
	deliveries []*http.Request
}

func newConsenting(t *testing.T, atOnce bool) *consenting {
	c := &consenting{consents: atOnce}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if r.Method != http.MethodOptions {
			c.deliveries = append(c.deliveries, r)
			return
		}
		c.asked = append(c.asked, r)
		if c.consents {
			w.Header().Set("WebHook-Allowed-Origin", r.Header.Get("WebHook-Request-Origin"))
			w.Header().Set("WebHook-Allowed-Rate", "6000")
		}
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *consenting) seen() (asked, deliveries []*http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*http.Request(nil), c.asked...), append([]*http.Request(nil), c.deliveries...)
}

// Deliveries are held until the receiver consents, at once or later through its callback, and then
// say for which origin.
func TestConsent(t *testing.T) {
	t.Parallel()
	_, s := system.StartStandalone(t, map[string]string{
		"POSTRIDER_API_PUBLIC_URL": "https://callbacks.example", "POSTRIDER_API_ORIGIN": "hooks.example.com",
	})
	create := func(t *testing.T, a *system.Account, r *consenting, handshake string) *postriderv1.Webhook {
		return a.Webhook(t, &postriderv1.Webhook{
			Url: r.URL + "/events?a=b", EventTypes: all, Profile: "cloudevents", Options: &postriderv1.ProfileOptions{Handshake: handshake},
		}).GetWebhook()
	}
	t.Run("at once", func(t *testing.T) {
		t.Parallel()
		a, r := s.NewAccount(t), newConsenting(t, true)
		w := create(t, a, r, "required")
		require.Equal(t, postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE, w.GetState())
		asked, _ := r.seen()
		require.Equal(t, "/events?a=b", asked[0].RequestURI, "the exact target is asked")
		require.Equal(t, "hooks.example.com", asked[0].Header.Get("WebHook-Request-Origin"))
		event := a.Publish(t, "release.live", `{}`).GetEventId()
		a.AwaitDelivery(t, event, w.GetId(), delivered)
		_, deliveries := r.seen()
		require.Equal(t, "hooks.example.com", deliveries[0].Header.Get("WebHook-Request-Origin"))
		require.Equal(t, http.MethodPost, deliveries[0].Method)
	})
	t.Run("later, through the callback, once", func(t *testing.T) {
		t.Parallel()
		a, r := s.NewAccount(t), newConsenting(t, false)
		w := create(t, a, r, "required")
		require.Equal(t, postriderv1.WebhookState_WEBHOOK_STATE_DISABLED, w.GetState())
		require.Equal(t, "no_consent", w.GetStateReason())
		event := a.Publish(t, "release.live", `{}`).GetEventId()
		a.AwaitDelivery(t, event, w.GetId(), held)
		asked, deliveries := r.seen()
		require.Empty(t, deliveries)
		callback, ok := strings.CutPrefix(asked[0].Header.Get("WebHook-Request-Callback"), "https://callbacks.example")
		require.True(t, ok)
		status, _ := system.Call(t, "GET", a.APIURL+callback, "", "", "WebHook-Allowed-Rate", "600")
		require.Equal(t, http.StatusOK, status)
		a.AwaitDelivery(t, event, w.GetId(), delivered)
		status, _ = system.Call(t, "POST", a.APIURL+callback, "", "")
		require.Equal(t, http.StatusNotFound, status)
	})
	t.Run("optional holds nothing", func(t *testing.T) {
		t.Parallel()
		a, r := s.NewAccount(t), newConsenting(t, false)
		w := create(t, a, r, "optional")
		event := a.Publish(t, "release.live", `{}`).GetEventId()
		a.AwaitDelivery(t, event, w.GetId(), delivered)
		_, deliveries := r.seen()
		require.Empty(t, deliveries[0].Header.Get("WebHook-Request-Origin"), "there was no consent")
	})
	t.Run("the allowed rate is never exceeded", func(t *testing.T) {
		t.Parallel()
		a, r := s.NewAccount(t), newConsenting(t, false)
		w := create(t, a, r, "required")
		asked, _ := r.seen()
		callback, _ := strings.CutPrefix(asked[0].Header.Get("WebHook-Request-Callback"), "https://callbacks.example")
		status, _ := system.Call(t, "GET", a.APIURL+callback, "", "", "WebHook-Allowed-Rate", "60") // one a second
		require.Equal(t, http.StatusOK, status)
		began := time.Now()
		var last string
		for range 4 {
			last = a.Publish(t, "release.live", `{}`).GetEventId()
		}
		a.AwaitDelivery(t, last, w.GetId(), delivered)
		_, deliveries := r.seen()
		took := time.Since(began)
		require.LessOrEqual(t, float64(len(deliveries)), 2+took.Seconds(), "in %s", took)
	})
}

// What the catalogue says of data holds when they are published, over gRPC and HTTP, and where it
// says nothing nobody looks.
func TestSchemas(t *testing.T) {
	t.Parallel()
	s := open(t)
	a := s.NewAccount(t)
	types := a.EventTypes
	const schema = `{"type":"object","required":["id"],"properties":{"id":{"type":"integer","maximum":9007199254740993}}}`
	_, err := types.CreateEventType(a.Ctx(t), &postriderv1.CreateEventTypeRequest{EventType: &postriderv1.EventType{
		Name: "release.live", Schema: []byte(schema), SchemaPolicy: postriderv1.SchemaPolicy_SCHEMA_POLICY_REJECT,
	}})
	require.NoError(t, err)
	publish := func(data string) (*postriderv1.PublishEventResponse, error) {
		return a.Events.PublishEvent(a.Ctx(t), &postriderv1.PublishEventRequest{Event: &postriderv1.EventInput{Type: "release.live", Data: []byte(data)}})
	}
	_, err = publish(`{"id":9007199254740994}`)
	e, ok := fault.As(fault.FromStatus(err))
	require.True(t, ok, "%v", err)
	require.Equal(t, "SCHEMA_VIOLATION", e.Reason)
	require.Equal(t, []fault.Violation{{Field: "event.data.id", Rule: "must be at most 9007199254740993"}}, e.Violations)
	status, text := system.Call(t, "POST", a.IngestURL+"/v1/events", a.Key, `{"type":"release.live","data":{"id":"1"}}`, "Content-Type", "application/json")
	require.Equal(t, http.StatusBadRequest, status, text)
	require.Contains(t, text, `"reason":"SCHEMA_VIOLATION"`)
	require.Contains(t, text, `"pointer":"#/data/id"`)
	_, err = publish(`{"id":9007199254740993}`)
	require.NoError(t, err)

	narrower := &postriderv1.UpdateEventTypeRequest{
		EventType:  &postriderv1.EventType{Name: "release.live", Schema: []byte(`{"type":"object","required":["id","upc"]}`)},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"schema"}},
	}
	_, err = types.UpdateEventType(a.Ctx(t), narrower)
	e, ok = fault.As(fault.FromStatus(err))
	require.True(t, ok, "%v", err)
	require.Equal(t, "SCHEMA_INCOMPATIBLE", e.Reason)
	narrower.AllowIncompatibleSchema = true
	updated, err := types.UpdateEventType(a.Ctx(t), narrower)
	require.NoError(t, err)
	require.Equal(t, int32(2), updated.GetEventType().GetSchemaVersion())
	_, err = publish(`{"id":1}`)
	require.Error(t, err, "the new schema holds when its change is answered")

	set := func(policy postriderv1.SchemaPolicy) {
		_, err := types.UpdateEventType(a.Ctx(t), &postriderv1.UpdateEventTypeRequest{
			EventType: &postriderv1.EventType{Name: "release.live", SchemaPolicy: policy}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"schema_policy"}},
		})
		require.NoError(t, err)
	}
	set(postriderv1.SchemaPolicy_SCHEMA_POLICY_WARN)
	resp, err := publish(`{"id":1}`)
	require.NoError(t, err)
	require.Equal(t, []string{`the data break version 2 of the schema of "release.live": /upc: is required`}, resp.GetReceipt().GetWarnings())
	set(postriderv1.SchemaPolicy_SCHEMA_POLICY_OFF)
	resp, err = publish(`7`)
	require.NoError(t, err)
	require.Empty(t, resp.GetReceipt().GetWarnings())
}

// An account that is strict takes only data that JSON.stringify would write as they are.
func TestStrictJSON(t *testing.T) {
	t.Parallel()
	s := open(t)
	a := s.NewAccount(t)
	publish := func(data string) error {
		_, err := a.Events.PublishEvent(a.Ctx(t), &postriderv1.PublishEventRequest{Event: &postriderv1.EventInput{Type: "release.live", Data: []byte(data)}})
		return err
	}
	require.NoError(t, publish(`{"n": 1.0}`))
	_, err := a.Accounts.UpdateAccount(s.Admin(t.Context()), &postriderv1.UpdateAccountRequest{
		Account: &postriderv1.Account{Id: a.ID, StrictJson: true}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"strict_json"}},
	})
	require.NoError(t, err)
	err = publish(`{"n": 1.0}`)
	e, ok := fault.As(fault.FromStatus(err))
	require.True(t, ok, "%v", err)
	require.Equal(t, "DATA_NOT_STABLE", e.Reason)
	require.NoError(t, publish(`{"n":1}`))
}
