// Command generate writes the OpenAPI document of every HTTP surface: the routes of the public
// gRPC API from its protos (a FileDescriptorSet with comments, on the standard input) and their
// HTTP rules, all others from fragments that are written by hand beside their code.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
)

func main() {
	rules := flag.String("rules", "", "file of HTTP rules")
	out := flag.String("out", "", "file to write; empty for the standard output")
	flag.Parse()
	if err := run(os.Stdin, *rules, *out, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "generate openapi:", err)
		os.Exit(1)
	}
}

func run(image io.Reader, rules, out string, fragments []string) error {
	raw, err := io.ReadAll(image)
	if err != nil {
		return fmt.Errorf("read image: %w", err)
	}
	set := &descriptorpb.FileDescriptorSet{}
	if err := proto.Unmarshal(raw, set); err != nil {
		return fmt.Errorf("read image: %w", err)
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		return fmt.Errorf("read image: %w", err)
	}
	d := newDocument(files)
	if err := d.addRules(rules); err != nil {
		return err
	}
	for _, path := range fragments {
		if err := d.addFragment(path); err != nil {
			return fmt.Errorf("add %s: %w", path, err)
		}
	}
	if err := d.addMissing(); err != nil {
		return err
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(d.root); err != nil {
		return fmt.Errorf("write document: %w", err)
	}
	if out == "" {
		_, err = os.Stdout.Write(text.Bytes())
		return err
	}
	return os.WriteFile(out, text.Bytes(), 0o644) //nolint:gosec // it is a file of the repository, for all to read
}
