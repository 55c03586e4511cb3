package journal_test

import (
	"bytes"
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/journal"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB) *journal.Journal {
	t.Helper()
	c, err := stream.New(natstest.Start(t).Connect(t), stream.Default())
	require.NoError(t, err)
	t.Cleanup(c.Close)
	j, err := journal.Ensure(t.Context(), c, journal.Default())
	require.NoError(t, err)
	return j
}

func attempted(id string, body []byte) *recordv1.JournalEntry {
	return &recordv1.JournalEntry{
		Time: timestamppb.Now(), AccountId: "acc_1", DeliveryId: id,
		What: &recordv1.JournalEntry_Attempted{Attempted: &recordv1.Attempted{AttemptId: "att_" + id, ResponseBody: body}},
	}
}

// read consumes messages until it has n entries.
func read(t *testing.T, j *journal.Journal, n int) (entries []*recordv1.JournalEntry, messages int) {
	t.Helper()
	consumer, err := j.Consumer(t.Context(), "reader")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err = consumer.Consume(ctx, func(m *stream.Msg) {
		batch, err := journal.Decode(m)
		if err != nil {
			t.Error(err)
		}
		entries = append(entries, batch.GetEntries()...)
		messages++
		if err := m.Ack(); err != nil {
			t.Error(err)
		}
		if len(entries) >= n {
			cancel()
		}
	})
	require.NoError(t, err)
	require.Len(t, entries, n)
	return entries, messages
}

func TestEntriesArePackedAndDoneIsCalledOnceForEach(t *testing.T) {
	t.Parallel()
	j := open(t)
	w := j.NewWriter("test")
	const n = 1000
	done := make(chan error, 2*n)
	for i := range n {
		require.NoError(t, w.Write(t.Context(), i%3-1, attempted(strconv.Itoa(i), nil), func(err error) { done <- err }))
	}
	require.NoError(t, w.Close(t.Context()))
	require.Len(t, done, n)
	for range n {
		require.NoError(t, <-done)
	}
	entries, messages := read(t, j, n)
	seen := map[string]bool{}
	for _, e := range entries {
		seen[e.GetDeliveryId()] = true
	}
	require.Len(t, seen, n)
	require.GreaterOrEqual(t, messages, n/64)
	require.Less(t, messages, n/8, "entries travel packed")
	require.ErrorIs(t, w.Write(t.Context(), 0, attempted("late", nil), func(error) { t.Error("called") }), stream.ErrClosed)
}

func TestAnEntryThatIsTooBigLosesItsBodyAndIsKept(t *testing.T) {
	t.Parallel()
	j := open(t)
	w := j.NewWriter("test")
	done := make(chan error, 2)
	require.NoError(t, w.Write(t.Context(), 0, attempted("big", bytes.Repeat([]byte("x"), 400<<10)), func(err error) { done <- err }))
	require.NoError(t, w.Write(t.Context(), 0, attempted("small", []byte("y")), func(err error) { done <- err }))
	require.NoError(t, w.Close(t.Context()))
	require.NoError(t, <-done)
	require.NoError(t, <-done)
	entries, _ := read(t, j, 2)
	require.Empty(t, entries[0].GetAttempted().GetResponseBody())
	require.True(t, entries[0].GetAttempted().GetResponseBodyTruncated())
	require.Equal(t, "y", string(entries[1].GetAttempted().GetResponseBody()))
}

func TestAnEntryThatCannotBeEncodedFailsAlone(t *testing.T) {
	t.Parallel()
	j := open(t)
	w := j.NewWriter("test")
	errs := make(chan error, 3)
	for _, id := range []string{"\xff", "dlv_1", "\xff"} {
		require.NoError(t, w.Write(t.Context(), 0, attempted(id, nil), func(err error) { errs <- err }))
	}
	require.NoError(t, w.Close(t.Context()))
	require.ErrorContains(t, <-errs, "encode journal")
	require.ErrorContains(t, <-errs, "encode journal")
	require.NoError(t, <-errs)
	entries, _ := read(t, j, 1)
	require.Len(t, entries, 1)
	require.Equal(t, "dlv_1", entries[0].GetDeliveryId())
}

func TestTailGivesTheShardsLastEntriesAndNoOthers(t *testing.T) {
	t.Parallel()
	j := open(t)
	w := j.NewWriter("test")
	for i := range 200 {
		require.NoError(t, w.Write(t.Context(), i%2, attempted(strconv.Itoa(i), nil), func(error) {}))
	}
	require.NoError(t, w.Close(t.Context()))
	var got []string
	tail := func(shard int) {
		got = nil
		require.NoError(t, j.Tail(t.Context(), shard, time.Minute, func(e *recordv1.JournalEntry) error {
			got = append(got, e.GetDeliveryId())
			return nil
		}))
	}
	tail(1)
	require.Len(t, got, 100)
	require.Equal(t, "1", got[0])
	require.Equal(t, "199", got[99])
	tail(7)
	require.Empty(t, got, "a shard without entries has no tail")
}

func BenchmarkWrite(b *testing.B) {
	w := open(b).NewWriter("bench")
	e := attempted("dlv_1", bytes.Repeat([]byte("x"), 100))
	b.ReportAllocs()
	for b.Loop() {
		require.NoError(b, w.Write(b.Context(), 0, e, func(error) {}))
	}
	require.NoError(b, w.Close(b.Context()))
}

// What a rewrite changes is changed for good, everything else stays, and a second one finds nothing.
func TestEntriesAreRewritten(t *testing.T) {
	t.Parallel()
	j := open(t)
	w := j.NewWriter("test")
	stored := make(chan error, 3)
	for _, event := range []string{"evt_1", "evt_2", "evt_1"} {
		require.NoError(t, w.Write(t.Context(), 0, &recordv1.JournalEntry{
			EventId: event, What: &recordv1.JournalEntry_Attempted{Attempted: &recordv1.Attempted{ResponseBody: []byte(event)}},
		}, func(err error) { stored <- err }))
	}
	require.NoError(t, w.Close(t.Context()))
	for range 3 {
		require.NoError(t, <-stored)
	}
	strip := func(e *recordv1.JournalEntry) bool {
		if e.GetEventId() != "evt_1" || len(e.GetAttempted().GetResponseBody()) == 0 {
			return false
		}
		e.GetAttempted().ResponseBody = nil
		return true
	}
	_, err := j.Rewrite(t.Context(), time.Time{}, time.Hour, strip)
	require.ErrorIs(t, err, journal.ErrTooFresh)
	for _, want := range []bool{true, false} {
		n, err := j.Rewrite(t.Context(), time.Time{}, 0, strip)
		require.NoError(t, err)
		require.Equal(t, want, n > 0)
	}
	var got []string
	require.NoError(t, j.Walk(t.Context(), func(_ uint64, entries []*recordv1.JournalEntry) error {
		for _, e := range entries {
			got = append(got, e.GetEventId()+string(e.GetAttempted().GetResponseBody()))
		}
		return nil
	}))
	require.ElementsMatch(t, []string{"evt_1", "evt_1", "evt_2evt_2"}, got)
	oldest, err := j.Oldest(t.Context(), 0)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), oldest, time.Minute)
	last, err := j.Last(t.Context())
	require.NoError(t, err)
	oldest, err = j.Oldest(t.Context(), last)
	require.NoError(t, err)
	require.Zero(t, oldest)
}
