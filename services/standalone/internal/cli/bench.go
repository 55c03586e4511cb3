package cli

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/pkg/service"
	"github.com/postrider/postrider/services/standalone/internal/bench"
)

func (p *program) benchCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "bench",
		Short: "Measure a deployment: a load of events, a receiver that behaves as told",
	}, p.benchLoadCommand(), p.benchReceiverCommand())
}

const benchReceiverLong = `Answer webhooks as told, count them, and print the sum when it is interrupted.

The flags say how requests are treated; with --fail-share only that share of them is, and the
others are answered with 200 at once. The query of a URL overrides the flags for its requests, so
that one receiver plays several:

  /hook?status=500&share=0.1   a tenth fails
  /slow?delay=1s-5s            each answer takes 1 s to 5 s
  /busy?status=429&retry_after=30s
  /dead?hang=true              no answer ever`

// place is where a receiver listens.
type place struct {
	host string
	port uint16
}

func (p *program) benchReceiverCommand() *cobra.Command {
	var at place
	var delay string
	b := bench.Plain()
	c := &cobra.Command{
		Use:   "receiver",
		Short: "Answer webhooks as told, and count them",
		Long:  benchReceiverLong,
		Example: `  postrider bench receiver --port 8000
  postrider bench receiver --port 8000 --status 503 --fail-share 0.1 --retry-after 5s
  postrider bench receiver --host 0.0.0.0 --port 8000 --delay 100ms-2s -o json`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&at.host, "host", "127.0.0.1", "address to listen on")
	f.Uint16Var(&at.port, "port", 0, "port to listen on; default: a free one")
	f.IntVar(&b.Status, "status", 0, "status to answer with; default: 200, or 500 with --fail-share")
	f.StringVar(&delay, "delay", "0s", "wait before each answer, such as 250ms, or 100ms-2s for one between")
	f.Float64Var(&b.Share, "fail-share", 1, "share of the requests, 0 to 1, that are treated so; the others get 200 at once")
	f.DurationVar(&b.RetryAfter, "retry-after", 0, "Retry-After header of those answers; 0: none")
	f.BoolVar(&b.Hang, "hang", false, "give no answer at all")
	c.RunE = p.local(func(ctx context.Context, _ []string) (err error) {
		if b.LeastDelay, b.MostDelay, err = bench.ParseDelay(delay); err != nil {
			return usage(err)
		}
		if err := b.Check(); err != nil {
			return usage(err)
		}
		r := bench.NewReceiver(b, nil)
		err = p.benchServe(ctx, at, r, func(ctx context.Context, _ string) error {
			<-ctx.Done()
			return nil
		})
		return errors.Join(err, p.showReceived(r.Received()))
	})
	return c
}

// hangTimeout is how long answers may still take in the end. What hangs is cut off then.
const hangTimeout = time.Second

// benchServe serves a receiver while the work goes on, which is given its URL.
func (p *program) benchServe(ctx context.Context, at place, r *bench.Receiver, work func(ctx context.Context, url string) error) (err error) {
	server := service.HTTP("bench", net.JoinHostPort(at.host, strconv.Itoa(int(at.port))), r)
	if err := server.Start(ctx); err != nil {
		return err
	}
	defer func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), hangTimeout)
		defer cancel()
		if e := server.Stop(stop); e != nil && !errors.Is(e, context.DeadlineExceeded) { // what hangs is cut off
			err = errors.Join(err, e)
		}
	}()
	url := "http://" + server.Addr().String() + "/"
	p.note("receiving on %s", url)
	working, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- work(working, url) }()
	select {
	case err := <-done:
		return err
	case err := <-server.Failed():
		cancel()
		return errors.Join(err, <-done)
	}
}

func (p *program) showReceived(r *bench.Received) error {
	if p.globals.output == outputJSON {
		return p.showStruct(r)
	}
	return p.showTable(func(t *table) {
		t.field("requests", strconv.FormatInt(r.Requests, 10))
		t.field("requests/s", rate(r.PerSecond))
		t.field("bytes", size(r.Bytes))
		t.field("most at once", strconv.FormatInt(r.AtOnce, 10))
		if len(r.Answers) == 0 {
			return
		}
		t.line("")
		t.row("PATH", "ANSWERED", "COUNT")
		for _, a := range r.Answers {
			status := "nothing"
			if a.Status > 0 {
				status = strconv.Itoa(a.Status)
			}
			t.row(a.Path, status, strconv.FormatInt(a.Count, 10))
		}
	})
}

// showStruct prints what is no message as JSON over several lines.
func (p *program) showStruct(v any) error {
	e := json.NewEncoder(p.Out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// rate is a number of things a second for people.
func rate(n float64) string { return strconv.FormatFloat(n, 'f', 1, 64) }
