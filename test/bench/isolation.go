package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

const (
	groupIsolation = "isolation"
	groupFlood     = "flood"
	groupHanging   = "hanging"
)

// pace of the deliveries that are measured.
const pace = 10 * time.Millisecond

// hangFor is how long each turn with hanging webhooks takes at least, where that is not cut short: as
// long as an attempt may hang, and the slots of those webhooks with it.
const hangFor = 20 * time.Second

// turns are the latencies of what is measured, in turn alone and beside a disturbance.
type turns struct {
	alone, beside struct{ p50, p99 []float64 } // milliseconds
}

// rows are the figures of both; the ratio is of the medians.
func (t *turns) rows(name string, most float64) []Row {
	ratio := figure(groupIsolation, name+": p99 against alone", unitTimes)
	if alone := fairMiddle(t.alone.p99); alone > 0 {
		for i := range t.beside.p99 {
			ratio.Runs = append(ratio.Runs, t.beside.p99[i]/t.alone.p99[i])
		}
		ratio.Measured = fairMiddle(t.beside.p99) / alone
	}
	return []Row{
		figure(groupIsolation, name+": alone p50", unitMillis, t.alone.p50...),
		figure(groupIsolation, name+": alone p99", unitMillis, t.alone.p99...),
		figure(groupIsolation, name+": beside it p50", unitMillis, t.beside.p50...),
		figure(groupIsolation, name+": beside it p99", unitMillis, t.beside.p99...),
		ratio.atMost(most).noting("ratio of the medians of turns that alternate"),
	}
}

// flood measures an account that publishes a hundred events a second, in turn alone and while another
// one publishes as fast as it can.
func (b *bench) flood(ctx context.Context) (rows []Row, err error) {
	err = b.system(ctx, groupFlood, func(s *system) error {
		quiet, err := s.tenant(ctx, b.receiver.url, 16, 1)
		if err != nil {
			return err
		}
		defer quiet.close() //nolint:errcheck // nothing is under way any more
		flooder, err := s.tenant(ctx, b.receiver.url, 16, 1)
		if err != nil {
			return err
		}
		defer flooder.close() //nolint:errcheck // nothing is under way any more
		if _, err := quiet.openLoop(ctx, pace, 2*time.Second); err != nil {
			return err
		}
		var t turns
		accepted := 0
		for n := range b.opts.Repetitions {
			out, err := quiet.openLoop(ctx, pace, b.opts.Load)
			if err != nil {
				return err
			}
			if err := b.turn(ctx, out, &t.alone.p50, &t.alone.p99); err != nil {
				return err
			}
			more, err := b.flooded(ctx, quiet, flooder, &t)
			if err != nil {
				return err
			}
			accepted += more
			b.say("%-20s %d/%d  p99 alone %.1f ms, beside a flood of %d events %.1f ms", groupFlood, n+1, b.opts.Repetitions,
				t.alone.p99[n], more, t.beside.p99[n])
		}
		rows = t.rows("another account floods", 2)
		last := &rows[len(rows)-1]
		last.Note = fmt.Sprintf("%s; turns of %s; the flood was %d events", last.Note, b.opts.Load, accepted)
		return nil
	})
	return rows, err
}

// flooded is one turn beside the flood, which begins before what is measured. Everything that was
// accepted arrives before the next turn.
func (b *bench) flooded(ctx context.Context, quiet, flooder *producer, t *turns) (accepted int, err error) {
	const before = 3 * time.Second
	var flooding sync.WaitGroup
	var flood *published
	var floodErr error
	flooding.Go(func() {
		flood, floodErr = flooder.load(ctx, Load{Method: batched, Producers: 16, Size: 50}, b.opts.Load+before)
	})
	early, err := quiet.openLoop(ctx, pace, before)
	var with *published
	if err == nil {
		with, err = quiet.openLoop(ctx, pace, b.opts.Load)
	}
	flooding.Wait()
	if err := errors.Join(err, floodErr); err != nil {
		return 0, err
	}
	if _, _, err := b.lag(ctx, early); err != nil {
		return 0, err
	}
	if err := b.turn(ctx, with, &t.beside.p50, &t.beside.p99); err != nil {
		return 0, err
	}
	_, _, err = b.lag(ctx, flood)
	return len(flood.events), errors.Join(err, b.receiver.reset(ctx))
}

// turn waits until everything arrived and adds the percentiles.
func (b *bench) turn(ctx context.Context, out *published, p50, p99 *[]float64) error {
	median, high, err := b.lag(ctx, out)
	*p50, *p99 = append(*p50, ms(median)), append(*p99, ms(high))
	return err
}

func (b *bench) hanging(ctx context.Context) ([]Row, error) {
	each := max(b.opts.Load, hangFor)
	if b.opts.Repetitions == 1 {
		each = b.opts.Load // a short run
	}
	return b.hang(ctx, groupHanging, b.opts.Repetitions, each, each)
}

// hang measures eighteen webhooks of an account beside two that answer like them, and in turn beside the
// same two while they take requests and never answer. A tenth of all events is for the two, in both. Each
// turn is as long as is said.
func (b *bench) hang(ctx context.Context, name string, repetitions int, alone, beside time.Duration) (rows []Row, err error) {
	err = b.system(ctx, name, func(s *system) error {
		stuck, err := newBlackHole(ctx)
		if err != nil {
			return err
		}
		defer stuck.close()
		const webhooks, healthy = 20, 18
		p, err := s.tenantAt(ctx, webhooks, 1, func(n int) string {
			if n >= healthy {
				return stuck.url + hookPath + strconv.Itoa(n)
			}
			return b.receiver.url + hookPath + strconv.Itoa(n)
		})
		if err != nil {
			return err
		}
		defer p.close() //nolint:errcheck // nothing is under way any more
		types := p.types
		hung, err := newProducer(s.ingest, p.key, types[healthy:])
		if err != nil {
			return err
		}
		defer hung.close() //nolint:errcheck // nothing is under way any more
		p.types = types[:healthy]
		if _, err := p.openLoop(ctx, pace, 2*time.Second); err != nil {
			return err
		}
		turn := func(each time.Duration, p50, p99 *[]float64) error {
			var hanging sync.WaitGroup
			var hungErr error
			hanging.Go(func() { _, hungErr = hung.openLoop(ctx, 9*pace, each) })
			out, err := p.openLoop(ctx, pace, each)
			hanging.Wait()
			if err := errors.Join(err, hungErr); err != nil {
				return err
			}
			return b.turn(ctx, out, p50, p99)
		}
		var t turns
		for n := range repetitions {
			if err := turn(alone, &t.alone.p50, &t.alone.p99); err != nil {
				return err
			}
			stuck.hang(true)
			err := turn(beside, &t.beside.p50, &t.beside.p99)
			stuck.hang(false)
			if err := errors.Join(err, b.receiver.reset(ctx)); err != nil {
				return err
			}
			b.say("%-20s %d/%d  p99 without %.1f ms, with a tenth hanging %.1f ms", name, n+1, repetitions, t.alone.p99[n], t.beside.p99[n])
		}
		rows = t.rows("a tenth of the webhooks hangs", 1.2)
		last := &rows[len(rows)-1]
		last.Note = fmt.Sprintf("%s; turns of %s and %s", last.Note, alone, beside)
		return nil
	})
	return rows, err
}

// lag waits until all events have arrived and gives the median and the 99th percentile of the time
// from their acknowledgement to their arrival.
func (b *bench) lag(ctx context.Context, out *published) (p50, p99 time.Duration, err error) {
	acked := make(map[ulid.ULID]int64, len(out.events))
	for _, e := range out.events {
		acked[e.event] = e.acked
	}
	for last, since := 0, time.Now(); ; {
		arrivals, err := b.receiver.arrivals(ctx)
		if err != nil {
			return 0, 0, err
		}
		first := make(map[ulid.ULID]time.Duration, len(acked))
		for _, a := range arrivals {
			at, ours := acked[a.event]
			if lag := time.Duration(a.at - at); ours && (first[a.event] == 0 || lag < first[a.event]) {
				first[a.event] = cmp.Or(lag, 1)
			}
		}
		if len(first) == len(acked) {
			lags := make([]time.Duration, 0, len(first))
			for _, d := range first {
				lags = append(lags, d)
			}
			return percentile(lags, 50), percentile(lags, 99), nil
		}
		if len(first) > last {
			last, since = len(first), time.Now()
		}
		if time.Since(since) > noProgress {
			return 0, 0, fmt.Errorf("%d of %d events arrived, and no more for %s", len(first), len(acked), noProgress)
		}
		select {
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// blackHole answers requests, or takes them and answers none until it no longer hangs.
type blackHole struct {
	url    string
	server *http.Server
	end    chan struct{}
	wg     sync.WaitGroup

	mu   sync.Mutex
	free chan struct{} // closed while it answers
}

func newBlackHole(ctx context.Context) (*blackHole, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	h := &blackHole{url: "http://" + l.Addr().String(), end: make(chan struct{}), free: make(chan struct{})}
	close(h.free)
	h.server = &http.Server{
		ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			h.mu.Lock()
			free := h.free
			h.mu.Unlock()
			select {
			case <-free:
			case <-r.Context().Done():
			case <-h.end:
			}
		}),
	}
	h.wg.Go(func() { _ = h.server.Serve(l) })
	return h, nil
}

// hang begins, or ends, that requests are not answered.
func (h *blackHole) hang(on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if on {
		h.free = make(chan struct{})
		return
	}
	close(h.free)
}

func (h *blackHole) close() {
	close(h.end)
	_ = h.server.Close()
	h.wg.Wait()
}
