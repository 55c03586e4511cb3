// Command licences checks the licences of everything that is in binaries.
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/postrider/postrider/deploy/licences"
)

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) }

func run(ctx context.Context, binaries []string, stdout, stderr io.Writer) int {
	modules, err := licences.Modules(binaries...)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return 1
	}
	faults, err := licences.Check(ctx, modules)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return 1
	}
	for _, fault := range faults {
		_, _ = fmt.Fprintln(stderr, fault)
	}
	if len(faults) > 0 {
		return 1
	}
	_, _ = fmt.Fprintf(stdout, "%d modules, all under licences that are accepted\n", len(modules))
	return 0
}
