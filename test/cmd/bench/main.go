// Command bench measures Postrider on this machine as a ratio to a plain net/http loop, and
// prints a table, or, as `bench scale`, what grows with webhooks, retries, accounts, dispatchers and
// streams. `make bench` and `make bench/scale` build what it needs and run it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/postrider/postrider/test/bench"
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The receiver is this program again, in a process of its own.
	if len(args) == 1 && args[0] == "receiver" {
		return code(bench.ServeReceiver(ctx, stdin, stdout), stderr)
	}
	if len(args) > 0 && args[0] == "scale" {
		return scale(ctx, args[1:], stdout, stderr)
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	opts := bench.Options{Log: stderr}
	flags.StringVar(&opts.Bin, "bin", "bin", "folder of the binaries")
	flags.StringVar(&opts.Dir, "dir", "", "folder for data and logs; empty: a temporary one")
	flags.IntVar(&opts.Shards, "shards", 4, "delivery streams")
	flags.IntVar(&opts.Repetitions, "repetitions", 3, "runs of each configuration, and turns of each comparison; medians are printed")
	flags.DurationVar(&opts.Load, "load", 6*time.Second, "how long each run publishes")
	flags.DurationVar(&opts.Raw, "raw", 2*time.Second, "how long the plain loop runs before and after each run")
	flags.DurationVar(&opts.Budget, "budget", 6*time.Minute, "time after which no configuration is repeated any more")
	flags.StringVar(&opts.Profiles, "profiles", "", "folder for profiles of the services under load: of CPU, and of allocations")
	only := flags.String("only", "", "configurations and groups of rows to measure, separated by commas; empty: all")
	quick := flags.Bool("quick", false, "one short run of each configuration")
	file := flags.String("json", "", "file for the results as JSON")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if *quick {
		shorten(flags, &opts)
	}
	if *only != "" {
		opts.Only = strings.Split(*only, ",")
	}
	return code(measure(ctx, opts, *file, stdout), stderr)
}

// scale measures what grows, and writes what it has after each part.
func scale(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("bench scale", flag.ContinueOnError)
	flags.SetOutput(stderr)
	opts := bench.Options{Log: stderr, Repetitions: 1}
	flags.StringVar(&opts.Bin, "bin", "bin", "folder of the binaries")
	flags.StringVar(&opts.Dir, "dir", "", "folder for data and logs; empty: a temporary one")
	flags.IntVar(&opts.Shards, "shards", 4, "delivery streams, where their number is not what is measured")
	flags.DurationVar(&opts.Load, "load", 10*time.Second, "how long is published")
	only := flags.String("only", "", "parts to measure, such as webhooks or webhooks-1k, separated by commas; empty: all")
	file := flags.String("json", "", "file for the results as JSON")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if *only != "" {
		opts.Only = strings.Split(*only, ",")
	}
	var last *bench.ScaleReport
	err := bench.Scale(ctx, opts, func(r *bench.ScaleReport) error {
		last = r
		return store(*file, r.JSON)
	})
	if last != nil {
		err = errors.Join(err, last.Table(stdout))
	}
	return code(err, stderr)
}

// store writes a file; none if the path is empty.
func store(path string, write func(io.Writer) error) error {
	if path == "" {
		return nil
	}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(out), out.Close())
}

// shorten changes what was not given.
func shorten(flags *flag.FlagSet, opts *bench.Options) {
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if !given["repetitions"] {
		opts.Repetitions = 1
	}
	if !given["load"] {
		opts.Load = 3 * time.Second
	}
	if !given["raw"] {
		opts.Raw = time.Second
	}
	if !given["budget"] {
		opts.Budget = 75 * time.Second
	}
}

func measure(ctx context.Context, opts bench.Options, file string, stdout io.Writer) error {
	report, err := bench.Run(ctx, opts)
	if err != nil {
		return err
	}
	if err := report.Table(stdout); err != nil {
		return err
	}
	return store(file, report.JSON)
}

func code(err error, stderr io.Writer) int {
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	return 0
}
