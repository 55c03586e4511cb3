//go:build e2e

package e2e

import (
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/cluster"
	"github.com/postrider/postrider/test/fixture/receivertest"
	"github.com/postrider/postrider/test/system"
)

// A record that NATS had acknowledged and holds no more is named and made again by a repair; an attempt
// by hand finds it and ends it.
func TestADeliveryThatNATSLostIsMadeAgainByARepair(t *testing.T) {
	c, s := system.StartCluster(t, cluster.Options{Replicas: 1, Env: map[string]string{"POSTRIDER_DISPATCHER_RETRY_TIME_SCALE": "1"}})
	a := s.NewAccount(t)
	receiver := receivertest.New(t).Respond(http.StatusServiceUnavailable, http.StatusOK)
	hook := a.Webhook(t, &postriderv1.Webhook{
		Url: receiver.URL, EventTypes: []string{"*"},
		RetrySchedule: &postriderv1.RetrySchedule{Delays: []*durationpb.Duration{durationpb.New(24 * time.Hour), durationpb.New(24 * time.Hour)}},
	}).GetWebhook()
	receipt := a.Publish(t, "order.paid", `{"n":1}`)
	waiting := a.AwaitDelivery(t, receipt.GetEventId(), hook.GetId(), postriderv1.DeliveryState_DELIVERY_STATE_WAITING)
	require.EqualValues(t, 1, waiting.GetAttemptCount())

	nc, err := nats.Connect(c.NATSURL)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	removed := uint64(0)
	names := js.StreamNames(t.Context(), jetstream.WithStreamListSubject("retries.>"))
	for name := range names.Name() {
		stream, err := js.Stream(t.Context(), name)
		require.NoError(t, err)
		removed += stream.CachedInfo().State.Msgs
		require.NoError(t, stream.Purge(t.Context()))
	}
	require.NoError(t, names.Err())
	require.EqualValues(t, 1, removed)

	named, summary := reconciled(t, s)
	require.Len(t, named, 1)
	require.Equal(t, postriderv1.ImbalanceKind_IMBALANCE_KIND_NO_RECORD, named[0].GetKind())
	require.Equal(t, waiting.GetId(), named[0].GetDeliveryId())
	require.True(t, named[0].GetRepaired())
	require.Zero(t, summary.GetImbalances())

	_, err = a.Deliveries.RetryDelivery(a.Ctx(t), &postriderv1.RetryDeliveryRequest{DeliveryId: waiting.GetId()})
	require.NoError(t, err)
	a.AwaitDelivery(t, receipt.GetEventId(), hook.GetId(), postriderv1.DeliveryState_DELIVERY_STATE_DELIVERED)
	require.Equal(t, 2, receiver.Count())
	named, _ = reconciled(t, s)
	require.Empty(t, named)
}

// reconciled repairs, and returns what was named.
func reconciled(t *testing.T, s *system.System) (named []*postriderv1.Imbalance, summary *postriderv1.ReconcileSummary) {
	t.Helper()
	stream, err := s.Ledger.Reconcile(s.Admin(t.Context()), &postriderv1.ReconcileRequest{Repair: true})
	require.NoError(t, err)
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return named, summary
		}
		require.NoError(t, err)
		if i := resp.GetImbalance(); i != nil {
			named = append(named, i)
		}
		if s := resp.GetSummary(); s != nil {
			summary = s
		}
	}
}
