//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/postrider"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/cluster"
	"github.com/postrider/postrider/test/fixture/receivertest"
	"github.com/postrider/postrider/test/system"
)

// tenant is an account of one segment under load.
type tenant struct {
	*system.Account
	receiver *receivertest.Receiver
	accepted atomic.Int64
}

// tenants are an account for each of two segments, with a webhook that wants everything.
func tenants(t *testing.T, s *system.System) []*tenant {
	t.Helper()
	all := []*tenant{nil, nil}
	for all[0] == nil || all[1] == nil {
		a := s.NewAccount(t)
		segment := postrider.SegmentOf(postrider.AccountID(a.ID), len(all))
		if all[segment] != nil {
			continue
		}
		of := &tenant{Account: a, receiver: receivertest.New(t)}
		of.Webhook(t, &postriderv1.Webhook{Url: of.receiver.URL, EventTypes: []string{"*"}})
		all[segment] = of
	}
	return all
}

// A router is killed while it has events of both segments in hand, and comes back; everything that
// was accepted arrives, and each segment holds the events of its account and no others.
func TestARouterThatIsKilledLosesNothingOfTwoSegments(t *testing.T) {
	c, s := system.StartCluster(t, cluster.Options{Env: map[string]string{"POSTRIDER_STREAMS_SEGMENTS": "2"}})
	all := tenants(t, s)
	begun := time.Now().Add(-time.Minute)

	load, end := context.WithCancel(t.Context())
	defer end()
	ended := make(chan struct{}, len(all)*producers)
	for _, of := range all {
		mine := system.As(load, of.Key)
		for n := range producers {
			go func() {
				defer func() { ended <- struct{}{} }()
				for i := 0; load.Err() == nil; i++ {
					publishUntilAccepted(mine, t, of.Account, fmt.Sprintf("%d-%d", n, i), &of.accepted)
				}
			}()
		}
	}
	more := func(when string) {
		t.Helper()
		for n, of := range all {
			before := of.accepted.Load()
			require.Eventually(t, func() bool { return of.accepted.Load() > before+200 }, 2*system.Patience, 5*time.Millisecond,
				"segment %d accepts nothing %s", n, when)
		}
	}
	more("before a router is killed")
	victim := c.Of("router")[0]
	victim.Kill()
	more("after a router was killed")
	require.NoError(t, victim.Start())
	require.NoError(t, victim.WaitReady(t.Context()))
	more("after the router came back")
	end()
	for range len(all) * producers {
		<-ended
	}

	// What the dead router had in hand is given to another after the ack wait, also what had been stored.
	streams := routedEvents(t, c.NATSURL)
	for n, of := range all {
		want := int(of.accepted.Load())
		require.EqualValues(t, want, streams[n], "each event once, in the segment of its account")
		seen := map[string]bool{}
		require.Eventually(t, func() bool {
			for _, r := range of.receiver.All() {
				seen[r.Header.Get("Webhook-Id")] = true
			}
			return len(seen) >= want
		}, 2*system.Patience, 50*time.Millisecond, "segment %d", n)
		require.Len(t, seen, want)
		t.Logf("segment %d: %d events in %d requests", n, want, of.receiver.Count())
		replayed(t, of, begun, want)
	}
	named, summary := reconciled(t, s)
	require.Empty(t, named)
	require.Equal(t, all[0].accepted.Load()+all[1].accepted.Load(), summary.GetEvents())

	// The number is fixed: who is configured for another does not start, and says both.
	victim.Terminate()
	require.NoError(t, victim.Wait(t.Context()))
	victim.Env = append(victim.Env, "POSTRIDER_STREAMS_SEGMENTS=3")
	require.NoError(t, victim.Start())
	require.Error(t, victim.Wait(t.Context()))
	require.Contains(t, victim.Tail(10), "configured for 3 segments of events, but they are in 2: set streams-segments to 2")
}

// routedEvents is how many events each segment holds, once all of them are routed.
func routedEvents(t *testing.T, url string) []uint64 {
	t.Helper()
	nc, err := nats.Connect(url)
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	var held []uint64
	for _, name := range []string{"EVENTS", "EVENTS_1"} {
		stream, err := js.Stream(t.Context(), name)
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			router, err := stream.Consumer(t.Context(), "router")
			if err != nil {
				return false
			}
			// The server tells a consumer of a message after it has acknowledged it.
			info := router.CachedInfo()
			return info.Delivered.Stream >= stream.CachedInfo().State.LastSeq && info.NumPending == 0 && info.NumAckPending == 0
		}, 2*system.Patience, 50*time.Millisecond)
		held = append(held, stream.CachedInfo().State.Msgs)
	}
	return held
}

// replayed makes every event's delivery anew, and waits until it is done.
func replayed(t *testing.T, of *tenant, since time.Time, want int) {
	t.Helper()
	resp, err := of.Replays.CreateReplay(of.Ctx(t), &postriderv1.CreateReplayRequest{
		Events: &postriderv1.EventSelection{StartTime: timestamppb.New(since)}, Rate: 1000,
	})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		job, err := of.Replays.GetReplay(of.Ctx(t), &postriderv1.GetReplayRequest{ReplayId: resp.GetReplay().GetId()})
		return err == nil && job.GetReplay().GetState() == postriderv1.ReplayState_REPLAY_STATE_SUCCEEDED &&
			job.GetReplay().GetDeliveries() == int64(want)
	}, 2*system.Patience, 50*time.Millisecond)
	of.receiver.AwaitCount(t, 2*want)
}
