package ingest_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/ingest"
	"github.com/postrider/postrider/services/ingest/internal/admission"
)

// route takes events at a pace until the test ends, and tells how long those of one account waited.
func (b *bench) route(t *testing.T, perSecond int, account postrider.AccountID) (waits func() []time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	consumer, err := b.events.Of(b.account).Router(ctx)
	require.NoError(t, err)
	const tick = 10 * time.Millisecond
	pace := time.NewTicker(tick)
	taken := 0
	var mu sync.Mutex
	var seen []time.Duration
	var done sync.WaitGroup
	done.Go(func() {
		if err := consumer.WithBatch(50).Consume(ctx, func(m *stream.Msg) {
			if taken++; taken%(perSecond/int(time.Second/tick)) == 0 {
				select {
				case <-pace.C:
				case <-ctx.Done():
				}
			}
			ev, err := eventstream.Decode(m)
			if err != nil {
				t.Error(err)
			}
			if ev.GetAccountId() == string(account) {
				mu.Lock()
				seen = append(seen, time.Since(ev.GetAcceptTime().AsTime()))
				mu.Unlock()
			}
			if err := m.Ack(); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}); err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		done.Wait()
		pace.Stop()
	})
	return func() []time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(seen)
	}
}

// flood publishes up to 2 000 events a second until over is closed, and counts what was refused. As fast
// as it can would be more in the first moment than the router gets rid of while the test runs.
func flood(t *testing.T, over <-chan struct{}, in *ingestOf, key string) (accepted, refused int) {
	t.Helper()
	pace := time.NewTicker(10 * time.Millisecond)
	defer pace.Stop()
	reqs := make([]*postriderv1.PublishEventRequest, 20)
	for i := range reqs {
		reqs[i] = requestOf("", strconv.Itoa(i))
	}
	for {
		select {
		case <-over:
			return accepted, refused
		case <-pace.C:
		}
		res, err := in.events.BatchPublishEvents(as(t.Context(), key), &postriderv1.BatchPublishEventsRequest{Requests: reqs})
		if err != nil {
			t.Error(err)
			return accepted, refused
		}
		for _, v := range res.GetVerdicts() {
			if v.GetReceipt() != nil {
				accepted++
				continue
			}
			refused++
			if v.GetError().GetReason() != admission.ReasonShare || v.GetError().GetRetryDelay().AsDuration() <= 0 {
				t.Errorf("refused with %v", v.GetError())
			}
		}
	}
}

// One account publishes many times what can be routed. It is refused what is over its share, and
// told when to come again; what another one publishes is accepted, all of it, and routed soon.
func TestAFloodOfOneAccountIsNotTheWaitOfAnother(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, floodKey := b.newAccount(t, postrider.ScopePublish)
	in := b.start(t, ingest.NewMemoryDedup(), func(c *ingest.Config) {
		c.Fair.Backlog, c.Fair.Every = 200, 50*time.Millisecond
	})
	waits := b.route(t, 400, b.account) // far less than anything can publish
	over := make(chan struct{})
	stop := sync.OnceFunc(func() { close(over) })
	var flooding sync.WaitGroup
	var accepted, refused int
	flooding.Go(func() { accepted, refused = flood(t, over, in, floodKey) })
	t.Cleanup(flooding.Wait)
	t.Cleanup(stop)

	ask := func(ev *postriderv1.PublishEventRequest) (e *fault.Error, ok bool) {
		_, err := in.events.PublishEvent(as(t.Context(), floodKey), ev)
		e, ok = fault.As(err)
		return e, ok
	}
	require.Eventually(t, func() bool { _, refused := ask(requestOf("", "1")); return refused }, soon, time.Millisecond)
	e, ok := ask(requestOf("", "1"))
	for ; !ok; e, ok = ask(requestOf("", "1")) {
		continue
	}
	require.Equal(t, fault.Exhausted, e.Kind)
	require.Equal(t, admission.ReasonShare, e.Reason)
	require.GreaterOrEqual(t, e.RetryAfter, 20*time.Millisecond)
	require.Eventually(t, func() bool {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/events", strings.NewReader(`{"type":"release.live","data":1}`))
		r.Header.Set("Authorization", "Bearer "+floodKey)
		w := httptest.NewRecorder()
		in.http.ServeHTTP(w, r)
		return w.Code == http.StatusTooManyRequests && w.Header().Get("Retry-After") != "" && strings.Contains(w.Body.String(), admission.ReasonShare)
	}, soon, time.Millisecond)

	const mine = 100
	pace := time.NewTicker(40 * time.Millisecond)
	defer pace.Stop()
	for i := range mine {
		<-pace.C
		b.publish(t, in, "mine-"+strconv.Itoa(i), strconv.Itoa(i)) // It must succeed.
	}
	require.Eventually(t, func() bool { return len(waits()) == mine }, soon, time.Millisecond)
	stop()
	flooding.Wait()
	require.Positive(t, refused)
	all := waits()
	slices.Sort(all)
	t.Logf("flood: %d accepted, %d refused; waits of the other: median %s, longest %s", accepted, refused, all[mine/2], all[mine-1])
	// Without shares they would wait behind all that the flood could have published.
	require.Less(t, all[mine/2], 5*time.Second)
}
