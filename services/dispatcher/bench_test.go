package dispatcher_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// BenchmarkDispatch drains deliveries of 1 KiB for ten webhooks of one receiver: everything durable,
// with the receiver and the NATS server in the same process.
func BenchmarkDispatch(b *testing.B) {
	w := newWorld(b)
	var got atomic.Int64
	receiver := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		buf := make([]byte, 4096)
		for {
			if _, err := r.Body.Read(buf); err != nil {
				break
			}
		}
		rw.WriteHeader(http.StatusNoContent)
		got.Add(1)
	}))
	b.Cleanup(receiver.Close)
	var hooks []*postriderv1.Webhook
	for range 10 {
		hooks = append(hooks, w.webhook(b, receiver.URL))
	}
	data := string(bytes.Repeat([]byte("x"), 1024))
	list := make([]*recordv1.Delivery, b.N)
	for i := range list {
		list[i] = w.delivery(hooks[i%len(hooks)], data)
	}
	w.publish(b, list...)
	b.ReportAllocs()
	b.ResetTimer()
	_, stop := w.dispatch(b, testConfig())
	require.Eventually(b, func() bool { return got.Load() >= int64(b.N) }, time.Hour, 10*time.Millisecond)
	w.settled(b)
	b.StopTimer()
	stop()
	require.Equal(b, int64(b.N), got.Load())
	b.ReportMetric(float64(len(w.scheduler.records(parkedKind))), "parked")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
}

// BenchmarkStrictLine drains one line: a webhook whose deliveries are attempted one after the other. What is
// in EVENTS is routed, as it would be after a stop of the dispatchers.
func BenchmarkStrictLine(b *testing.B) {
	w := newWorld(b)
	receiver := newLineReceiver(b)
	hook := w.webhook(b, receiver.URL, ordered("strict"))
	w.route(b, 1, hook)
	w.accept(b, 0, b.N)
	require.Eventually(b, func() bool {
		floor, _, err := w.events.Of(postriderAccount(w)).Routed(b.Context())
		return err == nil && floor >= uint64(b.N)
	}, time.Hour, 10*time.Millisecond)
	b.ReportAllocs()
	b.ResetTimer()
	_, stop := w.dispatch(b, testConfig())
	receiver.await(b, b.N)
	b.StopTimer()
	stop()
	receiver.inOrder(b)
	b.ReportMetric(float64(len(w.scheduler.records(parkedKind))), "parked")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
}

// BenchmarkOrderedLatency is the time from the acceptance of an event to its arrival, one event after another, at
// a webhook that wants its deliveries in order and at one that does not.
func BenchmarkOrderedLatency(b *testing.B) {
	for _, how := range []string{"none", "strict"} {
		b.Run(how, func(b *testing.B) {
			w := newWorld(b)
			receiver := newLineReceiver(b)
			hook := w.webhook(b, receiver.URL, ordered(how))
			w.route(b, 1, hook)
			w.dispatch(b, testConfig())
			for i := range b.N {
				w.accept(b, i, 1)
				receiver.await(b, i+1)
			}
		})
	}
}
