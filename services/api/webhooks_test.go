package api_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

func TestAWebhookIsFoundByItsUUIDAndItsNumberInItsOwnAccountOnly(t *testing.T) {
	t.Parallel()
	r := setup(t)
	w := r.newWebhook(t).GetWebhook()
	_, otherKey := r.newAccount(t, "manage", "read")
	byUUID := &postriderv1.GetWebhookRequest{Uuid: strings.ToUpper(w.GetUuid())}
	byNumber := &postriderv1.GetWebhookRequest{Number: w.GetNumber()}
	for name, req := range map[string]*postriderv1.GetWebhookRequest{"UUID": byUUID, "number": byNumber} {
		got, err := r.webhooks.GetWebhook(r.ctx(t), req)
		require.NoError(t, err, name)
		require.Equal(t, w.GetId(), got.GetWebhook().GetId(), name)
		_, err = r.webhooks.GetWebhook(as(t.Context(), otherKey), req)
		requireFault(t, err, fault.NotFound, "")
	}
	_, err := r.webhooks.GetWebhook(r.ctx(t), &postriderv1.GetWebhookRequest{Uuid: w.GetUuid(), Number: w.GetNumber()})
	requireFault(t, err, fault.Invalid, "webhook_id")
	_, err = r.webhooks.DeleteWebhook(r.ctx(t), &postriderv1.DeleteWebhookRequest{WebhookId: w.GetId()})
	require.NoError(t, err)
	for _, req := range []*postriderv1.GetWebhookRequest{byUUID, byNumber} {
		_, err = r.webhooks.GetWebhook(r.ctx(t), req)
		requireFault(t, err, fault.NotFound, "")
	}
}

func (r *rig) createWithUUID(t *testing.T, key, id string) (*postriderv1.Webhook, error) {
	t.Helper()
	resp, err := r.webhooks.CreateWebhook(as(t.Context(), key), &postriderv1.CreateWebhookRequest{
		Webhook: &postriderv1.Webhook{Url: "https://example.com", EventTypes: []string{"*"}, Uuid: id},
	})
	return resp.GetWebhook(), err
}

func TestAChosenUUIDIsUniqueInItsAccountAndFreeAfterItsWebhookIsDeleted(t *testing.T) {
	t.Parallel()
	r := setup(t)
	id := uuid.NewString()
	first, err := r.createWithUUID(t, r.key, strings.ToUpper(id))
	require.NoError(t, err)
	require.Equal(t, id, first.GetUuid(), "in its one form")
	_, err = r.createWithUUID(t, r.key, id)
	requireFault(t, err, fault.AlreadyExists, id)
	_, err = r.createWithUUID(t, r.key, r.newWebhook(t).GetWebhook().GetUuid())
	requireFault(t, err, fault.AlreadyExists, "")
	_, otherKey := r.newAccount(t, "manage")
	_, err = r.createWithUUID(t, otherKey, id)
	require.NoError(t, err, "another account's UUIDs are its own")
	for _, bad := range []string{"x", "{" + id + "}", "urn:uuid:" + id, strings.ReplaceAll(id, "-", "")} {
		_, err = r.createWithUUID(t, r.key, bad)
		requireFault(t, err, fault.Invalid, "webhook.uuid")
	}

	_, err = r.webhooks.DeleteWebhook(r.ctx(t), &postriderv1.DeleteWebhookRequest{WebhookId: first.GetId()})
	require.NoError(t, err)
	second, err := r.createWithUUID(t, r.key, id)
	require.NoError(t, err)
	require.NotEqual(t, first.GetId(), second.GetId(), "what waits for the first must not reach the second")
	got, err := r.webhooks.GetWebhook(r.ctx(t), &postriderv1.GetWebhookRequest{Uuid: id})
	require.NoError(t, err)
	require.Equal(t, second.GetId(), got.GetWebhook().GetId())
}

func TestOfManyWhoChooseOneUUIDAtOnceOneGetsIt(t *testing.T) {
	t.Parallel()
	r := setup(t)
	id := uuid.NewString()
	errs := make(chan error)
	for range 6 {
		go func() {
			_, err := r.createWithUUID(t, r.key, id)
			errs <- err
		}()
	}
	created := 0
	for range 6 {
		if err := <-errs; err == nil {
			created++
		} else {
			requireFault(t, err, fault.AlreadyExists, "")
		}
	}
	require.Equal(t, 1, created)
	list, err := r.webhooks.ListWebhooks(r.ctx(t), &postriderv1.ListWebhooksRequest{})
	require.NoError(t, err)
	require.Len(t, list.GetWebhooks(), 1)
}

func TestACreationThatWasCutShortIsDoneAgainUnderItsUUIDAtOnce(t *testing.T) {
	t.Parallel()
	r := setup(t)
	id, begun := uuid.NewString(), string(postrider.NewWebhookID())
	require.NoError(t, r.store.Reserve(t.Context(), "webhook_uuid", r.account+"/"+id, begun))
	w, err := r.createWithUUID(t, r.key, id)
	require.NoError(t, err)
	require.Equal(t, begun, w.GetId(), "the one that was begun, should it go on, is refused by the store")
	secrets, err := r.webhooks.GetWebhookSecrets(r.ctx(t), &postriderv1.GetWebhookSecretsRequest{WebhookId: begun})
	require.NoError(t, err, "the secret is sealed for that id")
	require.Len(t, secrets.GetSecrets(), 1)
	_, err = r.createWithUUID(t, r.key, id)
	requireFault(t, err, fault.AlreadyExists, id)
}

func TestADeletionThatWasCutShortKeepsTheUUIDUntilItIsDone(t *testing.T) {
	t.Parallel()
	r := setup(t)
	id := uuid.NewString()
	first, err := r.createWithUUID(t, r.key, id)
	require.NoError(t, err)
	require.NoError(t, r.store.Release(t.Context(), "webhook_uuid", r.account+"/"+id, first.GetId()))
	_, err = r.createWithUUID(t, r.key, id)
	requireFault(t, err, fault.AlreadyExists, id)
	_, err = r.webhooks.DeleteWebhook(r.ctx(t), &postriderv1.DeleteWebhookRequest{WebhookId: first.GetId()})
	require.NoError(t, err)
	second, err := r.createWithUUID(t, r.key, id)
	require.NoError(t, err)
	require.NotEqual(t, first.GetId(), second.GetId())
}

func TestSecretsInForceAreShownToWhoMayManage(t *testing.T) {
	t.Parallel()
	r := setup(t)
	first := r.newWebhook(t)
	id := first.GetWebhook().GetId()
	rotated, err := r.webhooks.RotateWebhookSecret(r.ctx(t), &postriderv1.RotateWebhookSecretRequest{WebhookId: id, Overlap: durationpb.New(time.Hour)})
	require.NoError(t, err)
	got, err := r.webhooks.GetWebhookSecrets(r.ctx(t), &postriderv1.GetWebhookSecretsRequest{WebhookId: id})
	require.NoError(t, err)
	require.Len(t, got.GetSecrets(), 2)
	require.Equal(t, rotated.GetSecret(), got.GetSecrets()[0].GetSecret())
	require.Equal(t, first.GetSecret(), got.GetSecrets()[1].GetSecret())
	require.NotNil(t, got.GetSecrets()[1].GetDescription().GetExpireTime())

	reader, err := r.accounts.CreateApiKey(r.ctx(t), &postriderv1.CreateApiKeyRequest{Scopes: []string{"read"}})
	require.NoError(t, err)
	_, err = r.webhooks.GetWebhookSecrets(as(t.Context(), reader.GetSecret()), &postriderv1.GetWebhookSecretsRequest{WebhookId: id})
	requireFault(t, err, fault.Denied, "manage")
	_, otherKey := r.newAccount(t, "manage")
	_, err = r.webhooks.GetWebhookSecrets(as(t.Context(), otherKey), &postriderv1.GetWebhookSecretsRequest{WebhookId: id})
	requireFault(t, err, fault.NotFound, id)
}

func TestAPageThatIsLargeInBytesIsShort(t *testing.T) {
	t.Parallel()
	r := setup(t)
	const each, count = 30 << 10, 300 // 9 MiB in all, more than a page takes
	heavy := make(map[string]string)
	for i := range 30 {
		heavy[string(rune('a'+i%26))+strings.Repeat("x", i/26+1)] = strings.Repeat("v", each/30-8)
	}
	for range count {
		_, err := r.webhooks.CreateWebhook(r.ctx(t), &postriderv1.CreateWebhookRequest{
			Webhook: &postriderv1.Webhook{Url: "https://example.com", EventTypes: []string{"*"}, Annotations: heavy},
		})
		require.NoError(t, err)
	}
	page, err := r.webhooks.ListWebhooks(r.ctx(t), &postriderv1.ListWebhooksRequest{PageSize: 1000})
	require.NoError(t, err)
	require.Less(t, len(page.GetWebhooks()), count)
	rest, err := r.webhooks.ListWebhooks(r.ctx(t), &postriderv1.ListWebhooksRequest{PageSize: 1000, PageToken: page.GetNextPageToken()})
	require.NoError(t, err)
	require.Len(t, rest.GetWebhooks(), count-len(page.GetWebhooks()))
	require.Empty(t, rest.GetNextPageToken())
}
