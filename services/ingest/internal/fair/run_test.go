package fair_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/stream/pace"
	"github.com/postrider/postrider/services/ingest/internal/fair"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/natstest"
)

const patience = 30 * time.Second

// counted counts the reports that a gate takes.
type counted struct {
	*pace.Listener
	taken atomic.Int64
}

func (c *counted) Late(now time.Time) (late time.Duration, waiting float64, known bool) {
	c.taken.Add(1)
	return c.Listener.Late(now)
}

// What only one account waits for may be ten times as late as what several do.
func TestOneWhoIsAloneIsHeldToItsShareLater(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	nc := server.Connect(t)
	listener, err := pace.Listen(nc)
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	hears := &counted{Listener: listener}
	g := fair.New(fair.Default(), func() bool { return true }, time.Now())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- g.Run(ctx, func(context.Context) ([]fair.Stage, error) { return []fair.Stage{{}, {}}, nil }, hears, logtest.New(t))
	}()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	limits := func(body string) bool {
		g.Take("acc_1", time.Now())
		require.NoError(t, nc.Publish("pace.router.one", []byte(body)))
		return g.State().Limiting
	}
	require.Eventually(t, func() bool {
		require.False(t, limits(`{"late":50000000,"rate":5000,"accounts":["acc_1"]}`), "50 ms late, with nobody else there")
		return hears.taken.Load() >= 10
	}, patience, 10*time.Millisecond)
	require.Eventually(t, func() bool {
		return limits(`{"late":50000000,"rate":5000,"accounts":["acc_1","acc_2"]}`)
	}, patience, 10*time.Millisecond)
}
