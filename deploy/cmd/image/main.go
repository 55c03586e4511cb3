// Command image builds services' container images as OCI layouts, without a container engine.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/postrider/postrider/deploy/image"
)

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	flags.SetOutput(stderr)
	root := flags.String("root", ".", "the checkout")
	out := flags.String("out", "var/images", "folder of the layouts, one for each service")
	version := flags.String("version", "devel", "version of the images")
	revision := flags.String("revision", "unknown", "commit that they are built from")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	for _, service := range flags.Args() {
		digest, err := build(ctx, *root, *out, image.Spec{Service: service, Version: *version, Revision: *revision})
		if err != nil {
			_, _ = fmt.Fprintln(stderr, err)
			return 1
		}
		_, _ = fmt.Fprintf(stdout, "%s %s\n", filepath.Join(*out, service), digest)
	}
	return 0
}

func build(ctx context.Context, root, out string, spec image.Spec) (string, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "postrider-image-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if spec, err = image.Build(ctx, root, dir, spec); err != nil {
		return "", err
	}
	index, err := image.Index(spec)
	if err != nil {
		return "", err
	}
	return image.Write(filepath.Join(out, spec.Service), index)
}
