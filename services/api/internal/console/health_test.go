package console_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/fault"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

func TestHowAWebhookIsIsShownAsFarAsItIsKnown(t *testing.T) {
	t.Parallel()
	at := func(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(now.Add(d)) }
	const opened, later = "2026-11-30T11:59:00.000Z", "2026-11-30T12:01:00.000Z"
	for name, c := range map[string]struct {
		health *postriderv1.WebhookHealth
		err    error
		shows  []string
	}{
		"not known":        {nil, nil, []string{"Not known", "did not answer just now"}},
		"nobody to ask":    {nil, fault.New(fault.Unavailable, "AWAY", "away"), []string{"Not known", "did not answer just now"}},
		"closed":           {&postriderv1.WebhookHealth{BreakerState: 1, InFlight: 3, Queued: 7, AllowedInFlight: 12, MaxInFlight: 64}, nil, []string{"Breaker closed", "3 of 12", "grow to 64", "no limit", `width="25.0"`, ">7 <"}},
		"at its most":      {&postriderv1.WebhookHealth{BreakerState: 1, InFlight: 80, AllowedInFlight: 64, MaxInFlight: 64, RateLimit: 2.5}, nil, []string{"which is the most", "at most 2.5", `width="100.0"`}},
		"failing":          {&postriderv1.WebhookHealth{BreakerState: 1, ConsecutiveFailures: 4}, nil, []string{"The last 4 in a row failed."}},
		"open":             {&postriderv1.WebhookHealth{BreakerState: 2, BreakerOpenTime: at(-time.Minute), NextProbeTime: at(time.Minute)}, nil, []string{"Breaker open", opened, "The next one probes", later}},
		"waits for a load": {&postriderv1.WebhookHealth{BreakerState: 2, BreakerOpenTime: at(-time.Minute), NextProbeTime: at(-time.Second)}, nil, []string{"Breaker open", "next delivery that is due probes"}},
		"half open":        {&postriderv1.WebhookHealth{BreakerState: 3, BreakerOpenTime: at(-time.Minute)}, nil, []string{"Breaker half open", "to probe the receiver", opened}},
		"in an account with limits": {&postriderv1.WebhookHealth{BreakerState: 1, Account: &postriderv1.AccountUse{InFlight: 5, Queued: 9, MaxInFlight: 6, RateLimit: 40}}, nil, []string{
			"All of the account", "5 of 6 attempts at once", "at most 40 a second", "9 wait for the account",
		}},
		"whose lines move": {&postriderv1.WebhookHealth{BreakerState: 1, Ordering: &postriderv1.OrderingHealth{Lines: 3, Waiting: 12}}, nil, []string{
			"Deliveries in order", "0 of 3 lines held up", "Every line moves.", "12 deliveries have not ended",
		}},
		"whose lines are read": {&postriderv1.WebhookHealth{BreakerState: 1, Ordering: &postriderv1.OrderingHealth{Settling: true}}, nil, []string{"is being read"}},
		"with a line that is held up": {&postriderv1.WebhookHealth{BreakerState: 1, Ordering: &postriderv1.OrderingHealth{
			Lines: 4, BlockedLines: 2, Waiting: 900, More: true, Blocked: []*postriderv1.BlockedLine{
				{OrderingKey: "order-7", DeliveryId: "dlv_HEAD", Reason: "timeout", Since: at(-time.Minute), NextAttemptTime: at(time.Minute), Behind: 41},
				{DeliveryId: "dlv_HELD", Reason: "paused", Since: at(-time.Minute), Behind: 7, More: true},
			},
		}}, nil, []string{
			"2 of 4 lines held up", "at least 900 deliveries", "order-7", "deliveries/dlv_HEAD", opened, later, ">41<", "when the webhook is active", "at least 7",
		}},
		"asked to pause": {&postriderv1.WebhookHealth{BreakerState: 1, PauseTime: at(time.Minute)}, nil, []string{"asked for a pause until", later}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.api.health, s.api.healthErr = c.health, c.err
			s.signIn(readKey)
			page := s.get("/console/accounts/" + account + "/webhooks/" + hookID)
			require.Equal(t, http.StatusOK, page.StatusCode, page.body)
			for _, text := range c.shows {
				require.Contains(t, page.body, text)
			}
			require.Contains(t, page.body, "Attempts over time", "the rest of the page is there")
		})
	}
}
