package system

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// Account is an account with a key that may do everything in it.
type Account struct {
	*System
	ID     string
	Key    string
	Record *postriderv1.Account
}

// NewAccount makes an account; change may set what it is made with.
func (s *System) NewAccount(t *testing.T, change ...func(*postriderv1.Account)) *Account {
	t.Helper()
	acc := &postriderv1.Account{DisplayName: t.Name()}
	for _, c := range change {
		c(acc)
	}
	created, err := s.Accounts.CreateAccount(s.Admin(t.Context()), &postriderv1.CreateAccountRequest{Account: acc})
	require.NoError(t, err)
	a := &Account{System: s, ID: created.GetAccount().GetId(), Record: created.GetAccount()}
	a.Key = a.NewKey(t, "publish", "manage", "read")
	return a
}

// NewKey makes a key of the account with scopes.
func (a *Account) NewKey(t *testing.T, scopes ...string) string {
	t.Helper()
	key, err := a.Accounts.CreateApiKey(a.Admin(t.Context()), &postriderv1.CreateApiKeyRequest{AccountId: a.ID, Scopes: scopes})
	require.NoError(t, err)
	return key.GetSecret()
}

// Ctx is a context with the account's key.
func (a *Account) Ctx(t *testing.T) context.Context {
	t.Helper()
	return As(t.Context(), a.Key)
}

// Webhook creates a webhook.
func (a *Account) Webhook(t *testing.T, w *postriderv1.Webhook) *postriderv1.CreateWebhookResponse {
	t.Helper()
	return a.WebhookWith(t, &postriderv1.CreateWebhookRequest{Webhook: w})
}

// WebhookWith is Webhook with the whole request.
func (a *Account) WebhookWith(t *testing.T, req *postriderv1.CreateWebhookRequest) *postriderv1.CreateWebhookResponse {
	t.Helper()
	resp, err := a.Webhooks.CreateWebhook(a.Ctx(t), req)
	require.NoError(t, err)
	return resp
}

// Publish publishes JSON data.
func (a *Account) Publish(t *testing.T, eventType, data string) *postriderv1.Receipt {
	t.Helper()
	return a.PublishEvent(t, &postriderv1.EventInput{Type: eventType, Data: []byte(data)})
}

// PublishEvent publishes an event.
func (a *Account) PublishEvent(t *testing.T, e *postriderv1.EventInput) *postriderv1.Receipt {
	t.Helper()
	resp, err := a.Events.PublishEvent(a.Ctx(t), &postriderv1.PublishEventRequest{Event: e})
	require.NoError(t, err)
	return resp.GetReceipt()
}

// AwaitDelivery waits until the log shows the event's delivery to the webhook in the state.
func (a *Account) AwaitDelivery(t *testing.T, event, webhook string, state postriderv1.DeliveryState) *postriderv1.Delivery {
	t.Helper()
	var last []*postriderv1.Delivery
	require.Eventually(t, func() bool {
		resp, err := a.Deliveries.ListDeliveries(a.Ctx(t), &postriderv1.ListDeliveriesRequest{EventId: event, WebhookId: webhook})
		if err != nil {
			return false
		}
		last = resp.GetDeliveries()
		return len(last) == 1 && last[0].GetState() == state
	}, Patience, 20*time.Millisecond, "want %s, the log has %v", state, &last)
	return last[0]
}
