package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// ScaleReport is what a run of the parts found out: docs/scale.md is written from it.
type ScaleReport struct {
	Time    time.Time `json:"time"`
	Machine Machine   `json:"machine"`
	Parts   []Part    `json:"parts"`
}

// Part is the figures of one size of one thing.
type Part struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"` // that it took
	Rows    []Row   `json:"rows"`
	Error   string  `json:"error,omitempty"` // why some or all of them are missing
}

// part measures one size of one thing. What it found before it failed counts.
type part struct {
	name    string // of the thing, a dash, the size
	measure func(*bench, context.Context) ([]Row, error)
}

// sizes make a part of each size.
func sizes[T any](thing string, measure func(*bench, context.Context, string, T) ([]Row, error), sizes ...sized[T]) (list []part) {
	for _, s := range sizes {
		name := thing + "-" + s.name
		list = append(list, part{name, func(b *bench, ctx context.Context) ([]Row, error) { return measure(b, ctx, name, s.size) }})
	}
	return list
}

type sized[T any] struct {
	name string
	size T
}

// parts are what Scale measures, in this order.
func parts() (list []part) {
	list = append(list, part{"costs", (*bench).costs})
	list = append(list, sizes("nodes", (*bench).manyNodes, sized[int]{"1", 1}, sized[int]{"3", 3})...)
	list = append(list, sizes("leader", (*bench).leader, sized[int]{"1", 1}, sized[int]{"3", 3})...)
	list = append(list, sizes("dispatchers", (*bench).manyDispatchers, sized[int]{"1", 1}, sized[int]{"2", 2}, sized[int]{"4", 4}, sized[int]{"8", 8})...)
	list = append(list, sizes("shards", (*bench).manyShards, sized[int]{"1", 1}, sized[int]{"2", 2}, sized[int]{"4", 4}, sized[int]{"8", 8})...)
	list = append(list, sizes("segments", (*bench).manySegments, sized[int]{"1", 1}, sized[int]{"2", 2}, sized[int]{"4", 4})...)
	list = append(list, sizes("accounts", (*bench).manyAccounts, sized[int]{"1", 1}, sized[int]{"1k", 1000}, sized[int]{"10k", 10_000})...)
	list = append(list, sizes("webhooks", (*bench).manyWebhooks, sized[int]{"1k", 1000}, sized[int]{"100k", 100_000}, sized[int]{"1m", 1_000_000})...)
	list = append(list, sizes("retries", (*bench).manyRetries, sized[int]{"10k", 10_000}, sized[int]{"1m", 1_000_000})...)
	list = append(list, part{"hanging-5m", func(b *bench, ctx context.Context) ([]Row, error) {
		return b.hang(ctx, "hanging-5m", 1, 2*time.Minute, 5*time.Minute)
	}})
	// The largest comes last: it may not fit a machine.
	return append(list, sizes("retries", (*bench).manyRetries, sized[int]{"10m", 10_000_000})...)
}

// chosen reports whether a part is meant by its own name, or by that of its thing.
func chosen(only []string, name string) bool {
	thing, _, _ := strings.Cut(name, "-")
	for _, o := range only {
		if o == name || o == thing {
			return true
		}
	}
	return len(only) == 0
}

// Scale measures what grows, one size after the other, each on a system of its own, and calls done after
// each part with all that was found so far. A part that fails says so in the report, and the next goes on.
func Scale(ctx context.Context, opts Options, done func(*ScaleReport) error) (err error) {
	tune()
	b, end, err := open(ctx, opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	report := &ScaleReport{Time: time.Now().UTC().Truncate(time.Second), Machine: machine(ctx, opts.Bin)}
	for _, p := range parts() {
		if !chosen(opts.Only, p.name) {
			continue
		}
		began := time.Now()
		rows, err := p.measure(b, ctx)
		result := Part{Name: p.name, Seconds: time.Since(began).Seconds(), Rows: rows}
		if err != nil {
			result.Error = err.Error()
			b.say("%s: %s", p.name, err)
		}
		report.Parts = append(report.Parts, result)
		if err := errors.Join(ctx.Err(), done(report)); err != nil {
			return err
		}
	}
	return nil
}

// Table writes the report for people.
func (r *ScaleReport) Table(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	m := &r.Machine
	_, _ = fmt.Fprintf(w, "%s, %d cores, %s, Linux %s; Postrider %s, %s, nats-server %s, Redis %s; %s\n\npart\tfigure\tmeasured\tunit\t\n",
		m.CPU, m.Cores, m.Memory, m.Kernel, m.Commit, m.Go, m.NATS, m.Redis, r.Time.Format(time.RFC3339))
	for i := range r.Parts {
		p := &r.Parts[i]
		for j := range p.Rows {
			row := &p.Rows[j]
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", p.Name, row.Name, number(row.Measured), row.Unit, row.Note)
		}
		if p.Error != "" {
			_, _ = fmt.Fprintf(w, "%s\tNOT MEASURED TO ITS END: %s\n", p.Name, p.Error)
		}
	}
	return w.Flush()
}

// JSON writes the report for programs.
func (r *ScaleReport) JSON(out io.Writer) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(r)
}
