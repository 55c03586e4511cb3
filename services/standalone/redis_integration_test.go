//go:build integration

package standalone_test

import (
	"testing"

	"github.com/stretchr/testify/require"

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
