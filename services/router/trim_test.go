package router_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/services/router"
)

// small is a bench whose EVENTS takes a few dozen large events.
func small(t *testing.T) *bench {
	t.Helper()
	return setup(t, func(c *eventstream.Config) { c.MaxBytes = 1 << 20 })
}

func often(c *router.Config) { c.Trim = 20 * time.Millisecond }

func large(ev *recordv1.Event) { ev.Data = []byte(`"` + strings.Repeat("x", 20_000) + `"`) }

func (b *bench) first(t *testing.T) uint64 {
	t.Helper()
	u, err := b.events.Of(b.account).Usage(t.Context())
	require.NoError(t, err)
	return u.FirstSequence
}

func TestFinishedEventsMakeRoomForNewOnes(t *testing.T) {
	t.Parallel()
	b := small(t)
	b.start(t, often)
	// Far more than fits; none is refused for long, since no webhook wants them.
	for range 200 {
		require.Eventually(t, func() bool { return b.tryPublish(t, b.event(large)) == nil }, patience, 5*time.Millisecond)
	}
	b.awaitRouted(t)
	require.Greater(t, b.first(t), uint64(100))
}

func TestAnEventThatADeliveryRefersToIsKept(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]struct {
		move func(t *testing.T, b *bench, d *recordv1.Delivery)
		end  func(t *testing.T, b *bench, d *recordv1.Delivery)
	}{
		"in DELIVERIES": {
			move: func(*testing.T, *bench, *recordv1.Delivery) {},
			end:  func(t *testing.T, b *bench, _ *recordv1.Delivery) { t.Helper(); b.take(t, 1) },
		},
		"in RETRIES": {
			move: func(t *testing.T, b *bench, d *recordv1.Delivery) {
				t.Helper()
				stored := make(chan error, 1)
				record := &recordv1.Retry{Delivery: d, Kind: recordv1.RetryKind_RETRY_KIND_WAITING, DueTime: timestamppb.New(time.Now().Add(time.Hour))}
				require.NoError(t, b.retries.Put(t.Context(), record, func(_ retrystream.Place, err error) { stored <- err }))
				require.NoError(t, <-stored)
				b.take(t, 1)
			},
			end: func(t *testing.T, b *bench, d *recordv1.Delivery) {
				t.Helper()
				record, err := b.retries.Last(t.Context(), b.account, postrider.WebhookID(d.GetWebhookId()), postrider.DeliveryID(d.GetId()))
				require.NoError(t, err)
				require.NoError(t, b.retries.Remove(t.Context(), *record))
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := small(t)
			b.webhook(t, "order.paid")
			routing := b.start(t)
			b.publish(t, large) // which nobody wants
			wanted := b.publish(t, large, func(ev *recordv1.Event) { ev.Type = "order.paid" })
			b.awaitRouted(t)
			var d *recordv1.Delivery
			require.NoError(t, b.deliveries.Scan(t.Context(), 0, func(got *recordv1.Delivery) error {
				d = got
				return nil
			}))
			require.True(t, d.GetDataByReference())
			in.move(t, b, d)
			var err error
			for n := 0; err == nil && n < 200; n++ {
				err = b.tryPublish(t, b.event(large))
			}
			require.ErrorIs(t, err, stream.ErrFull)
			b.awaitRouted(t)
			require.NoError(t, routing.Stop(t.Context()))

			b.start(t, often)
			require.Eventually(t, func() bool { return b.first(t) > 1 }, patience, 5*time.Millisecond)
			require.Equal(t, d.GetEventSequence(), b.first(t), "the one before is removed, and no more")
			ev, err := b.events.Get(t.Context(), b.account, d.GetEventSequence())
			require.NoError(t, err)
			require.Equal(t, wanted.GetId(), ev.GetId())
			in.end(t, b, d)
			require.Eventually(t, func() bool { return b.first(t) > d.GetEventSequence() }, patience, 5*time.Millisecond,
				"nothing refers to it any more")
		})
	}
}
