// The race detector allocates, so budgets are held without it.

//go:build !race

package router_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"

	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/test/fixture/budget"
	"github.com/postrider/postrider/test/fixture/natstest"
)

// What publishing takes in this process is measured while there is no router, and taken off.
func TestAnEventKeepsItsBudget(t *testing.T) {
	const n = 3000
	b := setupOn(t, &natstest.Server{URL: budget.Start(t).NATS})
	for i := range 10 {
		b.webhook(t, []string{"track.*", "track.*", "track.*", "track.*", "release.*"}[i%5])
	}
	data := []byte(`{"text":"` + strings.Repeat("x", 1013) + `"}`)
	publish := func() {
		stored := make(chan error, n)
		for range n {
			ev := b.event(func(ev *recordv1.Event) { ev.Data = data })
			require.NoError(t, b.events.Publish(t.Context(), ev, func(_ eventstream.Stored, err error) { stored <- err }))
		}
		for range n {
			require.NoError(t, <-stored)
		}
	}
	base := budget.Measure(publish)
	b.start(t)
	b.awaitRouted(t) // connections and pools are as they stay now
	budget.Hold(t, "router: an event", func() budget.Usage {
		return budget.Measure(func() {
			publish()
			b.awaitRouted(t)
		}).Per(n, base)
	})
}
