package api_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/rpc"
	"github.com/postrider/postrider/pkg/seal"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/deadletterstream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/stream/journal"
	"github.com/postrider/postrider/pkg/telemetry"
	dispatcherv1 "github.com/postrider/postrider/proto/gen/go/postrider/dispatcher/v1"
	routerv1 "github.com/postrider/postrider/proto/gen/go/postrider/router/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api"
	"github.com/postrider/postrider/services/api/internal/publicurl"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/natstest"
)

const (
	active   = postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE
	disabled = postriderv1.WebhookState_WEBHOOK_STATE_DISABLED
	paused   = postriderv1.WebhookState_WEBHOOK_STATE_PAUSED
)

// prober sends probes as a dispatcher does, to the webhook's URL as the store has it. It is a
// working small dispatcher, without the guard of egress; services/dispatcher tests that.
type prober struct {
	dispatcherv1.UnimplementedDispatcherServiceServer
	store *config.Store
	away  bool
}

func (p *prober) SendProbe(ctx context.Context, req *dispatcherv1.SendProbeRequest) (*dispatcherv1.SendProbeResponse, error) {
	if p.away {
		return nil, status.Error(codes.Unavailable, "away")
	}
	rec, _, err := p.store.GetWebhook(ctx, req.GetAccountId(), req.GetWebhookId())
	if err != nil {
		return nil, err
	}
	out, err := http.NewRequestWithContext(ctx, req.GetMethod(), rec.GetWebhook().GetUrl(), strings.NewReader(string(req.GetBody())))
	if err != nil {
		return nil, err
	}
	for k, v := range req.GetHeaders() {
		out.Header.Set(k, v)
	}
	resp, err := http.DefaultTransport.RoundTrip(out)
	if err != nil {
		return &dispatcherv1.SendProbeResponse{ErrorClass: "connect", ErrorMessage: "refused"}, nil
	}
	defer func() { _ = resp.Body.Close() }()
	answer := &dispatcherv1.SendProbeResponse{StatusCode: int32(resp.StatusCode), Headers: map[string]string{}}
	for k, v := range resp.Header {
		answer.Headers[strings.ToLower(k)] = strings.Join(v, ", ")
	}
	return answer, nil
}

// receiver answers as its function says, and keeps what it was asked.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	answer http.HandlerFunc
	asked  []*http.Request
	bodies []string
}

func newReceiver(t *testing.T, answer http.HandlerFunc) *receiver {
	t.Helper()
	r := &receiver{answer: answer}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		r.asked, r.bodies = append(r.asked, req), append(r.bodies, string(body))
		answer := r.answer
		r.mu.Unlock()
		req.Body = io.NopCloser(strings.NewReader(string(body)))
		answer(w, req)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) turn(answer http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

func (r *receiver) last(t *testing.T) *http.Request {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	require.NotEmpty(t, r.asked)
	return r.asked[len(r.asked)-1]
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.asked)
}

// asking is an api service with a small dispatcher, reached from receivers too.
type asking struct {
	rig
	prober *prober
	web    *httptest.Server
}

func setupAsking(t *testing.T) *asking {
	t.Helper()
	c, err := stream.New(natstest.Start(t).Connect(t), stream.Default())
	require.NoError(t, err)
	t.Cleanup(c.Close)
	a := &asking{}
	a.store, err = config.Ensure(t.Context(), c)
	require.NoError(t, err)
	a.journal, err = journal.Ensure(t.Context(), c, journal.Default())
	require.NoError(t, err)
	letters, err := deadletterstream.Ensure(t.Context(), c, deadletterstream.Default())
	require.NoError(t, err)
	events, err := eventstream.Ensure(t.Context(), c, eventstream.Default())
	require.NoError(t, err)
	keyset, err := seal.Generate()
	require.NoError(t, err)
	a.sealer, err = seal.Parse(keyset)
	require.NoError(t, err)
	nobody, err := rpc.Dial(rpc.ClientConfig{Target: "127.0.0.1:1"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = nobody.Close() })
	a.prober = &prober{store: a.store}
	cfg := api.Default()
	cfg.LogFile, cfg.AllowHTTP, cfg.Origin = filepath.Join(t.TempDir(), "log.db"), true, "hooks.example.com"
	a.web = httptest.NewUnstartedServer(nil)
	cfg.PublicURL = publicurl.Base("http://" + a.web.Listener.Addr().String())
	a.service, err = api.New(t.Context(), cfg, api.Deps{
		Streams: c, Store: a.store, Journal: a.journal, DeadLetters: letters, Events: events, EventsAge: 7 * 24 * time.Hour, Sealer: a.sealer,
		Router: routerv1.NewRouterServiceClient(nobody), Dispatcher: serveProber(t, a.prober),
		Scheduler: schedulerv1.NewSchedulerServiceClient(nobody), AdminKey: adminKey, Instance: "api-test",
		Logger: logtest.New(t), Telemetry: telemetry.Noop(),
	})
	require.NoError(t, err)
	a.web.Config.Handler = a.service.Handler()
	a.web.Start()
	require.NoError(t, a.service.Start(t.Context()))
	conn := serve(t, a.service)
	t.Cleanup(func() {
		a.web.Close()
		require.NoError(t, a.service.Stop(context.WithoutCancel(t.Context())))
	})
	a.accounts, a.webhooks = postriderv1.NewAccountServiceClient(conn), postriderv1.NewWebhookServiceClient(conn)
	a.account, a.key = a.newAccount(t, "manage", "read")
	return a
}

func serveProber(t *testing.T, p *prober) dispatcherv1.DispatcherServiceClient {
	t.Helper()
	listener, option := rpc.InMemory()
	server, err := rpc.NewServer(rpc.ServerConfig{}, logtest.New(t), rpc.WithListener(listener))
	require.NoError(t, err)
	dispatcherv1.RegisterDispatcherServiceServer(server.Registrar(), p)
	require.NoError(t, server.Start(t.Context()))
	conn, err := rpc.Dial(rpc.ClientConfig{Target: rpc.InMemoryTarget}, option)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = conn.Close()
		require.NoError(t, server.Stop(context.WithoutCancel(t.Context())))
	})
	return dispatcherv1.NewDispatcherServiceClient(conn)
}

func (a *asking) create(t *testing.T, w *postriderv1.Webhook) (*postriderv1.Webhook, string) {
	t.Helper()
	resp, err := a.webhooks.CreateWebhook(a.ctx(t), &postriderv1.CreateWebhookRequest{Webhook: w})
	require.NoError(t, err)
	return resp.GetWebhook(), resp.GetSecret()
}

func (a *asking) get(t *testing.T, id string) *postriderv1.Webhook {
	t.Helper()
	resp, err := a.webhooks.GetWebhook(a.ctx(t), &postriderv1.GetWebhookRequest{WebhookId: id})
	require.NoError(t, err)
	return resp.GetWebhook()
}

func (a *asking) move(t *testing.T, id, url string) *postriderv1.Webhook {
	t.Helper()
	resp, err := a.webhooks.UpdateWebhook(a.ctx(t), &postriderv1.UpdateWebhookRequest{
		Webhook: &postriderv1.Webhook{Id: id, Url: url}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"url"}},
	})
	require.NoError(t, err)
	return resp.GetWebhook()
}

func requireState(t *testing.T, w *postriderv1.Webhook, state postriderv1.WebhookState, reason string) {
	t.Helper()
	require.Equal(t, state.String(), w.GetState().String())
	require.Equal(t, reason, w.GetStateReason())
}

// tells takes one token and refuses every other.
func tells(token *string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Token string `json:"token"`
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.Token != *token {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
}

func TestAReceiverTellsItsTokenFromAnother(t *testing.T) {
	t.Parallel()
	a := setupAsking(t)
	var token string
	rec := newReceiver(t, tells(&token))
	w, secret := a.create(t, &postriderv1.Webhook{
		Profile: "labelst", Url: rec.URL + "/hook", EventTypes: []string{"*"}, Options: &postriderv1.ProfileOptions{RequireVerification: true},
	})
	token = secret
	requireState(t, w, disabled, "unverified")
	_, err := a.webhooks.ResumeWebhook(a.ctx(t), &postriderv1.ResumeWebhookRequest{WebhookId: w.GetId()})
	requireFault(t, err, fault.Precondition, "has to be verified first")

	verify := func() *postriderv1.Webhook {
		resp, err := a.webhooks.VerifyWebhook(a.ctx(t), &postriderv1.VerifyWebhookRequest{WebhookId: w.GetId()})
		require.NoError(t, err)
		return resp.GetWebhook()
	}
	got := verify()
	requireState(t, got, active, "")
	require.True(t, got.GetVerification().GetValid())
	require.Equal(t, []int32{200, 401}, []int32{got.GetVerification().GetOwnStatus(), got.GetVerification().GetOtherStatus()})
	require.Equal(t, http.MethodPost, rec.last(t).Method)
	require.Equal(t, "application/json", rec.last(t).Header.Get("Content-Type"))
	require.Equal(t, `{"token":"`+secret+`"}`, rec.bodies[0])
	require.Regexp(t, `^\{"token":"whtok_[0-9a-f]{32}"\}$`, rec.bodies[1])
	require.NotEqual(t, rec.bodies[0], rec.bodies[1])

	rec.turn(func(http.ResponseWriter, *http.Request) {}) // takes every token
	got = verify()
	requireState(t, got, disabled, "unverified")
	require.Equal(t, "another token was answered with 200 in place of 401", got.GetVerification().GetDetail())
	rec.turn(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
	require.Equal(t, "its own token was answered with 401 in place of 200", verify().GetVerification().GetDetail())
	rec.turn(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	require.False(t, verify().GetVerification().GetValid(), "only 200 and 401 will do")
	rec.turn(tells(&token))
	requireState(t, verify(), active, "")
	requireState(t, a.move(t, w.GetId(), rec.URL+"/elsewhere"), disabled, "unverified")
	require.Nil(t, a.get(t, w.GetId()).GetVerification())
	rec.Close()
	got = verify()
	require.Contains(t, got.GetVerification().GetDetail(), "nothing (connect: refused)")
	require.Zero(t, got.GetVerification().GetOwnStatus())
}

func TestVerificationIsNoConditionUnlessItIsRequired(t *testing.T) {
	t.Parallel()
	a := setupAsking(t)
	rec := newReceiver(t, func(http.ResponseWriter, *http.Request) {})
	w, _ := a.create(t, &postriderv1.Webhook{Profile: "labelst", Url: rec.URL, EventTypes: []string{"*"}})
	requireState(t, w, active, "")
	resp, err := a.webhooks.VerifyWebhook(a.ctx(t), &postriderv1.VerifyWebhookRequest{WebhookId: w.GetId()})
	require.NoError(t, err)
	require.False(t, resp.GetWebhook().GetVerification().GetValid())
	requireState(t, resp.GetWebhook(), active, "")
	other, _ := a.create(t, &postriderv1.Webhook{Url: rec.URL, EventTypes: []string{"*"}})
	_, err = a.webhooks.VerifyWebhook(a.ctx(t), &postriderv1.VerifyWebhookRequest{WebhookId: other.GetId()})
	requireFault(t, err, fault.Precondition, "only webhooks of the profile labelst")
	a.prober.away = true
	_, err = a.webhooks.VerifyWebhook(a.ctx(t), &postriderv1.VerifyWebhookRequest{WebhookId: w.GetId()})
	requireFault(t, err, fault.Unavailable, "")
}

func consents(headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
	}
}

func cloudEvents(url, handshake string) *postriderv1.Webhook {
	return &postriderv1.Webhook{
		Profile: "cloudevents", Url: url, EventTypes: []string{"*"}, Options: &postriderv1.ProfileOptions{Handshake: handshake},
	}
}

func TestWhatIsConsent(t *testing.T) {
	t.Parallel()
	a := setupAsking(t)
	tests := map[string]struct {
		headers []string
		rate    int32
		allowed int32 // -1: no consent
		detail  string
	}{
		"200 without headers":              {nil, 0, -1, "the answer 200 has no WebHook-Allowed-Origin"},
		"the same name":                    {[]string{"WebHook-Allowed-Origin", "hooks.example.com"}, 0, 0, ""},
		"the same name in other case":      {[]string{"webhook-allowed-origin", "HOOKS.example.com"}, 0, 0, ""},
		"any name":                         {[]string{"WebHook-Allowed-Origin", "*"}, 0, 0, ""},
		"another name":                     {[]string{"WebHook-Allowed-Origin", "example.com"}, 0, -1, "WebHook-Allowed-Origin names another origin"},
		"no rate where one was asked for":  {[]string{"WebHook-Allowed-Origin", "*"}, 60, -1, "the answer has no WebHook-Allowed-Rate, though a rate was asked for"},
		"the rate that was asked for":      {[]string{"WebHook-Allowed-Origin", "*", "WebHook-Allowed-Rate", "60"}, 60, 60, ""},
		"a smaller rate":                   {[]string{"WebHook-Allowed-Origin", "*", "WebHook-Allowed-Rate", "1"}, 60, 1, ""},
		"any rate":                         {[]string{"WebHook-Allowed-Origin", "*", "WebHook-Allowed-Rate", "*"}, 60, 0, ""},
		"a rate though none was asked for": {[]string{"WebHook-Allowed-Origin", "*", "WebHook-Allowed-Rate", "30"}, 0, 30, ""},
		"a rate of nothing":                {[]string{"WebHook-Allowed-Origin", "*", "WebHook-Allowed-Rate", "0"}, 60, -1, "WebHook-Allowed-Rate is neither * nor an integer of at least 1"},
		"a rate that is none":              {[]string{"WebHook-Allowed-Origin", "*", "WebHook-Allowed-Rate", "1.5"}, 60, -1, "WebHook-Allowed-Rate is neither * nor an integer of at least 1"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec := newReceiver(t, consents(tc.headers...))
			w, _ := a.create(t, cloudEvents(rec.URL+"/in?a=b", "off"))
			require.Zero(t, rec.count())
			resp, err := a.webhooks.HandshakeWebhook(a.ctx(t), &postriderv1.HandshakeWebhookRequest{WebhookId: w.GetId(), Rate: tc.rate})
			require.NoError(t, err)
			h := resp.GetWebhook().GetHandshake()
			require.Equal(t, tc.detail, h.GetDetail())
			require.Equal(t, tc.allowed >= 0, h.GetConsented())
			require.Equal(t, max(0, tc.allowed), h.GetAllowedRate())
			require.Equal(t, "hooks.example.com", h.GetOrigin())
			asked := rec.last(t)
			require.Equal(t, http.MethodOptions, asked.Method)
			require.Equal(t, "/in?a=b", asked.RequestURI)
			require.Equal(t, "hooks.example.com", asked.Header.Get("WebHook-Request-Origin"))
			require.Regexp(t, `^http://127\.0\.0\.1:\d+/callbacks/handshake/[A-Z2-7]{26}$`, asked.Header.Get("WebHook-Request-Callback"))
			_, stated := asked.Header["Webhook-Request-Rate"]
			require.Equal(t, tc.rate > 0, stated)
		})
	}
}

func TestAWebhookThatNeedsConsentIsHeldWithoutIt(t *testing.T) {
	t.Parallel()
	a := setupAsking(t)
	rec := newReceiver(t, consents())
	w, _ := a.create(t, cloudEvents(rec.URL+"/a", "required"))
	requireState(t, w, disabled, "no_consent")
	require.Equal(t, 1, rec.count(), "it was asked at once")
	_, err := a.webhooks.ResumeWebhook(a.ctx(t), &postriderv1.ResumeWebhookRequest{WebhookId: w.GetId()})
	requireFault(t, err, fault.Precondition, "has to consent first")

	rec.turn(consents("WebHook-Allowed-Origin", "*"))
	resp, err := a.webhooks.HandshakeWebhook(a.ctx(t), &postriderv1.HandshakeWebhookRequest{WebhookId: w.GetId()})
	require.NoError(t, err)
	requireState(t, resp.GetWebhook(), active, "")
	moved := a.move(t, w.GetId(), rec.URL+"/b")
	requireState(t, moved, active, "")
	require.Equal(t, "/b", rec.last(t).RequestURI, "the new URL was asked")
	rec.turn(consents())
	requireState(t, a.move(t, w.GetId(), rec.URL+"/c"), disabled, "no_consent")

	// What its owner does meanwhile stays.
	_, err = a.webhooks.PauseWebhook(a.ctx(t), &postriderv1.PauseWebhookRequest{WebhookId: w.GetId()})
	require.NoError(t, err)
	rec.turn(consents("WebHook-Allowed-Origin", "*"))
	resp, err = a.webhooks.HandshakeWebhook(a.ctx(t), &postriderv1.HandshakeWebhookRequest{WebhookId: w.GetId()})
	require.NoError(t, err)
	requireState(t, resp.GetWebhook(), paused, "owner")
}

func TestAnOptionalHandshakeHoldsNothing(t *testing.T) {
	t.Parallel()
	a := setupAsking(t)
	rec := newReceiver(t, consents("WebHook-Allowed-Origin", "*", "WebHook-Allowed-Rate", "120"))
	rate := 3.5
	given := cloudEvents(rec.URL, "optional")
	given.RateLimit = &rate
	w, _ := a.create(t, given)
	requireState(t, w, active, "")
	require.Equal(t, int32(120), w.GetHandshake().GetAllowedRate())
	require.Equal(t, "210", rec.last(t).Header.Get("WebHook-Request-Rate"), "its own limit is asked for")
	rec.Close()
	silent, _ := a.create(t, cloudEvents(rec.URL, "optional"))
	requireState(t, silent, active, "")
	require.False(t, silent.GetHandshake().GetConsented())
	a.prober.away = true
	unasked, _ := a.create(t, cloudEvents(rec.URL, "required"))
	requireState(t, unasked, disabled, "no_consent")
	require.Nil(t, unasked.GetHandshake())
}

func TestAReceiverConsentsLaterOnce(t *testing.T) {
	t.Parallel()
	a := setupAsking(t)
	rec := newReceiver(t, consents())
	call := func(method, url, rate string) int {
		req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
		require.NoError(t, err)
		if rate != "" {
			req.Header.Set("WebHook-Allowed-Rate", rate)
		}
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode
	}
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		w, _ := a.create(t, cloudEvents(rec.URL+"/"+method, "required"))
		requireState(t, w, disabled, "no_consent")
		callback := rec.last(t).Header.Get("WebHook-Request-Callback")
		require.Equal(t, http.StatusMethodNotAllowed, call(http.MethodPut, callback, ""))
		require.Equal(t, http.StatusBadRequest, call(method, callback, "none"))
		require.Equal(t, http.StatusNotFound, call(method, callback+"A", ""))
		require.Equal(t, http.StatusNotFound, call(method, a.web.URL+"/callbacks/handshake/", ""))
		require.Equal(t, http.StatusOK, call(method, callback, "30"))
		got := a.get(t, w.GetId())
		requireState(t, got, active, "")
		require.True(t, got.GetHandshake().GetConsented())
		require.Equal(t, int32(30), got.GetHandshake().GetAllowedRate())
		require.Equal(t, http.StatusNotFound, call(method, callback, ""), "it was used")
	}

	w, _ := a.create(t, cloudEvents(rec.URL+"/x", "required"))
	first := rec.last(t).Header.Get("WebHook-Request-Callback")
	_, err := a.webhooks.HandshakeWebhook(a.ctx(t), &postriderv1.HandshakeWebhookRequest{WebhookId: w.GetId(), Rate: 60})
	require.NoError(t, err)
	second := rec.last(t).Header.Get("WebHook-Request-Callback")
	require.Equal(t, http.StatusNotFound, call(http.MethodGet, first, ""), "a new one takes its place")
	a.move(t, w.GetId(), rec.URL+"/y")
	third := rec.last(t).Header.Get("WebHook-Request-Callback")
	require.Equal(t, http.StatusNotFound, call(http.MethodGet, second, ""), "it was for the old URL")
	_, err = a.webhooks.DeleteWebhook(a.ctx(t), &postriderv1.DeleteWebhookRequest{WebhookId: w.GetId()})
	require.NoError(t, err)
	require.Equal(t, http.StatusNotFound, call(http.MethodGet, third, ""), "its webhook is gone")
	refused := false
	for range 60 {
		refused = refused || call(http.MethodGet, third, "") == http.StatusTooManyRequests
	}
	require.True(t, refused, "nobody looks for tokens by the thousand")
}
