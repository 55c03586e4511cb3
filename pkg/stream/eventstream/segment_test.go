package eventstream_test

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/test/fixture/natstest"
)

// one and other are accounts of two segments.
const (
	one   postrider.AccountID = "acc_01JDABCDEFGHJKMNPQRSTVWXYZ"
	other postrider.AccountID = "acc_01JDABCDEFGHJKMNPQRSTVWXY0"
)

// two is EVENTS in two segments, of which the first holds ten events and the second five.
func two(t *testing.T) (*eventstream.Stream, *stream.Client) {
	t.Helper()
	s, c := place{segments: 2}.open(t, natstest.Start(t), eventstream.Default())
	for account, n := range map[postrider.AccountID]int{one: 10, other: 5} {
		for i := range n {
			stored, err := publish(t, s, event(account, strconv.Itoa(i)))
			require.NoError(t, err)
			require.EqualValues(t, i+1, stored.Sequence, "each segment counts by itself")
		}
	}
	return s, c
}

func TestASequenceIsOfItsAccount(t *testing.T) {
	t.Parallel()
	s, c := two(t)
	require.Equal(t, "EVENTS", s.Of(one).Name())
	require.Equal(t, "EVENTS_1", s.Of(other).Name())
	for _, account := range []postrider.AccountID{one, other} {
		ev, err := s.Get(t.Context(), account, 3)
		require.NoError(t, err)
		require.Equal(t, string(account), ev.GetAccountId())
		page, err := s.Select(t.Context(), eventstream.Selection{Account: account, From: 4, Limit: 1})
		require.NoError(t, err)
		require.EqualValues(t, 4, page[0].Sequence)
		require.Equal(t, string(account), page[0].Event.GetAccountId())
	}
	_, err := s.Get(t.Context(), other, 6)
	require.ErrorIs(t, err, eventstream.ErrNotFound, "only the other segment has so many")
	last, err := s.LastSequence(t.Context(), other)
	require.NoError(t, err)
	require.EqualValues(t, 5, last)

	gone, err := s.Erase(t.Context(), other, 3)
	require.NoError(t, err)
	require.True(t, gone)
	_, err = s.Get(t.Context(), other, 3)
	require.ErrorIs(t, err, eventstream.ErrNotFound)
	_, err = s.Get(t.Context(), one, 3)
	require.NoError(t, err)

	st, err := c.JetStream().Stream(t.Context(), "EVENTS_1")
	require.NoError(t, err)
	require.Equal(t, []string{"events_1.>"}, st.CachedInfo().Config.Subjects)
}

func TestScanAndWalkGoOverAllSegments(t *testing.T) {
	t.Parallel()
	s, _ := two(t)
	seen := map[string]uint64{}
	require.NoError(t, s.Scan(t.Context(), time.Now().Add(-time.Hour), func(sequence uint64, ev *recordv1.Event) error {
		require.Equal(t, seen[ev.GetAccountId()]+1, sequence, "in order")
		seen[ev.GetAccountId()] = sequence
		return nil
	}))
	require.Equal(t, map[string]uint64{string(one): 10, string(other): 5}, seen)

	none, err := s.Routed(t.Context())
	require.NoError(t, err)
	require.Zero(t, none.Passed())
	require.NoError(t, s.Walk(t.Context(), none, func(uint64, *recordv1.Event) error {
		t.Error("nothing is routed")
		return nil
	}))
	waiting, err := s.Backlog(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 15, waiting.Waiting)

	route(t, s.Of(one), 7)
	route(t, s.Of(other), 2)
	passed, err := s.Routed(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 7, passed.Floor(one))
	require.EqualValues(t, 2, passed.Floor(other))
	require.EqualValues(t, 9, passed.Passed())
	require.EqualValues(t, 6, passed.Pending)
	places, accounts := []uint64{}, map[string]int{}
	require.NoError(t, s.Walk(t.Context(), passed, func(place uint64, ev *recordv1.Event) error {
		places = append(places, place)
		accounts[ev.GetAccountId()]++
		return nil
	}))
	require.Equal(t, []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9}, places)
	require.Equal(t, map[string]int{string(one): 7, string(other): 2}, accounts)
}

// route acknowledges the first events of a segment and gives the others back.
func route(t *testing.T, seg *eventstream.Segment, upTo uint64) {
	t.Helper()
	consumer, err := seg.Router(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.NoError(t, consumer.Consume(ctx, func(m *stream.Msg) {
		if m.Sequence() <= upTo {
			require.NoError(t, m.Ack())
		}
		if m.Sequence() >= upTo {
			cancel()
		}
	}))
	require.Eventually(t, func() bool {
		floor, _, err := seg.Routed(t.Context())
		return err == nil && floor == upTo
	}, 20*time.Second, 5*time.Millisecond)
}

// What is known of one segment says nothing of another.
func TestSegmentsStandByThemselves(t *testing.T) {
	t.Parallel()
	s, c := two(t)
	begun := time.Now().Add(-time.Minute)
	require.NoError(t, s.Of(other).Trim(t.Context(), 4))
	trimmed, err := s.TrimmedSince(t.Context(), begun)
	require.NoError(t, err)
	require.True(t, trimmed, "a scan does not give what is gone of one of them")
	usage, err := s.Of(one).Usage(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, usage.FirstSequence)
	usage, err = s.Of(other).Usage(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 4, usage.FirstSequence)

	route(t, s.Of(one), 9)
	route(t, s.Of(other), 4)
	require.NoError(t, s.Of(one).Checkpoint(t.Context(), 9))
	require.NoError(t, s.Of(other).Checkpoint(t.Context(), 4))
	require.NoError(t, c.JetStream().DeleteConsumer(t.Context(), "EVENTS_1", "router"))
	again, err := s.Of(other).Router(t.Context())
	require.NoError(t, err)
	info, err := again.Info(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, info.Pending, "it goes on at its own checkpoint")

	require.NoError(t, c.JetStream().DeleteStream(t.Context(), "EVENTS_1"))
	anew, err := eventstream.Ensure(t.Context(), c, eventstream.Default())
	require.NoError(t, err)
	require.NotEqual(t, s.Incarnation(other), anew.Incarnation(other))
	require.Equal(t, s.Incarnation(one), anew.Incarnation(one), "the other was not made anew")
	floor, _, err := anew.Of(one).Routed(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 9, floor)

	require.NoError(t, eventstream.Restored(t.Context(), c.JetStream()))
	restored, err := eventstream.Ensure(t.Context(), c, eventstream.Default())
	require.NoError(t, err)
	for _, account := range []postrider.AccountID{one, other} {
		require.NotEqual(t, anew.Incarnation(account), restored.Incarnation(account), "a restore is of all")
	}
}

func TestInspectShowsEverySegment(t *testing.T) {
	t.Parallel()
	s, c := two(t)
	route(t, s.Of(one), 1)
	reports, err := eventstream.Inspect(t.Context(), c, eventstream.Default())
	require.NoError(t, err)
	var sound, missing []string
	for _, r := range reports {
		require.Empty(t, r.Differs)
		if name := r.Stream + " " + r.Consumer; r.Missing {
			missing = append(missing, name)
		} else {
			sound = append(sound, name)
		}
	}
	require.Equal(t, []string{"EVENTS ", "EVENTS router", "EVENTS_1 ", "KV_checkpoints "}, sound)
	require.Equal(t, []string{"EVENTS_1 router"}, missing)
}

// The same key in two segments is a key of two accounts, as it is in one.
func TestASegmentHasMessageIDsOfItsOwn(t *testing.T) {
	t.Parallel()
	s, _ := two(t)
	for _, account := range []postrider.AccountID{one, other} {
		again, err := publish(t, s, event(account, "1"))
		require.NoError(t, err)
		require.Equal(t, eventstream.Stored{Sequence: 2, Duplicate: true}, again)
	}
}

// A process that starts while events are stored and routed does not take a checkpoint that moved on
// meanwhile for one of a stream that has gone back.
func TestAStartUnderLoadIsNoRestore(t *testing.T) {
	t.Parallel()
	s, c := two(t)
	var stop atomic.Bool
	ended := make(chan error, 1)
	go func() {
		var err error
		for err == nil && !stop.Load() {
			stored := make(chan eventstream.Stored, 1)
			err = s.Publish(t.Context(), event(other, ""), func(at eventstream.Stored, _ error) { stored <- at })
			if err == nil {
				err = s.Of(other).Checkpoint(t.Context(), (<-stored).Sequence)
			}
		}
		ended <- err
	}()
	for range 30 {
		again, err := eventstream.Ensure(t.Context(), c, eventstream.Default())
		require.NoError(t, err)
		require.Equal(t, s.Incarnation(other), again.Incarnation(other))
	}
	stop.Store(true)
	require.NoError(t, <-ended)
}
