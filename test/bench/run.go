// Package bench measures how much of the machine's own speed Postrider reaches. It runs the whole
// system on this machine under load, and just before and just after each configuration a plain
// net/http loop that posts the same signed bytes to the same receiver; results are ratios to that
// loop, and CPU time by process. A number is printed only when every accepted event has been seen
// at the receiver. The package owns the processes that it starts and the folder it is given.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Options says what to run.
type Options struct {
	Bin         string        // folder of the binaries
	Dir         string        // for data and logs, emptied by each start; empty: a temporary one
	Shards      int           // delivery streams of the separate processes
	Repetitions int           // each configuration is run so often; medians are printed
	Load        time.Duration // how long each run publishes
	Raw         time.Duration // how long each plain loop posts
	Budget      time.Duration // after it, nothing is repeated any more
	Only        []string      // names of configurations; empty: all
	Profiles    string        // folder for profiles of the services, taken during the first repetition
	Log         io.Writer     // tells what is going on

	api map[string]string // added to the environment of the api
}

// Configuration is one way to use the system.
type Configuration struct {
	Name   string  `json:"name"`
	Form   string  `json:"form"`
	Load   Load    `json:"load"`
	FanOut int     `json:"fan_out"`
	Groups int     `json:"groups"` // of webhooks, each with an event type of its own
	Rate   float64 `json:"rate"`   // events a second of an open loop; 0: closed loops
}

// Configurations are what a run measures.
func Configurations() []Configuration {
	const groups, manyGroups = 16, 4
	batch := Load{Method: batched, Producers: 16, Size: 50}
	return []Configuration{
		{Name: "unary", Form: separate, Load: Load{Method: unary, Producers: 256, Size: 1}, FanOut: 1, Groups: groups},
		{Name: "batch", Form: separate, Load: batch, FanOut: 1, Groups: groups},
		{Name: "stream", Form: separate, Load: Load{Method: streaming, Producers: 8, Size: 100}, FanOut: 1, Groups: groups},
		{Name: "fan-out", Form: separate, Load: batch, FanOut: 10, Groups: manyGroups},
		{Name: "latency", Form: separate, Load: Load{Method: unary, Size: 1}, FanOut: 1, Groups: groups, Rate: 100},
		{Name: "one-process", Form: oneProcess, Load: batch, FanOut: 1, Groups: groups},
		{Name: "one-process-latency", Form: oneProcess, Load: Load{Method: unary, Size: 1}, FanOut: 1, Groups: groups, Rate: 100},
	}
}

// Run measures the configurations and returns the report. It fails if an accepted event did not
// arrive.
func Run(ctx context.Context, opts Options) (_ *Report, err error) {
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
	raw, err := newRawLoop(receiver.url)
	if err != nil {
		return nil, err
	}
	defer raw.close()
	b := &bench{opts: opts, receiver: receiver, raw: raw, began: time.Now()}
	b.configurations = slices.DeleteFunc(Configurations(), func(c Configuration) bool {
		return len(opts.Only) > 0 && !slices.Contains(opts.Only, c.Name)
	})
	report := newReport(ctx, &opts)
	for _, form := range []string{separate, oneProcess} {
		results, err := b.form(ctx, form)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", form, err)
		}
		report.Results = append(report.Results, results...)
	}
	return report, nil
}

type bench struct {
	opts           Options
	receiver       *receiverProcess
	raw            *rawLoop
	began          time.Time
	configurations []Configuration
	done           int // configurations
}

// late reports whether the configuration has had its share of the time.
func (b *bench) late() bool {
	share := b.opts.Budget * time.Duration(b.done+1) / time.Duration(len(b.configurations))
	return time.Since(b.began) > share
}

// form starts the system in one form and measures the configurations that use it.
func (b *bench) form(ctx context.Context, form string) (results []Result, err error) {
	var list []Configuration
	for _, c := range b.configurations {
		if c.Form == form {
			list = append(list, c)
		}
	}
	if len(list) == 0 {
		return nil, nil
	}
	b.say("starting %s", form)
	s, err := start(ctx, form, &b.opts, filepath.Join(b.opts.Dir, strings.ReplaceAll(form, " ", "-")))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	s.procs[loadName], s.procs[receiverName] = os.Getpid(), b.receiver.pid
	producers := map[[2]int]*producer{}
	for _, c := range list {
		key := [2]int{c.Groups, c.FanOut}
		if producers[key] == nil {
			p, err := s.tenant(ctx, b.receiver.url, c.Groups, c.FanOut)
			if err != nil {
				return nil, err
			}
			defer p.close() //nolint:errcheck // nothing is under way any more
			producers[key] = p
			// Connections, pools and the heap get to their size before anything counts.
			if _, err := b.once(ctx, s, p, c, min(b.opts.Load, 2*time.Second)); err != nil {
				return nil, err
			}
		}
		r, err := b.measure(ctx, s, producers[key], c)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.Name, err)
		}
		results = append(results, *r)
	}
	return results, nil
}

// What a run may have before it is dropped, and how often it is tried.
const (
	mayDiffer  = 0.25 // between the plain loops before and after it
	mayDegrade = 0.01 // of its events that Redis did not vouch for: with more, a step is missing
	mostTries  = 3
)

// measure runs a configuration as often as is asked for and takes the medians. It runs less often
// when the time is up, but once at least.
func (b *bench) measure(ctx context.Context, s *system, p *producer, c Configuration) (*Result, error) {
	defer func() { b.done++ }()
	var runs []Sample
	dropped := 0
	for n := 0; n < b.opts.Repetitions && (n == 0 || !b.late()); n++ {
		for try := 1; ; try++ {
			sample, err := b.bracketed(ctx, s, p, c, n == 0)
			if err != nil {
				return nil, err
			}
			b.say("%-20s %d/%d  %s", c.Name, n+1, b.opts.Repetitions, sample.line())
			flaw, fatal := sample.flaw()
			last := try == mostTries || b.late()
			if last && fatal {
				return nil, errors.New(flaw)
			}
			if last || flaw == "" {
				runs = append(runs, *sample)
				break
			}
			dropped++
			b.say("%-20s dropped: %s", c.Name, flaw)
		}
	}
	return newResult(c, runs, dropped), nil
}

// bracketed is one run between two plain loops.
func (b *bench) bracketed(ctx context.Context, s *system, p *producer, c Configuration, first bool) (*Sample, error) {
	before, err := b.raw.run(ctx, b.receiver.pid, b.opts.Raw)
	if err != nil {
		return nil, err
	}
	profiled := make(chan error, 1)
	if first && b.opts.Profiles != "" {
		go func() { profiled <- s.profiles(ctx, b.opts.Profiles, c.Name, b.opts.Load) }()
	} else {
		profiled <- nil
	}
	sample, err := b.once(ctx, s, p, c, b.opts.Load)
	if err := errors.Join(err, <-profiled); err != nil {
		return nil, err
	}
	if sample.RawAfter, err = b.raw.run(ctx, b.receiver.pid, b.opts.Raw); err != nil {
		return nil, err
	}
	sample.RawBefore = before
	sample.ratios()
	return sample, nil
}

// once publishes for the time, waits until everything arrived and all is quiet, and checks that
// every accepted event was seen at every webhook that wants it.
func (b *bench) once(ctx context.Context, s *system, p *producer, c Configuration, d time.Duration) (*Sample, error) {
	if err := b.receiver.reset(ctx); err != nil {
		return nil, err
	}
	before, err := s.procs.awaitQuiet(ctx)
	if err != nil {
		return nil, err
	}
	parked, err := s.parked(ctx)
	if err != nil {
		return nil, err
	}
	out, err := p.publish(ctx, c, d)
	if err != nil {
		return nil, err
	}
	if err := b.receiver.await(ctx, len(out.events)*c.FanOut); err != nil {
		return nil, err
	}
	after, err := s.procs.awaitQuiet(ctx)
	if err != nil {
		return nil, err
	}
	arrivals, err := b.receiver.arrivals(ctx)
	if err != nil {
		return nil, err
	}
	seen, err := check(out.events, arrivals, c.FanOut)
	if err != nil {
		return nil, err
	}
	sample := newSample(out, seen, spent(before, after))
	sample.Parked, err = s.parked(ctx)
	sample.Parked -= parked
	return sample, err
}

func (p *producer) publish(ctx context.Context, c Configuration, d time.Duration) (*published, error) {
	if c.Rate > 0 {
		return p.openLoop(ctx, time.Duration(float64(time.Second)/c.Rate), d)
	}
	return p.load(ctx, c.Load, d)
}

// ledger is what came of the accepted events.
type ledger struct {
	deliveries int
	duplicates int
	last       int64           // when the last delivery arrived first
	lag        []time.Duration // from the acknowledgement to the first arrival at a webhook
}

// check holds the accepted events against what arrived. Each must have arrived at fanOut webhooks.
func check(events []publication, arrivals []arrival, fanOut int) (*ledger, error) {
	slices.SortFunc(events, func(a, b publication) int { return a.event.Compare(b.event) })
	slices.SortFunc(arrivals, func(a, b arrival) int {
		if d := a.event.Compare(b.event); d != 0 {
			return d
		}
		if a.hook != b.hook {
			return int(a.hook) - int(b.hook)
		}
		return int(min(max(a.at-b.at, -1), 1))
	})
	l := &ledger{lag: make([]time.Duration, 0, len(events)*fanOut)}
	for _, e := range events {
		if len(arrivals) > 0 && arrivals[0].event.Compare(e.event) < 0 {
			return nil, fmt.Errorf("event %s arrived and was not accepted", arrivals[0].event)
		}
		hooks, last := 0, -1
		for len(arrivals) > 0 && arrivals[0].event == e.event {
			a := arrivals[0]
			arrivals = arrivals[1:]
			if int(a.hook) == last {
				l.duplicates++
				continue
			}
			last = int(a.hook)
			hooks++
			l.lag = append(l.lag, time.Duration(a.at-e.acked))
			l.last = max(l.last, a.at)
		}
		if hooks != fanOut {
			return nil, fmt.Errorf("event %s was accepted and arrived at %d of %d webhooks", e.event, hooks, fanOut)
		}
	}
	if len(arrivals) > 0 {
		return nil, fmt.Errorf("event %s arrived and was not accepted", arrivals[0].event)
	}
	l.deliveries = len(l.lag)
	return l, nil
}

// say tells what is going on; that nobody may hear it changes nothing.
func (b *bench) say(format string, args ...any) { _, _ = fmt.Fprintf(b.opts.Log, format+"\n", args...) }
