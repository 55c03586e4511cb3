package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// form starts the system in one form and measures the configurations that use it in rounds, each once
// in a round: what is compared with each other runs alternately, so that what the machine does
// meanwhile falls on all of them.
func (b *bench) form(ctx context.Context, form string) (results []Result, err error) {
	var list []*series
	for _, c := range b.configurations {
		if c.Form == form {
			list = append(list, &series{c: c})
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
	r := &rounds{b: b, s: s, producers: map[producerKey]*producer{}, until: b.share(form)}
	defer r.close()
	for n := range b.opts.Repetitions {
		for _, one := range list {
			// Each is run once, however late it is.
			if n > 0 && r.late() {
				break
			}
			if err := r.run(ctx, one, n, list); err != nil {
				return nil, fmt.Errorf("%s: %w", one.c.Name, err)
			}
		}
	}
	for _, one := range list {
		results = append(results, *newResult(one.c, one.runs, one.dropped))
	}
	return results, nil
}

// share is until when a form repeats: its part of the budget is that of its configurations.
func (b *bench) share(form string) time.Time {
	upTo := 0
	for _, c := range b.configurations {
		if c.Form == form || form == oneProcess {
			upTo++
		}
	}
	return b.began.Add(b.opts.Budget * time.Duration(upTo) / time.Duration(len(b.configurations)))
}

// series is a configuration with its runs.
type series struct {
	c       Configuration
	runs    []Sample
	dropped int
}

type producerKey struct {
	groups, fanOut int
	tls            bool
}

// rounds are those of one form.
type rounds struct {
	b         *bench
	s         *system
	producers map[producerKey]*producer
	until     time.Time
}

func (r *rounds) late() bool { return time.Now().After(r.until) }

func (r *rounds) close() {
	for _, p := range r.producers {
		_ = p.close() // nothing is under way any more
	}
}

// producer is the one of a configuration, which is made and warmed up at its first use.
func (r *rounds) producer(ctx context.Context, c Configuration) (*producer, error) {
	key := producerKey{c.Groups, c.FanOut, c.TLS}
	if p := r.producers[key]; p != nil {
		return p, nil
	}
	url := r.b.receiver.url
	if c.TLS {
		url = r.b.receiver.secureURL
	}
	p, err := r.s.tenant(ctx, url, c.Groups, c.FanOut)
	if err != nil {
		return nil, err
	}
	r.producers[key] = p
	// Connections, pools and the heap get to their size before anything counts.
	warm := c
	if c.open() {
		warm.Rate = 100
	}
	_, err = r.b.once(ctx, r.s, p, warm, min(r.b.opts.Load, 2*time.Second))
	return p, err
}

// What a run may have before it is dropped, and how often it is tried.
const (
	mayDiffer  = 0.25 // between the plain loops before and after it
	mayDegrade = 0.01 // of its events that Redis did not vouch for: with more, a step is missing
	mostTries  = 3
)

// run is one run of a configuration, again if it has a flaw and there is time.
func (r *rounds) run(ctx context.Context, one *series, n int, all []*series) error {
	b := r.b
	p, err := r.producer(ctx, one.c)
	if err != nil {
		return err
	}
	if one.c.HalfOf != "" && one.c.Rate == 0 {
		if one.c.Rate, err = r.half(ctx, p, one.c.HalfOf, all); err != nil {
			return err
		}
	}
	measure := b.bracketed
	if one.c.NoRecorder {
		measure = b.withoutRecorder
	}
	for try := 1; ; try++ {
		sample, err := measure(ctx, r.s, p, one.c, n == 0)
		if err != nil {
			return err
		}
		b.say("%-20s %d/%d  %s", one.c.Name, n+1, b.opts.Repetitions, sample.line())
		flaw, fatal := sample.flaw()
		last := try == mostTries || r.late()
		if last && fatal {
			return errors.New(flaw)
		}
		if last || flaw == "" {
			one.runs = append(one.runs, *sample)
			return nil
		}
		one.dropped++
		b.say("%-20s dropped: %s", one.c.Name, flaw)
	}
}

// half is half of what a configuration delivered in its first run, or in one made for this.
func (r *rounds) half(ctx context.Context, p *producer, name string, all []*series) (float64, error) {
	for _, other := range all {
		if other.c.Name == name && len(other.runs) > 0 {
			return other.runs[0].Delivered / 2, nil
		}
	}
	for _, c := range Configurations() {
		if c.Name == name {
			sample, err := r.b.once(ctx, r.s, p, c, min(r.b.opts.Load, 3*time.Second))
			if err != nil {
				return 0, err
			}
			return sample.Delivered / 2, nil
		}
	}
	return 0, fmt.Errorf("there is no configuration %q", name)
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
