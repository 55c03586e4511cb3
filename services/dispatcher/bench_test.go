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
