package standalone_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/standalone"
)

// reconcile runs once, as an admin.
func (u *user) reconcile(t *testing.T, repair bool) ([]*postriderv1.Imbalance, *postriderv1.ReconcileSummary) {
	t.Helper()
	stream, err := postriderv1.NewLedgerServiceClient(u.conn).Reconcile(u.ctx(t), &postriderv1.ReconcileRequest{Repair: repair}, grpc.WaitForReady(true))
	require.NoError(t, err)
	var named []*postriderv1.Imbalance
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			require.FailNow(t, "no summary")
		}
		require.NoError(t, err)
		if i := resp.GetImbalance(); i != nil {
			named = append(named, i)
			continue
		}
		return named, resp.GetSummary()
	}
}

// traffic is an account under load: a receiver that answers, one that fails every third time, one that
// always fails until the schedule is spent, and one whose webhook is paused and resumed all the time.
type traffic struct {
	user      *user
	published atomic.Int64
	cancel    context.CancelFunc
	wg        sync.WaitGroup
}

func startLoad(t *testing.T, u *user) *traffic {
	t.Helper()
	var asked atomic.Int64
	serve := func(status func(n int64) int) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status(asked.Add(1))) }))
		t.Cleanup(s.Close)
		return s.URL
	}
	short := func(delays ...time.Duration) func(*postriderv1.Webhook) {
		return func(w *postriderv1.Webhook) {
			w.RetrySchedule = &postriderv1.RetrySchedule{}
			for _, d := range delays {
				w.RetrySchedule.Delays = append(w.RetrySchedule.Delays, durationpb.New(d))
			}
		}
	}
	always := func(code int) func(int64) int { return func(int64) int { return code } }
	u.webhook(t, serve(always(http.StatusOK)))
	u.webhook(t, serve(func(n int64) int {
		if n%3 == 0 {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	}), short(time.Minute, time.Minute, 5*time.Minute, time.Hour))
	u.webhook(t, serve(always(http.StatusBadGateway)), short(time.Minute, time.Minute))
	paused := u.webhook(t, serve(always(http.StatusOK))).GetWebhook().GetId()

	ctx, cancel := context.WithCancel(u.ctx(t))
	l := &traffic{user: u, cancel: cancel}
	l.wg.Go(func() { l.publish(ctx, t) })
	l.wg.Go(func() { l.toggle(ctx, t, paused) })
	t.Cleanup(l.stop)
	return l
}

// pace is between two events: the load is to move all the time, not to fill the machine.
const pace = 3 * time.Millisecond

func (l *traffic) publish(ctx context.Context, t *testing.T) {
	t.Helper()
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// A call that has begun is not broken off: it would be stored and not counted.
		_, err := l.user.events.PublishEvent(context.WithoutCancel(ctx), &postriderv1.PublishEventRequest{Event: &postriderv1.EventInput{Type: "order.paid", Data: []byte(`{}`)}})
		if err != nil {
			t.Errorf("publish: %v", err)
			return
		}
		l.published.Add(1)
	}
}

func (l *traffic) toggle(ctx context.Context, t *testing.T, webhook string) {
	t.Helper()
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		var err error
		if n%2 == 0 {
			_, err = l.user.webhooks.PauseWebhook(ctx, &postriderv1.PauseWebhookRequest{WebhookId: webhook})
		} else {
			_, err = l.user.webhooks.ResumeWebhook(ctx, &postriderv1.ResumeWebhookRequest{WebhookId: webhook})
		}
		if err != nil && ctx.Err() == nil {
			t.Errorf("toggle: %v", err)
		}
		select {
		case <-tick.C:
			continue
		case <-ctx.Done():
		}
		_, err = l.user.webhooks.ResumeWebhook(context.WithoutCancel(ctx), &postriderv1.ResumeWebhookRequest{WebhookId: webhook})
		if err != nil {
			t.Errorf("resume: %v", err)
		}
		return
	}
}

func (l *traffic) stop() {
	l.cancel()
	l.wg.Wait()
}

func (u *user) ledger(t *testing.T) *postriderv1.GetLedgerResponse {
	t.Helper()
	resp, err := postriderv1.NewLedgerServiceClient(u.conn).GetLedger(u.ctx(t), &postriderv1.GetLedgerRequest{})
	require.NoError(t, err)
	return resp
}

func TestAHealthySystemUnderLoadReportsNothing(t *testing.T) {
	t.Parallel()
	healthyUnderLoad(t, config(t.TempDir()))
}

// healthyUnderLoad reconciles again and again while everything moves, then counts when nothing does.
func healthyUnderLoad(t *testing.T, cfg standalone.Config) {
	t.Helper()
	// Where a machine stands still for seconds the dispatcher stores retries itself. They are named as
	// not indexed until the sweep has found them, which then is to be before reconciliation looks again.
	cfg.Scheduler.SweepInterval = time.Second
	svc, _ := start(t, cfg)
	root := admin(t, svc)
	u := root.newAccount(t)
	l := startLoad(t, u)
	require.Eventually(t, func() bool { return l.published.Load() > 200 }, patience, 10*time.Millisecond)
	var moved int64
	for range 4 { // each waits for the ack wait
		before := l.published.Load()
		named, summary := root.reconcile(t, false)
		require.Empty(t, named, "of %v", summary)
		require.True(t, summary.GetIndexCompared())
		require.Greater(t, l.published.Load(), before, "it was under load")
		require.Positive(t, summary.GetDeliveries()+summary.GetRecords()+summary.GetDue(), "nothing was in flight")
		moved += summary.GetSuspects()
		t.Logf("published %d meanwhile: %v", l.published.Load()-before, summary)
	}
	require.Positive(t, moved, "nothing moved while it looked, so nothing was shown")
	l.stop()

	// What failed waits for its breaker's probes; the ledger balances all the same.
	var last *postriderv1.GetLedgerResponse
	require.Eventually(t, func() bool {
		last = u.ledger(t)
		return last.GetLedger().GetRouted() == 4*l.published.Load() && last.GetLedger().GetDifference() == 0 && last.GetUnrecorded() == 0
	}, patience, 100*time.Millisecond, "%v", &last)
	require.Positive(t, last.GetLedger().GetDelivered())
	t.Logf("in the end: %v", last)
	named, summary := root.reconcile(t, false)
	require.Empty(t, named)
	require.GreaterOrEqual(t, summary.GetEvents(), l.published.Load(), "and those about the webhooks")
}
