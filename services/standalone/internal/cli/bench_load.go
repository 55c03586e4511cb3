package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/services/standalone/internal/bench"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

const benchLoadLong = `Publish events for a while and say how many were accepted and how long that took.

Without --rate each of the --producers publishes again when it was answered: a closed loop, which
shows the most that a deployment takes. With --rate events are due by the clock, however long
answers take, and latencies count from when they were due: an open loop, which shows what waiting
producers would see. What was due and could not be sent in time is "behind".

It publishes real events: every webhook that wants the type gets them. Nothing else is created
unless --create-webhook makes a webhook that points here and is deleted in the end, or --receive
listens for one that exists. Then it also says what arrived, how long after its receipt, and what
is missing. That counts one webhook; it has one shard, and by itself 64 attempts at once.

A query on --receiver-url makes the receiver slow or failing: see "postrider bench receiver".

Exit code 1 says that accepted events are missing, or that none was accepted. Refused events are not published again.`

// benchMethods are the ways to publish.
var benchMethods = []string{bench.Unary, bench.Batch, bench.Stream}

// loading are the flags of bench load.
type loading struct {
	load        bench.Load
	connections int
	at          place
	receive     bool
	create      bool
	url         string
	wait        time.Duration
}

func (p *program) benchLoadCommand() *cobra.Command {
	l := &loading{}
	c := &cobra.Command{
		Use:   "load",
		Short: "Publish events in open or closed loops, and measure",
		Long:  benchLoadLong,
		Example: `  postrider bench load --method batch --producers 16 --duration 1m
  postrider bench load --rate 500 --duration 5m --create-webhook
  postrider bench load --rate 100 --create-webhook --host 0.0.0.0 --port 8000 --receiver-url 'http://10.0.0.7:8000/?status=503&share=0.01' -o json`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&l.load.Type, "type", "bench.load", "type of the events")
	f.StringVar(&l.load.Method, "method", bench.Unary, "how events are published: "+strings.Join(benchMethods, ", "))
	f.Float64Var(&l.load.Rate, "rate", 0, "events that are due each second; 0: closed loops")
	f.IntVar(&l.load.Producers, "producers", 0, "calls or streams at once, which bounds an open loop too; default: 64 for unary, 8 for the others")
	f.IntVar(&l.load.Size, "batch", 50, "events in a batch, or without a receipt on a stream")
	f.IntVar(&l.load.Data, "size", 1024, fmt.Sprintf("bytes of an event's data, at least %d", bench.LeastData))
	f.DurationVar(&l.load.Duration, "duration", 10*time.Second, "how long events are published")
	f.IntVar(&l.connections, "connections", 4, "gRPC connections that the producers share")
	f.BoolVar(&l.receive, "receive", false, "listen for one webhook that exists and points here")
	f.BoolVar(&l.create, "create-webhook", false, "make a webhook that points here, and delete it in the end")
	f.StringVar(&l.url, "receiver-url", "", "with --create-webhook: the URL at which Postrider reaches this; default: that of the listener")
	f.StringVar(&l.at.host, "host", "127.0.0.1", "address to listen on")
	f.Uint16Var(&l.at.port, "port", 0, "port to listen on; default: a free one")
	f.DurationVar(&l.wait, "wait", 30*time.Second, "how long nothing may arrive before the rest is missing")
	// Webhooks have another flag of that name, which the tables of completions know.
	_ = c.RegisterFlagCompletionFunc("method", func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return beginning(benchMethods, typed), cobra.ShellCompDirectiveNoFileComp
	})
	c.MarkFlagsMutuallyExclusive("receive", "create-webhook")
	c.RunE = p.remote(func(ctx context.Context, cl *client, _ []string) error { return p.benchLoad(ctx, cl, l) })
	return c
}

// check completes the flags, or says what is wrong with them.
func (l *loading) check() error {
	if l.load.Producers == 0 {
		l.load.Producers = 8
		if l.load.Method == bench.Unary {
			l.load.Producers = 64
		}
	}
	within := func(flag string, n, least, most int) error {
		if n < least || n > most {
			return usagef("--%s must be from %d to %d", flag, least, most)
		}
		return nil
	}
	switch {
	case !slices.Contains(benchMethods, l.load.Method):
		return usagef("--method must be unary, batch or stream, not %q", l.load.Method)
	case !(l.load.Rate >= 0 && l.load.Rate <= 1e6): // so that NaN is refused
		return usagef("--rate must be from 0 to 1000000")
	case l.load.Duration <= 0:
		return usagef("--duration must be positive")
	case l.url != "" && !l.create:
		return usagef("--receiver-url goes with --create-webhook")
	}
	return cmp.Or(
		within("producers", l.load.Producers, 1, 1<<16), within("batch", l.load.Size, 1, 1<<16),
		within("size", l.load.Data, bench.LeastData, maxLine), within("connections", l.connections, 1, 1024),
	)
}

func (p *program) benchLoad(ctx context.Context, cl *client, l *loading) error {
	if err := cmp.Or(l.check(), cl.needsAccount()); err != nil {
		return err
	}
	key, err := p.credential()
	if err != nil {
		return err
	}
	clients := make([]postriderv1.EventServiceClient, l.connections)
	for i := range clients {
		conn, err := p.dial(p.ingestTarget(), key)
		if err != nil {
			return usage(err)
		}
		defer conn.Close() //nolint:errcheck // nothing is under way any more
		clients[i] = postriderv1.NewEventServiceClient(conn)
	}
	l.load.Account, l.load.Patience = cl.account, p.globals.timeout
	run := bench.NewRun(l.load, clients)
	if !l.receive && !l.create {
		if err := p.publishLoad(ctx, run, l); err != nil {
			return err
		}
		return p.verdict(ctx, run.Result(false))
	}
	err = p.benchServe(ctx, l.at, bench.NewReceiver(bench.Plain(), run.Arrived), func(ctx context.Context, url string) error {
		if l.create {
			created, err := p.createTemporary(ctx, &postriderv1.Webhook{
				Url: cmp.Or(l.url, url), EventTypes: []string{l.load.Type}, DisplayName: "postrider bench",
			})
			if err != nil {
				return err
			}
			defer created.remove(ctx)
		}
		if err := p.publishLoad(ctx, run, l); err != nil {
			return err
		}
		g := p.progress()
		defer g.end()
		run.Await(ctx, l.wait, func() {
			accepted, _, delivered := run.Counts()
			g.show("waiting for deliveries", delivered, accepted, "")
		})
		return nil
	})
	if err != nil {
		return err
	}
	return p.verdict(ctx, run.Result(true))
}

// verdict shows the result and fails if it is none. After an interruption nobody waited for what is
// missing.
func (p *program) verdict(ctx context.Context, r *bench.Result) error {
	if err := p.showResult(r); err != nil || ctx.Err() != nil {
		return err
	}
	if r.Accepted == 0 {
		return failf("no event was accepted")
	}
	if r.Delivery != nil && r.Delivery.Missing > 0 {
		return failf("%d accepted events had not arrived in the end", r.Delivery.Missing)
	}
	return nil
}

// publishLoad publishes and tells how far it is.
func (p *program) publishLoad(ctx context.Context, run *bench.Run, l *loading) error {
	g := p.progress()
	defer g.end()
	done := make(chan error, 1)
	go func() { done <- run.Publish(ctx) }()
	ticker := time.NewTicker(redraw)
	defer ticker.Stop()
	began := time.Now()
	for {
		select {
		case err := <-done:
			return err
		case <-ticker.C:
		}
		accepted, refused, delivered := run.Counts()
		detail := fmt.Sprintf("%d accepted, %d refused", accepted, refused)
		if l.receive || l.create {
			detail += fmt.Sprintf(", %d delivered", delivered)
		}
		total := int64(l.load.Duration.Seconds())
		g.show("publishing, seconds", min(int64(time.Since(began).Seconds()), total), total, detail)
	}
}

func (p *program) showResult(r *bench.Result) error {
	if p.globals.output == outputJSON {
		return p.showStruct(r)
	}
	return p.showTable(func(t *table) {
		number := func(n int64) string { return strconv.FormatInt(n, 10) }
		t.row("accepted", number(r.Accepted), rate(r.AcceptedPerSecond)+"/s")
		for _, reason := range sortedKeys(r.Refused) {
			t.row("refused", number(r.Refused[reason]), reason)
		}
		for _, reason := range sortedKeys(r.Broken) {
			t.row("broken streams", number(r.Broken[reason]), reason)
		}
		some := func(n int64, name, why string) {
			if n > 0 {
				t.row(name, number(n), why)
			}
		}
		some(r.Unanswered, "unanswered", "may be stored or not")
		some(r.Degraded, "degraded", "accepted without the long window of deduplication")
		some(r.Behind, "behind", "calls that were due and not made in time")
		if d := r.Delivery; d != nil {
			t.row("delivered", number(d.Delivered), rate(d.DeliveredPerSecond)+"/s")
			some(d.Duplicates, "duplicates", "requests for events that had arrived")
			some(d.Missing, "missing", "accepted, and had not arrived in the end")
			some(d.Unmeasured, "unmeasured", "arrived too late to know how late")
		}
		t.line("")
		t.row("MILLISECONDS", "P50", "P90", "P99", "MAX")
		line := func(name string, l bench.Latencies) {
			cells := []string{name}
			for _, v := range []float64{l.P50, l.P90, l.P99, l.Max} {
				cells = append(cells, strconv.FormatFloat(v, 'f', 2, 64))
			}
			t.row(cells...)
		}
		from := "from the call"
		if r.Rate > 0 {
			from = "from when it was due"
		}
		line(strings.Join([]string{"receipt,", from}, " "), r.Ack)
		if r.Delivery != nil {
			line("arrival, from the receipt", r.Delivery.Lag)
		}
	})
}
