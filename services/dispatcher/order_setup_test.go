package dispatcher_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
)

func ordered(how string) func(*postriderv1.Webhook) {
	return func(h *postriderv1.Webhook) { h.Ordering = how }
}

// accept stores events, as ingest does; the body of each says its key and its number within that. They are in
// EVENTS in the order of their numbers.
func (w *world) accept(t testing.TB, from, n int, keys ...string) {
	t.Helper()
	if len(keys) == 0 {
		keys = []string{""}
	}
	stored := make(chan error, n)
	for i := from; i < from+n; i++ {
		key := keys[i%len(keys)]
		ev := &recordv1.Event{
			Id: string(postrider.NewEventID()), AccountId: w.account, Type: "release.live", Time: timestamppb.Now(),
			AcceptTime: timestamppb.Now(), ContentType: "application/json", OrderingKey: key,
			Data: fmt.Appendf(nil, "%s/%06d", key, i),
		}
		require.NoError(t, w.events.Publish(t.Context(), ev, func(_ eventstream.Stored, err error) { stored <- err }))
	}
	for range n {
		require.NoError(t, <-stored)
	}
}

// route runs routers that share the events and route them in any order: each takes some at a time, stores
// their deliveries, and acknowledges them after that. A part of them is stored once more.
func (w *world) route(t testing.TB, routers int, hooks ...*postriderv1.Webhook) {
	t.Helper()
	seg := w.events.Of(postriderAccount(w))
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	for range routers {
		consumer, err := seg.Router(ctx)
		require.NoError(t, err)
		taken := make(chan *stream.Msg, 64)
		running.Go(func() {
			defer close(taken)
			_ = consumer.WithBatch(32).Consume(ctx, func(m *stream.Msg) { taken <- m })
		})
		running.Go(func() {
			for m := range taken {
				batch := []*stream.Msg{m}
				for more := true; more && len(batch) < 20; {
					select {
					case m, ok := <-taken:
						if more = ok; ok {
							batch = append(batch, m)
						}
					case <-time.After(5 * time.Millisecond):
						more = false
					}
				}
				w.routeBatch(ctx, batch, hooks)
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

func (w *world) routeBatch(ctx context.Context, batch []*stream.Msg, hooks []*postriderv1.Webhook) {
	rand.Shuffle(len(batch), func(i, j int) { batch[i], batch[j] = batch[j], batch[i] })
	for _, m := range batch {
		ev, err := eventstream.Decode(m)
		if err != nil {
			panic(err)
		}
		var stored sync.WaitGroup
		for _, hook := range hooks {
			d := deliverystream.Of(ev, m.Sequence(), postrider.WebhookID(hook.GetId()), "")
			d.Data, d.RouteTime = ev.GetData(), timestamppb.Now()
			stored.Add(1)
			if err := w.deliveries.Publish(ctx, d, func(error) { stored.Done() }); err != nil {
				stored.Done()
			}
		}
		stored.Wait()
	}
	rand.Shuffle(len(batch), func(i, j int) { batch[i], batch[j] = batch[j], batch[i] })
	for _, m := range batch {
		_ = m.Ack()
	}
}

// lineReceiver records what it has taken, in order, by key.
type lineReceiver struct {
	URL string

	mu     sync.Mutex
	answer func(body string, attempt int) int // nil: 200
	delay  time.Duration
	tries  map[string]int
	took   map[string][]string // what was taken for the first time, by key
	takes  map[string]int
	open   map[string]int
	twice  int // requests of one key at once
	more   chan struct{}
}

func newLineReceiver(t testing.TB) *lineReceiver {
	t.Helper()
	r := &lineReceiver{
		tries: map[string]int{}, took: map[string][]string{}, takes: map[string]int{}, open: map[string]int{}, more: make(chan struct{}),
	}
	server := httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(server.Close)
	r.URL = server.URL
	return r
}

func (r *lineReceiver) serve(rw http.ResponseWriter, req *http.Request) {
	data, _ := io.ReadAll(req.Body)
	body := string(data)
	key, _, _ := strings.Cut(body, "/")
	r.mu.Lock()
	r.open[key]++
	if r.open[key] > 1 {
		r.twice++
	}
	r.tries[body]++
	status, delay := http.StatusOK, r.delay
	if r.answer != nil {
		status = r.answer(body, r.tries[body])
	}
	r.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-req.Context().Done():
		}
	}
	r.mu.Lock()
	r.open[key]--
	if status == http.StatusOK {
		r.takes[body]++
		if r.takes[body] == 1 {
			r.took[key] = append(r.took[key], body)
		}
	}
	close(r.more)
	r.more = make(chan struct{})
	r.mu.Unlock()
	rw.WriteHeader(status)
}

func (r *lineReceiver) set(change func(*lineReceiver)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r)
}

// await waits until so many were taken of all keys.
func (r *lineReceiver) await(t testing.TB, n int) {
	t.Helper()
	r.until(t, fmt.Sprintf("%d deliveries", n), func() bool {
		got := 0
		for _, list := range r.took {
			got += len(list)
		}
		return got >= n
	})
}

func (r *lineReceiver) until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(2 * patience)
	defer deadline.Stop()
	for {
		r.mu.Lock()
		met, more := ok(), r.more
		got := map[string]int{}
		for key, list := range r.took {
			got[key] = len(list)
		}
		r.mu.Unlock()
		if met {
			return
		}
		select {
		case <-more:
		case <-deadline.C:
			t.Fatalf("no %s; taken: %v", what, got)
		}
	}
}

// inOrder holds what was taken to its order, by key, and says how many requests of one key were out at once.
func (r *lineReceiver) inOrder(t testing.TB) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, list := range r.took {
		for i := 1; i < len(list); i++ {
			require.Less(t, list[i-1], list[i], "in the line %q", key)
		}
	}
	require.Zero(t, r.twice, "two of one line at once")
}

const tick = 10 * time.Millisecond

// retrying gives a webhook so many attempts, a fifth of a second apart.
func retrying(attempts int) func(*postriderv1.Webhook) {
	delays := make([]time.Duration, min(attempts-1, 24))
	for i := range delays {
		delays[i] = 200 * time.Millisecond
	}
	return func(h *postriderv1.Webhook) { h.RetrySchedule = schedule(delays...) }
}

// scheduleRequest has a record stored and released when it is due, as one that a predecessor has left.
func scheduleRequest(r *recordv1.Retry) *schedulerv1.ScheduleRetryRequest {
	return &schedulerv1.ScheduleRetryRequest{Retries: []*recordv1.Retry{r}}
}

// bodyOf is the body of an event without a key.
func bodyOf(i int) string { return fmt.Sprintf("/%06d", i) }
