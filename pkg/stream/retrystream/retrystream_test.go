package retrystream_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = time.Minute

func open(t testing.TB, server *natstest.Server, cfg retrystream.Config) *retrystream.Streams {
	t.Helper()
	return ensure(t, connect(t, server, nil), cfg)
}

func retryOf(delivery string, attempts int32, due time.Time) *recordv1.Retry {
	return &recordv1.Retry{
		Kind: recordv1.RetryKind_RETRY_KIND_WAITING, DueTime: timestamppb.New(due), Reason: "http_status",
		Delivery: &recordv1.Delivery{
			Id: delivery, AccountId: "acc_1", WebhookId: "wh_1", Data: []byte("data of " + delivery),
			Progress: &recordv1.Progress{Attempts: attempts},
		},
	}
}

type fate struct {
	sequence uint64
	err      error
}

func put(t testing.TB, s *retrystream.Streams, r *recordv1.Retry) (uint64, error) {
	t.Helper()
	fates := make(chan fate, 1)
	if err := s.Put(t.Context(), r, func(at retrystream.Place, err error) { fates <- fate{at.Sequence, err} }); err != nil {
		return 0, err
	}
	f := <-fates
	return f.sequence, f.err
}

func release(t testing.TB, s *retrystream.Streams, r retrystream.Record) error {
	t.Helper()
	fates := make(chan error, 1)
	require.NoError(t, s.Release(t.Context(), r, func(err error) { fates <- err }))
	return <-fates
}

type due struct {
	retry *recordv1.Retry
	fired bool
}

// dues consumes due deliveries until the test ends.
func dues(t *testing.T, s *retrystream.Streams) <-chan due {
	t.Helper()
	consumer, err := s.Due(t.Context(), 0)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	out := make(chan due, 10_000)
	ended := make(chan error, 1)
	go func() {
		ended <- consumer.Consume(ctx, func(m *stream.Msg) {
			r, fired, err := retrystream.DecodeDue(m)
			if err == nil {
				err = m.Ack()
			}
			if err != nil {
				t.Error(err)
			}
			out <- due{r, fired}
		})
	}()
	t.Cleanup(func() { cancel(); require.NoError(t, <-ended) })
	return out
}

func next(t *testing.T, out <-chan due) due {
	t.Helper()
	select {
	case d := <-out:
		return d
	case <-time.After(patience):
		t.Fatal("no due delivery came")
		return due{}
	}
}

func later() time.Time { return time.Now().Add(time.Hour) }

func TestARecordIsReadAsItWasPut(t *testing.T) {
	t.Parallel()
	s := open(t, natstest.Start(t), retrystream.Default())
	r := retryOf("dlv_1", 1, later())
	sequence, err := put(t, s, r)
	require.NoError(t, err)
	got, err := s.Get(t.Context(), 0, sequence)
	require.NoError(t, err)
	require.True(t, proto.Equal(r, got.Retry))
	last, err := s.Last(t.Context(), "acc_1", "wh_1", "dlv_1")
	require.NoError(t, err)
	require.Equal(t, sequence, last.Sequence)
	all, err := s.GetAll(t.Context(), 0, []uint64{sequence + 5, sequence})
	require.NoError(t, err)
	require.Nil(t, all[0])
	require.True(t, proto.Equal(r, all[1].Retry))
	_, err = s.Last(t.Context(), "acc_1", "wh_1", "dlv_2")
	require.ErrorIs(t, err, retrystream.ErrGone)
	n, err := s.Count(t.Context(), 0)
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
}

func TestARecordOfALaterSeriesTakesThePlaceOfWhatWasBefore(t *testing.T) {
	t.Parallel()
	c := connect(t, natstest.Start(t), nil)
	s := ensure(t, c, retrystream.Default())
	_, err := put(t, s, retryOf("dlv_1", 5, later()))
	require.NoError(t, err)
	redriven := retryOf("dlv_1", 0, later())
	redriven.Delivery.Progress.Series = 1
	sequence, err := put(t, s, redriven)
	require.NoError(t, err, "a redrive begins anew and is later all the same")
	_, err = put(t, s, retryOf("dlv_1", 9, later()))
	require.ErrorIs(t, err, retrystream.ErrSuperseded, "what is late of the first series")
	_, err = put(t, s, redriven)
	require.ErrorIs(t, err, retrystream.ErrSuperseded, "a repeat")
	last, err := s.Last(t.Context(), "acc_1", "wh_1", "dlv_1")
	require.NoError(t, err)
	require.Equal(t, sequence, last.Sequence)
}

func TestReleaseAppendsTheDueDeliveryAndRemovesTheRecordOnce(t *testing.T) {
	t.Parallel()
	s := open(t, natstest.Start(t), retrystream.Default())
	out := dues(t, s)
	r := retryOf("dlv_1", 1, later())
	sequence, err := put(t, s, r)
	require.NoError(t, err)
	record := retrystream.Record{Shard: 0, Sequence: sequence, Retry: r}
	require.NoError(t, release(t, s, record))
	require.ErrorIs(t, release(t, s, record), retrystream.ErrGone)

	got := next(t, out)
	require.False(t, got.fired)
	require.True(t, proto.Equal(r, got.retry))
	_, err = s.Get(t.Context(), 0, sequence)
	require.ErrorIs(t, err, retrystream.ErrGone)
	_, err = s.Last(t.Context(), "acc_1", "wh_1", "dlv_1")
	require.ErrorIs(t, err, retrystream.ErrGone)
	require.Empty(t, out, "one release, one due delivery")

	// The subject is free for the next attempt's record.
	_, err = put(t, s, retryOf("dlv_1", 2, later()))
	require.NoError(t, err)
}

func TestOfManyReleasesAtOnceOneSucceeds(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	one, two := open(t, server, retrystream.Default()), open(t, server, retrystream.Default())
	out := dues(t, one)
	const n = 300
	results := make(chan error, 2*n)
	for i := range n {
		r := retryOf(fmt.Sprintf("dlv_%d", i), 1, later())
		sequence, err := put(t, one, r)
		require.NoError(t, err)
		for _, s := range []*retrystream.Streams{one, two} {
			require.NoError(t, s.Release(t.Context(), retrystream.Record{Sequence: sequence, Retry: r}, func(err error) { results <- err }))
		}
	}
	gone := 0
	for range 2 * n {
		if err := <-results; err != nil {
			require.ErrorIs(t, err, retrystream.ErrGone)
			gone++
		}
	}
	require.Equal(t, n, gone)
	seen := map[string]bool{}
	for range n {
		seen[next(t, out).retry.GetDelivery().GetId()] = true
	}
	require.Len(t, seen, n)
	require.Empty(t, out)
}

func TestARecordFiresByItselfWhenNobodyReleasesIt(t *testing.T) {
	t.Parallel()
	cfg := retrystream.Default()
	cfg.Grace = 200 * time.Millisecond
	s := open(t, natstest.Start(t), cfg)
	out := dues(t, s)
	r := retryOf("dlv_1", 3, time.Now().Add(300*time.Millisecond))
	sequence, err := put(t, s, r)
	require.NoError(t, err)
	got := next(t, out)
	require.True(t, got.fired)
	require.True(t, proto.Equal(r, got.retry))
	require.False(t, time.Now().Before(r.GetDueTime().AsTime().Add(cfg.Grace)), "not before the grace is over")
	require.ErrorIs(t, release(t, s, retrystream.Record{Sequence: sequence, Retry: r}), retrystream.ErrGone)
	require.Empty(t, out)
}

func TestSchedulesSurviveARestartAcrossTheirTime(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	cfg := retrystream.Default()
	cfg.Grace = time.Millisecond
	s := open(t, server, cfg)
	const n = 100
	for i := range n {
		_, err := put(t, s, retryOf(fmt.Sprintf("dlv_%d", i), 1, time.Now().Add(500*time.Millisecond)))
		require.NoError(t, err)
	}
	server.Restart(t)
	out := dues(t, s)
	seen := map[string]int{}
	for range n {
		seen[next(t, out).retry.GetDelivery().GetId()]++
	}
	require.Len(t, seen, n)
	require.Empty(t, out, "each fired once")
}

func TestAStaleCallIsSupersededAndAnEarlierRecordIsReplaced(t *testing.T) {
	t.Parallel()
	s := open(t, natstest.Start(t), retrystream.Default())
	first, err := put(t, s, retryOf("dlv_1", 2, later()))
	require.NoError(t, err)
	for _, attempts := range []int32{1, 2} {
		standing, err := put(t, s, retryOf("dlv_1", attempts, later()))
		require.ErrorIs(t, err, retrystream.ErrSuperseded)
		require.Equal(t, first, standing)
	}
	second, err := put(t, s, retryOf("dlv_1", 3, later()))
	require.NoError(t, err)
	require.Greater(t, second, first)
	_, err = s.Get(t.Context(), 0, first)
	require.ErrorIs(t, err, retrystream.ErrGone)
	n, err := s.Count(t.Context(), 0)
	require.NoError(t, err)
	require.EqualValues(t, 1, n, "one record for each delivery")
}

// The due message is there and its record stands, as after a crash of the server between the two.
func TestARecordThatWasReleasedSupersedesNothing(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	c := connect(t, server, nil)
	s := ensure(t, c, retrystream.Default())
	kept, err := put(t, s, retryOf("dlv_1", 1, later()))
	require.NoError(t, err)
	due, err := c.JetStream().Publish(t.Context(), "due.0.acc_1.wh_1", []byte{})
	require.NoError(t, err)
	again := retryOf("dlv_1", 1, later())
	_, err = put(t, s, again)
	require.ErrorIs(t, err, retrystream.ErrSuperseded, "nothing says that it was released")
	again.Follows = kept
	_, err = put(t, s, again)
	require.ErrorIs(t, err, retrystream.ErrSuperseded, "it stands no earlier")
	earlier := retryOf("dlv_1", 0, later())
	earlier.Follows = due.Sequence
	_, err = put(t, s, earlier)
	require.ErrorIs(t, err, retrystream.ErrSuperseded, "it has more attempts")
	again.Follows = due.Sequence
	sequence, err := put(t, s, again)
	require.NoError(t, err)
	require.Greater(t, sequence, due.Sequence)
	n, err := s.Count(t.Context(), 0)
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	_, err = put(t, s, again)
	require.ErrorIs(t, err, retrystream.ErrSuperseded, "a repeat of the call")
}

func TestReplaceIsACompareAndSet(t *testing.T) {
	t.Parallel()
	s := open(t, natstest.Start(t), retrystream.Default())
	r := retryOf("dlv_1", 1, later())
	sequence, err := put(t, s, r)
	require.NoError(t, err)
	held := proto.CloneOf(r)
	held.Kind = recordv1.RetryKind_RETRY_KIND_HELD
	old := retrystream.Record{Sequence: sequence, Retry: r}
	replaced, err := s.Replace(t.Context(), old, held)
	require.NoError(t, err)
	_, err = s.Replace(t.Context(), old, r)
	require.ErrorIs(t, err, retrystream.ErrGone)
	got, err := s.Get(t.Context(), 0, replaced)
	require.NoError(t, err)
	require.Equal(t, recordv1.RetryKind_RETRY_KIND_HELD, got.Retry.GetKind())
	require.NoError(t, s.Remove(t.Context(), *got))
	require.ErrorIs(t, s.Remove(t.Context(), *got), retrystream.ErrGone)
	_, err = s.Replace(t.Context(), *got, r)
	require.ErrorIs(t, err, retrystream.ErrGone, "what was removed does not come back")
}

func TestAWebhooksRecordsAreScannedAndRemovedAlone(t *testing.T) {
	t.Parallel()
	s := open(t, natstest.Start(t), retrystream.Default())
	var last uint64
	for i := range 20 {
		r := retryOf(fmt.Sprintf("dlv_%d", i), 1, later())
		if i%2 == 1 {
			r.Delivery.WebhookId = "wh_2"
		}
		var err error
		last, err = put(t, s, r)
		require.NoError(t, err)
	}
	n := 0
	require.NoError(t, s.ScanWebhook(t.Context(), "acc_1", "wh_1", retrystream.Place{}, func(r retrystream.Record) error {
		require.Equal(t, "wh_1", r.Retry.GetDelivery().GetWebhookId())
		n++
		return nil
	}))
	require.Equal(t, 10, n)
	removed, err := s.RemoveWebhook(t.Context(), "acc_1", "wh_1", retrystream.Place{Sequence: last})
	require.NoError(t, err)
	require.EqualValues(t, 10, removed)
	left, err := s.Count(t.Context(), 0)
	require.NoError(t, err)
	require.EqualValues(t, 10, left)
	_, err = s.RemoveWebhook(t.Context(), "acc_1", "", retrystream.Place{Sequence: last})
	require.Error(t, err, "never without a webhook")
}

func TestTheIndexIsScannedWithoutReadingRecords(t *testing.T) {
	t.Parallel()
	s := open(t, natstest.Start(t), retrystream.Default())
	want := map[postrider.DeliveryID]retrystream.Entry{}
	var middle retrystream.Record
	stored := 0
	add := func(n int) {
		for i := range n {
			stored++
			r := retryOf(fmt.Sprintf("dlv_%d", stored), 1, time.Now().Add(time.Hour+time.Duration(i)*time.Second))
			sequence, err := put(t, s, r)
			require.NoError(t, err)
			d := r.GetDelivery()
			want[postrider.DeliveryID(d.GetId())] = retrystream.Entry{
				Account: postrider.AccountID(d.GetAccountId()), Webhook: "wh_1", Delivery: postrider.DeliveryID(d.GetId()), Sequence: sequence,
				Due: time.UnixMilli(r.GetDueTime().AsTime().UnixMilli()), Kind: recordv1.RetryKind_RETRY_KIND_WAITING,
			}
			if i == n/2 {
				middle = retrystream.Record{Sequence: sequence, Retry: r}
			}
		}
	}
	check := func(dues int) {
		for _, fill := range []bool{false, true} {
			got := map[postrider.DeliveryID]retrystream.Entry{}
			scan, more := s.ScanIndex, 0
			if fill {
				scan = s.ScanToFill
			}
			require.NoError(t, scan(t.Context(), 0, func(e retrystream.Entry) error {
				if _, waits := want[e.Delivery]; waits {
					got[e.Delivery] = e
				} else {
					more++
				}
				return nil
			}))
			require.Equal(t, want, got)
			if fill {
				require.LessOrEqual(t, more, dues, "it may take a due delivery for its record")
			} else {
				require.Zero(t, more)
			}
		}
	}
	check(0)
	add(100)
	check(0)
	require.NoError(t, release(t, s, middle))
	delete(want, postrider.DeliveryID(middle.Retry.GetDelivery().GetId()))
	check(1)
	add(100)
	check(1)
}

func TestAFullShardRefuses(t *testing.T) {
	t.Parallel()
	cfg := retrystream.Default()
	cfg.MaxRecords = 5
	s := open(t, natstest.Start(t), cfg)
	for i := range 5 {
		_, err := put(t, s, retryOf(fmt.Sprintf("dlv_%d", i), 1, later()))
		require.NoError(t, err)
	}
	_, err := put(t, s, retryOf("dlv_more", 1, later()))
	require.ErrorIs(t, err, retrystream.ErrFull)
}

func BenchmarkPutAndRelease(b *testing.B) {
	s := open(b, natstest.Start(b), retrystream.Config{Grace: time.Minute})
	fates := make(chan fate, 1<<16)
	n := 0
	const batch = 2000
	for b.Loop() {
		records := make([]retrystream.Record, batch)
		for i := range batch {
			n++
			r := retryOf(fmt.Sprintf("dlv_%d", n), 1, later())
			records[i].Retry = r
			require.NoError(b, s.Put(b.Context(), r, func(at retrystream.Place, err error) {
				records[i].Sequence = at.Sequence
				fates <- fate{at.Sequence, err}
			}))
		}
		for range batch {
			require.NoError(b, (<-fates).err)
		}
		for _, r := range records {
			require.NoError(b, s.Release(b.Context(), r, func(err error) { fates <- fate{0, err} }))
		}
		for range batch {
			require.NoError(b, (<-fates).err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*batch), "us/record")
}
