package eventstream_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// place is an account with the segment of its events.
type place struct {
	segments int
	account  postrider.AccountID
	stream   string
}

var places = map[string]place{
	"the only segment":  {1, one, "EVENTS"},
	"the first of two":  {2, one, "EVENTS"},
	"the second of two": {2, other, "EVENTS_1"},
}

// inEach holds every segment to the same.
func inEach(t *testing.T, fn func(t *testing.T, p place)) {
	t.Helper()
	t.Parallel()
	for name, p := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fn(t, p)
		})
	}
}

func open(t *testing.T, s *natstest.Server, cfg eventstream.Config) (*eventstream.Stream, *stream.Client) {
	t.Helper()
	return place{segments: 1}.open(t, s, cfg)
}

func (p place) open(t *testing.T, s *natstest.Server, cfg eventstream.Config) (*eventstream.Stream, *stream.Client) {
	t.Helper()
	streams := stream.Default()
	streams.Segments = p.segments
	c, err := stream.New(s.Connect(t), streams)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	events, err := eventstream.Ensure(t.Context(), c, cfg)
	require.NoError(t, err)
	return events, c
}

func event(account postrider.AccountID, key string) *recordv1.Event {
	return &recordv1.Event{
		Id: string(postrider.NewEventID()), AccountId: string(account), Type: "release.live", DedupKey: key,
		AcceptTime: timestamppb.Now(), Data: []byte(`{"n":9007199254740993}`),
	}
}

func publish(t *testing.T, s *eventstream.Stream, ev *recordv1.Event) (eventstream.Stored, error) {
	t.Helper()
	type fate struct {
		stored eventstream.Stored
		err    error
	}
	done := make(chan fate, 1)
	require.NoError(t, s.Publish(t.Context(), ev, func(stored eventstream.Stored, err error) { done <- fate{stored, err} }))
	f := <-done
	return f.stored, f.err
}

// A key's claim that is taken over is answered by what is found here: what is not found is stored
// a second time.
func TestAnEventIsFoundBehindOneThatAClockAheadAccepted(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		t.Helper()
		s, _ := p.open(t, natstest.Start(t), eventstream.Default())
		account := p.account
		ahead := event(account, "")
		ahead.AcceptTime = timestamppb.New(time.Now().Add(time.Hour))
		_, err := publish(t, s, ahead)
		require.NoError(t, err)
		ev := event(account, "")
		stored, err := publish(t, s, ev)
		require.NoError(t, err)
		_, sequence, err := s.Find(t.Context(), account, postrider.EventID(ev.GetId()))
		require.NoError(t, err)
		require.Equal(t, stored.Sequence, sequence)
	})
}

func TestAnEventIsReadAsItWasStored(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		t.Helper()
		s, _ := p.open(t, natstest.Start(t), eventstream.Default())
		account := p.account
		ev := event(account, "")
		stored, err := publish(t, s, ev)
		require.NoError(t, err)
		require.False(t, stored.Duplicate)

		got, err := s.Get(t.Context(), account, stored.Sequence)
		require.NoError(t, err)
		require.True(t, proto.Equal(ev, got))
		got, sequence, err := s.Find(t.Context(), account, postrider.EventID(ev.GetId()))
		require.NoError(t, err)
		require.Equal(t, stored.Sequence, sequence)
		require.True(t, proto.Equal(ev, got))

		_, err = s.Get(t.Context(), account, stored.Sequence+1)
		require.ErrorIs(t, err, eventstream.ErrNotFound)
		_, _, err = s.Find(t.Context(), postrider.NewAccountID(), postrider.EventID(ev.GetId()))
		require.ErrorIs(t, err, eventstream.ErrNotFound, "another account's")
		_, _, err = s.Find(t.Context(), account, postrider.NewEventID())
		require.ErrorIs(t, err, eventstream.ErrNotFound)
		_, _, err = s.Find(t.Context(), account, "evt_>")
		require.ErrorIs(t, err, eventstream.ErrNotFound)
	})
}

func TestTheMessageIDIsTheAccountsKeyOrTheEventsOwnID(t *testing.T) {
	t.Parallel()
	s, _ := open(t, natstest.Start(t), eventstream.Default())
	one, two := postrider.NewAccountID(), postrider.NewAccountID()
	first, err := publish(t, s, event(one, "key:k"))
	require.NoError(t, err)
	again, err := publish(t, s, event(one, "key:k"))
	require.NoError(t, err)
	require.Equal(t, eventstream.Stored{Sequence: first.Sequence, Duplicate: true}, again)
	other, err := publish(t, s, event(two, "key:k"))
	require.NoError(t, err)
	require.False(t, other.Duplicate, "two accounts may use the same key")
	for range 2 {
		stored, err := publish(t, s, event(one, ""))
		require.NoError(t, err)
		require.False(t, stored.Duplicate, "without a key every event is its own")
	}
}

func TestAFullStreamRefusesAndProvesThatNothingWasStored(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		t.Helper()
		cfg := eventstream.Default()
		cfg.MaxBytes = 1024
		s, _ := p.open(t, natstest.Start(t), cfg)
		var err error
		for i := 0; err == nil && i < 100; i++ {
			_, err = publish(t, s, event(p.account, ""))
		}
		require.ErrorIs(t, err, stream.ErrFull)
		require.True(t, stream.NotStored(err))
		usage, err := s.Of(p.account).Usage(t.Context())
		require.NoError(t, err)
		require.LessOrEqual(t, usage.Bytes, uint64(1024))
		require.NoError(t, s.Of(p.account).Trim(t.Context(), usage.LastSequence))
		_, err = publish(t, s, event(p.account, ""))
		require.NoError(t, err)
	})
}

func TestWhatWasTrimmedIsKnown(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		t.Helper()
		s, _ := p.open(t, natstest.Start(t), eventstream.Default())
		begun := time.Now().Add(-time.Minute)
		since := func() bool {
			t.Helper()
			trimmed, err := s.TrimmedSince(t.Context(), begun)
			require.NoError(t, err)
			return trimmed
		}
		for i := range 10 {
			_, err := publish(t, s, event(p.account, strconv.Itoa(i)))
			require.NoError(t, err)
		}
		require.NoError(t, s.Of(p.account).Trim(t.Context(), 0))
		require.NoError(t, s.Of(p.account).Trim(t.Context(), 1))
		require.False(t, since(), "nothing is below the first")
		require.NoError(t, s.Of(p.account).Trim(t.Context(), 6))
		usage, err := s.Of(p.account).Usage(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 5, usage.Messages)
		require.EqualValues(t, 6, usage.FirstSequence)
		require.True(t, since())
		trimmed, err := s.TrimmedSince(t.Context(), time.Now().Add(time.Minute))
		require.NoError(t, err)
		require.False(t, trimmed)
		require.NoError(t, s.Of(p.account).Trim(t.Context(), 11))
		require.NoError(t, s.Of(p.account).Trim(t.Context(), 3), "again, by another that came late")
		require.True(t, since())
	})
}

func TestADeletedRouterGoesOnAtItsCheckpoint(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		t.Helper()
		s, c := p.open(t, natstest.Start(t), eventstream.Default())
		for i := range 10 {
			_, err := publish(t, s, event(p.account, strconv.Itoa(i)))
			require.NoError(t, err)
		}
		first := func() uint64 {
			consumer, err := s.Of(p.account).Router(t.Context())
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			var got uint64
			require.NoError(t, consumer.Consume(ctx, func(m *stream.Msg) {
				if got == 0 {
					got = m.Sequence()
				}
				cancel()
			}))
			return got
		}
		require.EqualValues(t, 1, first())
		require.NoError(t, s.Of(p.account).Checkpoint(t.Context(), 7))
		require.NoError(t, s.Of(p.account).Checkpoint(t.Context(), 5), "moves only forward")
		require.NoError(t, c.JetStream().DeleteConsumer(t.Context(), p.stream, "router"))
		require.EqualValues(t, 8, first())
	})
}

func TestARestoredStreamIsAnotherIncarnation(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		t.Helper()
		s, c := p.open(t, natstest.Start(t), eventstream.Default())
		for i := range 10 {
			_, err := publish(t, s, event(p.account, strconv.Itoa(i)))
			require.NoError(t, err)
		}
		require.NoError(t, s.Of(p.account).Checkpoint(t.Context(), 5))
		again := func() *eventstream.Stream {
			t.Helper()
			s, err := eventstream.Ensure(t.Context(), c, eventstream.Default())
			require.NoError(t, err)
			return s
		}
		require.Equal(t, s.Incarnation(p.account), again().Incarnation(p.account), "a restart changes nothing")

		// A backup from before event 5 was stored. A restore keeps the time of creation, so what is
		// left to see it by is the checkpoint, here moved instead of the stream.
		require.NoError(t, s.Of(p.account).Checkpoint(t.Context(), 11))
		restored := again()
		require.NotEqual(t, s.Incarnation(p.account), restored.Incarnation(p.account))
		require.Equal(t, restored.Incarnation(p.account), again().Incarnation(p.account), "it is told once")

		// The old checkpoint says nothing about this stream: routing begins with the first event.
		consumer, err := restored.Of(p.account).Router(t.Context())
		require.NoError(t, err)
		info, err := consumer.Info(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 10, info.Pending)
		require.NoError(t, restored.Of(p.account).Checkpoint(t.Context(), 3), "and checkpoints begin anew")
		require.NoError(t, c.JetStream().DeleteConsumer(t.Context(), p.stream, "router"))
		consumer, err = restored.Of(p.account).Router(t.Context())
		require.NoError(t, err)
		info, err = consumer.Info(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 7, info.Pending)

		require.NoError(t, c.JetStream().DeleteStream(t.Context(), p.stream))
		require.NotEqual(t, restored.Incarnation(p.account), again().Incarnation(p.account), "a stream made anew is another too")
	})
}

// A restore that took nothing away that the checkpoint knows of is told by whoever restores.
func TestARestoreThatIsToldIsAnotherIncarnation(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		t.Helper()
		s, c := p.open(t, natstest.Start(t), eventstream.Default())
		require.NoError(t, s.Of(p.account).Checkpoint(t.Context(), 3))
		require.NoError(t, eventstream.Restored(t.Context(), c.JetStream()))
		restored, err := eventstream.Ensure(t.Context(), c, eventstream.Default())
		require.NoError(t, err)
		require.NotEqual(t, s.Incarnation(p.account), restored.Incarnation(p.account))
		again, err := eventstream.Ensure(t.Context(), c, eventstream.Default())
		require.NoError(t, err)
		require.Equal(t, restored.Incarnation(p.account), again.Incarnation(p.account), "it is told once")
	})
}

func TestAServerThatTakesTooLittleIsRefusedAtTheStart(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, natstest.WithOptions(func(o *server.Options) { o.MaxPayload = 1 << 20 }))
	c, err := stream.New(s.Connect(t), stream.Default())
	require.NoError(t, err)
	_, err = eventstream.Ensure(t.Context(), c, eventstream.Default())
	require.ErrorContains(t, err, "max_payload")
}

func TestATypeThatWouldChangeTheSubjectIsRefused(t *testing.T) {
	t.Parallel()
	s, _ := open(t, natstest.Start(t), eventstream.Default())
	for _, typ := range []string{"", "a..b", "a.*", ">", "a b", "a\r\nb"} {
		ev := event("acc_1", "")
		ev.Type = typ
		require.ErrorIs(t, s.Publish(t.Context(), ev, nil), stream.ErrRefused, "type %q", typ)
	}
}

func TestAnUpgradedRouterKeepsItsPlace(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		t.Helper()
		s, c := p.open(t, natstest.Start(t), eventstream.Default())
		_, err := c.JetStream().CreateConsumer(t.Context(), p.stream, jetstream.ConsumerConfig{
			Durable: "router", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Second, MaxAckPending: 10,
			DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: 3,
		})
		require.NoError(t, err)
		_, err = s.Of(p.account).Router(t.Context())
		require.NoError(t, err)
		con, err := c.JetStream().Consumer(t.Context(), p.stream, "router")
		require.NoError(t, err)
		cfg := con.CachedInfo().Config
		require.Equal(t, stream.AckWait, cfg.AckWait)
		require.Equal(t, 8192/p.segments, cfg.MaxAckPending)
		require.EqualValues(t, 3, cfg.OptStartSeq)
	})
}

func TestScanGivesEveryEventInOrder(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		t.Helper()
		s, _ := p.open(t, natstest.Start(t), eventstream.Default())
		var want, got []string
		for range 50 {
			ev := event(p.account, "")
			want = append(want, ev.GetId())
			_, err := publish(t, s, ev)
			require.NoError(t, err)
		}
		require.NoError(t, s.Scan(t.Context(), time.Now().Add(-time.Hour), func(_ uint64, ev *recordv1.Event) error {
			got = append(got, ev.GetId())
			return nil
		}))
		require.Equal(t, want, got)
	})
}
