//go:build chaos

package chaos

import (
	"context"
	"encoding/json"
	"hash/maphash"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/test/fixture/receivertest"
)

// mood is how a webhook's receiver answers: the status for a delivery's n-th request, and how long
// it takes. It is called under the ledger's lock.
type mood struct {
	status func(event string, requests int, now time.Time) int
	delay  time.Duration
	// misbehave answers instead, if it is there, once turned is set. The request counts as taken if
	// it takes what it misuses.
	misbehave receivertest.Answer
	takes     bool
	turned    *atomic.Bool
}

// fine takes everything at once.
func fine() mood {
	return mood{status: func(string, int, time.Time) int { return http.StatusOK }}
}

// after answers the same a while later.
func (m mood) after(delay time.Duration) mood {
	m.delay = delay
	return m
}

// flaky refuses a share of the requests, chosen by the event and the number of the request.
func flaky(share float64) mood {
	seed := maphash.MakeSeed()
	const buckets = 1 << 20
	limit := uint64(share * buckets)
	return mood{status: func(event string, requests int, _ time.Time) int {
		if maphash.Comparable(seed, pairOfStrings{event, strconv.Itoa(requests)})%buckets < limit {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	}}
}

type pairOfStrings struct{ a, b string }

// outages refuses everything for a while, again and again.
func outages(begin time.Time, every, length time.Duration) mood {
	return mood{status: func(_ string, _ int, now time.Time) int {
		if now.Sub(begin)%every < length {
			return http.StatusBadGateway
		}
		return http.StatusOK
	}}
}

// stubborn refuses the first request of each delivery.
func stubborn() mood {
	return mood{status: func(_ string, requests int, _ time.Time) int {
		if requests == 1 {
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	}}
}

// receiver is the HTTP server behind every webhook of a drill; the path names the webhook. It
// enters every request in the ledger before it answers.
type receiver struct {
	ledger *ledger
	moods  []mood
	server *httptest.Server
	ending context.Context //nolint:containedctx // it ends with the server
}

func startReceiver(t *testing.T, l *ledger, moods []mood) *receiver {
	t.Helper()
	ending, end := context.WithCancel(context.Background())
	r := &receiver{ledger: l, moods: moods, ending: ending}
	r.server = httptest.NewUnstartedServer(r)
	r.server.Config.ErrorLog = log.New(io.Discard, "", 0) // senders are killed, which is the point
	r.server.Start()
	t.Cleanup(func() {
		end()
		r.server.CloseClientConnections()
		r.server.Close()
	})
	return r
}

// apart is the URL of a webhook at a server of its own, whose bad manners on a connection are not
// taken for those of others.
func (r *receiver) apart(t *testing.T, hook int) string {
	t.Helper()
	server := httptest.NewUnstartedServer(r)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	return server.URL + "/" + strconv.Itoa(hook)
}

func (r *receiver) url(hook int) string { return r.server.URL + "/" + strconv.Itoa(hook) }

// ServeHTTP takes a delivery.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the sender went away in the middle: there was no request
	}
	hook, err := strconv.Atoi(strings.TrimPrefix(req.URL.Path, "/"))
	if err != nil || hook >= len(r.moods) {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	m := r.moods[hook]
	if m.delay > 0 && !r.wait(req, m.delay) {
		return
	}
	p, now := pair{hook, req.Header.Get("Webhook-Id")}, time.Now()
	var content struct {
		Number int `json:"number"`
	}
	if json.Unmarshal(body, &content) != nil {
		content.Number = -1
	}
	r.ledger.body(p, content.Number, body)
	if m.misbehave != nil && m.turned.Load() {
		if m.takes {
			r.ledger.request(p, now, func(int) int { return http.StatusOK })
		}
		ctx, cancel := context.WithCancel(req.Context())
		defer cancel()
		defer context.AfterFunc(r.ending, cancel)() //nolint:contextcheck // the receiver's end is another reason to stop
		m.misbehave(&receivertest.Exchange{Writer: w, Context: ctx})
		return
	}
	w.WriteHeader(r.ledger.request(p, now, func(requests int) int { return m.status(p.event, requests, now) }))
}

func (r *receiver) wait(req *http.Request, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-req.Context().Done():
		return false
	case <-r.ending.Done():
		return false
	}
}
