package recorder_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/lag"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/journal"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/services/api/internal/recorder"
)

// overloaded is a machine on which each transaction of a busy recorder uses so much processor time, and waits for
// as much.
type overloaded struct {
	each time.Duration

	mu    sync.Mutex
	use   lag.Use
	asked int // before and after each transaction
}

func (o *overloaded) load() recorder.Load {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked++
	o.use.At, o.use.CPU, o.use.Waited = o.use.At.Add(o.each), o.use.CPU+o.each, o.use.Waited+o.each
	return recorder.Load{Use: o.use, Behind: time.Second}
}

// rests is how many rests have begun.
func (o *overloaded) rests() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asked / 2
}

// keepBusy journals until the recorder has rested so often, and returns how many deliveries that were.
func (r *rig) keepBusy(t *testing.T, o *overloaded, rests int) (deliveries int) {
	t.Helper()
	for began := time.Now(); o.rests() < rests; {
		require.Less(t, time.Since(began), 2*patience, "it has rested %d times", o.rests())
		deliveries += r.batches(t, 5)
		r.awaitAll(t)
	}
	return deliveries
}

// batches journals n messages of 50 entries each: one event and the ends of its deliveries. It returns how many
// deliveries there are.
func (r *rig) batches(t *testing.T, n int) (deliveries int) {
	t.Helper()
	w := r.journal.NewWriter("test")
	const each = 49
	stored := make(chan error, n*(each+1))
	write := func(e *recordv1.JournalEntry) {
		e.Time, e.AccountId, e.EventType = timestamppb.Now(), string(account), "release.live"
		require.NoError(t, w.Write(t.Context(), journal.Routed, e, func(err error) { stored <- err }))
	}
	for range n {
		event := postrider.NewEventID()
		routed := &recordv1.Routed{MatchedTotal: each, AcceptTime: timestamppb.Now()}
		for i := range each {
			hook := "wh_" + string(rune('A'+i))
			id := string(postrider.DeliveryIDFor(event, postrider.WebhookID(hook), ""))
			routed.Deliveries = append(routed.Deliveries, &recordv1.RoutedDelivery{DeliveryId: id, WebhookId: hook})
		}
		write(&recordv1.JournalEntry{EventId: string(event), What: &recordv1.JournalEntry_Routed{Routed: routed}})
		for _, d := range routed.GetDeliveries() {
			write(&recordv1.JournalEntry{
				EventId: string(event), DeliveryId: d.GetDeliveryId(), WebhookId: d.GetWebhookId(),
				What: &recordv1.JournalEntry_Dead{Dead: &recordv1.Dead{Cause: "expired"}},
			})
		}
	}
	require.NoError(t, w.Close(t.Context()))
	var err error
	for range n * (each + 1) {
		err = errors.Join(err, <-stored)
	}
	require.NoError(t, err)
	return n * each
}

func TestARecorderThatRestsRecordsEverythingInTheEnd(t *testing.T) {
	t.Parallel()
	machine := &overloaded{each: 20 * time.Millisecond}
	r := setupWith(t, func(d *recorder.Deps) { d.Load = machine.load })
	recorder.AlwaysBusy(r.recorder)
	r.run(t)
	deliveries := r.keepBusy(t, machine, 3) + r.batches(t, 20)
	r.awaitAll(t)
	ledger, err := r.store.Ledger(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, deliveries, ledger[account].In[postrider.Dead])
}

// A rest of this machine takes 5 s. What was pulled meanwhile need not wait for the ack wait of a minute either.
func TestAStopEndsARestAndGivesBackWhatWasTaken(t *testing.T) {
	t.Parallel()
	machine := &overloaded{each: time.Hour}
	r := setupWith(t, func(d *recorder.Deps) { d.Load = machine.load })
	recorder.AlwaysBusy(r.recorder)
	stop := r.run(t)
	deliveries := r.keepBusy(t, machine, 1)
	for began := time.Now(); r.taken(t) == 0; {
		require.Less(t, time.Since(began), patience)
		deliveries += r.batches(t, 1)
	}
	began := time.Now()
	stop()
	require.Less(t, time.Since(began), 4*time.Second)
	r.run(t)
	r.awaitAll(t)
	ledger, err := r.store.Ledger(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, deliveries, ledger[account].In[postrider.Dead])
}

func TestItIsSaidThatALogIsFarBehind(t *testing.T) {
	t.Parallel()
	var said, back atomic.Bool
	r := setupWith(t, func(d *recorder.Deps) {
		begun := time.Now()
		d.Now = func() time.Time { // the log is an hour behind until that was said
			if said.Load() {
				return begun
			}
			return time.Now().Add(time.Hour)
		}
		d.Logger = slog.New(&hurries{Handler: d.Logger.Handler(), on: &said, off: &back})
	})
	r.store.away()
	r.events(t, 3)
	r.run(t)
	require.Eventually(t, said.Load, patience, 10*time.Millisecond)
	require.Eventually(t, back.Load, patience, 10*time.Millisecond)
}

// hurries is a log in which it is noted that a recorder hurries, and that it no longer does.
type hurries struct {
	slog.Handler

	on, off *atomic.Bool
}

// Handle notes it.
func (h *hurries) Handle(ctx context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "hurries" {
			if a.Value.Bool() {
				h.on.Store(true)
			} else {
				h.off.Store(true)
			}
		}
		return true
	})
	return h.Handler.Handle(ctx, r)
}
