package stream_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestPublish(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	c := client(t, s, quick())
	queue(t, c, jetstream.LimitsPolicy)
	p := c.NewPublisher("test", 0)

	t.Run("acknowledgements come in the order of publishing", func(t *testing.T) {
		var got []stream.Ack
		for i := range 500 {
			require.NoError(t, p.Publish(t.Context(), message("work.order", "", strconv.Itoa(i)), func(a stream.Ack, err error) {
				if err == nil {
					got = append(got, a)
				}
			}))
		}
		require.NoError(t, p.Flush(t.Context()))
		require.Len(t, got, 500)
		for i, a := range got {
			require.Equal(t, stream.Ack{Sequence: uint64(i + 1), Stream: "WORK"}, a)
		}
	})
	t.Run("a repeated id is a duplicate at the first sequence", func(t *testing.T) {
		first, err := p.PublishSync(t.Context(), message("work.dup", "id-1", "a"))
		require.NoError(t, err)
		second, err := p.PublishSync(t.Context(), message("work.dup", "id-1", "b"))
		require.NoError(t, err)
		require.False(t, first.Duplicate)
		require.Equal(t, stream.Ack{Sequence: first.Sequence, Stream: "WORK", Duplicate: true}, second)
	})
	t.Run("a wrong expected sequence is told from other refusals", func(t *testing.T) {
		m := message("work.cas", "", "a")
		m.Header = nats.Header{jetstream.ExpectedLastSubjSeqHeader: {"7"}}
		_, err := p.PublishSync(t.Context(), m)
		require.ErrorIs(t, err, stream.ErrWrongSequence)
		require.NotErrorIs(t, err, stream.ErrUnknown)
		require.True(t, stream.NotStored(err))
	})
	t.Run("an expected stream that is another is a refusal", func(t *testing.T) {
		m := message("work.cas", "", "a")
		m.Header = nats.Header{jetstream.ExpectedStreamHeader: {"OTHER"}}
		_, err := p.PublishSync(t.Context(), m)
		require.ErrorIs(t, err, stream.ErrRefused)
	})
	t.Run("a subject that no stream has is unavailable once the budget ends", func(t *testing.T) {
		cfg := quick()
		cfg.PublishTimeout, cfg.PublishBudget = 50*time.Millisecond, 200*time.Millisecond
		_, err := client(t, s, cfg).NewPublisher("test", 1).PublishSync(t.Context(), message("nobody.home", "", "a"))
		require.ErrorIs(t, err, stream.ErrUnavailable)
		require.True(t, stream.NotStored(err))
	})
	t.Run("more than the server takes is too large and leaves the window free", func(t *testing.T) {
		p := c.NewPublisher("large", 1)
		for range 3 {
			err := p.Publish(t.Context(), message("work.large", "", strings.Repeat("x", 9<<20)), nil)
			require.ErrorIs(t, err, stream.ErrTooLarge)
		}
		require.Zero(t, p.InFlight())
	})
}

func TestPublishToAFullStreamStoresNothing(t *testing.T) {
	t.Parallel()
	c := client(t, natstest.Start(t), quick())
	_, err := c.EnsureStream(t.Context(), jetstream.StreamConfig{
		Name: "SMALL", Subjects: []string{"small.>"}, Discard: jetstream.DiscardNew, MaxBytes: 4096, MaxMsgSize: 2048,
	})
	require.NoError(t, err)
	p := c.NewPublisher("test", 0)
	for i := range 8 {
		if _, err = p.PublishSync(t.Context(), message("small.a", fmt.Sprint("id-", i), strings.Repeat("x", 1000))); err != nil {
			break
		}
	}
	require.ErrorIs(t, err, stream.ErrFull)
	require.True(t, stream.NotStored(err))
	_, err = p.PublishSync(t.Context(), message("small.a", "", strings.Repeat("x", 3000)))
	require.ErrorIs(t, err, stream.ErrTooLarge)

	// The id of what was refused is not used up.
	purged, err := c.Purge(t.Context(), "SMALL", "", 0)
	require.NoError(t, err)
	require.Positive(t, purged)
	ack, err := p.PublishSync(t.Context(), message("small.a", "id-3", "x"))
	require.NoError(t, err)
	require.False(t, ack.Duplicate)
}

func TestPublishBlocksWhileTheWindowIsFull(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	c := client(t, s, quick())
	queue(t, c, jetstream.LimitsPolicy)
	p := c.NewPublisher("test", 4)
	s.Stop()
	fates := make(chan fate, 4)
	for i := range 4 {
		require.NoError(t, p.Publish(t.Context(), message("work.a", strconv.Itoa(i), "x"), func(a stream.Ack, err error) { fates <- fate{a, err} }))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, p.Publish(ctx, message("work.a", "5", "x"), nil), context.DeadlineExceeded)
	require.Equal(t, 4, p.InFlight())

	s.Restart(t)
	for range 4 {
		require.NoError(t, receive(t, fates).err)
	}
}

func TestPublishOverAServerRestartStoresEachMessageOnce(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	c := client(t, s, quick())
	queue(t, c, jetstream.LimitsPolicy)
	p := c.NewPublisher("test", 64)

	const messages = 3000
	var mu sync.Mutex
	calls := make(map[int]int)
	failed := 0
	half := make(chan struct{})
	restarted := make(chan struct{})
	go func() {
		defer close(restarted)
		<-half
		s.Restart(t)
	}()
	for i := range messages {
		if i == messages/2 {
			close(half)
		}
		require.NoError(t, p.Publish(t.Context(), message("work.a", fmt.Sprint("id-", i), strconv.Itoa(i)), func(_ stream.Ack, err error) {
			mu.Lock()
			defer mu.Unlock()
			calls[i]++
			if err != nil {
				failed++
			}
		}))
	}
	<-restarted
	require.NoError(t, p.Flush(t.Context()))
	require.Zero(t, failed)
	require.Len(t, calls, messages)
	for i, n := range calls {
		require.Equal(t, 1, n, "done of message %d", i)
	}
	stored := make(map[string]int)
	require.NoError(t, c.Scan(t.Context(), "WORK", stream.Scan{}, func(m *stream.Stored) error {
		stored[string(m.Data)]++
		return nil
	}))
	require.Len(t, stored, messages)
	for body, n := range stored {
		require.Equal(t, 1, n, "message %s", body)
	}
}

func TestPublishWithoutAnAnswerIsUnknown(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	cfg := quick()
	cfg.PublishTimeout, cfg.PublishBudget = 50*time.Millisecond, 250*time.Millisecond
	c := client(t, s, cfg)
	p := c.NewPublisher("test", 4)
	// A listener that never answers stands for a stream whose acknowledgements get lost.
	sub, err := s.NC(t).SubscribeSync("silent.>")
	require.NoError(t, err)
	require.NoError(t, s.NC(t).Flush())

	_, err = p.PublishSync(t.Context(), message("silent.a", "", "x"))
	require.ErrorIs(t, err, stream.ErrUnknown)
	require.False(t, stream.NotStored(err))

	// It was sent again with the same content until the budget ended.
	sends := 0
	for {
		m, err := sub.NextMsg(10 * time.Millisecond)
		if err != nil {
			break
		}
		require.Equal(t, "x", string(m.Data))
		sends++
	}
	require.GreaterOrEqual(t, sends, 2)
	require.Zero(t, p.InFlight())
}

func TestALateAnswerIsNotTakenForAnother(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	cfg := quick()
	cfg.PublishTimeout, cfg.PublishBudget = 50*time.Millisecond, 150*time.Millisecond
	c := client(t, s, cfg)
	p := c.NewPublisher("test", 1)
	nc := s.NC(t)
	sub, err := nc.SubscribeSync("late.>")
	require.NoError(t, err)
	require.NoError(t, nc.Flush())

	_, err = p.PublishSync(t.Context(), message("late.a", "", "first"))
	require.ErrorIs(t, err, stream.ErrUnknown)
	first, err := sub.NextMsg(deadline)
	require.NoError(t, err)

	second := make(chan fate, 1)
	require.NoError(t, p.Publish(t.Context(), message("late.a", "", "second"), func(a stream.Ack, err error) { second <- fate{a, err} }))
	require.NoError(t, first.Respond([]byte(`{"stream":"LATE", "seq":1}`)))
	require.ErrorIs(t, receive(t, second).err, stream.ErrUnknown)
}

func TestARefusalAfterALostAnswerIsAmbiguous(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		id, reply string
		want      error
		unknown   bool
	}{
		"a wrong sequence may be our own message's":       {"id", `{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 4"},"stream":"S","seq":0}`, stream.ErrWrongSequence, true},
		"a full stream without an id proves nothing":      {"", `{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"S","seq":0}`, stream.ErrFull, true},
		"a full stream with an id knows of no such id":    {"id", `{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"S","seq":0}`, stream.ErrFull, false},
		"insufficient resources with an id prove it too":  {"id", `{"error":{"code":503,"err_code":10023,"description":"insufficient resources"},"stream":"S","seq":0}`, stream.ErrFull, false},
		"an answer that is no acknowledgement is unknown": {"id", `nonsense`, stream.ErrUnknown, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := natstest.Start(t)
			cfg := quick()
			cfg.PublishTimeout = 50 * time.Millisecond
			p := client(t, s, cfg).NewPublisher("test", 1)
			nc := s.NC(t)
			seen := 0
			sub, err := nc.Subscribe("lost.a", func(m *nats.Msg) {
				if seen++; seen == 2 {
					_ = m.Respond([]byte(tt.reply))
				}
			})
			require.NoError(t, err)
			require.NoError(t, nc.Flush())
			_, err = p.PublishSync(t.Context(), message("lost.a", tt.id, "x"))
			require.ErrorIs(t, err, tt.want)
			require.Equal(t, !tt.unknown, stream.NotStored(err))
			require.NoError(t, sub.Unsubscribe())
		})
	}
}

func TestARefusalForNowIsTriedAgain(t *testing.T) {
	t.Parallel()
	for _, code := range []int{10008, 10158, 10163, 10164, 10167} {
		t.Run(fmt.Sprint("code ", code), func(t *testing.T) {
			t.Parallel()
			s := natstest.Start(t)
			p := client(t, s, quick()).NewPublisher("test", 1)
			nc := s.NC(t)
			seen := 0
			_, err := nc.Subscribe("busy.a", func(m *nats.Msg) {
				if seen++; seen < 3 {
					_ = m.Respond(fmt.Appendf(nil, `{"error":{"code":400,"err_code":%d,"description":"later"},"stream":"S","seq":0}`, code))
					return
				}
				_ = m.Respond([]byte(`{"stream":"S","domain":"hub", "seq":42,"duplicate": true}`))
			})
			require.NoError(t, err)
			require.NoError(t, nc.Flush())
			ack, err := p.PublishSync(t.Context(), message("busy.a", "", "x"))
			require.NoError(t, err)
			require.Equal(t, stream.Ack{Stream: "S", Sequence: 42, Duplicate: true}, ack)
		})
	}
}

func TestCloseReportsWhatIsInFlight(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	c, err := stream.New(s.Connect(t), quick())
	require.NoError(t, err)
	p := c.NewPublisher("test", 8)
	_, err = s.NC(t).SubscribeSync("silent.>")
	require.NoError(t, err)
	require.NoError(t, s.NC(t).Flush())
	fates := make(chan fate, 8)
	for range 8 {
		require.NoError(t, p.Publish(t.Context(), message("silent.a", "", "x"), func(a stream.Ack, err error) { fates <- fate{a, err} }))
	}
	c.Close()
	for range 8 {
		err := receive(t, fates).err
		require.ErrorIs(t, err, stream.ErrUnknown)
		require.ErrorIs(t, err, stream.ErrClosed)
	}
	require.ErrorIs(t, p.Publish(t.Context(), message("silent.a", "", "x"), nil), stream.ErrClosed)
	require.ErrorIs(t, c.NewPublisher("late", 1).Publish(t.Context(), message("silent.a", "", "x"), nil), stream.ErrClosed)
	c.Close() // twice is fine
}

func BenchmarkPublish(b *testing.B) {
	for _, window := range []int{256, 1024} {
		for _, id := range []bool{false, true} {
			b.Run(fmt.Sprintf("window=%d/id=%t", window, id), func(b *testing.B) {
				c := client(b, natstest.Start(b), stream.Default())
				queue(b, c, jetstream.LimitsPolicy)
				p := c.NewPublisher("bench", window)
				body := []byte(strings.Repeat("x", 1024))
				done := func(_ stream.Ack, err error) {
					if err != nil {
						b.Error(err)
					}
				}
				b.ReportAllocs()
				b.ResetTimer()
				for i := range b.N {
					m := &nats.Msg{Subject: "work.a", Data: body}
					if id {
						m.Header = nats.Header{jetstream.MsgIDHeader: {fmt.Sprint("dlv_0123456789abcdef", i)}}
					}
					if err := p.Publish(b.Context(), m, done); err != nil {
						b.Fatal(err)
					}
				}
				if err := p.Flush(b.Context()); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}
