// The race detector allocates, so budgets are held without it.

//go:build !race

package dispatcher_test

import (
	"strings"
	"testing"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/test/fixture/budget"
	"github.com/postrider/postrider/test/fixture/natstest"
)

// What publishing takes in this process is measured while there is no dispatcher, and taken off.
func TestADeliveryKeepsItsBudget(t *testing.T) {
	const n = 3000
	servers := budget.Start(t)
	w := newWorldOn(t, &natstest.Server{URL: servers.NATS}, retrystream.Default())
	var hooks []*postriderv1.Webhook
	for range 10 {
		hooks = append(hooks, w.webhook(t, servers.Receiver))
	}
	data := strings.Repeat("x", 1024)
	publish := func() {
		list := make([]*recordv1.Delivery, n)
		for i := range list {
			list[i] = w.delivery(hooks[i%len(hooks)], data)
		}
		w.publish(t, list...)
	}
	deliver := func() {
		servers.Await(t, n)
		w.settled(t)
	}
	base := budget.Measure(publish)
	w.dispatch(t, testConfig())
	deliver() // connections and pools are as they stay now
	budget.Hold(t, "dispatcher: a delivery", func() budget.Usage {
		return budget.Measure(func() {
			publish()
			deliver()
		}).Per(n, base)
	})
}
