package console_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/access"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/rpc"
	"github.com/postrider/postrider/pkg/seal"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/console"
	"github.com/postrider/postrider/test/fixture/logtest"
)

const (
	account = "acc_01JDXN0000000000000000000A"
	other   = "acc_01JDXN0000000000000000000B"
	hookID  = "wh_01JDXN0000000000000000000C"
	eventID = "evt_01JDXN0000000000000000000D"
	dlvID   = "dlv_0123456789abcdef0123456789abcdef"

	manageKey = "prk_manage"
	readKey   = "prk_read"
	adminKey  = "prk_admin"
	portalKey = "prt_portal"

	// hostile is what a page must never take for its own markup.
	hostile = `"><script>alert(1)</script>'<img src=x onerror=alert(1)>`
)

// api is the public API with one of each thing, all of whose texts are hostile. It knows four
// credentials, and answers for one account only.
type api struct {
	postriderv1.UnimplementedAccountServiceServer
	postriderv1.UnimplementedWebhookServiceServer
	postriderv1.UnimplementedEventTypeServiceServer
	postriderv1.UnimplementedDeliveryServiceServer
	postriderv1.UnimplementedReplayServiceServer
	postriderv1.UnimplementedLedgerServiceServer
	postriderv1.UnimplementedSigningKeyServiceServer
	postriderv1.UnimplementedActivityServiceServer
	postriderv1.UnimplementedAuditServiceServer
	postriderv1.UnimplementedLogServiceServer
	calls     chan string
	health    *postriderv1.WebhookHealth // nil: not known
	healthErr error
	status    *postriderv1.GetLogStatusResponse // nil: cannot be told
	expunge   error
	listed    atomic.Pointer[postriderv1.ListDeliveriesRequest] // the last one
	expunged  bool                                              // whether the event's payload was removed
}

var now = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func (a *api) who(ctx context.Context) (*postriderv1.GetCallerResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	switch strings.TrimPrefix(strings.Join(md.Get("authorization"), ""), "Bearer ") {
	case manageKey:
		return &postriderv1.GetCallerResponse{AccountId: account, ApiKeyId: "key_1", Scopes: []string{"manage", "read"}}, nil
	case readKey:
		return &postriderv1.GetCallerResponse{AccountId: account, ApiKeyId: "key_2", Scopes: []string{"read"}}, nil
	case adminKey:
		return &postriderv1.GetCallerResponse{ApiKeyId: "bootstrap", Scopes: []string{"admin"}}, nil
	case portalKey:
		return &postriderv1.GetCallerResponse{AccountId: account, ApiKeyId: "portal", Scopes: []string{"read", "manage"}, Portal: true, ExpireTime: timestamppb.New(now.Add(time.Hour))}, nil
	}
	return nil, access.CredentialInvalid()
}

// guard is what every call passes: the credential must be known, and the account its own.
func (a *api) guard(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if _, err := a.who(ctx); err != nil {
		return nil, err
	}
	if named, ok := req.(interface{ GetAccountId() string }); ok {
		if id := named.GetAccountId(); id != "" && id != account {
			return nil, fault.New(fault.NotFound, "ACCOUNT_NOT_FOUND", "there is no such account")
		}
	}
	return next(ctx, req)
}

func (a *api) GetCaller(ctx context.Context, _ *postriderv1.GetCallerRequest) (*postriderv1.GetCallerResponse, error) {
	return a.who(ctx)
}

func (a *api) GetAccount(context.Context, *postriderv1.GetAccountRequest) (*postriderv1.GetAccountResponse, error) {
	return &postriderv1.GetAccountResponse{Account: &postriderv1.Account{Id: account, DisplayName: hostile, Subdomain: hostile, TimeZone: hostile}}, nil
}

func (a *api) ListAccounts(context.Context, *postriderv1.ListAccountsRequest) (*postriderv1.ListAccountsResponse, error) {
	return &postriderv1.ListAccountsResponse{Accounts: []*postriderv1.Account{{Id: account, DisplayName: hostile}}}, nil
}

func (a *api) ListApiKeys(context.Context, *postriderv1.ListApiKeysRequest) (*postriderv1.ListApiKeysResponse, error) { //nolint:revive // named by the proto
	return &postriderv1.ListApiKeysResponse{ApiKeys: []*postriderv1.ApiKey{{Id: "key_1", DisplayName: hostile, Scopes: []string{"read"}}}}, nil
}

func webhook() *postriderv1.Webhook {
	return &postriderv1.Webhook{
		Id: hookID, DisplayName: hostile, Url: "https://example.com/?q=" + hostile, Method: "POST", EventTypes: []string{"release.*"}, Filter: hostile,
		Profile: "standard", State: postriderv1.WebhookState_WEBHOOK_STATE_PAUSED, StateReason: hostile, CreateTime: timestamppb.New(now),
		Headers: map[string]string{"X-A": hostile}, Secrets: []*postriderv1.WebhookSecret{{Id: "s", Kind: "hmac", CreateTime: timestamppb.New(now)}},
	}
}

func (a *api) ListWebhooks(context.Context, *postriderv1.ListWebhooksRequest) (*postriderv1.ListWebhooksResponse, error) {
	return &postriderv1.ListWebhooksResponse{Webhooks: []*postriderv1.Webhook{webhook()}}, nil
}

func (a *api) GetWebhook(_ context.Context, req *postriderv1.GetWebhookRequest) (*postriderv1.GetWebhookResponse, error) {
	if req.GetWebhookId() != hookID {
		return nil, fault.New(fault.NotFound, "NOT_FOUND", "no webhook "+req.GetWebhookId())
	}
	return &postriderv1.GetWebhookResponse{Webhook: webhook()}, nil
}

func (a *api) PauseWebhook(context.Context, *postriderv1.PauseWebhookRequest) (*postriderv1.PauseWebhookResponse, error) {
	a.calls <- "PauseWebhook"
	return &postriderv1.PauseWebhookResponse{Webhook: webhook()}, nil
}

func (a *api) CreateWebhook(_ context.Context, req *postriderv1.CreateWebhookRequest) (*postriderv1.CreateWebhookResponse, error) {
	if !strings.HasPrefix(req.GetWebhook().GetUrl(), "https://") {
		return nil, fault.InvalidFields(fault.Violation{Field: "webhook.url", Rule: "must begin with https://"})
	}
	a.calls <- "CreateWebhook " + req.GetWebhook().GetProfile() + " " + req.GetWebhook().GetMethod() + " " + strings.Join(req.GetWebhook().GetEventTypes(), ",")
	w := webhook()
	return &postriderv1.CreateWebhookResponse{Webhook: w, Secret: "whsec_shown-once"}, nil
}

func (a *api) UpdateWebhook(_ context.Context, req *postriderv1.UpdateWebhookRequest) (*postriderv1.UpdateWebhookResponse, error) {
	s := req.GetWebhook().GetRetrySchedule()
	for i, d := range s.GetDelays() {
		if d.AsDuration() > 24*time.Hour {
			return nil, fault.InvalidFields(fault.Violation{Field: fmt.Sprintf("webhook.retry_schedule.delays[%d]", i), Rule: "must be 0 s to 24 h"})
		}
	}
	a.calls <- "UpdateWebhook " + prototext.MarshalOptions{}.Format(s)
	return &postriderv1.UpdateWebhookResponse{Webhook: req.GetWebhook()}, nil
}

func (a *api) UpdateApiKey(_ context.Context, req *postriderv1.UpdateApiKeyRequest) (*postriderv1.UpdateApiKeyResponse, error) { //nolint:revive // named by the proto
	if slices.Contains(req.GetApiKey().GetScopes(), "publish") {
		return nil, fault.New(fault.Denied, "SCOPE_MISSING", "the key lacks the scope publish").WithMetadata("scope", "publish")
	}
	if len(req.GetApiKey().GetScopes()) == 0 {
		return nil, fault.InvalidFields(fault.Violation{Field: "api_key.scopes", Rule: "at least one is required"})
	}
	a.calls <- "UpdateApiKey " + req.GetApiKey().GetId() + " " + strings.Join(req.GetApiKey().GetScopes(), ",")
	return &postriderv1.UpdateApiKeyResponse{ApiKey: req.GetApiKey()}, nil
}

func (a *api) GetLogStatus(context.Context, *postriderv1.GetLogStatusRequest) (*postriderv1.GetLogStatusResponse, error) {
	if a.status == nil {
		return nil, fault.New(fault.Unavailable, "JOURNAL_UNAVAILABLE", "the journal cannot be asked now")
	}
	return a.status, nil
}

func (a *api) ExpungeEvent(_ context.Context, req *postriderv1.ExpungeEventRequest) (*postriderv1.ExpungeEventResponse, error) {
	if a.expunge != nil {
		return nil, a.expunge
	}
	a.calls <- "ExpungeEvent " + req.GetEventId()
	return &postriderv1.ExpungeEventResponse{EventRemoved: true, DeadLettersRemoved: 1, AttemptsRedacted: 3}, nil
}

func (a *api) TestWebhook(context.Context, *postriderv1.TestWebhookRequest) (*postriderv1.TestWebhookResponse, error) {
	return &postriderv1.TestWebhookResponse{StatusCode: 500, ErrorClass: "http_status", Message: hostile, ResponseBody: []byte(hostile), DeliveryId: dlvID}, nil
}

func (a *api) ExplainMatch(context.Context, *postriderv1.ExplainMatchRequest) (*postriderv1.ExplainMatchResponse, error) {
	return &postriderv1.ExplainMatchResponse{Total: 1, Explanations: []*postriderv1.MatchExplanation{{WebhookId: hookID, Reason: "filter_error", Detail: hostile}}}, nil
}

func (a *api) ListEventTypes(context.Context, *postriderv1.ListEventTypesRequest) (*postriderv1.ListEventTypesResponse, error) {
	return &postriderv1.ListEventTypesResponse{EventTypes: []*postriderv1.EventType{{Name: "release.live", Group: hostile, Description: hostile}}}, nil
}

func (a *api) GetEventType(context.Context, *postriderv1.GetEventTypeRequest) (*postriderv1.GetEventTypeResponse, error) {
	return &postriderv1.GetEventTypeResponse{EventType: &postriderv1.EventType{Name: "release.live", Description: hostile, Example: []byte(hostile), Schema: []byte(`{"title":"` + "<script>" + `"}`)}}, nil
}

func delivery() *postriderv1.Delivery {
	return &postriderv1.Delivery{
		Id: dlvID, EventId: eventID, EventType: "release.live", WebhookId: hookID, State: postriderv1.DeliveryState_DELIVERY_STATE_DEAD, Reason: hostile,
		LastErrorClass: hostile, CreateTime: timestamppb.New(now), UpdateTime: timestamppb.New(now),
	}
}

func attempt(id string) *postriderv1.Attempt {
	return &postriderv1.Attempt{
		Id: id, Number: 1, Outcome: "retryable", ErrorClass: hostile, ErrorMessage: hostile, RequestUrl: hostile, RequestHeaders: map[string]string{hostile: hostile},
		StatusCode: 500, ResponseHeaders: map[string]string{hostile: hostile}, ResponseBody: []byte(hostile), StartTime: timestamppb.New(now),
	}
}

func (a *api) ListDeliveries(_ context.Context, req *postriderv1.ListDeliveriesRequest) (*postriderv1.ListDeliveriesResponse, error) {
	a.listed.Store(req)
	if a.status.GetRebuilding() {
		return nil, fault.New(fault.Unavailable, "LOG_REBUILDING", "the delivery log is being built again")
	}
	return &postriderv1.ListDeliveriesResponse{Deliveries: []*postriderv1.Delivery{delivery()}, NextPageToken: hostile}, nil
}

func (a *api) GetDelivery(context.Context, *postriderv1.GetDeliveryRequest) (*postriderv1.GetDeliveryResponse, error) {
	return &postriderv1.GetDeliveryResponse{Delivery: delivery()}, nil
}

func (a *api) ListAttempts(context.Context, *postriderv1.ListAttemptsRequest) (*postriderv1.ListAttemptsResponse, error) {
	return &postriderv1.ListAttemptsResponse{Attempts: []*postriderv1.Attempt{attempt("att_a"), attempt("att_b")}}, nil
}

func (a *api) SummarizeDeadLetters(context.Context, *postriderv1.SummarizeDeadLettersRequest) (*postriderv1.SummarizeDeadLettersResponse, error) {
	return &postriderv1.SummarizeDeadLettersResponse{Total: 1, Groups: []*postriderv1.DeadLetterGroup{{WebhookId: hookID, Cause: hostile, EventType: "release.live", Count: 1}}}, nil
}

func (a *api) ListDeadLetters(context.Context, *postriderv1.ListDeadLettersRequest) (*postriderv1.ListDeadLettersResponse, error) {
	return &postriderv1.ListDeadLettersResponse{DeadLetters: []*postriderv1.DeadLetter{{DeliveryId: dlvID, WebhookId: hookID, EventId: eventID, EventType: "release.live", LastErrorClass: hostile}}}, nil
}

func (a *api) ListReplays(context.Context, *postriderv1.ListReplaysRequest) (*postriderv1.ListReplaysResponse, error) {
	return &postriderv1.ListReplaysResponse{Replays: []*postriderv1.Replay{{Id: "rpl_1", Trouble: hostile}}}, nil
}

func (a *api) GetReplay(context.Context, *postriderv1.GetReplayRequest) (*postriderv1.GetReplayResponse, error) {
	return &postriderv1.GetReplayResponse{Replay: &postriderv1.Replay{Id: "rpl_1", Trouble: hostile, State: postriderv1.ReplayState_REPLAY_STATE_RUNNING}}, nil
}

func (a *api) ListSigningKeys(context.Context, *postriderv1.ListSigningKeysRequest) (*postriderv1.ListSigningKeysResponse, error) {
	return &postriderv1.ListSigningKeysResponse{SigningKeys: []*postriderv1.SigningKey{{Id: hostile, Algorithm: "ed25519"}}}, nil
}

func (a *api) ListClientKeys(context.Context, *postriderv1.ListClientKeysRequest) (*postriderv1.ListClientKeysResponse, error) {
	return &postriderv1.ListClientKeysResponse{}, nil
}

func (a *api) GetLedger(context.Context, *postriderv1.GetLedgerRequest) (*postriderv1.GetLedgerResponse, error) {
	return &postriderv1.GetLedgerResponse{Ledger: &postriderv1.Ledger{Routed: 10, Delivered: 9, Dead: 1}}, nil
}

func (a *api) GetWebhookBacklog(context.Context, *postriderv1.GetWebhookBacklogRequest) (*postriderv1.GetWebhookBacklogResponse, error) {
	return &postriderv1.GetWebhookBacklogResponse{Failing: &postriderv1.FailingSpell{LastErrorClass: hostile, StartTime: timestamppb.New(now)}}, nil
}

func (a *api) GetWebhookHealth(context.Context, *postriderv1.GetWebhookHealthRequest) (*postriderv1.GetWebhookHealthResponse, error) {
	return &postriderv1.GetWebhookHealthResponse{Health: a.health}, a.healthErr
}

func (a *api) GetActivity(_ context.Context, req *postriderv1.GetActivityRequest) (*postriderv1.GetActivityResponse, error) {
	return &postriderv1.GetActivityResponse{Total: &postriderv1.ActivityPoint{Succeeded: 3, Failed: 1}, Points: []*postriderv1.ActivityPoint{{Time: req.GetStartTime(), Succeeded: 3, Failed: 1}}}, nil
}

func (a *api) ListAuditEntries(context.Context, *postriderv1.ListAuditEntriesRequest) (*postriderv1.ListAuditEntriesResponse, error) {
	return &postriderv1.ListAuditEntriesResponse{Entries: []*postriderv1.AuditEntry{{Method: hostile, Targets: []string{hostile}, Fields: []string{hostile}, ErrorReason: hostile}}}, nil
}

func (a *api) LookUp(_ context.Context, req *postriderv1.LookUpRequest) (*postriderv1.LookUpResponse, error) {
	if req.GetId() != eventID {
		return nil, fault.New(fault.NotFound, "NOT_FOUND", "nothing")
	}
	return &postriderv1.LookUpResponse{Matches: []*postriderv1.LookUpMatch{{Kind: postriderv1.LookUpKind_LOOK_UP_KIND_EVENT, EventId: eventID}}}, nil
}

func (a *api) ListRecordedEvents(context.Context, *postriderv1.ListRecordedEventsRequest) (*postriderv1.ListRecordedEventsResponse, error) {
	return &postriderv1.ListRecordedEventsResponse{Events: []*postriderv1.RecordedEvent{{Id: eventID, Type: hostile, IdempotencyKey: hostile}}}, nil
}

func (a *api) GetFlightRecord(_ context.Context, req *postriderv1.GetFlightRecordRequest) (*postriderv1.GetFlightRecordResponse, error) {
	if req.GetId() != eventID && req.GetId() != dlvID {
		return nil, fault.New(fault.NotFound, "NOT_FOUND", "no event "+req.GetId())
	}
	if a.expunged {
		masked := attempt("att_a")
		masked.Masked, masked.ResponseBody = true, nil
		return &postriderv1.GetFlightRecordResponse{Record: &postriderv1.FlightRecord{
			Revealed: req.GetReveal(), Event: &postriderv1.RecordedEvent{Id: eventID, Type: "release.live", AcceptTime: timestamppb.New(now), ExpungeTime: timestamppb.New(now)},
			Deliveries: []*postriderv1.DeliveryFlight{{Delivery: delivery(), Steps: []*postriderv1.FlightStep{{What: &postriderv1.FlightStep_Attempt{Attempt: masked}}}}},
		}}, nil
	}
	return &postriderv1.GetFlightRecordResponse{Record: &postriderv1.FlightRecord{
		Revealed: req.GetReveal(), Kept: true, Event: &postriderv1.RecordedEvent{Id: eventID, Type: hostile, IdempotencyKey: hostile, AcceptTime: timestamppb.New(now)},
		Published:  &postriderv1.Event{Data: []byte(hostile), Labels: map[string]string{hostile: hostile}},
		Unmatched:  []*postriderv1.UnmatchedWebhook{{WebhookId: hostile, Reason: "filter", Detail: hostile}},
		Deliveries: []*postriderv1.DeliveryFlight{{Delivery: delivery(), Steps: []*postriderv1.FlightStep{{What: &postriderv1.FlightStep_Attempt{Attempt: attempt("att_a")}}, {What: &postriderv1.FlightStep_Change{Change: &postriderv1.StateChange{Reason: hostile}}}}}},
	}}, nil
}

// site is the console over such an API, and a browser of it.
type site struct {
	t      *testing.T
	api    *api
	server *httptest.Server
	client *http.Client
}

func newSite(t *testing.T, change ...func(*console.Deps)) *site {
	t.Helper()
	a := &api{calls: make(chan string, 100)}
	listener, option := rpc.InMemory()
	server, err := rpc.NewServer(rpc.ServerConfig{}, logtest.New(t), rpc.WithListener(listener), rpc.WithUnary(a.guard))
	require.NoError(t, err)
	r := server.Registrar()
	postriderv1.RegisterAccountServiceServer(r, a)
	postriderv1.RegisterWebhookServiceServer(r, a)
	postriderv1.RegisterEventTypeServiceServer(r, a)
	postriderv1.RegisterDeliveryServiceServer(r, a)
	postriderv1.RegisterReplayServiceServer(r, a)
	postriderv1.RegisterLedgerServiceServer(r, a)
	postriderv1.RegisterSigningKeyServiceServer(r, a)
	postriderv1.RegisterActivityServiceServer(r, a)
	postriderv1.RegisterAuditServiceServer(r, a)
	postriderv1.RegisterLogServiceServer(r, a)
	require.NoError(t, server.Start(t.Context()))
	conn, err := rpc.Dial(rpc.ClientConfig{Target: rpc.InMemoryTarget}, option)
	require.NoError(t, err)
	keyset, err := seal.Generate()
	require.NoError(t, err)
	sealer, err := seal.Parse(keyset)
	require.NoError(t, err)
	deps := console.Deps{Conn: conn, Sealer: sealer, Config: console.DefaultConfig(), Logger: logtest.New(t), Now: func() time.Time { return now }}
	for _, c := range change {
		c(&deps)
	}
	pages, err := console.New(deps)
	require.NoError(t, err)
	s := &site{t: t, api: a, server: httptest.NewServer(pages)}
	t.Cleanup(func() {
		pages.End()
		s.server.Close()
		_ = conn.Close()
		_ = server.Stop(context.WithoutCancel(t.Context()))
	})
	s.client = s.browser()
	return s
}

// browser keeps cookies and follows nothing.
func (s *site) browser() *http.Client {
	jar, err := cookiejar.New(nil)
	require.NoError(s.t, err)
	return &http.Client{Transport: s.server.Client().Transport, Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// answer is a response with its body.
type answer struct {
	*http.Response
	body string
}

func (s *site) do(method, path string, form url.Values, headers ...string) answer {
	s.t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.server.URL+path, body)
	require.NoError(s.t, err)
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := s.client.Do(req)
	require.NoError(s.t, err)
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(s.t, err)
	return answer{resp, string(raw)}
}

func (s *site) get(path string) answer { s.t.Helper(); return s.do(http.MethodGet, path, nil) }

var tokenForm = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

// token is the one that a page's forms bring.
func (s *site) token(page answer) string {
	s.t.Helper()
	m := tokenForm.FindStringSubmatch(page.body)
	require.NotNil(s.t, m, page.body)
	return m[1]
}

func (s *site) signIn(key string) answer {
	s.t.Helper()
	page := s.get("/console/sign-in")
	return s.do(http.MethodPost, "/console/sign-in", url.Values{"key": {key}, "csrf": {s.token(page)}})
}
