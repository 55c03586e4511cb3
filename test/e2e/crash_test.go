//go:build e2e

package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/fixture/receivertest"
	"github.com/postrider/postrider/test/system"
)

// The one process keeps nothing of its retry index and its deduplication window on disk: both are
// rebuilt from the record at start.
func TestOneProcessKeepsItsStateOverKillAndRestart(t *testing.T) {
	p, s := system.StartStandalone(t, map[string]string{"POSTRIDER_DISPATCHER_RETRY_TIME_SCALE": "0.1"})
	a := s.NewAccount(t)
	r := receivertest.New(t).Respond(500)
	hook := a.Webhook(t, &postriderv1.Webhook{Url: r.URL, EventTypes: []string{"*"}, Profile: "jewelmusic"}).GetWebhook()
	publish := func() *postriderv1.Receipt {
		resp, err := a.Events.PublishEvent(a.Ctx(t), &postriderv1.PublishEventRequest{
			IdempotencyKey: "once", Event: &postriderv1.EventInput{Type: "order.paid", Data: []byte(`{}`)},
		}, grpc.WaitForReady(true)) // the client backs off from a server that was gone
		require.NoError(t, err)
		return resp.GetReceipt()
	}
	receipt := publish()
	a.AwaitDelivery(t, receipt.GetEventId(), hook.GetId(), waiting)

	p.Kill()
	r.Respond(200)
	require.NoError(t, p.Start())
	require.NoError(t, p.WaitReady(t.Context()))

	again := publish()
	require.True(t, again.GetDuplicate())
	require.Equal(t, receipt.GetEventId(), again.GetEventId())
	d := a.AwaitDelivery(t, receipt.GetEventId(), hook.GetId(), delivered)
	require.EqualValues(t, 2, d.GetAttemptCount())
	require.Equal(t, 2, r.Count())
}
