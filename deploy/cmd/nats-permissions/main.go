// Command nats-permissions writes what each service may do on NATS.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/postrider/postrider/deploy/natsauth"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("nats-permissions", flag.ContinueOnError)
	flags.SetOutput(stderr)
	var size natsauth.Size
	flags.IntVar(&size.Shards, "shards", 8, "most shards that the deployment may have")
	flags.IntVar(&size.Segments, "segments", 4, "most segments of events that the deployment may have")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if err := natsauth.Write(stdout, size); err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}
