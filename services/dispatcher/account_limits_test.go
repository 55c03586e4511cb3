package dispatcher_test

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/telemetry"
	"github.com/postrider/postrider/services/dispatcher"
	"github.com/postrider/postrider/test/fixture/receivertest"
)

// limit changes the account's limits, and returns when every dispatcher acts on that.
func (w *world) limit(t testing.TB, maxInFlight int32, rate float64) {
	t.Helper()
	rec, rev, err := w.store.GetAccount(t.Context(), w.account)
	require.NoError(t, err)
	rec.Account.MaxInFlight, rec.Account.RateLimit = maxInFlight, rate
	rev, err = w.store.UpdateAccount(t.Context(), rec, rev)
	require.NoError(t, err)
	require.NoError(t, w.barrier.Confirm(t.Context(), config.BucketAccounts, rev))
}

// another is the same world, seen from another account.
func (w *world) another(t testing.TB) *world {
	t.Helper()
	other := *w
	other.account = string(postrider.NewAccountID())
	_, err := w.store.CreateAccount(t.Context(), &recordv1.Account{Account: &postriderv1.Account{Id: other.account, TimeZone: "UTC"}})
	require.NoError(t, err)
	return &other
}

// reasons counts the records of parked deliveries by their reason.
func (w *world) reasons() map[string]int {
	reasons := map[string]int{}
	for _, r := range w.scheduler.records(parkedKind) {
		reasons[r.GetReason()]++
	}
	return reasons
}

func TestAnAccountHasNoMoreAttemptsAtOnceThanItMay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t).Answer(receivertest.After(time.Millisecond, receivertest.Status(200)))
	w.limit(t, 3, 0)
	var ids []string
	for i := range 6 {
		ids = append(ids, w.send(t, onShard(t, w, i%shards, receiver.URL), 50)...)
	}
	w.dispatch(t, testConfig())
	for _, id := range ids {
		w.ledger.state(t, id, "delivered")
	}
	w.settled(t)
	require.Equal(t, len(ids), receiver.Count())
	require.LessOrEqual(t, receiver.MaxOpen(), 3)
	require.NotContains(t, w.reasons(), "concurrency", "each webhook alone had room")
}

func TestWhatAnAccountUsesOfItsLimitsIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.dispatch(t, testConfig())
	api := client(t, w, s)
	release := make(chan struct{})
	receiver := receivertest.New(t).Answer(receivertest.Hang(release))
	hook, other := onShard(t, w, 0, receiver.URL), onShard(t, w, 1, receiver.URL)
	awaitHealth(t, api, hook, func(h *postriderv1.WebhookHealth) bool { return h.GetAccount() == nil })
	w.limit(t, 3, 100)
	w.send(t, other, 5)
	awaitHealth(t, api, hook, func(h *postriderv1.WebhookHealth) bool {
		return proto.Equal(h.GetAccount(), &postriderv1.AccountUse{InFlight: 3, Queued: 2, MaxInFlight: 3, RateLimit: 100}) && h.GetInFlight() == 0
	})
	close(release)
	awaitHealth(t, api, hook, func(h *postriderv1.WebhookHealth) bool {
		return h.GetAccount() != nil && h.GetAccount().GetInFlight() == 0
	})
	w.limit(t, 0, 0)
	awaitHealth(t, api, hook, func(h *postriderv1.WebhookHealth) bool { return h.GetAccount() == nil })
}

func TestTheRateOfAnAccountHoldsOverItsWebhooks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t)
	w.limit(t, 0, 20)
	var ids []string
	for i := range 4 {
		ids = append(ids, w.send(t, onShard(t, w, i%shards, receiver.URL), 10)...)
	}
	w.dispatch(t, testConfig())
	for _, id := range ids {
		w.ledger.state(t, id, "delivered")
	}
	all := receiver.All()
	require.Len(t, all, 40)
	// 40 attempts at 20 a second, of which a burst of two may come at once.
	require.GreaterOrEqual(t, all[39].Arrived.Sub(all[0].Arrived), 1850*time.Millisecond)
	reasons := w.reasons()
	require.Len(t, reasons, 1)
	require.Contains(t, reasons, "account_rate")
	for _, r := range w.scheduler.records(parkedKind) {
		require.Zero(t, r.GetDelivery().GetProgress().GetAttempts(), "parking burns no attempt")
	}
}

// An account whose receivers hang, with a backlog larger than all that may be unsettled, holds as
// many slots as it may and no more; what is behind it arrives.
func TestAnAccountAtItsLimitCostsTheOthersNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.another(t)
	hanging := receivertest.New(t).Answer(receivertest.Hang(nil))
	healthy := receivertest.New(t)
	w.limit(t, 5, 0)
	w.scheduler.set(func(s *smallScheduler) { s.idle = true })
	var stuck []string
	for range 4 {
		hook := onShard(t, w, 0, hanging.URL, func(h *postriderv1.Webhook) { h.AttemptTimeout = durationpb.New(30 * time.Second) })
		stuck = append(stuck, w.send(t, hook, 200)...)
	}
	ids := other.send(t, onShard(t, other, 0, healthy.URL), 200) // Behind the whole backlog.
	cfg := testConfig()
	cfg.Pipeline.MaxUnsettled = 64
	w.dispatch(t, cfg)
	for _, id := range ids {
		w.ledger.state(t, id, "delivered")
	}
	require.Eventually(t, func() bool { return len(w.scheduler.records(parkedKind)) == len(stuck)-5 }, patience, 10*time.Millisecond)
	require.Equal(t, 5, hanging.MaxOpen())
	require.Contains(t, w.reasons(), "account_concurrency")
	hanging.Down() // So that the attempts end with the test.
}

// Of two dispatchers that hold a shard each, each has the part of the limit that its webhooks make
// up; the whole comes back to the one that is left.
func TestDispatchersShareTheLimitOfAnAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	release := make(chan struct{})
	receiver := receivertest.New(t).Answer(receivertest.Hang(release))
	w.limit(t, 4, 0)
	hooks := []*postriderv1.Webhook{
		onShard(t, w, 0, receiver.URL), onShard(t, w, 0, receiver.URL), onShard(t, w, 0, receiver.URL), onShard(t, w, 1, receiver.URL),
	}
	var tels []*telemetry.Telemetry
	for _, name := range []string{"one", "two"} {
		tel, err := telemetry.New(telemetry.Default(), "dispatcher")
		require.NoError(t, err)
		tels = append(tels, tel)
		deps := w.depsOn(t, w.server.Connect(t))
		w.dispatch(t, testConfig(), func(d *dispatcher.Deps) { *d = deps; d.Telemetry, d.Instance = tel, name })
	}
	for _, tel := range tels {
		require.Eventually(t, func() bool {
			page := httptest.NewRecorder()
			tel.Handler().ServeHTTP(page, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
			return strings.Contains(page.Body.String(), "postrider_dispatcher_shards 1\n")
		}, patience, 10*time.Millisecond)
	}
	w.scheduler.set(func(s *smallScheduler) { s.idle = true })
	sent := 0
	var last []string
	for _, hook := range hooks {
		last = w.send(t, hook, 50)
		sent += len(last)
	}
	require.Eventually(t, func() bool { return len(w.scheduler.records(parkedKind)) == sent-4 }, patience, 10*time.Millisecond)
	require.Equal(t, 4, receiver.MaxOpen())
	parked := 0
	for _, id := range last {
		for _, e := range w.ledger.of(id) {
			if e.GetWaiting() != nil {
				parked++
			}
		}
	}
	require.Equal(t, 49, parked, "the shard of one webhook in four had one place")
	close(release)
	w.settled(t)
}

// Limits that are taken away while deliveries wait for them hold nothing back any more.
func TestALimitThatIsTakenAwayHoldsNothingBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := receivertest.New(t)
	w.limit(t, 0, 0.1)
	hook := w.webhook(t, receiver.URL)
	cfg := testConfig()
	cfg.Pipeline.ParkAfter = time.Hour // So that they wait in memory.
	w.dispatch(t, cfg)
	ids := w.send(t, hook, 20)
	w.ledger.state(t, ids[0], "delivered")
	w.limit(t, 0, 0)
	more := w.send(t, hook, 1)
	for _, id := range append(ids, more...) {
		w.ledger.state(t, id, "delivered")
	}
	w.settled(t)
}
