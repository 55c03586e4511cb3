package fanout_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/pkg/match"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/services/router/internal/fanout"
	"github.com/postrider/postrider/services/router/internal/index"
	"github.com/postrider/postrider/test/fixture/logtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stores are DELIVERIES and JOURNAL as far as fan-out sees them; the test answers each call.
type stores struct{ calls chan call }

type call struct {
	what string
	done func(error)
}

// Publish stores a delivery when the test says so.
func (s *stores) Publish(_ context.Context, d *recordv1.Delivery, done func(error)) error {
	s.calls <- call{d.GetWebhookId(), done}
	return nil
}

// Write stores an entry when the test says so.
func (s *stores) Write(_ context.Context, _ int, _ *recordv1.JournalEntry, done func(error)) error {
	s.calls <- call{"journal", done}
	return nil
}

// take returns n calls by what they store.
func (s *stores) take(t *testing.T, n int) map[string]func(error) {
	t.Helper()
	taken := map[string]func(error){}
	for range n {
		select {
		case c := <-s.calls:
			require.NotContains(t, taken, c.what)
			taken[c.what] = c.done
		case <-time.After(10 * time.Second):
			t.Fatalf("only %d of %d calls came", len(taken), n)
		}
	}
	return taken
}

// hooks are an account's webhooks, which want everything.
type hooks []*index.Hook

// Match finds all of them.
func (h hooks) Match(_ postrider.AccountID, _ *match.Attributes, into *index.Result) {
	into.Matched, into.Total = append(into.Matched[:0], h...), len(h)
}

// message is an event of the stream.
type message struct {
	fanout.Message
	data []byte
	mu   sync.Mutex
	acks int
}

func (m *message) Data() []byte     { return m.data }
func (m *message) Sequence() uint64 { return 1 }

func (m *message) Begin(ctx context.Context, _ stream.Work) (context.Context, trace.Span) {
	return ctx, nil
}

func (m *message) Ack() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.acks++
	return nil
}

func (m *message) acked() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.acks
}

// A crash between any two of these steps leaves the event unacked, so that it is routed again. The
// drills cannot hold this order: what a router has sent and not flushed is gone within microseconds.
func TestAnEventIsAckedOnlyWhenEverythingIsStored(t *testing.T) {
	t.Parallel()
	s := &stores{calls: make(chan call, 16)}
	f, err := fanout.New(fanout.Config{EmbedLimit: 4096, Heartbeat: time.Hour, Pause: time.Millisecond}, fanout.Deps{
		Index: hooks{{ID: "wh_1"}, {ID: "wh_2"}}, Deliveries: s, Journal: s, Logger: logtest.New(t),
		Meter: noop.NewMeterProvider().Meter(""), Class: func(string) string { return "standard" }, Now: time.Now,
	})
	require.NoError(t, err)
	f.Start(t.Context())
	data, err := proto.Marshal(&recordv1.Event{Id: "evt_1", AccountId: "acc_1", Type: "order.paid", Data: []byte("{}")})
	require.NoError(t, err)
	m := &message{data: data}
	f.Handle(m)

	first := s.take(t, 3)
	require.Zero(t, m.acked(), "nothing is stored")
	refused := errors.New("the stream is full")
	for what, err := range map[string]error{"wh_1": nil, "wh_2": refused, "journal": refused} {
		require.Contains(t, first, what)
		first[what](err)
		require.Zero(t, m.acked(), what)
	}
	again := s.take(t, 2)
	require.NotContains(t, again, "wh_1", "only what is missing is sent again")
	again["journal"](nil)
	require.Zero(t, m.acked(), "one delivery is missing")
	again["wh_2"](nil)
	require.Equal(t, 1, m.acked())
	require.NoError(t, f.Stop(t.Context()))
	require.Empty(t, s.calls, "calls too many")
}
