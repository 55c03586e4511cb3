package dispatcher_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/test/fixture/receivertest"
)

// as is what the world does for another account.
func (w *world) as(t testing.TB) *world {
	t.Helper()
	other := *w
	other.account = string(postrider.NewAccountID())
	_, err := w.store.CreateAccount(t.Context(), &recordv1.Account{Account: &postriderv1.Account{Id: other.account, TimeZone: "UTC"}})
	require.NoError(t, err)
	return &other
}

// One account has every slot taken, and many times as much ready behind them. What another account has comes
// next: it is neither parked nor does it wait behind the flood.
func TestAFloodOfOneAccountLeavesAnotherFirstInLine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	quiet := w.as(t)
	step, end := make(chan struct{}), make(chan struct{})
	held := receivertest.Func(func(rw http.ResponseWriter, r *http.Request) {
		select {
		case <-step:
		case <-end:
		case <-r.Context().Done():
		}
		rw.WriteHeader(http.StatusOK)
	})
	flooded := receivertest.New(t)
	cfg := testConfig()
	cfg.Pipeline.Slots = 8
	cfg.Pipeline.ParkAfter, cfg.Pipeline.SlowAfter = time.Hour, time.Hour // However slow the machine is.
	s, _ := w.dispatch(t, cfg)
	api := client(t, w, s)
	hooks := make([]*postriderv1.Webhook, 4)
	for i := range hooks { // Receivers that are known to be quick give way to nobody.
		hooks[i] = w.webhook(t, flooded.URL)
		w.ledger.state(t, w.send(t, hooks[i], 1)[0], "delivered")
	}
	before := len(hooks)
	flooded.Answer(held)
	for _, h := range hooks {
		w.send(t, h, 100)
	}
	flooded.AwaitCount(t, before+cfg.Pipeline.Slots)
	arrived := make(chan struct{}, 1)
	receiver := receivertest.New(t).Answer(receivertest.Func(func(rw http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		rw.WriteHeader(http.StatusOK)
	}))
	hook := quiet.webhook(t, receiver.URL)
	for _, h := range hooks { // There is a queue, of more than may pass it below.
		awaitHealth(t, api, h, func(h *postriderv1.WebhookHealth) bool { return h.GetInFlight() >= 8 })
	}
	id := quiet.send(t, hook, 1)[0]
	awaitHealth(t, api, hook, func(h *postriderv1.WebhookHealth) bool { return h.GetInFlight() == 1 })
	for n := 0; ; n++ {
		select {
		case <-arrived:
			require.LessOrEqual(t, n, cfg.Pipeline.Slots, "it waited behind the flood")
			close(end)
			w.ledger.state(t, id, "delivered")
			return
		case step <- struct{}{}:
			flooded.AwaitCount(t, before+cfg.Pipeline.Slots+n+1)
		}
	}
}
