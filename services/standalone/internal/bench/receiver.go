package bench

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Behaviour is how a receiver answers.
type Behaviour struct {
	// Status of the answer, 200 to 599. 0: 200, or 500 if only a share is treated so.
	Status int
	// LeastDelay and MostDelay bound the wait before the answer, which is drawn evenly between them.
	LeastDelay, MostDelay time.Duration
	// Share of the requests, 0 to 1, that are treated so. The others are answered with 200 at once.
	Share float64
	// RetryAfter goes into a Retry-After header, in whole seconds; 0: there is none.
	RetryAfter time.Duration
	// Hang gives no answer: the request ends when the other side gives up.
	Hang bool
}

// Plain is the behaviour of a receiver that answers every request with 200 at once.
func Plain() Behaviour { return Behaviour{Share: 1} }

// Check reports the first value that cannot be.
func (b Behaviour) Check() error {
	switch {
	case b.Status != 0 && (b.Status < 200 || b.Status > 599):
		return fmt.Errorf("%d is no status from 200 to 599", b.Status)
	case b.LeastDelay < 0 || b.MostDelay < b.LeastDelay:
		return fmt.Errorf("%s-%s is no range of delays", b.LeastDelay, b.MostDelay)
	case !(b.Share >= 0 && b.Share <= 1): // so that NaN is refused
		return fmt.Errorf("%v is no share from 0 to 1", b.Share)
	case b.RetryAfter < 0:
		return fmt.Errorf("%s is no time to wait", b.RetryAfter)
	}
	return nil
}

// ParseDelay reads a delay, 250ms, or a range of them, 100ms-2s.
func ParseDelay(text string) (least, most time.Duration, err error) {
	first, second, isRange := strings.Cut(text, "-")
	if least, err = time.ParseDuration(first); err != nil {
		return 0, 0, fmt.Errorf("%q is no delay such as 250ms or 100ms-2s", text)
	}
	if !isRange {
		return least, least, nil
	}
	if most, err = time.ParseDuration(second); err != nil {
		return 0, 0, fmt.Errorf("%q is no delay such as 250ms or 100ms-2s", text)
	}
	return least, most, nil
}

// with is the behaviour changed by a URL's query: status, delay, share, retry_after and hang.
func (b Behaviour) with(query url.Values) (_ Behaviour, err error) {
	for name, values := range query {
		value := values[len(values)-1]
		switch name {
		case "status":
			b.Status, err = strconv.Atoi(value)
		case "delay":
			b.LeastDelay, b.MostDelay, err = ParseDelay(value)
		case "share":
			b.Share, err = strconv.ParseFloat(value, 64)
		case "retry_after":
			b.RetryAfter, err = time.ParseDuration(value)
		case "hang":
			b.Hang, err = strconv.ParseBool(value)
		default:
			err = fmt.Errorf("there is no %q; there are status, delay, share, retry_after and hang", name)
		}
		if err != nil {
			return b, err
		}
	}
	return b, b.Check()
}

// draw decides about one request.
func (b Behaviour) draw() Behaviour {
	if rand.Float64() >= b.Share { //nolint:gosec // no secret depends on it
		return Behaviour{Status: http.StatusOK}
	}
	if b.Status == 0 {
		b.Status = http.StatusOK
		if b.Share < 1 {
			b.Status = http.StatusInternalServerError
		}
	}
	if span := b.MostDelay - b.LeastDelay; span > 0 {
		b.LeastDelay += rand.N(span) //nolint:gosec // as above
	}
	return b
}

// mostPaths bounds the paths that are counted apart; the others are counted together.
const mostPaths = 100

// otherPaths stands for them.
const otherPaths = "(others)"

// Receiver answers requests as it is told and counts them. The query of a request's URL overrides
// the behaviour for that request. It is safe for concurrent use.
type Receiver struct {
	behaviour Behaviour
	seen      func(body []byte, at time.Time) bool

	mu      sync.Mutex
	answers map[answer]int64
	paths   map[string]bool
	sum     Received
	now     int64
	first   time.Time
	last    time.Time
}

type answer struct {
	path   string
	status int // 0: none
}

// NewReceiver makes a receiver. seen, which may be nil, is given what will be answered with a 2xx,
// before it is; it keeps nothing of it.
func NewReceiver(b Behaviour, seen func(body []byte, at time.Time) bool) *Receiver {
	return &Receiver{behaviour: b, seen: seen, answers: map[answer]int64{}, paths: map[string]bool{}}
}

// ServeHTTP implements http.Handler.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	now := time.Now()
	r.begin(now)
	status, size := 0, int64(0)
	defer func() { r.end(q.URL.Path, status, size) }()
	b, err := r.behaviour.with(q.URL.Query())
	if err != nil {
		status = http.StatusBadRequest
		http.Error(w, err.Error(), status)
		return
	}
	b = b.draw()
	var body bytes.Buffer
	if r.seen != nil && b.Status < 300 && !b.Hang {
		size, err = body.ReadFrom(http.MaxBytesReader(w, q.Body, mostBody))
	} else {
		size, err = io.Copy(io.Discard, q.Body)
	}
	if err != nil {
		status = http.StatusBadRequest
		http.Error(w, "the body cannot be read", status)
		return
	}
	arrived := time.Now()
	if b.Hang {
		<-q.Context().Done()
		return
	}
	if !pause(q.Context(), b.LeastDelay) {
		return // nobody waits for an answer any more
	}
	if body.Len() > 0 {
		r.seen(body.Bytes(), arrived)
	}
	if b.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(b.RetryAfter.Round(time.Second).Seconds())))
	}
	status = b.Status
	w.WriteHeader(status)
}

// mostBody bounds a body that is looked at.
const mostBody = 24 << 20

func (r *Receiver) begin(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.first.IsZero() {
		r.first = now
	}
	r.last = now
	r.sum.Requests++
	r.now++
	r.sum.AtOnce = max(r.sum.AtOnce, r.now)
}

func (r *Receiver) end(path string, status int, size int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now--
	r.sum.Bytes += size
	if !r.paths[path] {
		if len(r.paths) < mostPaths {
			r.paths[path] = true
		} else {
			path = otherPaths
		}
	}
	r.answers[answer{path, status}]++
}

// Received is what a receiver counted.
type Received struct {
	Requests  int64    `json:"requests"`
	PerSecond float64  `json:"requests_per_second"` // from the first to the last
	Bytes     int64    `json:"bytes"`
	AtOnce    int64    `json:"most_at_once"`
	Answers   []Answer `json:"answers"` // by path and status
}

// Answer counts the requests for a path that were answered with a status.
type Answer struct {
	Path   string `json:"path"`
	Status int    `json:"status"` // 0: no answer, because it hung or nobody waited any more
	Count  int64  `json:"count"`
}

// Received is what was counted so far. Requests that are not answered yet have no answer among them.
func (r *Receiver) Received() *Received {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.sum
	out.PerSecond = perSecond(out.Requests, r.last.Sub(r.first).Seconds())
	out.Answers = make([]Answer, 0, len(r.answers))
	for a, n := range r.answers {
		out.Answers = append(out.Answers, Answer{a.path, a.status, n})
	}
	slices.SortFunc(out.Answers, func(a, b Answer) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Status, b.Status))
	})
	return &out
}
