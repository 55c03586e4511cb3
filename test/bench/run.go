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
	Budget      time.Duration // of the configurations: after it, none is repeated any more
	Only        []string      // names of configurations and groups of rows; empty: all
	Profiles    string        // folder for profiles of the services, taken during the first repetition
	Log         io.Writer     // tells what is going on

	env      map[string]map[string]string // added to the environment of services
	caFile   string                       // who vouches for receivers, for dispatchers
	replicas func(service string) int     // nil: one of each
	segments int                          // of EVENTS; 0: as shipped
	nodes    int                          // NATS servers; 0: one
}

// Run measures the configurations, then the groups of rows that need a system of their own, and returns
// the report. It fails if an accepted event did not arrive. A target that is missed is a result.
func Run(ctx context.Context, opts Options) (_ *Report, err error) {
	tune()
	b, end, err := open(ctx, opts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, end()) }()
	if b.raw, err = newRawLoop(b.receiver.url); err != nil {
		return nil, err
	}
	defer b.raw.close()
	for _, c := range Configurations() {
		if b.wanted(c.Name) {
			b.configurations = append(b.configurations, c)
		}
	}
	report := newReport(ctx, &b.opts)
	for _, form := range []string{separate, oneProcess} {
		results, err := b.form(ctx, form)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", form, err)
		}
		report.Results = append(report.Results, results...)
	}
	report.Rows = speedRows(report.Results)
	for _, g := range groups() {
		if !b.wanted(g.name) {
			continue
		}
		rows, err := g.measure(b, ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", g.name, err)
		}
		report.Rows = append(report.Rows, rows...)
	}
	report.Seconds = time.Since(b.began).Seconds()
	return report, nil
}

// group is rows that need a system of their own.
type group struct {
	name    string
	measure func(*bench, context.Context) ([]Row, error)
}

func groups() []group {
	return []group{
		{groupFlood, (*bench).flood},
		{groupHanging, (*bench).hanging},
		{groupRetries, (*bench).retries},
		{groupIdle, (*bench).idle},
	}
}

// wanted reports whether a configuration or a group is to be measured.
func (b *bench) wanted(name string) bool {
	return len(b.opts.Only) == 0 || slices.Contains(b.opts.Only, name)
}

type bench struct {
	opts           Options
	receiver       *receiverProcess
	raw            *rawLoop
	began          time.Time
	configurations []Configuration
	temporary      bool // the folder is our own
}

// open makes the folder and starts the receiver; end undoes both.
func open(ctx context.Context, opts Options) (_ *bench, end func() error, err error) {
	made := ""
	if opts.Dir == "" {
		if made, err = os.MkdirTemp("", "postrider-bench"); err != nil {
			return nil, nil, err
		}
		opts.Dir = made
	}
	remove := func() error {
		if made == "" {
			return nil
		}
		return os.RemoveAll(made)
	}
	receiver, err := startReceiver(ctx)
	if err != nil {
		return nil, nil, errors.Join(err, remove())
	}
	end = func() error { return errors.Join(receiver.stop(), remove()) }
	opts.caFile = filepath.Join(opts.Dir, "receiver.pem")
	err = errors.Join(os.MkdirAll(opts.Dir, 0o700), os.WriteFile(opts.caFile, receiver.ca, 0o600))
	if err != nil {
		return nil, nil, errors.Join(err, end())
	}
	return &bench{opts: opts, receiver: receiver, began: time.Now(), temporary: made != ""}, end, nil
}

// system starts separate processes with a folder of their own, for a group of rows.
func (b *bench) system(ctx context.Context, name string, use func(*system) error) (err error) {
	b.say("starting separate processes for %s", name)
	s, err := start(ctx, separate, &b.opts, filepath.Join(b.opts.Dir, name))
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, s.stop())
		if b.temporary {
			err = errors.Join(err, os.RemoveAll(filepath.Join(b.opts.Dir, name)))
		}
	}()
	if err := b.receiver.reset(ctx); err != nil {
		return err
	}
	return use(s)
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
	if err := s.recorded(ctx); err != nil {
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

// say tells what is going on; that nobody may hear it changes nothing.
func (b *bench) say(format string, args ...any) { _, _ = fmt.Fprintf(b.opts.Log, format+"\n", args...) }
