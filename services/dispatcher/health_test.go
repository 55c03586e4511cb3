package dispatcher_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	apiv1 "github.com/postrider/postrider/proto/gen/go/postrider/api/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/services/dispatcher"
	"github.com/postrider/postrider/test/fixture/receivertest"
)

// outcomes keeps what dispatchers report; the first reports find it away.
type outcomes struct {
	mu   sync.Mutex
	away int
	list []*apiv1.WebhookOutcomes
}

func (o *outcomes) Report(_ context.Context, reports []*apiv1.WebhookOutcomes) ([]string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.away > 0 {
		o.away--
		return nil, errors.New("away")
	}
	o.list = append(o.list, reports...)
	return nil, nil
}

// await waits until a webhook has so many reports.
func (o *outcomes) await(t *testing.T, webhook string, n int) []*apiv1.WebhookOutcomes {
	t.Helper()
	var found []*apiv1.WebhookOutcomes
	require.Eventually(t, func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		found = nil
		for _, r := range o.list {
			if r.GetWebhookId() == webhook {
				found = append(found, r)
			}
		}
		return len(found) >= n
	}, patience, 10*time.Millisecond)
	return found
}

func TestHowAttemptsEndIsReported(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	told := &outcomes{away: 2}
	tell := func(d *dispatcher.Deps) { d.Reporter = told }
	cfg := testConfig()
	cfg.Pipeline.ReportEvery = 50 * time.Millisecond
	receiver := receivertest.New(t).Respond(500, 200, 200)
	hook := w.webhook(t, receiver.URL, func(h *postriderv1.Webhook) { h.RetrySchedule = schedule(time.Hour) })
	gone := w.webhook(t, receivertest.New(t).Respond(http.StatusGone).URL)
	_, stop := w.dispatch(t, cfg, tell)

	id := w.send(t, hook, 1)[0]
	w.ledger.state(t, id, "waiting")
	reports := told.await(t, hook.GetId(), 1)
	require.Equal(t, w.account, reports[0].GetAccountId())
	require.EqualValues(t, 500, reports[0].GetLastStatusCode())
	require.Equal(t, "http_status", reports[0].GetLastErrorClass())
	require.Nil(t, reports[0].GetSuccessTime())
	require.False(t, reports[0].GetLastFailureTime().AsTime().Before(reports[0].GetFailingSince().AsTime()))

	w.ledger.state(t, w.send(t, hook, 1)[0], "delivered")
	require.NotNil(t, told.await(t, hook.GetId(), 2)[1].GetSuccessTime())

	// A receiver that is gone is disabled by a rule of its own.
	w.ledger.state(t, w.send(t, gone, 1)[0], "held")

	// Who takes the shard over knows nothing of the webhook, so its first outcome is told.
	w.settled(t)
	stop()
	w.dispatch(t, cfg, tell)
	w.ledger.state(t, w.send(t, hook, 1)[0], "delivered")
	require.NotNil(t, told.await(t, hook.GetId(), 3)[2].GetSuccessTime())
	require.Empty(t, told.await(t, gone.GetId(), 0))
}
