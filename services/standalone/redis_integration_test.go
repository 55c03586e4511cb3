//go:build integration

package standalone_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/fixture/receivertest"
	"github.com/postrider/postrider/test/fixture/redistest"
)

func TestARedisCanHoldTheWindowAndTheIndex(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	cfg := config(t.TempDir())
	cfg.Redis.URL = redis.URL
	svc, _ := start(t, cfg)
	u := admin(t, svc).newAccount(t)
	r := receivertest.New(t).Respond(500, 200)
	u.webhook(t, r.URL)

	receipt := u.publish(t, "once", `{}`)
	u.awaitDelivered(t, receipt.GetEventId())
	require.Equal(t, 2, r.Count())
	require.True(t, u.publish(t, "once", `{}`).GetDuplicate())
	keys, err := redis.Client(t).DBSize(t.Context()).Result()
	require.NoError(t, err)
	require.Positive(t, keys)
}

func TestAHealthySystemOnRedisUnderLoadReportsNothing(t *testing.T) {
	t.Parallel()
	cfg := config(t.TempDir())
	cfg.Redis.URL = redistest.Start(t).URL
	healthyUnderLoad(t, cfg)
}

func TestWhatRedisLostIsNamedAndRepaired(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	cfg := config(t.TempDir())
	cfg.Redis.URL = redis.URL
	cfg.Scheduler.SweepInterval = time.Hour // it would heal the index itself
	cfg.Dispatcher.RetryTimeScale = 1
	svc, _ := start(t, cfg)
	root := admin(t, svc)
	u := root.newAccount(t)
	u.webhook(t, receivertest.New(t).Respond(500).URL, func(w *postriderv1.Webhook) {
		w.RetrySchedule = &postriderv1.RetrySchedule{Delays: []*durationpb.Duration{durationpb.New(time.Hour)}}
	})
	const n = 4
	for i := range n {
		u.publish(t, strconv.Itoa(i), `{}`)
	}
	u.awaitStates(t, n, postriderv1.DeliveryState_DELIVERY_STATE_WAITING)
	named, _ := root.reconcile(t, false)
	require.Empty(t, named)

	client := redis.Client(t)
	lost := 0
	for slot := range 16 {
		key := fmt.Sprintf("postrider:retry:{r%02d}:due", slot)
		members, err := client.ZRange(t.Context(), key, 0, -1).Result()
		require.NoError(t, err)
		for _, m := range members {
			if lost < n-1 && strings.Contains(m, ":") {
				require.EqualValues(t, 1, client.ZRem(t.Context(), key, m).Val())
				lost++
			}
		}
	}
	require.Equal(t, n-1, lost)
	named, summary := root.reconcile(t, true)
	require.Len(t, named, lost, "%v", named)
	for _, i := range named {
		require.Equal(t, postriderv1.ImbalanceKind_IMBALANCE_KIND_NOT_INDEXED, i.GetKind())
		require.True(t, i.GetRepaired())
		require.Equal(t, u.account, i.GetAccountId())
	}
	require.Zero(t, summary.GetImbalances())
	named, _ = root.reconcile(t, false)
	require.Empty(t, named)
}
