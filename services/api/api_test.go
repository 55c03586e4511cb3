package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/rpc"
	"github.com/postrider/postrider/pkg/seal"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/deadletterstream"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/stream/journal"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/pkg/telemetry"
	dispatcherv1 "github.com/postrider/postrider/proto/gen/go/postrider/dispatcher/v1"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	routerv1 "github.com/postrider/postrider/proto/gen/go/postrider/router/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const adminKey = "the-admin-key-of-these-tests-0123456789"

// rig is an api service on a real NATS server and a real SQLite file, reached over gRPC and REST.
// The services that it asks are not there: a connection to nobody is what they look like then.
type rig struct {
	nc         *nats.Conn
	audit      postriderv1.AuditServiceClient
	service    *api.Service
	store      *config.Store
	journal    *journal.Journal
	events     *eventstream.Stream
	sealer     *seal.Sealer
	accounts   postriderv1.AccountServiceClient
	webhooks   postriderv1.WebhookServiceClient
	eventTypes postriderv1.EventTypeServiceClient
	deliveries postriderv1.DeliveryServiceClient
	ledger     postriderv1.LedgerServiceClient
	queue      *deliverystream.Streams
	retries    *retrystream.Streams
	log        postriderv1.LogServiceClient
	letters    *deadletterstream.Stream
	account    string
	key        string
}

func setup(t *testing.T, change ...func(*api.Deps)) *rig {
	t.Helper()
	r := &rig{nc: natstest.Start(t).Connect(t)}
	c, err := stream.New(r.nc, stream.Default())
	require.NoError(t, err)
	t.Cleanup(c.Close)
	r.store, err = config.Ensure(t.Context(), c)
	require.NoError(t, err)
	r.journal, err = journal.Ensure(t.Context(), c, journal.Default())
	require.NoError(t, err)
	letters, err := deadletterstream.Ensure(t.Context(), c, deadletterstream.Default())
	require.NoError(t, err)
	r.events, err = eventstream.Ensure(t.Context(), c, eventstream.Default())
	require.NoError(t, err)
	r.queue, err = deliverystream.Ensure(t.Context(), c, deliverystream.Default())
	require.NoError(t, err)
	r.retries, err = retrystream.Ensure(t.Context(), c, retrystream.Default())
	require.NoError(t, err)
	t.Cleanup(r.retries.Close)
	keyset, err := seal.Generate()
	require.NoError(t, err)
	r.sealer, err = seal.Parse(keyset)
	require.NoError(t, err)
	nobody, err := rpc.Dial(rpc.ClientConfig{Target: "127.0.0.1:1"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = nobody.Close() })
	cfg := api.Default()
	cfg.LogFile = filepath.Join(t.TempDir(), "log.db")
	deps := api.Deps{
		Streams: c, Store: r.store, Journal: r.journal, DeadLetters: letters, Events: r.events, Deliveries: r.queue, EventsAge: 7 * 24 * time.Hour, Sealer: r.sealer,
		Router: routerv1.NewRouterServiceClient(nobody), Dispatcher: dispatcherv1.NewDispatcherServiceClient(nobody),
		Scheduler: schedulerv1.NewSchedulerServiceClient(nobody), AdminKey: adminKey, Instance: "api-test",
		Logger: logtest.New(t), Telemetry: telemetry.Noop(),
	}
	for _, f := range change {
		f(&deps)
	}
	r.service, err = api.New(t.Context(), cfg, deps)
	require.NoError(t, err)
	require.NoError(t, r.service.Start(t.Context()))
	conn := serve(t, r.service)
	t.Cleanup(func() { require.NoError(t, r.service.Stop(context.WithoutCancel(t.Context()))) })
	r.accounts, r.webhooks = postriderv1.NewAccountServiceClient(conn), postriderv1.NewWebhookServiceClient(conn)
	r.eventTypes, r.deliveries = postriderv1.NewEventTypeServiceClient(conn), postriderv1.NewDeliveryServiceClient(conn)
	r.ledger, r.audit = postriderv1.NewLedgerServiceClient(conn), postriderv1.NewAuditServiceClient(conn)
	r.log, r.letters = postriderv1.NewLogServiceClient(conn), letters
	r.account, r.key = r.newAccount(t, "publish", "manage", "read")
	return r
}

func serve(t *testing.T, service *api.Service) *grpc.ClientConn {
	t.Helper()
	listener, option := rpc.InMemory()
	server, err := rpc.NewServer(rpc.ServerConfig{}, logtest.New(t), append(service.Guards(), rpc.WithListener(listener))...)
	require.NoError(t, err)
	service.Register(server.Registrar())
	require.NoError(t, server.Start(t.Context()))
	conn, err := rpc.Dial(rpc.ClientConfig{Target: rpc.InMemoryTarget}, option)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = conn.Close()
		require.NoError(t, server.Stop(context.WithoutCancel(t.Context())))
	})
	return conn
}

func as(ctx context.Context, key string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
}

func (r *rig) newAccount(t *testing.T, scopes ...string) (id, key string) {
	t.Helper()
	admin := as(t.Context(), adminKey)
	acc, err := r.accounts.CreateAccount(admin, &postriderv1.CreateAccountRequest{Account: &postriderv1.Account{DisplayName: "Acme"}})
	require.NoError(t, err)
	created, err := r.accounts.CreateApiKey(admin, &postriderv1.CreateApiKeyRequest{AccountId: acc.GetAccount().GetId(), Scopes: scopes})
	require.NoError(t, err)
	return acc.GetAccount().GetId(), created.GetSecret()
}

func (r *rig) ctx(t *testing.T) context.Context {
	t.Helper()
	return as(t.Context(), r.key)
}

func (r *rig) newWebhook(t *testing.T) *postriderv1.CreateWebhookResponse {
	t.Helper()
	resp, err := r.webhooks.CreateWebhook(r.ctx(t), &postriderv1.CreateWebhookRequest{
		Webhook: &postriderv1.Webhook{Url: "https://Example.com:443/hook#x", EventTypes: []string{"release.*"}},
	})
	require.NoError(t, err)
	return resp
}

func requireFault(t *testing.T, err error, kind fault.Kind, text string) {
	t.Helper()
	f, ok := fault.As(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, kind, f.Kind, "%v", err)
	require.Contains(t, fmt.Sprintf("%v %v %v", f.Reason, f.Message, f.Violations), text)
}

func TestAWebhookIsStoredWithDefaultsAndShowsItsSecretOnce(t *testing.T) {
	t.Parallel()
	r := setup(t)
	created := r.newWebhook(t)
	w := created.GetWebhook()
	require.Equal(t, "https://example.com/hook", w.GetUrl(), "in its one form")
	require.Equal(t, "example.com", w.GetDisplayName())
	require.Equal(t, "standard", w.GetProfile())
	require.EqualValues(t, 1, w.GetNumber())
	require.Regexp(t, "^whsec_", created.GetSecret())
	read, err := r.webhooks.GetWebhook(r.ctx(t), &postriderv1.GetWebhookRequest{WebhookId: w.GetId()})
	require.NoError(t, err)
	require.NotContains(t, read.String(), created.GetSecret())

	rec, _, err := r.store.GetWebhook(t.Context(), r.account, w.GetId())
	require.NoError(t, err)
	sealed := rec.GetSecrets()[0]
	require.NotContains(t, string(sealed.GetCiphertext()), created.GetSecret(), "encrypted at rest")
	plain, err := r.sealer.Open(sealed.GetCiphertext(), config.SecretContext(r.account, w.GetId(), sealed.GetId()))
	require.NoError(t, err)
	require.Equal(t, created.GetSecret(), string(plain))
	_, err = r.sealer.Open(sealed.GetCiphertext(), config.SecretContext(r.account, "wh_other", sealed.GetId()))
	require.Error(t, err, "bound to its webhook")
}

func TestEveryRuleOfAWebhookIsNamedWithItsField(t *testing.T) {
	t.Parallel()
	r := setup(t)
	tests := map[string]struct {
		change func(*postriderv1.CreateWebhookRequest)
		field  string
	}{
		"no URL":              {func(q *postriderv1.CreateWebhookRequest) { q.Webhook.Url = "" }, "webhook.url"},
		"http":                {func(q *postriderv1.CreateWebhookRequest) { q.Webhook.Url = "http://example.com" }, "webhook.url"},
		"user information":    {func(q *postriderv1.CreateWebhookRequest) { q.Webhook.Url = "https://u:p@example.com" }, "webhook.url"},
		"no event types":      {func(q *postriderv1.CreateWebhookRequest) { q.Webhook.EventTypes = nil }, "webhook.event_types"},
		"a bad pattern":       {func(q *postriderv1.CreateWebhookRequest) { q.Webhook.EventTypes = []string{"a.*.b"} }, "webhook.event_types[0]"},
		"a bad filter":        {func(q *postriderv1.CreateWebhookRequest) { q.Webhook.Filter = "1 +" }, "webhook.filter"},
		"a filter of no bool": {func(q *postriderv1.CreateWebhookRequest) { q.Webhook.Filter = "1 + 1" }, "webhook.filter"},
		"an unknown profile":  {func(q *postriderv1.CreateWebhookRequest) { q.Webhook.Profile = "x" }, "webhook.profile"},
		"our own header":      {func(q *postriderv1.CreateWebhookRequest) { q.Webhook.Headers = map[string]string{"Webhook-Id": "1"} }, "webhook.headers"},
		"a long timeout":      {func(q *postriderv1.CreateWebhookRequest) { q.Webhook.AttemptTimeout = durationpb.New(time.Minute) }, "webhook.attempt_timeout"},
		"too many in flight":  {func(q *postriderv1.CreateWebhookRequest) { q.Webhook.MaxInFlight = 5000 }, "webhook.max_in_flight"},
		"an unknown ordering": {func(q *postriderv1.CreateWebhookRequest) { q.Webhook.Ordering = "fifo" }, "webhook.ordering"},
		"a negative rate":     {func(q *postriderv1.CreateWebhookRequest) { rate := -1.0; q.Webhook.RateLimit = &rate }, "webhook.rate_limit"},
		"a bad secret":        {func(q *postriderv1.CreateWebhookRequest) { q.Secret = "whsec_!!" }, "secret"},
		"a public key": {func(q *postriderv1.CreateWebhookRequest) {
			q.Secret = "whpk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
		}, "secret"},
		"a long schedule": {func(q *postriderv1.CreateWebhookRequest) {
			q.Webhook.RetrySchedule = &postriderv1.RetrySchedule{Delays: []*durationpb.Duration{durationpb.New(8 * 24 * time.Hour)}}
		}, "webhook.retry_schedule"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			q := &postriderv1.CreateWebhookRequest{Webhook: &postriderv1.Webhook{Url: "https://example.com", EventTypes: []string{"*"}}}
			test.change(q)
			_, err := r.webhooks.CreateWebhook(r.ctx(t), q)
			requireFault(t, err, fault.Invalid, test.field)
		})
	}
	list, err := r.webhooks.ListWebhooks(r.ctx(t), &postriderv1.ListWebhooksRequest{})
	require.NoError(t, err)
	require.Empty(t, list.GetWebhooks(), "nothing was stored")
}

func TestUpdateChangesTheMasksFieldsAndHonoursTheEtag(t *testing.T) {
	t.Parallel()
	r := setup(t)
	w := r.newWebhook(t).GetWebhook()
	update := func(change *postriderv1.Webhook, paths ...string) (*postriderv1.UpdateWebhookResponse, error) {
		change.Id = w.GetId()
		return r.webhooks.UpdateWebhook(r.ctx(t), &postriderv1.UpdateWebhookRequest{Webhook: change, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths}})
	}
	changed, err := update(&postriderv1.Webhook{DisplayName: "New", Url: "https://ignored.example", Etag: w.GetEtag()}, "display_name")
	require.NoError(t, err)
	require.Equal(t, "New", changed.GetWebhook().GetDisplayName())
	require.Equal(t, w.GetUrl(), changed.GetWebhook().GetUrl())
	require.NotEqual(t, w.GetEtag(), changed.GetWebhook().GetEtag())
	_, err = update(&postriderv1.Webhook{DisplayName: "Stale", Etag: w.GetEtag()}, "display_name")
	requireFault(t, err, fault.Aborted, "ETAG_MISMATCH")
	_, err = update(&postriderv1.Webhook{Profile: "jewelmusic"}, "profile")
	requireFault(t, err, fault.Invalid, "update_mask")
	_, err = update(&postriderv1.Webhook{EventTypes: nil}, "event_types")
	requireFault(t, err, fault.Invalid, "webhook.event_types")
}

func TestPauseResumeRotateAndDelete(t *testing.T) {
	t.Parallel()
	r := setup(t)
	first := r.newWebhook(t)
	id := first.GetWebhook().GetId()
	paused, err := r.webhooks.PauseWebhook(r.ctx(t), &postriderv1.PauseWebhookRequest{WebhookId: id})
	require.NoError(t, err, "also while the scheduler is away")
	require.Equal(t, postriderv1.WebhookState_WEBHOOK_STATE_PAUSED, paused.GetWebhook().GetState())
	require.Equal(t, "owner", paused.GetWebhook().GetStateReason())
	resumed, err := r.webhooks.ResumeWebhook(r.ctx(t), &postriderv1.ResumeWebhookRequest{WebhookId: id})
	require.NoError(t, err)
	require.Equal(t, postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE, resumed.GetWebhook().GetState())

	rotated, err := r.webhooks.RotateWebhookSecret(r.ctx(t), &postriderv1.RotateWebhookSecretRequest{WebhookId: id})
	require.NoError(t, err)
	require.NotEqual(t, first.GetSecret(), rotated.GetSecret())
	require.Len(t, rotated.GetWebhook().GetSecrets(), 2)
	require.Nil(t, rotated.GetWebhook().GetSecrets()[0].GetExpireTime())
	require.NotNil(t, rotated.GetWebhook().GetSecrets()[1].GetExpireTime())
	switched, err := r.webhooks.RotateWebhookSecret(r.ctx(t), &postriderv1.RotateWebhookSecretRequest{WebhookId: id, Overlap: durationpb.New(0)})
	require.NoError(t, err)
	require.Len(t, switched.GetWebhook().GetSecrets(), 1, "without an overlap the old ones end at once")

	_, err = r.webhooks.DeleteWebhook(r.ctx(t), &postriderv1.DeleteWebhookRequest{WebhookId: id, Etag: first.GetWebhook().GetEtag()})
	requireFault(t, err, fault.Aborted, "ETAG_MISMATCH")
	_, err = r.webhooks.DeleteWebhook(r.ctx(t), &postriderv1.DeleteWebhookRequest{WebhookId: id})
	require.NoError(t, err)
	_, err = r.webhooks.GetWebhook(r.ctx(t), &postriderv1.GetWebhookRequest{WebhookId: id})
	requireFault(t, err, fault.NotFound, id)
}

func TestListsArePagedAndTokensAreBoundToTheirList(t *testing.T) {
	t.Parallel()
	r := setup(t)
	var want, got []string
	for range 5 {
		want = append(want, r.newWebhook(t).GetWebhook().GetId())
	}
	token := ""
	for {
		page, err := r.webhooks.ListWebhooks(r.ctx(t), &postriderv1.ListWebhooksRequest{PageSize: 2, PageToken: token})
		require.NoError(t, err)
		for _, w := range page.GetWebhooks() {
			got = append(got, w.GetId())
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
		_, err = r.eventTypes.ListEventTypes(r.ctx(t), &postriderv1.ListEventTypesRequest{PageToken: token})
		requireFault(t, err, fault.Invalid, "page_token")
	}
	require.Equal(t, want, got)
	_, err := r.webhooks.ListWebhooks(r.ctx(t), &postriderv1.ListWebhooksRequest{PageSize: -1})
	requireFault(t, err, fault.Invalid, "page_size")
	_, err = r.webhooks.ListWebhooks(r.ctx(t), &postriderv1.ListWebhooksRequest{PageToken: "garbage!"})
	requireFault(t, err, fault.Invalid, "page_token")
}

func TestAnotherAccountsThingsAreNotFoundAndScopesAreHeld(t *testing.T) {
	t.Parallel()
	r := setup(t)
	w := r.newWebhook(t).GetWebhook()
	_, otherKey := r.newAccount(t, "manage", "read")
	other := as(t.Context(), otherKey)
	_, err := r.webhooks.GetWebhook(other, &postriderv1.GetWebhookRequest{WebhookId: w.GetId()})
	requireFault(t, err, fault.NotFound, w.GetId())
	_, err = r.webhooks.GetWebhook(other, &postriderv1.GetWebhookRequest{AccountId: r.account, WebhookId: w.GetId()})
	requireFault(t, err, fault.NotFound, "ACCOUNT_NOT_FOUND")
	_, err = r.accounts.CreateApiKey(other, &postriderv1.CreateApiKeyRequest{Scopes: []string{"publish"}})
	requireFault(t, err, fault.Denied, "publish")
	_, err = r.accounts.CreateApiKey(other, &postriderv1.CreateApiKeyRequest{AccountId: r.account, Scopes: []string{"read"}})
	requireFault(t, err, fault.NotFound, "ACCOUNT_NOT_FOUND")
	_, err = r.accounts.CreateAccount(other, &postriderv1.CreateAccountRequest{Account: &postriderv1.Account{DisplayName: "x"}})
	requireFault(t, err, fault.Denied, "admin")

	readOnly, err := r.accounts.CreateApiKey(r.ctx(t), &postriderv1.CreateApiKeyRequest{Scopes: []string{"read"}})
	require.NoError(t, err)
	reader := as(t.Context(), readOnly.GetSecret())
	_, err = r.webhooks.GetWebhook(reader, &postriderv1.GetWebhookRequest{WebhookId: w.GetId()})
	require.NoError(t, err)
	_, err = r.webhooks.PauseWebhook(reader, &postriderv1.PauseWebhookRequest{WebhookId: w.GetId()})
	requireFault(t, err, fault.Denied, "manage")
	_, err = r.accounts.DeleteApiKey(r.ctx(t), &postriderv1.DeleteApiKeyRequest{ApiKeyId: readOnly.GetApiKey().GetId()})
	require.NoError(t, err)
	_, err = r.webhooks.GetWebhook(reader, &postriderv1.GetWebhookRequest{WebhookId: w.GetId()})
	requireFault(t, err, fault.Unauthenticated, "")
	_, err = r.webhooks.ListWebhooks(t.Context(), &postriderv1.ListWebhooksRequest{})
	requireFault(t, err, fault.Unauthenticated, "")
}

func TestWhatAKeyMayDoIsChangedAndItsValueStays(t *testing.T) {
	t.Parallel()
	r := setup(t)
	w := r.newWebhook(t).GetWebhook()
	created, err := r.accounts.CreateApiKey(r.ctx(t), &postriderv1.CreateApiKeyRequest{DisplayName: "Console", Scopes: []string{"read"}})
	require.NoError(t, err)
	id, key := created.GetApiKey().GetId(), as(t.Context(), created.GetSecret())
	update := func(ctx context.Context, scopes []string, paths ...string) (*postriderv1.ApiKey, error) {
		resp, err := r.accounts.UpdateApiKey(ctx, &postriderv1.UpdateApiKeyRequest{
			ApiKey: &postriderv1.ApiKey{Id: id, Scopes: scopes}, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths},
		})
		return resp.GetApiKey(), err
	}
	pause := func() error {
		_, err := r.webhooks.PauseWebhook(key, &postriderv1.PauseWebhookRequest{WebhookId: w.GetId()})
		return err
	}
	requireFault(t, pause(), fault.Denied, "manage")
	changed, err := update(r.ctx(t), []string{"read", "manage"}, "scopes")
	require.NoError(t, err)
	require.Equal(t, []string{"read", "manage"}, changed.GetScopes())
	require.Equal(t, "Console", changed.GetDisplayName(), "what the mask does not name stays")
	require.NoError(t, pause(), "the same value may more when the change is answered")

	// It gives no more than the caller has, and may take what the caller lacks.
	_, err = update(key, []string{"read", "manage", "publish"}, "scopes")
	requireFault(t, err, fault.Denied, "publish")
	_, err = update(r.ctx(t), []string{"read", "publish"}, "scopes")
	require.NoError(t, err)
	requireFault(t, pause(), fault.Denied, "manage")
	manager, err := r.accounts.CreateApiKey(r.ctx(t), &postriderv1.CreateApiKeyRequest{Scopes: []string{"manage", "read"}})
	require.NoError(t, err)
	_, err = update(as(t.Context(), manager.GetSecret()), []string{"read"}, "scopes")
	require.NoError(t, err, "whoever may revoke a key may leave it less")

	_, err = update(r.ctx(t), nil, "scopes")
	requireFault(t, err, fault.Invalid, "api_key.scopes")
	_, err = update(r.ctx(t), []string{"admin"}, "scopes")
	requireFault(t, err, fault.Invalid, "api_key.scopes")
	_, err = update(r.ctx(t), nil, "expire_time")
	requireFault(t, err, fault.Invalid, "update_mask")
	_, otherKey := r.newAccount(t, "manage", "read")
	_, err = update(as(t.Context(), otherKey), []string{"manage"}, "scopes")
	requireFault(t, err, fault.NotFound, id)
}

func TestAnAccountHasARetentionOfItsOwn(t *testing.T) {
	t.Parallel()
	r := setup(t)
	update := func(keep *durationpb.Duration) (*postriderv1.Account, error) {
		resp, err := r.accounts.UpdateAccount(as(t.Context(), adminKey), &postriderv1.UpdateAccountRequest{
			Account: &postriderv1.Account{Id: r.account, LogRetention: keep}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"log_retention"}},
		})
		return resp.GetAccount(), err
	}
	acc, err := update(durationpb.New(48 * time.Hour))
	require.NoError(t, err)
	require.Equal(t, 48*time.Hour, acc.GetLogRetention().AsDuration())
	_, err = update(durationpb.New(time.Hour))
	requireFault(t, err, fault.Invalid, "log_retention")
	acc, err = update(nil)
	require.NoError(t, err)
	require.Nil(t, acc.GetLogRetention(), "the deployment's again")
}

func TestAccountsHaveNumbersAndSubdomainsOfTheirOwn(t *testing.T) {
	t.Parallel()
	r := setup(t)
	admin := as(t.Context(), adminKey)
	create := func(acc *postriderv1.Account) (*postriderv1.CreateAccountResponse, error) {
		return r.accounts.CreateAccount(admin, &postriderv1.CreateAccountRequest{Account: acc})
	}
	one, err := create(&postriderv1.Account{DisplayName: "One", Subdomain: "developerfm", TimeZone: "Australia/Melbourne"})
	require.NoError(t, err)
	require.EqualValues(t, 2, one.GetAccount().GetNumber(), "after the test's own account")
	_, err = create(&postriderv1.Account{DisplayName: "Two", Subdomain: "developerfm"})
	requireFault(t, err, fault.AlreadyExists, "developerfm")
	for field, acc := range map[string]*postriderv1.Account{
		"account.display_name":  {},
		"account.subdomain":     {DisplayName: "x", Subdomain: "Not a label"},
		"account.time_zone":     {DisplayName: "x", TimeZone: "Mars/Olympus"},
		"account.dedup_window":  {DisplayName: "x", DedupWindow: durationpb.New(time.Second)},
		"account.account_class": {DisplayName: "x", AccountClass: "gold"},
		"account.max_in_flight": {DisplayName: "x", MaxInFlight: -1},
		"account.rate_limit":    {DisplayName: "x", RateLimit: 0.01},
	} {
		_, err := create(acc)
		requireFault(t, err, fault.Invalid, field)
	}
	renamed, err := r.accounts.UpdateAccount(admin, &postriderv1.UpdateAccountRequest{
		Account: &postriderv1.Account{Id: one.GetAccount().GetId(), Subdomain: "newfm"}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"subdomain"}},
	})
	require.NoError(t, err)
	require.Equal(t, "newfm", renamed.GetAccount().GetSubdomain())
	_, err = create(&postriderv1.Account{DisplayName: "Two", Subdomain: "developerfm"})
	require.NoError(t, err, "the former name is free")
}

func TestTheLimitsOfAnAccountAreTheOperatorsAlone(t *testing.T) {
	t.Parallel()
	r := setup(t)
	change := func(ctx context.Context, maxInFlight int32, rate float64) (*postriderv1.Account, error) {
		resp, err := r.accounts.UpdateAccount(ctx, &postriderv1.UpdateAccountRequest{
			Account:    &postriderv1.Account{Id: r.account, MaxInFlight: maxInFlight, RateLimit: rate},
			UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"max_in_flight", "rate_limit"}},
		})
		return resp.GetAccount(), err
	}
	acc, err := change(as(t.Context(), adminKey), 20, 0.5)
	require.NoError(t, err)
	require.EqualValues(t, 20, acc.GetMaxInFlight())
	require.InDelta(t, 0.5, acc.GetRateLimit(), 0)
	_, err = change(r.ctx(t), 1000, 0)
	requireFault(t, err, fault.Denied, "admin")
	acc, err = change(as(t.Context(), adminKey), 0, 0)
	require.NoError(t, err)
	require.Zero(t, acc.GetMaxInFlight())
	require.Zero(t, acc.GetRateLimit())
}

func TestTheCatalogueIsImportedWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	r := setup(t)
	types := []*postriderv1.EventType{{Name: "release.live", Group: "Distribution"}, {Name: "not a type"}}
	_, err := r.eventTypes.ImportEventTypes(r.ctx(t), &postriderv1.ImportEventTypesRequest{EventTypes: types})
	requireFault(t, err, fault.Invalid, "event_types[1].name")
	list, err := r.eventTypes.ListEventTypes(r.ctx(t), &postriderv1.ListEventTypesRequest{})
	require.NoError(t, err)
	require.Empty(t, list.GetEventTypes())
	types[1].Name = "release.created"
	for _, want := range []struct{ created, updated int32 }{{2, 0}, {0, 2}} {
		done, err := r.eventTypes.ImportEventTypes(r.ctx(t), &postriderv1.ImportEventTypesRequest{EventTypes: types})
		require.NoError(t, err)
		require.Equal(t, want.created, done.GetCreated())
		require.Equal(t, want.updated, done.GetUpdated())
	}
}

func TestTheJournalBecomesTheDeliveryLog(t *testing.T) {
	t.Parallel()
	r := setup(t)
	w := r.journal.NewWriter("test")
	done := make(chan error, 1)
	require.NoError(t, w.Write(t.Context(), journal.Routed, &recordv1.JournalEntry{
		AccountId: r.account, EventId: "evt_1", EventType: "release.live",
		What: &recordv1.JournalEntry_Routed{Routed: &recordv1.Routed{Deliveries: []*recordv1.RoutedDelivery{{DeliveryId: "dlv_1", WebhookId: "wh_1"}}, MatchedTotal: 1}},
	}, func(err error) { done <- err }))
	require.NoError(t, w.Close(t.Context()))
	require.NoError(t, <-done)
	require.Eventually(t, func() bool {
		page, err := r.deliveries.ListDeliveries(r.ctx(t), &postriderv1.ListDeliveriesRequest{EventId: "evt_1"})
		return err == nil && len(page.GetDeliveries()) == 1 && page.GetDeliveries()[0].GetState() == postriderv1.DeliveryState_DELIVERY_STATE_PENDING
	}, 20*time.Second, 10*time.Millisecond)
}

func TestRESTSpeaksTheSameAPI(t *testing.T) {
	t.Parallel()
	r := setup(t)
	server := httptest.NewServer(r.service.Handler())
	t.Cleanup(server.Close)
	call := func(method, path, key, body string) (int, map[string]any) {
		req, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+key)
		resp, err := server.Client().Do(req)
		require.NoError(t, err)
		defer func() { _ = resp.Body.Close() }()
		raw, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		var answer map[string]any
		require.NoError(t, json.Unmarshal(raw, &answer), "%s", raw)
		return resp.StatusCode, answer
	}
	status, created := call(http.MethodPost, "/v1/webhooks", r.key, `{"webhook":{"url":"https://example.com/h","event_types":["*"]}}`)
	require.Equal(t, http.StatusOK, status, "%v", created)
	id := created["webhook"].(map[string]any)["id"].(string)
	status, paused := call(http.MethodPost, "/v1/webhooks/"+id+":pause", r.key, `{}`)
	require.Equal(t, http.StatusOK, status, "%v", paused)
	require.Equal(t, "WEBHOOK_STATE_PAUSED", paused["webhook"].(map[string]any)["state"])
	status, problem := call(http.MethodPost, "/v1/webhooks", r.key, `{"webhook":{"url":"https://example.com/h"}}`)
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, fmt.Sprint(problem), "event_types")
	status, _ = call(http.MethodGet, "/v1/webhooks/"+id, "wrong", "")
	require.Equal(t, http.StatusUnauthorized, status)
	status, _ = call(http.MethodGet, "/v1/nothing", r.key, "")
	require.Equal(t, http.StatusNotFound, status)
}
