//go:build e2e

package compat

import (
	"testing"

	"github.com/stretchr/testify/require"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/fixture/receivertest"
)

func TestShared(t *testing.T) {
	s := open(t)
	t.Run("1.0.4 every attempt of a delivery sends the same bytes", func(t *testing.T) {
		t.Parallel()
		a := s.NewAccount(t)
		r := receivertest.New(t).Respond(500, 503, 200)
		hook := a.Webhook(t, &postriderv1.Webhook{Url: r.URL, EventTypes: []string{"*"}})
		receipt := a.Publish(t, "release.live", `{"b":9007199254740993,"a":"<&>"}`)
		a.AwaitDelivery(t, receipt.GetEventId(), hook.GetWebhook().GetId(), postriderv1.DeliveryState_DELIVERY_STATE_DELIVERED)
		all := r.All()
		require.Len(t, all, 3)
		for _, got := range all {
			require.Equal(t, `{"b":9007199254740993,"a":"<&>"}`, string(got.Body))
			require.Equal(t, receipt.GetEventId(), got.Header.Get("webhook-id"))
		}
	})
}
