package evidence_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/services/dispatcher/internal/evidence"
)

var start = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func TestSettledMessagesAreRemembered(t *testing.T) {
	t.Parallel()
	m := evidence.NewMemory()
	require.False(t, m.Settled(evidence.Deliveries, 5))
	m.Settle(evidence.Deliveries, 5, "dlv_1")
	require.True(t, m.Settled(evidence.Deliveries, 5))
	require.False(t, m.Settled(evidence.Due, 5))
	require.False(t, m.Settled(evidence.Deliveries, 4))
	require.False(t, m.Settled(evidence.Deliveries, 6))
}

// The memory never claims what did not happen, and forgets only what is far behind.
func TestTheMemoryIsRightAboutTheNewestTwoMillion(t *testing.T) {
	t.Parallel()
	const covered = 1 << 21
	rapid.Check(t, func(t *rapid.T) {
		m := evidence.NewMemory()
		model := map[uint64]bool{}
		at, newest := rapid.Uint64Range(1, 1<<40).Draw(t, "start"), uint64(0)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			step := rapid.SampledFrom([]uint64{0, 1, 1, 2, 63, 64, 65, 1000, covered - 1, covered, covered + 1, 5 * covered}).Draw(t, "step")
			if at += step; rapid.IntRange(0, 5).Draw(t, "back") == 0 {
				at -= min(at-1, rapid.Uint64Range(0, 2*covered).Draw(t, "by"))
			}
			m.Settle(evidence.Due, at, "dlv_1")
			model[at] = true
			newest = max(newest, at)
			for s := range model {
				for _, near := range []uint64{s - 64, s - 1, s, s + 1, s + 64, s + covered} {
					got, want := m.Settled(evidence.Due, near), model[near]
					if got && !want || !got && want && newest-near < covered {
						t.Fatalf("sequence %d with newest %d: %v", near, newest, got)
					}
				}
			}
		}
	})
}

func attempted(a *recordv1.Attempted) *recordv1.JournalEntry {
	return &recordv1.JournalEntry{DeliveryId: "dlv_1", DueSequence: 9, What: &recordv1.JournalEntry_Attempted{Attempted: a}}
}

func TestTheTailSaysWhatWasLeft(t *testing.T) {
	t.Parallel()
	due := start.Add(time.Hour)
	for name, test := range map[string]struct {
		entry   *recordv1.JournalEntry
		settled bool
		want    *evidence.Left
	}{
		"a delivered one is settled": {entry: attempted(&recordv1.Attempted{State: "delivered"}), settled: true},
		"a cancelled one is settled": {
			entry:   &recordv1.JournalEntry{DueSequence: 9, What: &recordv1.JournalEntry_Cancelled{Cancelled: &recordv1.Cancelled{}}},
			settled: true,
		},
		"a failed one may lack its record": {
			entry: attempted(&recordv1.Attempted{
				State: "waiting", Number: 3, NextAttemptTime: timestamppb.New(due), Reason: "timeout", ResponseBody: []byte("long"),
			}),
			want: &evidence.Left{
				State: postrider.Waiting, Due: due, Reason: "timeout",
				Attempted: &recordv1.Attempted{State: "waiting", Number: 3, NextAttemptTime: timestamppb.New(due), Reason: "timeout"},
			},
		},
		"a dead one may lack its dead letter": {
			entry: attempted(&recordv1.Attempted{State: "dead", Reason: "exhausted"}),
			want: &evidence.Left{
				State: postrider.Dead, Reason: "exhausted", Attempted: &recordv1.Attempted{State: "dead", Reason: "exhausted"},
			},
		},
		"a parked one may lack its record": {
			entry: &recordv1.JournalEntry{DueSequence: 9, What: &recordv1.JournalEntry_Waiting{
				Waiting: &recordv1.Waiting{DueTime: timestamppb.New(due), Reason: "rate"},
			}},
			want: &evidence.Left{State: postrider.Waiting, Due: due, Reason: "rate"},
		},
		"a held one may lack its record": {
			entry: &recordv1.JournalEntry{DueSequence: 9, What: &recordv1.JournalEntry_Held{Held: &recordv1.Held{Reason: "paused"}}},
			want:  &evidence.Left{State: postrider.Held, Reason: "paused"},
		},
		"one that died without attempt may lack its dead letter": {
			entry: &recordv1.JournalEntry{DueSequence: 9, What: &recordv1.JournalEntry_Dead{Dead: &recordv1.Dead{Cause: "expired"}}},
			want:  &evidence.Left{State: postrider.Dead, Reason: "expired"},
		},
		"a test says nothing":      {entry: attempted(&recordv1.Attempted{Trigger: "test"})},
		"a release says nothing":   {entry: &recordv1.JournalEntry{DueSequence: 9, What: &recordv1.JournalEntry_Released{}}},
		"an empty entry is no end": {entry: &recordv1.JournalEntry{DueSequence: 9}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := evidence.NewMemory()
			m.Load(test.entry, start)
			require.Equal(t, test.settled, m.Settled(evidence.Due, 9))
			require.Equal(t, test.want, m.Left(evidence.Due, 9, start))
			require.Nil(t, m.Left(evidence.Deliveries, 9, start))
			require.Nil(t, m.Left(evidence.Due, 9, start.Add(time.Hour)), "it is not kept for ever")
		})
	}
}

func TestWhatIsSettledIsLeftNoLonger(t *testing.T) {
	t.Parallel()
	m := evidence.NewMemory()
	m.Load(attempted(&recordv1.Attempted{State: "waiting"}), start)
	m.Settle(evidence.Due, 9, "dlv_1")
	require.Nil(t, m.Left(evidence.Due, 9, start))
	require.True(t, m.Settled(evidence.Due, 9))
}

// A delivery whose first message is settled is known whatever the sequence that it comes in again.
// What a retry settles says nothing about that: its message is another one.
func TestADeliveryThatHasBegunIsKnown(t *testing.T) {
	t.Parallel()
	m := evidence.NewMemory()
	m.Settle(evidence.Deliveries, 5, "dlv_1")
	m.Settle(evidence.Due, 6, "dlv_2")
	require.True(t, m.Begun("dlv_1"))
	require.False(t, m.Begun("dlv_2"))
	require.False(t, m.Begun("dlv_3"))
	for i := range uint64(100_000) {
		m.Settle(evidence.Deliveries, 10+i, fmt.Sprint("dlv_x", i))
	}
	require.True(t, m.Begun("dlv_x99999"))
	require.True(t, m.Begun("dlv_x40000"))
}

func TestDeliveredDeliveriesAreRemembered(t *testing.T) {
	t.Parallel()
	m := evidence.NewMemory()
	m.Load(attempted(&recordv1.Attempted{State: "delivered"}), start)
	require.True(t, m.Delivered("dlv_1"))
	require.False(t, m.Delivered("dlv_2"))
	for i := range 100_000 {
		m.Deliver(fmt.Sprint("dlv_x", i))
	}
	require.True(t, m.Delivered("dlv_x99999"))
	require.True(t, m.Delivered("dlv_x40000"))
}

// A server that dies forgets acks and message ids, so a delivery comes in a message of another
// sequence. What the journal's tail says of the delivery counts for it.
func TestADeliveryIsKnownWhicheverMessageItComesIn(t *testing.T) {
	t.Parallel()
	now := time.Now()
	attempt := func(series int32, state string) *recordv1.JournalEntry {
		return &recordv1.JournalEntry{DeliveryId: "dlv_1", Series: series, DeliverySequence: 7, What: &recordv1.JournalEntry_Attempted{
			Attempted: &recordv1.Attempted{Number: 1, State: state},
		}}
	}
	released := &recordv1.JournalEntry{DeliveryId: "dlv_1", Series: 1, What: &recordv1.JournalEntry_Released{Released: &recordv1.Released{Reason: "redriven"}}}
	for name, c := range map[string]struct {
		tail   []*recordv1.JournalEntry
		known  bool
		series int32
		ended  bool
		left   postrider.DeliveryState
	}{
		"delivered":                          {[]*recordv1.JournalEntry{attempt(0, "delivered")}, true, 0, true, ""},
		"waiting":                            {[]*recordv1.JournalEntry{attempt(0, "waiting")}, true, 0, false, postrider.Waiting},
		"waiting, then dead":                 {[]*recordv1.JournalEntry{attempt(0, "waiting"), attempt(0, "dead")}, true, 0, false, postrider.Dead},
		"delivered, and then an old waiting": {[]*recordv1.JournalEntry{attempt(0, "delivered"), attempt(0, "waiting")}, true, 0, true, ""},
		"dead, then redriven":                {[]*recordv1.JournalEntry{attempt(0, "dead"), released}, true, 1, false, ""},
		"redriven, and then an old death":    {[]*recordv1.JournalEntry{released, attempt(0, "dead")}, true, 1, false, ""},
		"a test":                             {[]*recordv1.JournalEntry{attempt(0, "")}, false, 0, false, ""},
		"nothing":                            {nil, false, 0, false, ""},
	} {
		m := evidence.NewMemory()
		for _, e := range c.tail {
			m.Load(e, now)
		}
		p, ok := m.Past("dlv_1", now)
		require.Equal(t, c.known, ok, name)
		require.Equal(t, c.series, p.Series, name)
		require.Equal(t, c.ended, p.Ended, name)
		if c.left == "" {
			require.Nil(t, p.Left, name)
		} else {
			require.Equal(t, c.left, p.Left.State, name)
		}
		_, ok = m.Past("dlv_1", now.Add(time.Hour))
		require.False(t, ok, "%s: it is not remembered for ever", name)
	}
}

func TestTheMemoryOfAShardThatWasGivenUpIsKeptForAWhile(t *testing.T) {
	t.Parallel()
	var shelf evidence.Shelf
	m := shelf.Take(1, start)
	require.False(t, m.Settled(evidence.Deliveries, 5))
	m.Settle(evidence.Deliveries, 5, "dlv_1")
	shelf.Put(1, m, start)
	require.False(t, shelf.Take(2, start).Settled(evidence.Deliveries, 5), "another shard's")
	require.Same(t, m, shelf.Take(1, start.Add(9*time.Minute)))
	require.NotSame(t, m, shelf.Take(1, start.Add(9*time.Minute)), "it is not given twice")
	shelf.Put(1, m, start)
	require.NotSame(t, m, shelf.Take(1, start.Add(11*time.Minute)))
}
