// Command cluster runs Postrider as separate processes on this machine until it is interrupted:
// a real nats-server, a real redis-server and two replicas of each service. `make cluster` builds
// the binaries and runs it.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/postrider/postrider/test/cluster"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	flags.SetOutput(stderr)
	bin := flags.String("bin", "bin", "folder of the binaries")
	dir := flags.String("dir", "var/cluster", "folder for data and logs")
	replicas := flags.Int("replicas", 2, "replicas of each service")
	shards := flags.Int("shards", 4, "delivery streams")
	base := flags.Int("base-port", 19000, "first port; each process has a block of ten")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	absolute, err := filepath.Abs(*dir)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return 1
	}
	c, err := cluster.Start(ctx, cluster.Options{Bin: *bin, Dir: absolute, Replicas: *replicas, Shards: *shards, BasePort: *base})
	if err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return 1
	}
	_, _ = fmt.Fprintf(stdout, "ingest     gRPC %s  HTTP %v\n", c.IngestTarget(), c.IngestURLs())
	_, _ = fmt.Fprintf(stdout, "api        gRPC %s  HTTP %v\n", c.APITarget(), c.APIURLs())
	_, _ = fmt.Fprintf(stdout, "nats       %s\nredis      %s\nadmin key  %s\nlogs       %s\n", c.NATSURL, c.RedisURL, c.AdminKey, absolute)
	for _, p := range c.Processes() {
		_, _ = fmt.Fprintf(stdout, "  %-14s pid %d\n", p.Name, p.PID())
	}
	<-ctx.Done()
	if err := c.Stop(); err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}
