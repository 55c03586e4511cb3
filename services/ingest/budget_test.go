// The race detector allocates, so budgets are held without it.

//go:build !race

package ingest_test

import (
	"log/slog"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/ingest"
	"github.com/postrider/postrider/test/fixture/budget"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestAnEventKeepsItsBudget(t *testing.T) {
	const n, size = 3000, 50
	b := setupOn(t, &natstest.Server{URL: budget.Start(t).NATS})
	b.log = slog.New(slog.DiscardHandler)                                                    // each call is logged at a level that deployments do not have
	in := b.start(t, ingest.NewMemoryDedup(), func(c *ingest.Config) { c.Fair.Backlog = 0 }) // nobody routes here
	ctx := as(t.Context(), b.key)
	next := 0
	request := func() *postriderv1.PublishEventRequest {
		next++
		return requestOf("budget-"+strconv.Itoa(next), kilobyte)
	}
	alone := func() {
		for range n {
			_, err := in.events.PublishEvent(ctx, request())
			require.NoError(t, err)
		}
	}
	batches := func() {
		for range n / size {
			req := &postriderv1.BatchPublishEventsRequest{}
			for range size {
				req.Requests = append(req.Requests, request())
			}
			resp, err := in.events.BatchPublishEvents(ctx, req)
			require.NoError(t, err)
			for _, v := range resp.GetVerdicts() {
				require.Nil(t, v.GetError())
			}
		}
	}
	for name, publish := range map[string]func(){"ingest: an event alone": alone, "ingest: an event of a batch": batches} {
		publish() // connections and pools are as they stay now
		budget.Hold(t, name, func() budget.Usage { return budget.Measure(publish).Per(n, budget.Usage{}) })
	}
	require.Equal(t, next, b.stored(t))
}
