package dispatcher_test

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	dispatcherv1 "github.com/postrider/postrider/proto/gen/go/postrider/dispatcher/v1"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/rpc"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/services/dispatcher"
	"github.com/postrider/postrider/test/fixture/receivertest"
)

// client is a connection to a dispatcher's gRPC API, over an in-memory listener.
func client(t *testing.T, w *world, s *dispatcher.Service) dispatcherv1.DispatcherServiceClient {
	t.Helper()
	listener, dialer := rpc.InMemory()
	server, err := rpc.NewServer(rpc.ServerConfig{}, w.log, rpc.WithListener(listener))
	require.NoError(t, err)
	s.Register(server.Registrar())
	require.NoError(t, server.Start(t.Context()))
	t.Cleanup(func() { _ = server.Stop(context.WithoutCancel(t.Context())) })
	conn, err := rpc.Dial(rpc.ClientConfig{Target: rpc.InMemoryTarget}, dialer)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return dispatcherv1.NewDispatcherServiceClient(conn)
}

func TestSendTestMakesOneAttemptAndJournalsIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t).Answer(receivertest.Body(200, "ok"), receivertest.Status(500), receivertest.Status(200))
	s, _ := w.dispatch(t, testConfig())
	api := client(t, w, s)
	hook := w.webhook(t, receiver.URL)
	send := func(hook *postriderv1.Webhook) (*recordv1.Delivery, *recordv1.Attempted) {
		d := w.delivery(hook, `{"test":true}`)
		res, err := api.SendTest(t.Context(), &dispatcherv1.SendTestRequest{Delivery: d})
		require.NoError(t, err)
		return d, res.GetAttempt()
	}
	d, a := send(hook)
	require.Equal(t, "succeeded", a.GetOutcome())
	require.Equal(t, "test", a.GetTrigger())
	require.Zero(t, a.GetNumber())
	require.Equal(t, "ok", string(a.GetResponseBody()))
	require.JSONEq(t, `{"test":true}`, string(receiver.Next(t).Body))
	e := w.ledger.await(t, d.GetId(), "of the test", func(e *recordv1.JournalEntry) bool { return e.GetAttempted() != nil })
	require.Equal(t, a.GetAttemptId(), e.GetAttempted().GetAttemptId())
	require.Empty(t, e.GetAttempted().GetState())

	d, a = send(hook)
	require.Equal(t, "retryable", a.GetOutcome())
	require.Nil(t, w.record(t, d.GetId(), hook), "a test is outside of every schedule")

	_, a = send(w.webhook(t, receiver.URL, setState(paused)))
	require.Equal(t, "succeeded", a.GetOutcome(), "an owner tests a webhook before resuming it")

	_, a = send(w.webhook(t, "http://169.254.169.254/"))
	require.Equal(t, "ssrf_blocked", a.GetErrorClass())
}

func TestSendTestRefusesWhatItCannotSend(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cfg := testConfig()
	cfg.TestSlots = 1
	s, _ := w.dispatch(t, cfg)
	api := client(t, w, s)
	kind := func(d *recordv1.Delivery) fault.Kind {
		_, err := api.SendTest(t.Context(), &dispatcherv1.SendTestRequest{Delivery: d})
		k, _ := fault.KindOf(err)
		return k
	}
	release := make(chan struct{})
	receiver := receivertest.New(t).Answer(receivertest.Hang(release))
	hook := w.webhook(t, receiver.URL)
	require.Equal(t, fault.Invalid, kind(nil))
	require.Equal(t, fault.NotFound, kind(&recordv1.Delivery{AccountId: w.account, WebhookId: "wh_none"}))
	require.Equal(t, fault.NotFound, kind(&recordv1.Delivery{AccountId: "acc_other", WebhookId: hook.GetId()}))
	unready := w.webhook(t, receiver.URL, func(h *postriderv1.Webhook) { h.Profile = "pigeon" })
	require.Eventually(t, func() bool { return kind(w.delivery(unready, "{}")) == fault.Precondition }, patience, 10*time.Millisecond)

	first := make(chan fault.Kind)
	go func() { first <- kind(w.delivery(hook, "{}")) }()
	receiver.AwaitCount(t, 1)
	require.Equal(t, fault.Exhausted, kind(w.delivery(hook, "{}")))
	close(release)
	require.Zero(t, <-first)
}

// publishEvent stores an event whose payload is too big for its deliveries.
func (w *world) publishEvent(t *testing.T, data string) (*recordv1.Event, uint64) {
	t.Helper()
	ev := &recordv1.Event{
		Id: string(postrider.NewEventID()), AccountId: w.account, Type: "release.live", Time: timestamppb.Now(),
		ContentType: "application/json", AcceptTime: timestamppb.Now(), Data: []byte(data),
	}
	stored := make(chan uint64, 1)
	require.NoError(t, w.events.Publish(t.Context(), ev, func(s eventstream.Stored, err error) {
		if err != nil {
			t.Error(err)
		}
		stored <- s.Sequence
	}))
	return ev, <-stored
}

// reference makes a delivery refer to its event.
func reference(d *recordv1.Delivery, event string, sequence uint64) *recordv1.Delivery {
	d.EventId, d.EventSequence, d.DataByReference, d.Data = event, sequence, true, nil
	return d
}

func TestAPayloadThatIsOnlyReferredToIsFetched(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t).Answer(receivertest.Status(500), receivertest.Status(200))
	body := `{"long":"` + strings.Repeat("x", 50_000) + `"}`
	ev, sequence := w.publishEvent(t, body)
	hook := w.webhook(t, receiver.URL)
	w.dispatch(t, testConfig())
	d := reference(w.delivery(hook, ""), ev.GetId(), sequence)
	w.publish(t, d)
	w.ledger.state(t, d.GetId(), "delivered")
	for _, r := range receiver.All() {
		require.Equal(t, body, string(r.Body))
	}
	require.Equal(t, 2, receiver.Count())
	stored := w.scheduler.records(waitingKind)
	require.Len(t, stored, 1)
	require.True(t, stored[0].GetDelivery().GetDataByReference(), "EVENTS outlives the retry")
}

func TestWhatMayOutliveItsEventCarriesItsPayload(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t).Respond(500)
	ev, sequence := w.publishEvent(t, `{"kept":true}`)
	w.dispatch(t, testConfig())
	held := w.webhook(t, receiver.URL, setState(paused))
	spent := w.webhook(t, receiver.URL, func(h *postriderv1.Webhook) { h.RetrySchedule = schedule() })
	long := w.webhook(t, receiver.URL, func(h *postriderv1.Webhook) { h.RetrySchedule = schedule(time.Hour) })
	first := reference(w.delivery(held, ""), ev.GetId(), sequence)
	second := reference(w.delivery(spent, ""), ev.GetId(), sequence)
	third := reference(w.delivery(long, ""), ev.GetId(), sequence)
	third.AcceptTime = timestamppb.New(time.Now().Add(-w.events.MaxAge() + 30*time.Minute))
	w.publish(t, first, second, third)
	w.ledger.await(t, first.GetId(), "that holds", func(e *recordv1.JournalEntry) bool { return e.GetHeld() != nil })
	w.ledger.state(t, second.GetId(), "dead")
	w.ledger.state(t, third.GetId(), "waiting")
	w.settled(t)
	letter, _, err := w.deadLetters.Get(t.Context(), postriderAccount(w), postriderDelivery(second.GetId()))
	require.NoError(t, err)
	for _, d := range []*recordv1.Delivery{
		w.record(t, first.GetId(), held).GetDelivery(), letter.GetDelivery(), w.record(t, third.GetId(), long).GetDelivery(),
	} {
		require.False(t, d.GetDataByReference())
		require.JSONEq(t, `{"kept":true}`, string(d.GetData()))
	}
}

func TestADeliveryWhosePayloadIsGoneIsADeadLetter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t)
	ev, _ := w.publishEvent(t, "{}")
	w.dispatch(t, testConfig())
	attempted := reference(w.delivery(w.webhook(t, receiver.URL), ""), ev.GetId(), 4711)
	held := reference(w.delivery(w.webhook(t, receiver.URL, setState(paused)), ""), ev.GetId(), 4711)
	w.publish(t, attempted, held)
	a := w.ledger.state(t, attempted.GetId(), "dead")
	require.Equal(t, "payload_missing", a.GetErrorClass())
	require.Equal(t, "permanent", a.GetReason())
	w.ledger.await(t, held.GetId(), "that buries", func(e *recordv1.JournalEntry) bool { return e.GetDead() != nil })
	w.settled(t)
	for _, d := range []*recordv1.Delivery{attempted, held} {
		letter, _, err := w.deadLetters.Get(t.Context(), postriderAccount(w), postriderDelivery(d.GetId()))
		require.NoError(t, err)
		require.Equal(t, "permanent", letter.GetCause())
	}
	require.Zero(t, receiver.Count())
}

func TestAMessageThatCannotBeReadIsTerminated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t)
	hook := onShard(t, w, 0, receiver.URL)
	for _, data := range []string{"\xff\xff\xff", ""} {
		_, err := w.client.JetStream().PublishMsg(t.Context(), &nats.Msg{
			Subject: fmt.Sprintf("deliveries.0.%s.%s", w.account, hook.GetId()), Data: []byte(data),
		})
		require.NoError(t, err)
	}
	w.dispatch(t, testConfig())
	w.ledger.state(t, w.send(t, hook, 1)[0], "delivered")
	w.settled(t)
}

// rebinding answers with a public address first, and with an internal one from then on.
type rebinding struct{ calls chan struct{} }

func (r *rebinding) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	select {
	case r.calls <- struct{}{}:
		return []netip.Addr{netip.MustParseAddr("203.0.113.9")}, nil
	default:
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}
}

func TestANameThatTurnsInwardsIsBlockedAndRetried(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t)
	cfg := testConfig()
	cfg.Egress.AllowNetworks = []string{"203.0.113.9"} // Stands for a public address that does not answer.
	cfg.Egress.ConnectTimeout = 50 * time.Millisecond
	w.dispatch(t, cfg, func(d *dispatcher.Deps) { d.Resolver = &rebinding{make(chan struct{}, 1)} })
	_, port, _ := strings.Cut(receiver.Addr(), ":")
	hook := w.webhook(t, "http://rebind.example:"+port)
	id := w.send(t, hook, 1)[0]
	a := w.ledger.state(t, id, "dead")
	require.Equal(t, "ssrf_blocked", a.GetErrorClass())
	require.Equal(t, "exhausted", a.GetReason(), "it follows the schedule: names change")
	require.Zero(t, receiver.Count())
}

func TestAnAttemptEndsWithItsTimeout(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t).Answer(receivertest.Hang(nil), receivertest.Status(200))
	hook := w.webhook(t, receiver.URL, func(h *postriderv1.Webhook) { h.AttemptTimeout = durationpb.New(time.Second) })
	w.dispatch(t, testConfig())
	id := w.send(t, hook, 1)[0]
	first := w.ledger.state(t, id, "waiting")
	require.Equal(t, "timeout", first.GetErrorClass())
	require.GreaterOrEqual(t, first.GetDurationUs(), int64(1_000_000))
	w.ledger.state(t, id, "delivered")
}

func TestTroubleWithAWebhooksSecretsIsNoFaultOfItsDeliveries(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.scheduler.set(func(s *smallScheduler) { s.idle = true })
	receiver := receivertest.New(t)
	hook := w.webhook(t, receiver.URL, func(h *postriderv1.Webhook) { h.Profile = "pigeon" })
	w.dispatch(t, testConfig())
	id := w.send(t, hook, 1)[0]
	e := w.ledger.await(t, id, "that parks", func(e *recordv1.JournalEntry) bool { return e.GetWaiting() != nil })
	require.Equal(t, "configuration", e.GetWaiting().GetReason())
	w.settled(t)
	require.Equal(t, parkedKind, w.record(t, id, hook).GetKind())
}

func TestADelayedDeliveryIsAttemptedWhenItIsDue(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t)
	hook := w.webhook(t, receiver.URL)
	w.dispatch(t, testConfig())
	d := w.delivery(hook, "{}")
	w.put(t, &recordv1.Retry{Delivery: d, Kind: delayedKind, DueTime: timestamppb.New(time.Now().Add(time.Hour))})
	w.release(t, d.GetId(), hook)
	require.Equal(t, int32(1), w.ledger.state(t, d.GetId(), "delivered").GetNumber())
	require.Equal(t, http.MethodPost, receiver.Next(t).Method)
}

func TestSendProbeAsksAReceiverAndJournalsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t).Answer(receivertest.Body(204, "", "WebHook-Allowed-Origin", "*", "WebHook-Allowed-Rate", "100"))
	s, _ := w.dispatch(t, testConfig())
	api := client(t, w, s)
	hook := w.webhook(t, receiver.URL, setState(paused))
	probe := func(change func(*dispatcherv1.SendProbeRequest)) (*dispatcherv1.SendProbeResponse, fault.Kind) {
		req := &dispatcherv1.SendProbeRequest{
			AccountId: w.account, WebhookId: hook.GetId(), Method: "OPTIONS", Headers: map[string]string{"WebHook-Request-Origin": "postrider.example"},
		}
		if change != nil {
			change(req)
		}
		res, err := api.SendProbe(t.Context(), req)
		kind, _ := fault.KindOf(err)
		return res, kind
	}
	res, kind := probe(nil)
	require.Zero(t, kind)
	require.Equal(t, int32(204), res.GetStatusCode())
	require.Equal(t, "*", res.GetHeaders()["Webhook-Allowed-Origin"])
	require.Equal(t, "100", res.GetHeaders()["Webhook-Allowed-Rate"])
	require.Equal(t, "postrider.example", receiver.Next(t).Header.Get("WebHook-Request-Origin"))

	for name, change := range map[string]func(*dispatcherv1.SendProbeRequest){
		"no account":       func(r *dispatcherv1.SendProbeRequest) { r.AccountId = "" },
		"no webhook":       func(r *dispatcherv1.SendProbeRequest) { r.WebhookId = "" },
		"another method":   func(r *dispatcherv1.SendProbeRequest) { r.Method = "DELETE" },
		"a header of HTTP": func(r *dispatcherv1.SendProbeRequest) { r.Headers["host"] = "elsewhere" },
		"two headers":      func(r *dispatcherv1.SendProbeRequest) { r.Headers["X"] = "a\r\nY: b" },
		"too much":         func(r *dispatcherv1.SendProbeRequest) { r.Body = make([]byte, 64<<10+1) },
	} {
		_, kind := probe(change)
		require.Equal(t, fault.Invalid, kind, name)
	}
	_, kind = probe(func(r *dispatcherv1.SendProbeRequest) { r.AccountId = "acc_other" })
	require.Equal(t, fault.NotFound, kind)
	inward := w.webhook(t, "http://169.254.169.254/")
	res, kind = probe(func(r *dispatcherv1.SendProbeRequest) { r.WebhookId = inward.GetId() })
	require.Zero(t, kind)
	require.Equal(t, "ssrf_blocked", res.GetErrorClass())
	require.Equal(t, 1, receiver.Count())
}
