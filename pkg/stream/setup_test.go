package stream_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/test/fixture/natstest"
)

const deadline = time.Minute

// quick is a configuration for tests of a loaded machine: nothing is given up that is only slow.
// The publish timeout stays long, since what is published again without an id is stored again.
func quick() stream.Config {
	cfg := stream.Default()
	cfg.PublishTimeout, cfg.PublishBudget = 5*time.Second, 60*time.Second
	return cfg
}

func client(t testing.TB, s *natstest.Server, cfg stream.Config) *stream.Client {
	t.Helper()
	c, err := stream.New(s.Connect(t), cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// queue makes a stream WORK with the subjects work.>.
func queue(t testing.TB, c *stream.Client, retention jetstream.RetentionPolicy) {
	t.Helper()
	_, err := c.EnsureStream(t.Context(), jetstream.StreamConfig{
		Name: "WORK", Subjects: []string{"work.>"}, Retention: retention,
		Discard: jetstream.DiscardNew, AllowDirect: true,
	})
	require.NoError(t, err)
}

func message(subject, id, body string) *nats.Msg {
	m := &nats.Msg{Subject: subject, Data: []byte(body)}
	if id != "" {
		m.Header = nats.Header{jetstream.MsgIDHeader: {id}}
	}
	return m
}

// fate collects what Publish reports.
type fate struct {
	ack stream.Ack
	err error
}

func receive[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(deadline):
		require.FailNow(t, "nothing came")
		panic("unreachable")
	}
}
