package dispatcher_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/signature"
	"github.com/postrider/postrider/test/fixture/receivertest"
)

func TestADeliveryArrivesSignedOnceAndIsJournalled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t)
	hook := w.webhook(t, receiver.URL+"/hook")
	w.dispatch(t, testConfig())
	d := w.delivery(hook, `{"a":1}`)
	w.publish(t, d)

	got := receiver.Next(t)
	require.Equal(t, `{"a":1}`, string(got.Body))
	require.Equal(t, d.GetEventId(), got.Header.Get("Webhook-Id"))
	key, err := signature.ParseSecret(w.secret, signature.KindHMAC)
	require.NoError(t, err)
	require.NoError(t, signature.VerifyStandardWebhooks(got.Header, got.Body, []signature.Secret{key}, time.Now(), time.Minute))
	a := w.ledger.state(t, d.GetId(), "delivered")
	require.Equal(t, int32(1), a.GetNumber())
	require.Equal(t, int32(200), a.GetStatusCode())
	require.Equal(t, "schedule", a.GetTrigger())
	w.settled(t)
	require.Equal(t, 1, receiver.Count())
}

func TestAFailedDeliveryIsRetriedUntilItArrives(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t).Respond(http.StatusInternalServerError, http.StatusFound, http.StatusNoContent)
	hook := w.webhook(t, receiver.URL)
	w.dispatch(t, testConfig())
	id := w.send(t, hook, 1)[0]
	last := w.ledger.state(t, id, "delivered")
	require.Equal(t, int32(3), last.GetNumber())
	w.settled(t)
	require.Equal(t, 3, receiver.Count())
	bodies := map[string]bool{}
	ids := map[string]bool{}
	for _, r := range receiver.All() {
		bodies[string(r.Body)] = true
		ids[r.Header.Get("Webhook-Id")] = true
	}
	require.Len(t, bodies, 1)
	require.Len(t, ids, 1)
	first := w.ledger.await(t, id, "of attempt 1", func(e *recordv1.JournalEntry) bool { return e.GetAttempted().GetNumber() == 1 })
	require.Equal(t, "waiting", first.GetAttempted().GetState())
	require.Equal(t, "http_status", first.GetAttempted().GetErrorClass())
	require.NotNil(t, first.GetAttempted().GetNextAttemptTime())
	second := w.ledger.await(t, id, "of attempt 2", func(e *recordv1.JournalEntry) bool { return e.GetAttempted().GetNumber() == 2 })
	require.Equal(t, "redirect", second.GetAttempted().GetErrorClass())
	require.Nil(t, w.record(t, id, hook))
}

func TestADeliveryWhoseScheduleIsSpentIsADeadLetter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t).Answer(receivertest.Status(500), receivertest.Status(500), receivertest.Body(500, "no"))
	hook := w.webhook(t, receiver.URL)
	w.dispatch(t, testConfig())
	id := w.send(t, hook, 1)[0]
	last := w.ledger.state(t, id, "dead")
	require.Equal(t, "exhausted", last.GetReason())
	require.Equal(t, int32(3), last.GetNumber())
	w.settled(t)
	letter, _, err := w.deadLetters.Get(t.Context(), postriderAccount(w), postriderDelivery(id))
	require.NoError(t, err)
	require.Equal(t, "exhausted", letter.GetCause())
	require.JSONEq(t, `{"n":0}`, string(letter.GetDelivery().GetData()))
	require.Equal(t, int32(3), letter.GetDelivery().GetProgress().GetAttempts())
	require.Equal(t, int32(500), letter.GetLastAttempt().GetStatusCode())
	require.Empty(t, letter.GetLastAttempt().GetResponseBody())
	require.Equal(t, 3, receiver.Count())
}

func TestWhatCannotBeRenderedIsADeadLetterAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t)
	hook := w.webhook(t, receiver.URL, func(h *postriderv1.Webhook) { h.Profile = "jewelmusic" })
	w.dispatch(t, testConfig())
	d := w.delivery(hook, "not JSON")
	w.publish(t, d)
	last := w.ledger.state(t, d.GetId(), "dead")
	require.Equal(t, "permanent", last.GetReason())
	require.Equal(t, "cannot_render", last.GetErrorClass())
	w.settled(t)
	require.Zero(t, receiver.Count())
}
