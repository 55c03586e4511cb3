package audit_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/postrider/postrider/pkg/access"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/audit"
)

const account = "acc_01JDXN0000000000000000000A"

// memory is a store that can be away.
type memory struct {
	entries []*postriderv1.AuditEntry
	away    error
}

func (m *memory) Append(_ context.Context, _ string, e *postriderv1.AuditEntry) error {
	if m.away == nil {
		m.entries = append(m.entries, e)
	}
	return m.away
}

func (m *memory) List(_ context.Context, account string, _ uint64, limit int) ([]*postriderv1.AuditEntry, error) {
	var found []*postriderv1.AuditEntry
	for i := len(m.entries) - 1; i >= 0 && len(found) < limit; i-- {
		if e := m.entries[i]; e.GetAccountId() == account {
			e.Sequence = uint64(i + 1)
			found = append(found, e)
		}
	}
	return found, nil
}

func call(t *testing.T, store *memory, method string, req, resp any, failure error) (any, error) {
	t.Helper()
	log := audit.New(store, slog.New(slog.DiscardHandler), time.Now)
	changes := audit.Changes(map[string]postrider.Scope{
		"/postrider.v1.WebhookService/UpdateWebhook": postrider.ScopeManage, "/postrider.v1.WebhookService/GetWebhook": postrider.ScopeRead,
		"/postrider.v1.AccountService/CreateApiKey": postrider.ScopeManage, "/postrider.v1.AccountService/ListApiKeys": postrider.ScopeManage,
	})
	ctx := access.NewContext(t.Context(), access.Principal{Account: account, KeyID: "key_1"})
	return log.Unary(changes)(ctx, req, &grpc.UnaryServerInfo{FullMethod: "/postrider.v1." + method}, func(context.Context, any) (any, error) { return resp, failure })
}

func TestAChangeIsRecordedWithWhatItNamesAndNoValue(t *testing.T) {
	t.Parallel()
	store := &memory{}
	req := &postriderv1.UpdateWebhookRequest{
		Webhook:    &postriderv1.Webhook{Id: "wh_1", Url: "https://secret.example", Headers: map[string]string{"X-Token": "hidden"}},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"url", "headers"}},
	}
	_, err := call(t, store, "WebhookService/UpdateWebhook", req, &postriderv1.UpdateWebhookResponse{Webhook: &postriderv1.Webhook{Id: "wh_1"}}, nil)
	require.NoError(t, err)
	require.Len(t, store.entries, 1)
	e := store.entries[0]
	require.Equal(t, "WebhookService.UpdateWebhook", e.GetMethod())
	require.Equal(t, "key_1", e.GetApiKeyId())
	require.Equal(t, account, e.GetAccountId())
	require.Equal(t, []string{"wh_1"}, e.GetTargets())
	require.Equal(t, []string{"headers", "url"}, e.GetFields())
	require.NotContains(t, e.String(), "secret.example")
	require.NotContains(t, e.String(), "hidden")

	created := &postriderv1.CreateApiKeyResponse{ApiKey: &postriderv1.ApiKey{Id: "key_2"}, Secret: "prk_value"}
	_, err = call(t, store, "AccountService/CreateApiKey", &postriderv1.CreateApiKeyRequest{DisplayName: "a person", Scopes: []string{"read"}}, created, nil)
	require.NoError(t, err)
	require.Equal(t, []string{"key_2"}, store.entries[1].GetTargets(), "what it made")
	require.NotContains(t, store.entries[1].String(), "prk_value")
	require.NotContains(t, store.entries[1].String(), "a person")
}

func TestReadsAreNotRecordedAndRefusalsAre(t *testing.T) {
	t.Parallel()
	store := &memory{}
	for _, method := range []string{"WebhookService/GetWebhook", "AccountService/ListApiKeys"} {
		_, err := call(t, store, method, &postriderv1.GetWebhookRequest{}, nil, nil)
		require.NoError(t, err)
	}
	_, err := call(t, store, "WebhookService/UpdateWebhook", &postriderv1.CreateReplayRequest{DryRun: true}, nil, nil)
	require.NoError(t, err)
	require.Empty(t, store.entries, "what only counts changes nothing")
	_, err = call(t, store, "WebhookService/UpdateWebhook", &postriderv1.UpdateWebhookRequest{}, nil, fault.New(fault.Aborted, "ETAG_MISMATCH", "x"))
	require.Error(t, err)
	require.Equal(t, "ETAG_MISMATCH", store.entries[0].GetErrorReason())
}

func TestAChangeThatCannotBeRecordedIsNotAnsweredAsDone(t *testing.T) {
	t.Parallel()
	resp, err := call(t, &memory{away: errors.New("away")}, "WebhookService/UpdateWebhook", &postriderv1.UpdateWebhookRequest{}, &postriderv1.UpdateWebhookResponse{}, nil)
	require.Nil(t, resp)
	e, ok := fault.As(err)
	require.True(t, ok)
	require.Equal(t, "AUDIT_UNAVAILABLE", e.Reason)
}

func TestEntriesAreListedByAccountInPages(t *testing.T) {
	t.Parallel()
	store := &memory{}
	for range 3 {
		_, err := call(t, store, "WebhookService/UpdateWebhook", &postriderv1.UpdateWebhookRequest{}, nil, nil)
		require.NoError(t, err)
	}
	log := audit.New(store, slog.New(slog.DiscardHandler), time.Now)
	own := access.NewContext(t.Context(), access.Principal{Account: account, Scopes: []postrider.Scope{postrider.ScopeManage}})
	page, err := log.ListAuditEntries(own, &postriderv1.ListAuditEntriesRequest{PageSize: 2})
	require.NoError(t, err)
	require.Len(t, page.GetEntries(), 2)
	require.NotEmpty(t, page.GetNextPageToken())
	_, err = log.ListAuditEntries(own, &postriderv1.ListAuditEntriesRequest{AccountId: "acc_01JDXN0000000000000000000B"})
	kind, _ := fault.KindOf(err)
	require.Equal(t, fault.NotFound, kind)
	_, err = log.ListAuditEntries(own, &postriderv1.ListAuditEntriesRequest{PageToken: "!"})
	kind, _ = fault.KindOf(err)
	require.Equal(t, fault.Invalid, kind)
}
