//go:build e2e

package compat

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/ecmajson"
	"github.com/postrider/postrider/pkg/httpsig"
	"github.com/postrider/postrider/pkg/signature"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/fixture/receivertest"
	"github.com/postrider/postrider/test/system"
)

// The data are an object with an integer id and a value that JSON.stringify writes in another way,
// so that it is seen whose bytes stay.
const togetherData = `{"id":29,"externalId":"x-1","amount":100.00,"name":"Decaf <&> é","updatedAt":"2024-01-24T14:18:37.749861007Z"}`

// allFive: one event, routed once, reaches a webhook of each of the five systems, and each gets the form
// that it would have got alone.
func allFive(t *testing.T, s *system.Account) {
	a := s.NewAccount(t, func(a *postriderv1.Account) { a.TimeZone = "Australia/Melbourne" })
	r := receivertest.New(t, receivertest.WithTLS())
	secrets := map[string]string{}
	for _, profile := range []string{"labelst", "jewelmusic", "audata", "offblocks", "ingedata"} {
		w := &postriderv1.Webhook{Url: r.URL + "/" + profile, Profile: profile, EventTypes: []string{listenerUpdated}}
		if profile == "labelst" {
			w.EventTypes = all
		}
		secrets[profile] = a.Webhook(t, w).GetSecret()
	}
	at := time.Date(2024, 1, 24, 14, 18, 38, 500_000_000, time.UTC)
	event := a.PublishEvent(t, &postriderv1.EventInput{Type: listenerUpdated, Data: []byte(togetherData), Time: timestamppb.New(at)}).GetEventId()

	got := map[string]*receivertest.Request{}
	for range 5 {
		one := r.Next(t)
		require.Equal(t, http.MethodPost, one.Method)
		require.Equal(t, "application/json", one.Header.Get("Content-Type"))
		require.NotContains(t, got, one.Path)
		got[one.Path] = one
	}

	label := got["/labelst"]
	require.Equal(t, fmt.Sprintf(`{"token":%q,"type":%q,"request":%s}`, secrets["labelst"], listenerUpdated, togetherData), string(label.Body))

	stable, err := ecmajson.Append(nil, []byte(togetherData))
	require.NoError(t, err)
	require.NotEqual(t, togetherData, string(stable))
	jewelmusic := got["/jewelmusic"]
	require.Equal(t, fmt.Sprintf(`{"id":%q,"type":%q,"created":%d,"data":%s}`, event, listenerUpdated, at.Unix(), stable), string(jewelmusic.Body))
	require.Equal(t, "sha256="+hexHMAC(secrets["jewelmusic"], string(jewelmusic.Body)), jewelmusic.Header.Get("X-JewelMusic-Signature"))

	audata := readCall(t, got["/audata"].Body)
	require.Equal(t, fmt.Sprintf(`{"event":%q,"sentAt":%q,"station":%q,"sender_id":29,"sender":%s,"webhookCallId":%q}`,
		listenerUpdated, audata.SentAt, a.Record.GetSubdomain(), togetherData, audata.WebhookCallID), string(got["/audata"].Body))

	offblocks := got["/offblocks"]
	var ids struct{ WebhookType, EventID string }
	require.NoError(t, json.Unmarshal(offblocks.Body, &ids))
	require.Equal(t, fmt.Sprintf(`{"webhookType":%q,"eventId":%q,%s`, listenerUpdated, ids.EventID, togetherData[1:]), string(offblocks.Body))
	require.Equal(t, ids.EventID, offblocks.Header.Get("Webhook-Id"))
	keys, err := a.SigningKeys.ListSigningKeys(a.Ctx(t), &postriderv1.ListSigningKeysRequest{})
	require.NoError(t, err)
	require.Len(t, keys.GetSigningKeys(), 1)
	public, alg, err := httpsig.ParsePublicKey(keys.GetSigningKeys()[0].GetPublicKey())
	require.NoError(t, err)
	require.Equal(t, httpsig.ECDSAP384, alg)
	verifier := httpsig.Verifier{
		Keys: func(id string) (httpsig.Key, bool) {
			return httpsig.Key{Algorithm: alg, Key: public}, id == keys.GetSigningKeys()[0].GetId()
		},
		Components: []string{"@method", "@target-uri", "content-type", "content-digest", "webhook-id", "webhook-timestamp"},
		Tag:        "webhook", RequireExpires: true,
	}
	_, err = verifier.Verify(&httpsig.Message{Method: http.MethodPost, URL: r.URL + "/offblocks", Header: offblocks.Header}, offblocks.Body)
	require.NoError(t, err)

	ingedata := got["/ingedata"]
	require.Equal(t, fmt.Appendf(nil, `{"type":%q,"timestamp":"2024-01-24T14:18:38.5Z","data":%s}`, listenerUpdated, togetherData), ingedata.Body)
	key, err := signature.ParseVerificationKey(secrets["ingedata"])
	require.NoError(t, err)
	require.NoError(t, signature.VerifyStandardWebhooks(ingedata.Header, ingedata.Body, []signature.Secret{key}, time.Now(), time.Minute))
	require.NoError(t, signature.VerifyHex(ingedata.Header.Get("X-Webhook-Signature"), "sha256=", ingedata.Body, []signature.Secret{key}))

	deliveries, err := a.Deliveries.ListDeliveries(a.Ctx(t), &postriderv1.ListDeliveriesRequest{EventId: event})
	require.NoError(t, err)
	require.LessOrEqual(t, len(deliveries.GetDeliveries()), 5)
	webhooks, err := a.Webhooks.ListWebhooks(a.Ctx(t), &postriderv1.ListWebhooksRequest{})
	require.NoError(t, err)
	for _, w := range webhooks.GetWebhooks() {
		d := a.AwaitDelivery(t, event, w.GetId(), delivered)
		require.Len(t, madeOf(t, a, d.GetId()), 1)
		// No token is in anything that is shown.
		require.NotContains(t, fmt.Sprint(w, d, madeOf(t, a, d.GetId())), secrets["labelst"])
	}
	require.Equal(t, 5, r.Count())
}
