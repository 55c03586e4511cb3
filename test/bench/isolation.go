package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/oklog/ulid/v2"
)

// IsolationRow compares the latency of some deliveries alone with that beside a disturbance.
type IsolationRow struct {
	Name                 string
	AloneP50, AloneP99   time.Duration
	BesideP50, BesideP99 time.Duration
	// Accepted and Refused are of the flood.
	Accepted int
	// Took is how long was measured, of each.
	Took time.Duration
}

// Isolation measures what the flood of one account costs another, and what webhooks that hang cost
// the others of their account. Each on a system of its own, as separate processes.
func Isolation(ctx context.Context, opts Options) (_ []IsolationRow, err error) {
	tune()
	if opts.Dir == "" {
		if opts.Dir, err = os.MkdirTemp("", "postrider-bench"); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(opts.Dir)) }()
	}
	receiver, err := startReceiver(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, receiver.stop()) }()
	b := &bench{opts: opts, receiver: receiver, began: time.Now()}
	var rows []IsolationRow
	for name, row := range map[string]func(context.Context, *system) (*IsolationRow, error){
		"flood": b.beside, "hanging": b.hanging,
	} {
		if len(opts.Only) > 0 && opts.Only[0] != name {
			continue
		}
		r, err := b.isolated(ctx, name, row)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		rows = append(rows, *r)
	}
	return rows, nil
}

func (b *bench) isolated(ctx context.Context, name string, row func(context.Context, *system) (*IsolationRow, error)) (_ *IsolationRow, err error) {
	s, err := start(ctx, separate, &b.opts, filepath.Join(b.opts.Dir, name))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := b.receiver.reset(ctx); err != nil {
		return nil, err
	}
	return row(ctx, s)
}

// pace of the deliveries that are measured.
const pace = 10 * time.Millisecond

// beside measures an account that publishes a hundred events a second, alone and while another one
// publishes as fast as it can.
func (b *bench) beside(ctx context.Context, s *system) (*IsolationRow, error) {
	quiet, err := s.tenant(ctx, b.receiver.url, 16, 1)
	if err != nil {
		return nil, err
	}
	defer quiet.close() //nolint:errcheck // nothing is under way any more
	flooder, err := s.tenant(ctx, b.receiver.url, 16, 1)
	if err != nil {
		return nil, err
	}
	defer flooder.close() //nolint:errcheck // nothing is under way any more
	if _, err := quiet.openLoop(ctx, pace, 2*time.Second); err != nil {
		return nil, err
	}
	row := &IsolationRow{Name: "one account flooding", Took: b.opts.Load}
	alone, err := quiet.openLoop(ctx, pace, b.opts.Load)
	if err != nil {
		return nil, err
	}
	if row.AloneP50, row.AloneP99, err = b.lag(ctx, alone); err != nil {
		return nil, err
	}
	var flooding sync.WaitGroup
	var flood *published
	var floodErr error
	const before = 3 * time.Second // the flood begins before what is measured
	flooding.Go(func() {
		flood, floodErr = flooder.load(ctx, Load{Method: batched, Producers: 16, Size: 50}, b.opts.Load+before)
	})
	early, err := quiet.openLoop(ctx, pace, before)
	if err != nil {
		return nil, err
	}
	with, err := quiet.openLoop(ctx, pace, b.opts.Load)
	flooding.Wait()
	if err := errors.Join(err, floodErr); err != nil {
		return nil, err
	}
	row.Accepted = len(flood.events)
	if _, _, err := b.lag(ctx, early); err != nil {
		return nil, err
	}
	if row.BesideP50, row.BesideP99, err = b.lag(ctx, with); err != nil {
		return nil, err
	}
	_, _, err = b.lag(ctx, flood) // Everything that was accepted arrives.
	return row, err
}

// hanging measures eighteen webhooks of an account alone and beside two that take requests and
// never answer, at a tenth of the events.
func (b *bench) hanging(ctx context.Context, s *system) (*IsolationRow, error) {
	stuck, err := newBlackHole(ctx)
	if err != nil {
		return nil, err
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
		return nil, err
	}
	defer p.close() //nolint:errcheck // nothing is under way any more
	types := p.types
	hung, err := newProducer(s.ingest, p.key, types[healthy:])
	if err != nil {
		return nil, err
	}
	defer hung.close() //nolint:errcheck // nothing is under way any more
	p.types = types[:healthy]
	if _, err := p.openLoop(ctx, pace, 2*time.Second); err != nil {
		return nil, err
	}
	row := &IsolationRow{Name: "a tenth of the webhooks hanging", Took: b.opts.Load}
	alone, err := p.openLoop(ctx, pace, b.opts.Load)
	if err != nil {
		return nil, err
	}
	if row.AloneP50, row.AloneP99, err = b.lag(ctx, alone); err != nil {
		return nil, err
	}
	var hanging sync.WaitGroup
	var hungErr error
	hanging.Go(func() { _, hungErr = hung.openLoop(ctx, 9*pace, b.opts.Load) })
	with, err := p.openLoop(ctx, pace, b.opts.Load)
	hanging.Wait()
	if err := errors.Join(err, hungErr); err != nil {
		return nil, err
	}
	row.BesideP50, row.BesideP99, err = b.lag(ctx, with)
	return row, err
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

// IsolationTable writes the rows for people.
func IsolationTable(w io.Writer, rows []IsolationRow) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(t, "disturbance\tfor\talone p50 ms\tp99 ms\tbeside it p50 ms\tp99 ms\tp99 ratio\tflood accepted\t")
	for _, r := range rows {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%.2f\t%d\t\n", r.Name, r.Took, millis(r.AloneP50), millis(r.AloneP99),
			millis(r.BesideP50), millis(r.BesideP99), float64(r.BesideP99)/float64(r.AloneP99), r.Accepted)
	}
	return t.Flush()
}

// blackHole takes requests and answers none.
type blackHole struct {
	url    string
	server *http.Server
	end    chan struct{}
	wg     sync.WaitGroup
}

func newBlackHole(ctx context.Context) (*blackHole, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	h := &blackHole{url: "http://" + l.Addr().String(), end: make(chan struct{})}
	h.server = &http.Server{
		ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-h.end:
			}
		}),
	}
	h.wg.Go(func() { _ = h.server.Serve(l) })
	return h, nil
}

func (h *blackHole) close() {
	close(h.end)
	_ = h.server.Close()
	h.wg.Wait()
}
