//go:build integration

package api_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/conf"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/journal"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api"
	"github.com/postrider/postrider/test/fixture/pgtest"
)

// Two replicas share one log and one consumer; what is journalled while PostgreSQL is away is recorded
// when it is back; and a log that one drops is built again by whoever runs.
func TestReplicasShareALogInPostgreSQL(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	url := server.URL(t)
	d := newDeployment(t)
	shared := func(cfg *api.Config) { cfg.LogURL, cfg.Recorder, cfg.LogFile = conf.Secret(url), "recorder", "" }
	one, two := d.start(t, "api-1", shared), d.start(t, "api-2", shared)
	account, key := one.newAccount(t, "manage", "read")
	c, err := stream.New(d.nats.Connect(t), stream.Default())
	require.NoError(t, err)
	t.Cleanup(c.Close)
	j, err := journal.Ensure(t.Context(), c, journal.Default())
	require.NoError(t, err)

	total := 0
	add := func(n int) {
		for range n {
			_, entries := routed(account, postrider.NewEventID(), 1)
			write(t, j, entries...)
		}
		total += n
	}
	recorded := func(r *replica) bool {
		resp, err := postriderv1.NewDeliveryServiceClient(r.conn).ListDeliveries(as(t.Context(), key), &postriderv1.ListDeliveriesRequest{
			PageSize: 1000, State: postriderv1.DeliveryState_DELIVERY_STATE_DEAD,
		})
		return err == nil && len(resp.GetDeliveries()) == total
	}
	both := func(why string) {
		t.Helper()
		for _, r := range []*replica{one, two} {
			require.Eventually(t, func() bool { return recorded(r) }, patience, 20*time.Millisecond, why)
		}
	}
	add(100)
	both("recorded once, and seen by both")
	js, err := c.JetStream().Stream(t.Context(), "JOURNAL")
	require.NoError(t, err)
	info, err := js.Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, info.State.Consumers)

	server.Down(t)
	add(100)
	server.Up(t)
	both("recorded after an outage")

	_, err = postriderv1.NewLogServiceClient(one.conn).RebuildLog(as(t.Context(), adminKey), &postriderv1.RebuildLogRequest{})
	require.NoError(t, err)
	both("built again")
	add(10)
	both("and filled further")
	status, err := postriderv1.NewLogServiceClient(two.conn).GetLogStatus(as(t.Context(), key), &postriderv1.GetLogStatusRequest{})
	require.NoError(t, err)
	require.Equal(t, "postgresql", status.GetStore())
	require.False(t, status.GetRebuilding())
}
