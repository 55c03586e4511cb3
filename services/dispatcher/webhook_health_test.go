package dispatcher_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	dispatcherv1 "github.com/postrider/postrider/proto/gen/go/postrider/dispatcher/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/services/dispatcher"
	"github.com/postrider/postrider/test/fixture/receivertest"
)

const (
	closed = postriderv1.BreakerState_BREAKER_STATE_CLOSED
	open   = postriderv1.BreakerState_BREAKER_STATE_OPEN
)

// healthOf is what a dispatcher tells of a webhook; nil if it does not hold its shard.
func healthOf(t *testing.T, api dispatcherv1.DispatcherServiceClient, hook *postriderv1.Webhook) *postriderv1.WebhookHealth {
	t.Helper()
	resp, err := api.GetWebhookHealth(t.Context(), &dispatcherv1.GetWebhookHealthRequest{AccountId: hook.GetAccountId(), WebhookId: hook.GetId()})
	require.NoError(t, err)
	return resp.GetHealth()
}

// awaitHealth waits until the dispatcher tells what fits.
func awaitHealth(t *testing.T, api dispatcherv1.DispatcherServiceClient, hook *postriderv1.Webhook, fits func(*postriderv1.WebhookHealth) bool) *postriderv1.WebhookHealth {
	t.Helper()
	var last *postriderv1.WebhookHealth
	require.Eventually(t, func() bool {
		last = healthOf(t, api, hook)
		return last != nil && fits(last)
	}, patience, 5*time.Millisecond)
	return last
}

func TestHowAWebhookIsIsToldLive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cfg := testConfig()
	cfg.Pipeline.Breaker.Failures, cfg.Pipeline.Breaker.Cooldown, cfg.Pipeline.Breaker.MaxCooldown = 2, time.Hour, time.Hour
	s, _ := w.dispatch(t, cfg)
	api := client(t, w, s)
	release := make(chan struct{})
	receiver := receivertest.New(t).Answer(receivertest.Hang(release), receivertest.Status(500))
	hook := w.webhook(t, receiver.URL, func(h *postriderv1.Webhook) {
		h.RetrySchedule, h.RateLimit, h.MaxInFlight = schedule(time.Hour), proto.Float64(50), 20
	})

	begun := time.Now()
	idle := awaitHealth(t, api, hook, func(*postriderv1.WebhookHealth) bool { return true })
	require.True(t, proto.Equal(&postriderv1.WebhookHealth{
		BreakerState: closed, AllowedInFlight: 8, MaxInFlight: 20, RateLimit: 50,
	}, idle), "%v", idle)
	w.send(t, hook, 1)
	awaitHealth(t, api, hook, func(h *postriderv1.WebhookHealth) bool { return h.GetInFlight() == 1 })
	close(release)
	awaitHealth(t, api, hook, func(h *postriderv1.WebhookHealth) bool { return h.GetInFlight() == 0 && h.GetAllowedInFlight() == 9 })
	w.send(t, hook, 1)
	awaitHealth(t, api, hook, func(h *postriderv1.WebhookHealth) bool {
		return h.GetInFlight() == 0 && h.GetConsecutiveFailures() == 1 && h.GetBreakerState() == closed
	})
	w.send(t, hook, 1)
	tripped := awaitHealth(t, api, hook, func(h *postriderv1.WebhookHealth) bool { return h.GetBreakerState() == open })
	require.WithinRange(t, tripped.GetBreakerOpenTime().AsTime(), begun, time.Now())
	require.Equal(t, time.Hour, tripped.GetNextProbeTime().AsTime().Sub(tripped.GetBreakerOpenTime().AsTime()))
	require.Zero(t, tripped.GetConsecutiveFailures())

	// Its owner mends it, and the next attempt may pass.
	w.update(t, hook.GetId(), func(h *postriderv1.Webhook) { h.MaxInFlight = 30 })
	mended := awaitHealth(t, api, hook, func(h *postriderv1.WebhookHealth) bool { return h.GetMaxInFlight() == 30 })
	require.Equal(t, closed, mended.GetBreakerState())
	require.Nil(t, mended.GetBreakerOpenTime())

	_, err := api.GetWebhookHealth(t.Context(), &dispatcherv1.GetWebhookHealthRequest{AccountId: "acc_other", WebhookId: hook.GetId()})
	kind, _ := fault.KindOf(err)
	require.Equal(t, fault.NotFound, kind)
}

// Of several dispatchers one tells, the one that holds the shard, and after it its successor.
func TestOnlyWhoHoldsAShardTellsOfItsWebhooks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hooks := []*postriderv1.Webhook{onShard(t, w, 0, "http://127.0.0.1:1/"), onShard(t, w, 1, "http://127.0.0.1:1/")}
	var apis []dispatcherv1.DispatcherServiceClient
	var stops []func()
	for _, name := range []string{"first", "second"} {
		deps := w.depsOn(t, w.server.Connect(t))
		s, stop := w.dispatch(t, testConfig(), func(d *dispatcher.Deps) {
			*d = deps
			d.Instance = name
		})
		apis, stops = append(apis, client(t, w, s)), append(stops, stop)
	}
	holder := make([]int, len(hooks))
	require.Eventually(t, func() bool {
		holders := 0
		for i, hook := range hooks {
			for j, api := range apis {
				if healthOf(t, api, hook) != nil {
					holder[i] = j
					holders++
				}
			}
		}
		return holders == len(hooks) && holder[0] != holder[1]
	}, patience, 10*time.Millisecond)
	stops[holder[0]]()
	awaitHealth(t, apis[holder[1]], hooks[0], func(*postriderv1.WebhookHealth) bool { return true })
}
