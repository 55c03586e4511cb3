package attempt_test

import (
	"crypto/x509"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/httpsig"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/profile"
	"github.com/postrider/postrider/services/dispatcher/internal/attempt"
	"github.com/postrider/postrider/services/dispatcher/internal/egress"
	"github.com/postrider/postrider/services/dispatcher/internal/registry"
	"github.com/postrider/postrider/test/fixture/receivertest"
)

// station is a registry with one account, and a maker whose client trusts a TLS receiver.
type station struct {
	bench

	registry *registry.Registry
	account  *recordv1.Account
}

func newStation(t *testing.T) *station {
	t.Helper()
	receiver := receivertest.New(t, receivertest.WithTLS())
	guard, err := egress.NewGuard([]string{"127.0.0.0/8"})
	require.NoError(t, err)
	client, err := egress.NewClient(egress.Options{Guard: guard, RootCAs: receiver.RootCAs()})
	require.NoError(t, err)
	t.Cleanup(client.Close)
	s := &station{bench: bench{attempt.New(client, noop(), "1.2.3"), receiver, ""}}
	s.registry = registry.New(registry.Options{Opener: open{}, RetryScale: 1, DefaultTimeout: 5 * time.Second, DefaultMaxInFlight: 1})
	s.account = &recordv1.Account{Account: &postriderv1.Account{Id: "acc_1", Subdomain: "developerfm", TimeZone: "Australia/Melbourne"}}
	s.registry.Handlers().Account(s.account, 1)
	return s
}

func (s *station) put(t *testing.T, w *postriderv1.Webhook) {
	t.Helper()
	w.Id, w.AccountId = "wh_1", "acc_1"
	if w.GetUrl() == "" {
		w.Url = s.receiver.URL + "/hook?tenant=7"
	}
	p, err := profile.For(w)
	require.NoError(t, err)
	if s.secret == "" {
		s.secret, _, err = p.NewSecret("")
		require.NoError(t, err)
	}
	s.registry.Handlers().Webhook(&recordv1.Webhook{
		Webhook: w, Secrets: []*recordv1.SealedSecret{{Id: "sec_1", Ciphertext: []byte(s.secret)}},
	}, 1)
}

func (s *station) input(d *recordv1.Delivery, data string) *attempt.Input {
	return &attempt.Input{
		Delivery: d, Webhook: s.registry.Webhook("wh_1"), Account: s.registry.Account("acc_1"), Data: []byte(data), Number: 1,
	}
}

func (s *station) send(t *testing.T, d *recordv1.Delivery, data string) *attempt.Result {
	t.Helper()
	prepared, result, err := s.maker.Prepare(t.Context(), s.input(d, data))
	require.NoError(t, err)
	if prepared != nil {
		result = s.maker.Send(t.Context(), prepared, time.Now())
	}
	_, err = proto.Marshal(result.Record)
	require.NoError(t, err)
	return result
}

func listener() *recordv1.Delivery {
	d := delivery()
	d.EventType = "Listener.updated"
	return d
}

func TestAGetHasNoBodyAndIsMasked(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.put(t, &postriderv1.Webhook{Profile: "audata", Method: "GET", EventTypes: []string{"Listener.updated"}})
	r := s.send(t, listener(), `{"id":17,"email":"john@example.com","tags":["a","b"]}`)
	got := s.receiver.Next(t)
	require.Equal(t, postrider.Succeeded, r.Outcome, r.Record.GetErrorMessage())
	require.Equal(t, "GET", got.Method)
	require.Empty(t, got.Body)
	require.NotContains(t, got.Header, "Content-Type")
	require.NotContains(t, got.Header, "Content-Length")
	require.NotContains(t, got.Header, "Transfer-Encoding")
	query, err := url.ParseQuery(strings.SplitN(got.RequestURI, "?", 2)[1])
	require.NoError(t, err)
	require.Equal(t, "7", query.Get("tenant"))
	require.Equal(t, "john@example.com", query.Get("sender[email]"))
	sent, err := time.Parse("2006-01-02T15:04:05.000-07:00", query.Get("sentAt"))
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), sent, time.Minute)

	require.Equal(t, "GET", r.Record.GetRequestMethod())
	require.NotContains(t, r.Record.String(), "john")
	require.Contains(t, r.Record.GetRequestUrl(), "sender%5Bemail%5D=***")

	r = s.send(t, listener(), `{"id":17,"text":"`+strings.Repeat("x", 9000)+`"}`)
	require.Equal(t, postrider.Permanent, r.Outcome)
	require.Equal(t, postrider.ClassURLTooLong, r.Class)
	require.Equal(t, 1, s.receiver.Count())
}

func TestHTTPIsRefusedAtEveryAttemptWhereItMustBe(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.put(t, &postriderv1.Webhook{Profile: "audata", Url: strings.Replace(s.receiver.URL, "https:", "http:", 1), EventTypes: []string{"Listener.updated"}})
	r := s.send(t, listener(), `{"id":17}`)
	require.Equal(t, postrider.Permanent, r.Outcome)
	require.Contains(t, r.Record.GetErrorMessage(), "https://")
	require.Zero(t, s.receiver.Count())
}

func TestACertificateThatIsNotTrustedIsAFailure(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	stranger := receivertest.New(t, receivertest.WithTLS())
	guard, err := egress.NewGuard([]string{"127.0.0.0/8"})
	require.NoError(t, err)
	client, err := egress.NewClient(egress.Options{Guard: guard, RootCAs: x509.NewCertPool()})
	require.NoError(t, err)
	t.Cleanup(client.Close)
	s.maker = attempt.New(client, noop(), "1")
	s.put(t, &postriderv1.Webhook{Profile: "audata", Url: stranger.URL, EventTypes: []string{"Listener.updated"}})
	r := s.send(t, listener(), `{"id":17}`)
	require.Equal(t, postrider.ClassTLS, r.Class)
	require.Zero(t, stranger.Count())
}

func TestWithoutItsAccountAnAttemptWaits(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.put(t, &postriderv1.Webhook{Profile: "audata", EventTypes: []string{"Listener.updated"}})
	s.registry.Handlers().AccountDeleted("acc_1", 2)
	_, result, err := s.maker.Prepare(t.Context(), s.input(listener(), `{"id":17}`))
	require.ErrorIs(t, err, attempt.ErrNotReady)
	require.ErrorIs(t, err, profile.ErrNoAccount)
	require.Nil(t, result)
}

func TestTheTokenIsNeverRecorded(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.put(t, &postriderv1.Webhook{Profile: "labelst", EventTypes: []string{"*"}})
	token := s.secret
	echo := receivertest.Func(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Echo", strings.Repeat("x", 500)+token)
		w.Header().Set(token, "x")
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, `{"token":"`+token+`","again":"`+token+`"}`)
	})
	s.receiver.Answer(echo, receivertest.Body(500, strings.Repeat("x", egress.MaxRecordedBody-20)+token))
	for range 2 {
		r := s.send(t, delivery(), `{"data":{"id":"30602"}}`)
		got := s.receiver.Next(t)
		require.Equal(t, `{"token":"`+token+`","type":"release.live","request":{"data":{"id":"30602"}}}`, string(got.Body))
		for name, values := range got.Header {
			require.NotContains(t, strings.Join(values, " "), token, name)
		}
		require.NotEmpty(t, r.Record.GetResponseBody())
		require.NotContains(t, r.Record.String(), token)
		require.NotContains(t, r.Record.String(), token[:16], "nor its beginning, where a body was cut")
		require.NotContains(t, strings.ToLower(r.Record.String()), token[:16])
	}
}

// keyed is a sealed signing key in force between two times.
func keyed(t *testing.T, alg httpsig.Algorithm, from, until time.Time) (*recordv1.SealedSigningKey, any) {
	t.Helper()
	private, err := httpsig.GenerateKey(alg)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	id, err := httpsig.Thumbprint(private.Public())
	require.NoError(t, err)
	k := &recordv1.SealedSigningKey{
		Key:        &postriderv1.SigningKey{Id: id, Algorithm: string(alg), SignTime: timestamppb.New(from)},
		Ciphertext: der,
	}
	if !until.IsZero() {
		k.Key.RetireTime = timestamppb.New(until)
	}
	return k, private.Public()
}

func TestTheAccountsKeysInForceSign(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	now := time.Now()
	future, _ := keyed(t, httpsig.ECDSAP384, now.Add(time.Hour), time.Time{})
	current, currentKey := keyed(t, httpsig.ECDSAP384, now.Add(-time.Hour), time.Time{})
	older, olderKey := keyed(t, httpsig.ECDSAP384, now.Add(-2*time.Hour), now.Add(time.Hour))
	retired, _ := keyed(t, httpsig.ECDSAP384, now.Add(-3*time.Hour), now.Add(-time.Hour))
	other, _ := keyed(t, httpsig.Ed25519, now.Add(-time.Hour), time.Time{})
	account := proto.CloneOf(s.account)
	account.SigningKeys = []*recordv1.SealedSigningKey{future, current, older, retired, other}
	s.put(t, &postriderv1.Webhook{Profile: "offblocks", EventTypes: []string{"*"}})

	_, _, err := s.maker.Prepare(t.Context(), s.input(delivery(), `{"id":"1"}`))
	require.ErrorIs(t, err, profile.ErrNoSigner, "no key, and our own trouble")
	before := s.registry.Account("acc_1")
	s.registry.Handlers().Account(account, 2)
	_, ok := s.registry.Begin(s.registry.Webhook("wh_1"), before, "dlv_1")
	require.False(t, ok, "the account was changed")
	_, ok = s.registry.Begin(s.registry.Webhook("wh_1"), s.registry.Account("acc_1"), "dlv_1")
	require.True(t, ok)

	r := s.send(t, delivery(), `{"id":"1"}`)
	require.Equal(t, postrider.Succeeded, r.Outcome)
	got := s.receiver.Next(t)
	for _, key := range []struct {
		sealed *recordv1.SealedSigningKey
		public any
	}{{current, currentKey}, {older, olderKey}} {
		v := httpsig.Verifier{
			Keys: func(id string) (httpsig.Key, bool) {
				return httpsig.Key{Algorithm: httpsig.ECDSAP384, Key: key.public}, id == key.sealed.GetKey().GetId()
			},
			Components: []string{"@method", "@target-uri", "content-type", "content-digest", "webhook-id", "webhook-timestamp"}, Tag: "webhook", RequireExpires: true,
		}
		_, err := v.Verify(&httpsig.Message{Method: got.Method, URL: s.receiver.URL + got.RequestURI, Header: got.Header}, got.Body)
		require.NoError(t, err)
	}
	require.NotContains(t, got.Header.Get("Signature-Input"), future.GetKey().GetId())
	require.NotContains(t, got.Header.Get("Signature-Input"), retired.GetKey().GetId())
	require.NotContains(t, got.Header.Get("Signature-Input"), other.GetKey().GetId())

	broken := proto.CloneOf(account)
	broken.SigningKeys[1].Ciphertext = []byte("nonsense")
	s.registry.Handlers().Account(broken, 3)
	_, _, err = s.maker.Prepare(t.Context(), s.input(delivery(), `{"id":"1"}`))
	require.ErrorIs(t, err, attempt.ErrNotReady)
	require.NotContains(t, err.Error(), "nonsense")
}

func TestAProbeAsksTheReceiver(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.put(t, &postriderv1.Webhook{Profile: "cloudevents", EventTypes: []string{"*"}})
	s.receiver.Answer(receivertest.Func(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Webhook-Allowed-Origin"] = []string{"a.example", "b.example"}
		w.WriteHeader(http.StatusOK)
	}), receivertest.Status(http.StatusUnauthorized))
	a, err := s.maker.Probe(t.Context(), s.registry.Webhook("wh_1"), http.MethodOptions, http.Header{"Webhook-Request-Origin": {"postrider.example"}}, nil)
	require.NoError(t, err)
	require.Equal(t, int32(200), a.Status)
	require.Equal(t, "a.example, b.example", a.Headers["Webhook-Allowed-Origin"])
	got := s.receiver.Next(t)
	require.Equal(t, "OPTIONS", got.Method)
	require.Equal(t, "/hook?tenant=7", got.RequestURI)
	require.Equal(t, "postrider.example", got.Header.Get("Webhook-Request-Origin"))
	require.Equal(t, "Postrider/1.2.3", got.Header.Get("User-Agent"))

	body := []byte(`{"token":"x"}`)
	a, err = s.maker.Probe(t.Context(), s.registry.Webhook("wh_1"), http.MethodPost, http.Header{"Content-Type": {"application/json"}}, body)
	require.NoError(t, err)
	require.Equal(t, int32(401), a.Status)
	require.Equal(t, body, s.receiver.Next(t).Body)

	s.put(t, &postriderv1.Webhook{Profile: "cloudevents", Url: "http://169.254.169.254/", EventTypes: []string{"*"}})
	a, err = s.maker.Probe(t.Context(), s.registry.Webhook("wh_1"), http.MethodPost, nil, nil)
	require.NoError(t, err)
	require.Equal(t, postrider.ClassBlocked, a.Class)
	require.Zero(t, a.Status)
}

func TestTheReceiversRateIsAHardLimit(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	rate := func(w *postriderv1.Webhook) float64 {
		w.Profile, w.EventTypes = "cloudevents", []string{"*"}
		s.put(t, w)
		return s.registry.Webhook("wh_1").RateLimit()
	}
	asked := &postriderv1.ProfileOptions{Handshake: "optional"}
	consent := &postriderv1.Handshake{Consented: true, AllowedRate: 120}
	require.Zero(t, rate(&postriderv1.Webhook{}))
	require.InDelta(t, 2, rate(&postriderv1.Webhook{Options: asked, Handshake: consent}), 1e-9)
	require.InDelta(t, 2, rate(&postriderv1.Webhook{Options: asked, Handshake: consent, RateLimit: new(5.0)}), 1e-9)
	require.InDelta(t, 0.5, rate(&postriderv1.Webhook{Options: asked, Handshake: consent, RateLimit: new(0.5)}), 1e-9)
	require.Zero(t, rate(&postriderv1.Webhook{Options: asked, Handshake: &postriderv1.Handshake{Consented: true}}), "any number")
	require.Zero(t, rate(&postriderv1.Webhook{Options: asked, Handshake: &postriderv1.Handshake{AllowedRate: 1}}), "no consent, no rate")
	require.InDelta(t, 5, rate(&postriderv1.Webhook{Handshake: consent, RateLimit: new(5.0)}), 1e-9, "the receiver is not asked any more")
}
