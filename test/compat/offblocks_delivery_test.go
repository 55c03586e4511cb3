//go:build e2e

package compat

import (
	"bytes"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/postrider/postrider/pkg/httpsig"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/fixture/receivertest"
	"github.com/postrider/postrider/test/system"
)

// offblocksEntity is an entity as the page shows one, with fractions of nanoseconds.
const offblocksEntity = `{"id":"29ca152b-9f5e-4c1f-a8a5-1b8b5d9c3c0e","externalId":"ext","chainId":"eip155:300:0x00","status":"initiating",` +
	`"createdAt":"2024-01-24T14:18:37.749861007Z","updatedAt":"2024-01-24T14:18:37.749861007Z"}`

func digest512(body string) string {
	sum := sha512.Sum512([]byte(body))
	return "sha-512=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

// offblocksReceiver starts a client and receiver that know the system by its page alone.
func offblocksReceiver(t *testing.T, a *system.Account, env ...string) (port int, verdicts <-chan system.Verdict) {
	t.Helper()
	return system.NodeReceiver(t, "offblocks.js", "", append(env, "API="+a.APIURL, "BEARER="+a.Key)...)
}

// offblocksArrived is what a receiver was sent.
type offblocksArrived struct {
	Method, URL string
	Headers     map[string]string
	Body        []byte
}

func arrived(t *testing.T, v system.Verdict) offblocksArrived {
	t.Helper()
	var got offblocksArrived
	require.NoError(t, json.Unmarshal(v.Body, &got))
	return got
}

func offblocksDelivery(t *testing.T, a *system.Account) {
	one, two := receivertest.New(t).Respond(500, 204), receivertest.New(t)
	c := newOffblocksClient(t, a, httpsig.ECDSAP384)
	c.put(t, `{"callbackUrl":"`+one.URL+`/callback","types":["customer.updated"]}`)
	c.put(t, `{"callbackUrl":"`+two.URL+`/callback"}`)
	a.Publish(t, "customer.updated", offblocksEntity)
	first, again, other := one.Next(t), one.Next(t), two.Next(t)
	require.Equal(t, http.MethodPost, first.Method)
	require.Equal(t, "/callback", first.RequestURI)
	require.Equal(t, []string{"application/json"}, first.Header["Content-Type"])
	var body map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(first.Body, &body))
	require.Equal(t, `"customer.updated"`, string(body["webhookType"]))
	var event string
	require.NoError(t, json.Unmarshal(body["eventId"], &event))
	require.NoError(t, uuid.Validate(event))
	require.Equal(t, event, first.Header.Get("Webhook-Id"))
	delete(body, "webhookType")
	delete(body, "eventId")
	var entity map[string]json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(offblocksEntity), &entity))
	require.Equal(t, entity, body, "the entity's members, to the byte")
	require.Equal(t, first.Body, again.Body, "the same over retries")
	require.Equal(t, first.Body, other.Body, "and over endpoints")

	a.Publish(t, "card.updated", `{"id":"1"}`)
	require.Contains(t, string(two.Next(t).Body), `"webhookType":"card.updated"`)
	one.None(t, 200*time.Millisecond)
}

func offblocksSignature(t *testing.T, a *system.Account) {
	r := receivertest.New(t)
	c := newOffblocksClient(t, a, httpsig.ECDSAP384)
	c.put(t, `{"callbackUrl":"`+r.URL+`/callback?a=b%20c"}`)
	var key struct{ ID, PublicKey string }
	c.must(t, offblocksCall{method: http.MethodGet, path: "/v1/webhooks/key"}).into(t, &key)
	a.Publish(t, "customer.updated", offblocksEntity)
	got := r.Next(t)
	at, err := strconv.ParseInt(got.Header.Get("Webhook-Timestamp"), 10, 64)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), time.Unix(at, 0), time.Minute)
	require.Equal(t, fmt.Sprintf(`sig1=("@method" "@target-uri" "content-type" "content-digest" "webhook-id" "webhook-timestamp")`+
		`;created=%d;expires=%d;keyid=%q;alg="ecdsa-p384-sha384";tag="webhook"`, at, at+300, key.ID), got.Header.Get("Signature-Input"))
	require.Equal(t, httpsig.ContentDigest(got.Body), got.Header.Get("Content-Digest"))
	raw, err := base64.StdEncoding.DecodeString(strings.Trim(strings.TrimPrefix(got.Header.Get("Signature"), "sig1="), ":"))
	require.NoError(t, err)
	require.Len(t, raw, 96, "r and s, not DER")

	// Another profile that asks for it has the account's ed25519 key.
	standard := receivertest.New(t)
	a.Webhook(t, &postriderv1.Webhook{
		Url: standard.URL, EventTypes: []string{"account.updated"}, Options: &postriderv1.ProfileOptions{MessageSignature: "target-uri"},
	})
	a.Publish(t, "account.updated", offblocksEntity)
	require.Contains(t, standard.Next(t).Header.Get("Signature-Input"), `alg="ed25519"`)
}

func offblocksKey(t *testing.T, a *system.Account) {
	_, verdicts := offblocksReceiver(t, a)
	a.Publish(t, "customer.updated", offblocksEntity)
	v := system.Next(t, verdicts)
	require.Equal(t, http.StatusOK, v.Status, v.Error)
	require.Equal(t, "customer.updated", v.Event)

	c, other := *newClientOf(t, a), newOffblocksClient(t, a.NewAccount(t), httpsig.ECDSAP384)
	read := func(c *offblocksClient, path string) (out struct{ ID, PublicKey string }) {
		c.must(t, offblocksCall{method: http.MethodGet, path: path}).into(t, &out)
		return out
	}
	mine := read(&c, "/v1/webhooks/key")
	require.Equal(t, mine, read(&c, "/v1/webhooks/verification-key"), "under the other name too")
	require.Contains(t, arrived(t, v).Headers["signature-input"], `keyid="`+mine.ID+`"`)
	theirs := read(other, "/v1/webhooks/key")
	require.NotEqual(t, mine, theirs, "each account has its own")
	require.Equal(t, http.StatusUnauthorized, c.do(t, offblocksCall{method: http.MethodGet, path: "/v1/webhooks/key", bearer: "-"}).status)

	// A rotation is seen in all places before the new key signs.
	rotated, err := a.SigningKeys.RotateSigningKey(a.Ctx(t), &postriderv1.RotateSigningKeyRequest{Algorithm: string(httpsig.ECDSAP384)})
	require.NoError(t, err)
	var list []struct{ ID, PublicKey string }
	c.must(t, offblocksCall{method: http.MethodGet, path: "/v1/webhooks/keys"}).into(t, &list)
	require.Len(t, list, 2)
	require.Equal(t, rotated.GetSigningKey().GetId(), list[0].ID)
	require.Equal(t, mine.ID, list[1].ID)
	for _, path := range []string{"/.well-known/jwks.json", "/.well-known/http-message-signatures-directory"} {
		set := offblocksExchange(t, http.MethodGet, a.APIURL+path+"?account="+a.ID, "", http.Header{})
		require.Equal(t, http.StatusOK, set.status)
		require.Equal(t, "public, max-age=3600", set.header.Get("Cache-Control"))
		require.Contains(t, set.body, mine.ID)
		require.Contains(t, set.body, rotated.GetSigningKey().GetId())
		require.NotContains(t, set.body, theirs.ID)
	}
	a.Publish(t, "customer.updated", offblocksEntity)
	v = system.Next(t, verdicts)
	require.Equal(t, http.StatusOK, v.Status, "the old key signs until the new one does: %s", v.Error)

	// While both sign, who knows the old one verifies with that; then no more.
	now := &postriderv1.RotateSigningKeyRequest{Algorithm: string(httpsig.ECDSAP384), PublishDelay: durationpb.New(0)}
	rotated, err = a.SigningKeys.RotateSigningKey(a.Ctx(t), now)
	require.NoError(t, err)
	a.Publish(t, "customer.updated", offblocksEntity)
	v = system.Next(t, verdicts)
	require.Equal(t, http.StatusOK, v.Status, v.Error)
	require.Regexp(t, `^sig1=.*keyid="`+rotated.GetSigningKey().GetId()+`".*, sig2=.*keyid="`+mine.ID+`"`, arrived(t, v).Headers["signature-input"])
	now.Overlap = durationpb.New(0)
	_, err = a.SigningKeys.RotateSigningKey(a.Ctx(t), now)
	require.NoError(t, err)
	a.Publish(t, "customer.updated", offblocksEntity)
	require.Equal(t, http.StatusUnauthorized, system.Next(t, verdicts).Status, "the key that it knows has retired")
}

// newClientOf adds a key to an account that has one already, as its owner may.
func newClientOf(t *testing.T, a *system.Account) *offblocksClient {
	t.Helper()
	key, err := httpsig.GenerateKey(httpsig.ECDSAP384)
	require.NoError(t, err)
	text, err := httpsig.EncodePublicKey(key.Public())
	require.NoError(t, err)
	uploaded, err := a.SigningKeys.UploadClientKey(a.Ctx(t), &postriderv1.UploadClientKeyRequest{PublicKey: text})
	require.NoError(t, err)
	return &offblocksClient{Account: a, key: key, alg: httpsig.ECDSAP384, keyID: uploaded.GetClientKey().GetId()}
}

func offblocksNegatives(t *testing.T, a *system.Account) {
	port, verdicts := offblocksReceiver(t, a)
	a.Publish(t, "customer.updated", offblocksEntity)
	v := system.Next(t, verdicts)
	require.Equal(t, http.StatusOK, v.Status, v.Error)
	genuine := arrived(t, v)
	send := func(change func(*offblocksArrived)) int {
		m := genuine
		m.Headers = maps.Clone(genuine.Headers)
		change(&m)
		req, err := http.NewRequestWithContext(t.Context(), m.Method, m.URL, bytes.NewReader(m.Body))
		require.NoError(t, err)
		for _, name := range []string{"content-type", "content-digest", "webhook-id", "webhook-timestamp", "signature", "signature-input"} {
			if value, ok := m.Headers[name]; ok {
				req.Header.Set(name, value)
			}
		}
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	replace := func(header, from, to string) func(*offblocksArrived) {
		return func(m *offblocksArrived) { m.Headers[header] = strings.Replace(m.Headers[header], from, to, 1) }
	}
	require.Equal(t, http.StatusOK, send(func(*offblocksArrived) {}), "as it was")
	for name, change := range map[string]func(*offblocksArrived){
		"a tampered body": func(m *offblocksArrived) { m.Body = append([]byte(" "), m.Body...) },
		"a tampered body and its digest": func(m *offblocksArrived) {
			m.Body = []byte(`{"eventId":"x"}`)
			m.Headers["content-digest"] = httpsig.ContentDigest(m.Body)
		},
		"a tampered id":      func(m *offblocksArrived) { m.Headers["webhook-id"] = uuid.NewString() },
		"a tampered time":    func(m *offblocksArrived) { m.Headers["webhook-timestamp"] = "1" },
		"another URL":        func(m *offblocksArrived) { m.URL += "&x=y" },
		"another path":       func(m *offblocksArrived) { m.URL = strings.Replace(m.URL, "/callback", "/other", 1) },
		"another method":     func(m *offblocksArrived) { m.Method = http.MethodPut },
		"another type":       func(m *offblocksArrived) { m.Headers["content-type"] = "text/plain" },
		"no signature":       func(m *offblocksArrived) { delete(m.Headers, "signature") },
		"no signature input": func(m *offblocksArrived) { delete(m.Headers, "signature-input") },
		"no digest":          func(m *offblocksArrived) { delete(m.Headers, "content-digest") },
		"another algorithm":  replace("signature-input", "ecdsa-p384-sha384", "ed25519"),
		"another key":        replace("signature-input", `keyid="`, `keyid="x`),
		"a later expiry":     replace("signature-input", "expires=1", "expires=2"),
		"another label":      replace("signature", "sig1=", "sig2="),
		"a component less":   replace("signature-input", ` "webhook-id"`, ""),
		"no required one":    replace("signature-input", `"@target-uri" `, ""),
		"a component twice":  replace("signature-input", `"webhook-id"`, `"webhook-id" "webhook-id"`),
		"an expiry in the past": func(m *offblocksArrived) {
			at := m.Headers["webhook-timestamp"]
			replace("signature-input", "created="+at, "created=1")(m)
		},
	} {
		require.Equal(t, http.StatusUnauthorized, send(change), name)
	}

	t.Run("a signature of another account's key", func(t *testing.T) {
		t.Parallel()
		other := a.NewAccount(t)
		theirs := newOffblocksClient(t, other, httpsig.ECDSAP384)
		theirs.put(t, fmt.Sprintf(`{"callbackUrl":"http://127.0.0.1:%d/callback?a=b%%20c"}`, port))
		event := other.Publish(t, "customer.updated", offblocksEntity).GetEventId()
		list, err := other.Webhooks.ListWebhooks(other.Ctx(t), &postriderv1.ListWebhooksRequest{})
		require.NoError(t, err)
		d := other.AwaitDelivery(t, event, list.GetWebhooks()[0].GetId(), postriderv1.DeliveryState_DELIVERY_STATE_WAITING)
		require.EqualValues(t, http.StatusUnauthorized, d.GetLastStatusCode())
	})
	t.Run("after 300 s", func(t *testing.T) {
		t.Parallel()
		late := a.NewAccount(t)
		_, verdicts := offblocksReceiver(t, late, "CLOCK_AHEAD=302")
		late.Publish(t, "customer.updated", offblocksEntity)
		v := system.Next(t, verdicts)
		require.Equal(t, http.StatusUnauthorized, v.Status)
		require.Contains(t, v.Error, "old")
	})
}

func offblocksRepeats(t *testing.T, a *system.Account) {
	_, verdicts := offblocksReceiver(t, a, "ANSWERS=500,503,200", "TYPES=transaction.updated")
	a.Publish(t, "customer.updated", offblocksEntity)
	a.Publish(t, "transaction.updated", offblocksEntity)
	first, second, third := system.Next(t, verdicts), system.Next(t, verdicts), system.Next(t, verdicts)
	require.Equal(t, "transaction.updated", first.Event, "what was not subscribed does not come")
	for _, repeat := range []system.Verdict{second, third} {
		require.Equal(t, "duplicate", repeat.Event, "told by its eventId: %s", repeat.Error)
		require.Equal(t, first.ID, repeat.ID)
	}
	require.Equal(t, []int{500, 503, 200}, []int{first.Status, second.Status, third.Status})
	require.NotEmpty(t, arrived(t, second).Headers["signature"])
}

func offblocksRetries(t *testing.T, _ *system.Account) {
	// A scale of its own, at which 24 hours are 17.28 s. A retry that is due before the attempt that it
	// follows is stored waits for 2 s, so a few attempts may be missing.
	const scale = 0.0002
	_, s := system.StartStandalone(t, map[string]string{"POSTRIDER_DISPATCHER_RETRY_TIME_SCALE": "0.0002"})
	a := s.NewAccount(t)
	r := receivertest.New(t).Respond(500)
	c := newOffblocksClient(t, a, httpsig.ECDSAP384)
	w := c.put(t, `{"callbackUrl":"`+r.URL+`"}`)
	record, err := a.Webhooks.GetWebhook(a.Ctx(t), &postriderv1.GetWebhookRequest{Uuid: w.ID})
	require.NoError(t, err)
	event := a.Publish(t, "customer.updated", offblocksEntity).GetEventId()
	d := a.AwaitDelivery(t, event, record.GetWebhook().GetId(), postriderv1.DeliveryState_DELIVERY_STATE_DEAD)
	log, err := a.Deliveries.ListAttempts(a.Ctx(t), &postriderv1.ListAttemptsRequest{DeliveryId: d.GetId()})
	require.NoError(t, err)
	attempts := log.GetAttempts()
	require.GreaterOrEqual(t, len(attempts), 9, "some fast ones, then up to six hours apart")
	scaled := func(of time.Duration) time.Duration { return time.Duration(float64(of) * scale) }
	began := attempts[0].GetStartTime().AsTime()
	var soon time.Duration
	preset := []time.Duration{
		time.Second, 5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute,
		time.Hour, 2 * time.Hour, 4 * time.Hour, 6 * time.Hour,
	}
	for i, at := range attempts {
		require.Less(t, at.GetStartTime().AsTime().Sub(began), scaled(24*time.Hour), "attempt %d starts within 24 hours", i+1)
		if i == len(attempts)-1 {
			break // one that was planned may have come too late to be made
		}
		gap := at.GetNextAttemptTime().AsTime().Sub(at.GetStartTime().AsTime().Add(at.GetDuration().AsDuration()))
		want := preset[min(i, len(preset)-1)]
		require.LessOrEqual(t, gap, scaled(want)+20*time.Millisecond, "gap %d", i+1)
		if i < 3 {
			soon += want
		} else {
			require.GreaterOrEqual(t, gap, scaled(want)/2-time.Millisecond, "gap %d has at least half its length", i+1)
		}
	}
	require.Less(t, soon, time.Minute, "three retries in the first minute")
}
