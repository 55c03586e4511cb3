//go:build chaos

package chaos

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/fixture/receivertest"
)

func TestReceiversThatMisbehave(t *testing.T) {
	t.Parallel()
	receiversDrill(t, 250, 50)
}

func TestShortReceiversThatMisbehave(t *testing.T) {
	t.Parallel()
	receiversDrill(t, 60, 20)
}

// Of that drill.
const (
	typeMixed = "mixed.run"
	typeSlow  = "mixed.slow" // one event in twenty: the only ones for receivers that hang
	// hangs is how long an attempt at a receiver that hangs may take. A healthy delivery that waited
	// for one took that long.
	hangs = 4 * time.Second
)

// badness is a way to misbehave, and how a delivery ends that meets nothing else.
type badness struct {
	name   string
	answer receivertest.Answer
	takes  bool // the status stands: the delivery is delivered
	// Of the last attempt of the dead.
	class  string
	status int32
}

// badnesses are the ways of which DESIGN.md speaks; inside is what must not be reached.
func badnesses(inside string) []badness {
	return []badness{
		{name: "hangs", answer: receivertest.Hang(nil), class: "timeout"},
		{name: "drips its header", answer: dripHeader, class: "timeout"},
		{name: "drips its body", answer: receivertest.Drip(100*time.Millisecond, -1), takes: true},
		{name: "resets", answer: receivertest.Reset(), class: "reset"},
		{name: "sends a gigabyte", answer: receivertest.Huge(http.StatusOK, 1<<30), takes: true},
		{name: "sends less than its Content-Length", answer: receivertest.Short(1000, "less"), takes: true},
		{
			name:   "sends more than its Content-Length",
			answer: receivertest.Raw("HTTP/1.1 503 Sorry\r\nContent-Length: 4\r\n\r\nmore and more"), class: "http_status", status: http.StatusServiceUnavailable,
		},
		{name: "redirects inwards", answer: receivertest.Redirect(http.StatusTemporaryRedirect, inside), class: "redirect", status: http.StatusTemporaryRedirect},
	}
}

// dripHeader sends a header that never ends, a byte at a time.
func dripHeader(e *receivertest.Exchange) {
	conn, _, err := http.NewResponseController(e.Writer).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	for text := "HTTP/1.1 200 OK\r\nX-Drip: "; ; text = "." {
		if _, err := conn.Write([]byte(text)); err != nil || !pause(e.Context, 100*time.Millisecond) {
			return
		}
	}
}

// receiversDrill has half of the webhooks' receivers turn bad in the midst of a load that all of
// them want, with the breakers out of the way, which would spare the dispatchers most of it.
func receiversDrill(t *testing.T, events, batch int) {
	t.Helper()
	d := roll(t)
	c := startCluster(t, map[string]string{
		"POSTRIDER_DISPATCHER_BREAKER_FAILURES": patientBreaker, "POSTRIDER_DISPATCHER_EGRESS_BODY_TIMEOUT": "500ms",
	})
	var reached atomic.Int64
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	t.Cleanup(inside.Close)
	var turned atomic.Bool
	bad := badnesses(inside.URL)
	hooks := make([]hookPlan, 0, 2*len(bad))
	once := schedule(time.Second, 0)
	once.Delays = []*durationpb.Duration{durationpb.New(time.Second)}
	for i := range 2 * len(bad) { // healthy ones first
		m := fine()
		if i >= len(bad) {
			b := bad[i-len(bad)]
			m.misbehave, m.takes, m.turned = b.answer, b.takes, &turned
		}
		hook := hookPlan{patterns: []string{"mixed.*"}, wants: []string{typeMixed, typeSlow}, mood: m}
		if i >= len(bad) {
			hook.schedule = once
			if bad[i-len(bad)].class == "timeout" {
				hook.timeout, hook.patterns, hook.wants = hangs, []string{typeSlow}, []string{typeSlow} // an attempt at a time is all that they get
			}
		}
		hooks = append(hooks, hook)
	}
	w := newWorld(t, c, 1, hooks, func(n int) eventPlan {
		if n%20 == 0 {
			return eventPlan{eventType: typeSlow}
		}
		return eventPlan{eventType: typeMixed}
	})
	s := watchStreams(t, c)
	p := &producer{w: w, batch: batch}
	r := &row{Fault: "receivers hang, drip, reset, flood, lie, redirect inwards"}

	require.NoError(t, p.publish(t.Context(), 0, events))
	await(t, 2*time.Minute, 10*time.Millisecond, func() string { return "not everything arrived before anything was bad" },
		func() bool { return w.ledger.inFlight() == 0 })
	published := make(chan error, 1)
	go func() { published <- p.publish(t.Context(), events, 2*events) }()
	instant := events + 1 + d.IntN(events/4)
	await(t, time.Minute, time.Millisecond, func() string { return "too little is accepted" }, func() bool {
		return w.ledger.acceptedCount() >= instant && w.ledger.inFlight() > 0
	})
	r.strike(t, w, fmt.Sprintf("%d of %d receivers turn bad", len(bad), len(hooks)))
	turned.Store(true)
	require.NoError(t, <-published)

	var left uint64
	await(t, 10*time.Minute, 250*time.Millisecond, func() string { return fmt.Sprintf("%d messages are unfinished", left) }, func() bool {
		var err error
		left, err = s.unfinished(t.Context())
		return err == nil && left == 0
	})
	healthy := func(from, to int) []time.Duration {
		took := w.ledger.took(func(p pair) bool {
			n := w.ledger.numbers[p.event]
			return p.hook < len(bad) && from <= n && n < to
		})
		require.Len(t, took, events*len(bad), "every healthy delivery arrived")
		return took
	}
	before, beside := healthy(0, events), healthy(events, 2*events)
	t.Logf("deliveries to healthy webhooks took, before: %s; beside bad ones: %s", spread(before), spread(beside))
	p99 := func(sorted []time.Duration) time.Duration { return sorted[len(sorted)*99/100] }
	require.Less(t, p99(beside), 3*p99(before)+hangs, "healthy deliveries waited for bad ones")
	r.Recovery = beside[len(beside)-1]
	require.Zero(t, reached.Load(), "a redirect was followed")
	judgeBad(t, w, bad)
	report(t, w, r)
	require.Positive(t, r.Dead)
}

// judgeBad holds what the API says of the deliveries to bad receivers to what happened there.
func judgeBad(t *testing.T, w *world, bad []badness) {
	t.Helper()
	expected := w.ledger.total().expected
	ends := map[pair]*postriderv1.Delivery{}
	await(t, 2*time.Minute, time.Second, func() string { return fmt.Sprintf("the log has %d of %d ends", len(ends), expected) }, func() bool {
		clear(ends)
		require.NoError(t, w.logged(t.Context(), 0, postriderv1.DeliveryState_DELIVERY_STATE_UNSPECIFIED, func(d *postriderv1.Delivery) {
			if d.GetState() == delivered || d.GetState() == dead {
				ends[w.pairOf(d)] = d
			}
		}))
		return len(ends) == expected
	})
	died := make([]int, len(bad))
	for p, end := range ends {
		arrived, _ := w.ledger.arrival(p)
		require.Equal(t, !arrived.IsZero(), end.GetState() == delivered, "%v: it arrived %v, and the log says %v", p, arrived, end)
		if end.GetState() != dead {
			continue
		}
		b := bad[p.hook-len(bad)]
		require.False(t, b.takes, "%s: %v", b.name, end)
		if died[p.hook-len(bad)]++; died[p.hook-len(bad)] <= 5 {
			list, err := w.logs[0].ListAttempts(w.accounts[0].as(t.Context()), &postriderv1.ListAttemptsRequest{DeliveryId: end.GetId()})
			require.NoError(t, err)
			require.Len(t, list.GetAttempts(), 2, "%s: the schedule has one retry", b.name)
			last := list.GetAttempts()[1]
			require.Equal(t, "retryable", last.GetOutcome(), b.name)
			// What was sent beyond a Content-Length may be read as the start of the next answer.
			if b.class != "http_status" || last.GetErrorClass() != "protocol" {
				require.Equal(t, b.class, last.GetErrorClass(), b.name)
				require.Equal(t, b.status, last.GetStatusCode(), b.name)
			}
		}
	}
	for i, b := range bad {
		t.Logf("a receiver that %s: %d deliveries are dead", b.name, died[i])
		require.Equal(t, b.takes, died[i] == 0, b.name)
	}
}
