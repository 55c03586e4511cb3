package standalone_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api"
	"github.com/postrider/postrider/services/ingest"
)

// request makes one HTTP request and returns its status and body.
func request(t *testing.T, method, url, key, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer func() { require.NoError(t, resp.Body.Close()) }()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(text)
}

func TestEachPathIsServedByWhoOwnsIt(t *testing.T) {
	t.Parallel()
	svc, _ := start(t, config(t.TempDir()))
	u := admin(t, svc).newAccount(t)
	id := u.publish(t, "", `{}`).GetEventId()
	base := svc.HTTPURL()
	tests := map[string]struct {
		method, path, key, body string
		status                  int
		holds                   string
	}{
		"an event is published":           {"POST", "/v1/events", u.key, `{"type":"order.paid","data":{}}`, 202, "event_id"},
		"an event is read":                {"GET", "/v1/events/" + id, u.key, "", 200, id},
		"a match is explained by the API": {"POST", "/v1/events:explainMatch", u.key, `{"event":{"type":"order.paid","data":"e30="}}`, 200, "explanations"},
		"webhooks are the API's":          {"GET", "/v1/webhooks", u.key, "", 200, "webhooks"},
		"no key, no event":                {"POST", "/v1/events", "", `{"type":"order.paid","data":{}}`, 401, "KEY_MISSING"},
		"no key, no webhooks":             {"GET", "/v1/webhooks", "", "", 401, "KEY_MISSING"},
		"no such path":                    {"GET", "/nothing", u.key, "", 404, ""},
		"no such path near events":        {"GET", "/v1/eventsome", u.key, "", 404, ""},
		"it lives":                        {"GET", "/livez", "", "", 200, "ok"},
		"it is ready":                     {"GET", "/readyz", "", "", 200, "ok"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			status, body := request(t, test.method, base+test.path, test.key, test.body)
			require.Equal(t, test.status, status, body)
			require.Contains(t, body, test.holds)
		})
	}
	status, body := request(t, "GET", svc.MetricsURL(), "", "")
	require.Equal(t, 200, status)
	require.Contains(t, body, "postrider_")
}

// A method without a rule would be closed to everybody, one with two would be a matter of luck.
func TestEveryPublicMethodHasOneRule(t *testing.T) {
	t.Parallel()
	require.NotNil(t, postriderv1.File_postrider_v1_event_service_proto)
	apiRules, ingestRules := api.Rules(), ingest.Rules()
	methods := 0
	protoregistry.GlobalFiles.RangeFilesByPackage("postrider.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				name := "/" + string(service.FullName()) + "/" + string(service.Methods().Get(j).Name())
				_, one := apiRules[name]
				_, two := ingestRules[name]
				require.NotEqual(t, one, two, "%s needs one rule", name)
				methods++
			}
		}
		return true
	})
	require.Len(t, apiRules, methods-len(ingestRules))
}

func TestAKeyOpensBothServicesOnOneServerAndNoMoreThanItsScopes(t *testing.T) {
	t.Parallel()
	svc, _ := start(t, config(t.TempDir()))
	u := admin(t, svc).newAccount(t)
	key, err := u.accounts.CreateApiKey(u.ctx(t), &postriderv1.CreateApiKeyRequest{Scopes: []string{"publish"}})
	require.NoError(t, err)
	producer := u.with(key.GetSecret())
	producer.publish(t, "", `{}`)
	_, err = producer.webhooks.ListWebhooks(producer.ctx(t), &postriderv1.ListWebhooksRequest{})
	require.ErrorContains(t, err, "scope")

	_, err = u.accounts.DeleteApiKey(u.ctx(t), &postriderv1.DeleteApiKeyRequest{ApiKeyId: key.GetApiKey().GetId()})
	require.NoError(t, err)
	_, err = producer.events.PublishEvent(producer.ctx(t), &postriderv1.PublishEventRequest{Event: &postriderv1.EventInput{Type: "a", Data: []byte("1")}})
	require.ErrorContains(t, err, "not valid")
}
