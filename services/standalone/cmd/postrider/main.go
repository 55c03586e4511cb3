// Command postrider runs Postrider in one process, and is the command line of any deployment.
package main

import (
	"context"
	"os"

	"github.com/postrider/postrider/services/standalone/internal/cli"
)

func main() {
	os.Exit(cli.Run(context.Background(), os.Args[1:], os.LookupEnv, cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
