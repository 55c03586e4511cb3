//go:build !race

package standalone_test

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/postrider/postrider/pkg/postrider"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/standalone"
	"github.com/postrider/postrider/test/fixture/receivertest"
)

// kind is what an id names.
type kind string

const (
	anAccount     kind = "account"
	aWebhook      kind = "webhook"
	aUUID         kind = "uuid"
	aNumber       kind = "number"
	aDelivery     kind = "delivery"
	anAttempt     kind = "attempt"
	aCall         kind = "call"
	anEvent       kind = "event"
	aSequence     kind = "sequence"
	aGivenID      kind = "given"
	anIdempotency kind = "idempotency"
	aTrace        kind = "trace"
	anAPIKey      kind = "api-key"
	aClientKey    kind = "client-key"
	aReplay       kind = "replay"
	anEventType   kind = "event-type"
)

// things are the ids of what there is, or is not, each kind with as many as the other set has.
type things map[kind][]string

// at is the n-th id of a kind; where there are less, they begin anew.
func (x things) at(k kind, n int) string { return x[k][n%len(x[k])] }

// of are the ids of some kinds.
func (x things) of(kinds ...kind) []string {
	var out []string
	for _, k := range kinds {
		out = append(out, x[k]...)
	}
	return out
}

// as is a kind of a source system's own webhooks, which no other of its surface shows.
func (k kind) as(profile string) kind { return k + kind(" of "+profile) }

const (
	theirType   = "release.unannounced"
	theirName   = "Zanzibar Records"
	theirData   = `{"title":"Ylang Ylang"}`
	theirLabel  = "quetzalcoatl"
	theirHeader = "axolotl"
	theirTrace  = "4bf92f3577b34da6a3ce929d0e0e4736"
)

// filled is an account with one of everything.
type filled struct {
	*user
	ids     things
	secrets []string // what no other account may see, beside the ids
	good    *receivertest.Receiver
	client  clientKey
}

// fill makes an account with one of everything, and waits until nothing in it moves.
func fill(t *testing.T, svc *standalone.Service) *filled {
	t.Helper()
	f := &filled{user: admin(t, svc).newAccount(t), ids: things{}, good: receivertest.New(t)}
	bad := receivertest.New(t).Respond(500)
	f.note(anAccount, f.account)
	_, err := f.accounts.UpdateAccount(admin(t, svc).ctx(t), &postriderv1.UpdateAccountRequest{
		Account: &postriderv1.Account{Id: f.account, DisplayName: theirName, Subdomain: "zanzibar"},
	})
	require.NoError(t, err)

	own := f.hook(t, f.good.URL)
	f.hook(t, bad.URL+"/dead", once)
	f.hook(t, bad.URL+"/waiting", func(w *postriderv1.Webhook) {
		w.RetrySchedule = &postriderv1.RetrySchedule{Delays: []*durationpb.Duration{durationpb.New(24 * time.Hour)}} // a quarter of an hour here
	})
	f.hook(t, f.good.URL+"/labelst", func(w *postriderv1.Webhook) { w.Profile = "labelst" }) // which gets everything
	for _, profile := range []string{"jewelmusic", "ingedata", "offblocks"} {
		f.hook(t, f.good.URL+"/"+profile, func(w *postriderv1.Webhook) { w.Profile, w.EventTypes = profile, []string{"customer.updated"} })
	}
	f.publishAll(t, svc)
	f.await(t, own)
	f.keys(t)
	return f
}

func (f *filled) note(k kind, id string) {
	f.ids[k] = append(f.ids[k], id)
}

// hook makes a webhook and notes everything that names it.
func (f *filled) hook(t *testing.T, url string, change ...func(*postriderv1.Webhook)) *postriderv1.Webhook {
	t.Helper()
	made := f.webhook(t, url, append(change, func(w *postriderv1.Webhook) {
		w.DisplayName, w.Headers = theirName, map[string]string{"X-Mine": theirHeader}
	})...)
	w := made.GetWebhook()
	name := func(k kind) kind {
		if p := w.GetProfile(); p != "standard" {
			return k.as(p)
		}
		return k
	}
	f.note(name(aWebhook), w.GetId())
	f.note(name(aUUID), w.GetUuid())
	f.note(name(aNumber), strconv.FormatInt(w.GetNumber(), 10))
	f.secrets = append(f.secrets, made.GetSecret(), url)
	return w
}

func (f *filled) publishAll(t *testing.T, svc *standalone.Service) {
	t.Helper()
	types := postriderv1.NewEventTypeServiceClient(f.conn)
	_, err := types.CreateEventType(f.ctx(t), &postriderv1.CreateEventTypeRequest{EventType: &postriderv1.EventType{
		Name: theirType, Description: theirName, Schema: []byte(`{"description":"` + theirLabel + `"}`),
	}})
	require.NoError(t, err)
	f.note(anEventType, theirType)
	// An operator's credential, so that the trace is taken over.
	operator := admin(t, svc)
	ctx := metadata.AppendToOutgoingContext(operator.ctx(t), "traceparent", "00-"+theirTrace+"-00f067aa0ba902b7-01")
	for i, req := range []*postriderv1.PublishEventRequest{
		{AccountId: f.account, IdempotencyKey: "their-idempotency-key", Event: &postriderv1.EventInput{Type: theirType}},
		{AccountId: f.account, Event: &postriderv1.EventInput{Type: theirType, Id: "their-given-id", Source: "/theirs"}},
	} {
		req.Event.Data, req.Event.Labels = []byte(theirData), map[string]string{"label": theirLabel}
		resp, err := f.events.PublishEvent(ctx, req)
		require.NoError(t, err, i)
		f.note(anEvent, resp.GetReceipt().GetEventId())
		f.note(aSequence, strconv.FormatUint(resp.GetReceipt().GetSequence(), 10))
	}
	f.note(aTrace, theirTrace)
	f.note(anIdempotency, "their-idempotency-key")
	f.note(aGivenID, "their-given-id")
	f.secrets = append(f.secrets, theirName, theirLabel, theirHeader, "Ylang")
}

// await waits until the deliveries have got as far as they do, replays one, and notes them all.
func (f *filled) await(t *testing.T, own *postriderv1.Webhook) {
	t.Helper()
	const waiting = postriderv1.DeliveryState_DELIVERY_STATE_WAITING
	f.awaitStates(t, 2, waiting)
	f.awaitStates(t, 4, delivered)
	f.awaitDeadLetters(t, 2)
	job := f.replay(t, &postriderv1.EventSelection{EventId: f.ids.at(anEvent, 0), WebhookId: own.GetId()}, 1000)
	f.awaitReplay(t, job.GetId(), is(succeeded))
	f.awaitStates(t, 5, delivered)
	f.note(aReplay, job.GetId())
	f.awaitFailing(t, 2)
	for _, state := range []postriderv1.DeliveryState{dead, waiting, delivered} {
		resp, err := f.deliveries.ListDeliveries(f.ctx(t), &postriderv1.ListDeliveriesRequest{State: state})
		require.NoError(t, err)
		d := resp.GetDeliveries()[0]
		f.note(aDelivery, d.GetId())
		f.note(aCall, d.GetCallId())
		attempts, err := f.deliveries.ListAttempts(f.ctx(t), &postriderv1.ListAttemptsRequest{DeliveryId: d.GetId()})
		require.NoError(t, err)
		require.NotEmpty(t, attempts.GetAttempts())
		f.note(anAttempt, attempts.GetAttempts()[0].GetId())
	}
}

// awaitFailing waits until the dispatcher has reported which webhooks fail.
func (f *filled) awaitFailing(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		failing := 0
		for _, id := range f.ids[aWebhook] {
			resp, err := f.webhooks.GetWebhookBacklog(f.ctx(t), &postriderv1.GetWebhookBacklogRequest{WebhookId: id})
			require.NoError(t, err)
			if resp.GetFailing() != nil {
				failing++
			}
		}
		return failing == n
	}, patience, 20*time.Millisecond)
}

func (f *filled) keys(t *testing.T) {
	t.Helper()
	made, err := f.accounts.CreateApiKey(f.ctx(t), &postriderv1.CreateApiKeyRequest{DisplayName: theirName, Scopes: []string{"read"}})
	require.NoError(t, err)
	f.note(anAPIKey, made.GetApiKey().GetId())
	link, err := f.accounts.CreatePortalLink(f.ctx(t), &postriderv1.CreatePortalLinkRequest{})
	require.NoError(t, err)
	f.secrets = append(f.secrets, f.key, made.GetSecret(), link.GetToken())

	signing := postriderv1.NewSigningKeyServiceClient(f.conn)
	rotated, err := signing.RotateSigningKey(f.ctx(t), &postriderv1.RotateSigningKeyRequest{})
	require.NoError(t, err)
	f.client = f.uploadClientKey(t)
	f.note(aClientKey, f.client.id)
	f.secrets = append(f.secrets, rotated.GetSigningKey().GetId())
}

// nothing are ids of the same form that nothing has.
func (x things) nothing() things {
	out := things{}
	fresh := map[kind]func(i int) string{
		anAccount:   func(int) string { return string(postrider.NewAccountID()) },
		aWebhook:    func(int) string { return string(postrider.NewWebhookID()) },
		anEvent:     func(int) string { return string(postrider.NewEventID()) },
		anAttempt:   func(int) string { return string(postrider.NewAttemptID()) },
		aReplay:     func(int) string { return string(postrider.NewReplayID()) },
		aUUID:       func(int) string { return uuid.NewString() },
		aNumber:     func(i int) string { return strconv.Itoa(900_001 + i) },
		aSequence:   func(i int) string { return strconv.Itoa(800_001 + i) },
		aTrace:      func(int) string { return "0af7651916cd43dd8448eb211c80319c" },
		anEventType: func(int) string { return "release.nonexistent" },
		aDelivery: func(int) string {
			return string(postrider.DeliveryIDFor(postrider.NewEventID(), postrider.NewWebhookID(), ""))
		},
		aCall: func(int) string {
			return postrider.DeliveryIDFor(postrider.NewEventID(), postrider.NewWebhookID(), "").UUID().String()
		},
		anIdempotency: func(int) string { return "no-idempotency-key" },
		aGivenID:      func(int) string { return "no-given-id" },
	}
	for k, ids := range x {
		for i, id := range ids {
			plain, _, _ := strings.Cut(string(k), " of ")
			if f := fresh[kind(plain)]; f != nil {
				out[k] = append(out[k], f(i))
				continue
			}
			// Of a form that only its maker knows: the same, but for the end.
			out[k] = append(out[k], id[:len(id)-2]+map[bool]string{true: "00", false: "11"}[id[len(id)-2:] != "00"])
		}
	}
	return out
}

func publicPEM(t *testing.T, pub crypto.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}
