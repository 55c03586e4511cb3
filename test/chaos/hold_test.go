//go:build chaos

package chaos

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// holdSize is how big the drill of holds is.
type holdSize struct {
	strikes  int // pauses that are resumed at once
	burst    int // events published around each strike
	batch    int
	inFlight int // deliveries that must be in flight at each strike
}

func TestPauseAndResumeAtOnceAHundredTimes(t *testing.T) {
	holdDrill(t, holdSize{strikes: 100, burst: 400, batch: 50, inFlight: 400})
}

func TestShortPauseAndResumeAtOnce(t *testing.T) {
	t.Parallel()
	holdDrill(t, holdSize{strikes: 16, burst: 100, batch: 10, inFlight: 100})
}

// typeHeld is the type of all events of the drill.
const typeHeld = "hold.run"

// holdHooks are webhooks that answer in different ways, so that at each strike some deliveries are
// being attempted, some wait for their schedule and some are due.
func holdHooks() []hookPlan {
	var hooks []hookPlan
	for _, m := range []mood{fine().after(30 * time.Millisecond), flaky(.4).after(10 * time.Millisecond), stubborn(), fine()} {
		hooks = append(hooks, hookPlan{
			patterns: []string{"hold.*"}, wants: []string{typeHeld}, schedule: schedule(time.Second, 0.8), mood: m,
		})
	}
	return hooks
}

// holdDrill pauses a webhook and resumes it at once, again and again under load: with events not
// routed, attempts in flight and retries due; and, in the second half, while Redis and every
// scheduler are gone, with records about to fire by themselves. In the end nothing may be held,
// and every delivery must have arrived once.
func holdDrill(t *testing.T, size holdSize) {
	t.Helper()
	d := roll(t)
	c := startCluster(t, map[string]string{
		"POSTRIDER_RETRIES_GRACE": "12s", "POSTRIDER_DISPATCHER_BREAKER_FAILURES": patientBreaker,
	})
	w := newWorld(t, c, 1, holdHooks(), func(int) eventPlan { return eventPlan{eventType: typeHeld} })
	s := watchStreams(t, c)
	p := &producer{w: w, batch: size.batch}
	r := &row{Fault: "a webhook paused and resumed at once"}
	webhooks := postriderv1.NewWebhookServiceClient(dial(t, c.APITarget()))

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var unrouted, attempting, records int
	for n := range size.strikes {
		if n == size.strikes/2 {
			c.Of("redis")[0].Kill()
			for _, scheduler := range c.Of("scheduler") {
				scheduler.Kill()
			}
			t.Log("redis and every scheduler are gone: what is due fires by itself")
		}
		published := make(chan error, 1)
		go func() { published <- p.publish(ctx, n*size.burst, (n+1)*size.burst) }()
		hook := d.IntN(len(w.hooks))
		got := strike(t, w, s, r, webhooks, hook, n*size.burst+1+d.IntN(size.burst-1), size.inFlight, d.between(0, 5*time.Millisecond), d.between(0, 30*time.Millisecond))
		t.Logf("strike %d at webhook %d: %s", n+1, hook, got)
		require.NoError(t, <-published)
		unrouted, attempting, records = unrouted+got.unrouted, attempting+got.unacked, records+got.records
	}
	// A drill that met nothing says nothing.
	require.Positive(t, unrouted, "no strike met an event that was not routed")
	require.Positive(t, attempting, "no strike met a delivery in a dispatcher's hands")
	require.Positive(t, records, "no strike met a record of a retry")

	for _, service := range []string{"redis", "scheduler"} {
		for _, process := range c.Of(service) {
			require.NoError(t, process.Start())
			require.NoError(t, process.WaitReady(ctx))
		}
	}
	judgeAll(t, w, s, p)
	for _, id := range w.hookIDs {
		backlog, err := webhooks.GetWebhookBacklog(w.accounts[0].as(ctx), &postriderv1.GetWebhookBacklogRequest{WebhookId: id})
		require.NoError(t, err)
		require.True(t, backlog.GetComplete())
		require.Zero(t, backlog.GetHeld().GetCount()+backlog.GetWaiting().GetCount()+backlog.GetParked().GetCount())
	}
	report(t, w, r)
}

// met is what a strike met.
type met struct{ inFlight, unrouted, unacked, records int }

func (m met) String() string {
	return fmt.Sprintf("%d deliveries in flight, %d events not routed, %d messages in dispatchers' hands or before them, %d records of retries",
		m.inFlight, m.unrouted, m.unacked, m.records)
}

// strike waits until so many events are accepted and enough is in flight, and a moment more, then pauses the webhook and resumes it
// after another.
func strike(
	t *testing.T, w *world, s *streams, r *row, webhooks postriderv1.WebhookServiceClient,
	hook, accepted, enough int, before, between time.Duration,
) met {
	t.Helper()
	ctx := t.Context()
	await(t, time.Minute, time.Millisecond, func() string {
		return fmt.Sprintf("%d events accepted, %d deliveries in flight", w.ledger.acceptedCount(), w.ledger.inFlight())
	}, func() bool { return w.ledger.acceptedCount() >= accepted && w.ledger.inFlight() >= enough })
	require.True(t, pause(ctx, before))
	m := met{inFlight: r.strike(t, w, fmt.Sprintf("pause of webhook %d", hook))}
	var err error
	m.unrouted, err = s.unrouted(ctx)
	require.NoError(t, err)
	m.unacked, err = s.unacked(ctx, s.all())
	require.NoError(t, err)
	m.records, err = s.waiting(ctx)
	require.NoError(t, err)
	account, id := w.accounts[0], w.hookIDs[hook]
	_, err = webhooks.PauseWebhook(account.as(ctx), &postriderv1.PauseWebhookRequest{WebhookId: id})
	require.NoError(t, err)
	require.True(t, pause(ctx, between))
	_, err = webhooks.ResumeWebhook(account.as(ctx), &postriderv1.ResumeWebhookRequest{WebhookId: id})
	require.NoError(t, err)
	return m
}
