// Command compatibility reads what `go test -json` printed for the tests of test/compat from
// standard input, and writes docs/compatibility.md to standard output. It fails if a check has no
// passing test.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/postrider/postrider/test/compat/table"
)

func main() {
	checks := flag.String("checks", "test/compat/checks.txt", "the list of checks")
	flag.Parse()
	if err := run(*checks, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(checks string, in io.Reader, out io.Writer) error {
	f, err := os.Open(checks)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	sections, err := table.Read(f)
	if err != nil {
		return fmt.Errorf("read %s: %w", checks, err)
	}
	results, err := table.Collect(in)
	if err != nil {
		return err
	}
	if err := table.Holds(sections, results); err != nil {
		return err
	}
	_, err = io.WriteString(out, table.Markdown(sections, results))
	return err
}
