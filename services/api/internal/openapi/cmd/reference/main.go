// Command reference writes the reference of the public gRPC API as Markdown, from its protos (a
// FileDescriptorSet with comments, on the standard input) and their HTTP rules.
package main

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

const apiPackage = "postrider.v1"

const head = `# API reference

Generated from the protos by ` + "`make docs`" + `; do not edit. [api.md](api.md) says how the API is called; over HTTP
members have the same names.
`

func main() {
	rules := flag.String("rules", "", "file of HTTP rules")
	flag.Parse()
	if err := run(os.Stdin, os.Stdout, *rules); err != nil {
		fmt.Fprintln(os.Stderr, "write the reference:", err)
		os.Exit(1)
	}
}

func run(image io.Reader, out io.Writer, rules string) error {
	routes, err := readRoutes(rules)
	if err != nil {
		return fmt.Errorf("read the HTTP rules: %w", err)
	}
	raw, err := io.ReadAll(image)
	if err != nil {
		return fmt.Errorf("read the image: %w", err)
	}
	set := &descriptorpb.FileDescriptorSet{}
	if err := proto.Unmarshal(raw, set); err != nil {
		return fmt.Errorf("read the image: %w", err)
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		return fmt.Errorf("read the image: %w", err)
	}
	p := page{routes: routes}
	p.gather(files)
	p.write()
	_, err = p.text.WriteTo(out)
	return err
}

// readRoutes are the HTTP forms of methods, by their full names.
func readRoutes(path string) (map[protoreflect.FullName][]string, error) {
	raw, err := os.ReadFile(path) //nolint:gosec // the caller names it
	if err != nil {
		return nil, err
	}
	var file struct {
		HTTP struct {
			Rules []map[string]string `yaml:"rules"`
		} `yaml:"http"`
	}
	if err := yaml.Unmarshal(raw, &file); err != nil {
		return nil, err
	}
	routes := make(map[protoreflect.FullName][]string)
	for _, rule := range file.HTTP.Rules {
		for _, verb := range []string{"get", "post", "put", "patch", "delete"} {
			if rule[verb] != "" {
				method := protoreflect.FullName(rule["selector"])
				routes[method] = append(routes[method], strings.ToUpper(verb)+" "+rule[verb])
			}
		}
	}
	return routes, nil
}

// page is the reference: services first, then what they speak of, each by name.
type page struct {
	text     bytes.Buffer
	routes   map[protoreflect.FullName][]string
	services []protoreflect.ServiceDescriptor
	messages []protoreflect.MessageDescriptor
	enums    []protoreflect.EnumDescriptor
}

func (p *page) gather(files *protoregistry.Files) {
	files.RangeFilesByPackage(apiPackage, func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			p.services = append(p.services, f.Services().Get(i))
		}
		for i := range f.Enums().Len() {
			p.enums = append(p.enums, f.Enums().Get(i))
		}
		for i := range f.Messages().Len() {
			p.message(f.Messages().Get(i))
		}
		return true
	})
	slices.SortFunc(p.services, byName)
	slices.SortFunc(p.messages, byName)
	slices.SortFunc(p.enums, byName)
}

// message adds one and what is declared inside it.
func (p *page) message(m protoreflect.MessageDescriptor) {
	if m.IsMapEntry() {
		return
	}
	p.messages = append(p.messages, m)
	for i := range m.Enums().Len() {
		p.enums = append(p.enums, m.Enums().Get(i))
	}
	for i := range m.Messages().Len() {
		p.message(m.Messages().Get(i))
	}
}

func byName[D protoreflect.Descriptor](a, b D) int { return cmp.Compare(a.FullName(), b.FullName()) }

func (p *page) write() {
	p.text.WriteString(head)
	for _, s := range p.services {
		fmt.Fprintf(&p.text, "\n## %s\n\n%s\n", name(s), comment(s))
		for i := range s.Methods().Len() {
			p.method(s.Methods().Get(i))
		}
	}
	p.text.WriteString("\n## Messages\n")
	for _, m := range p.messages {
		fmt.Fprintf(&p.text, "\n### %s\n\n%s\n", name(m), comment(m))
		p.fields(m)
	}
	p.text.WriteString("\n## Enumerations\n")
	for _, e := range p.enums {
		fmt.Fprintf(&p.text, "\n### %s\n\n%s\n\n| value | |\n|---|---|\n", name(e), comment(e))
		for i := range e.Values().Len() {
			fmt.Fprintf(&p.text, "| `%s` | %s |\n", e.Values().Get(i).Name(), cell(e.Values().Get(i)))
		}
	}
}

func (p *page) method(m protoreflect.MethodDescriptor) {
	fmt.Fprintf(&p.text, "\n### %s\n\n%s\n\n", m.Name(), comment(m))
	stream := func(is bool) string {
		if is {
			return "stream of "
		}
		return ""
	}
	fmt.Fprintf(&p.text, "%s%s → %s%s", stream(m.IsStreamingClient()), link(m.Input()), stream(m.IsStreamingServer()), link(m.Output()))
	for _, route := range p.routes[m.FullName()] {
		fmt.Fprintf(&p.text, " · `%s`", route)
	}
	p.text.WriteString("\n")
}

func (p *page) fields(m protoreflect.MessageDescriptor) {
	if m.Fields().Len() == 0 {
		return
	}
	p.text.WriteString("\n| field | type | |\n|---|---|---|\n")
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		fmt.Fprintf(&p.text, "| `%s` | %s | %s |\n", f.Name(), kind(f), cell(f))
	}
}

// kind is a field's type, as a reader of the proto sees it.
func kind(f protoreflect.FieldDescriptor) string {
	switch {
	case f.IsMap():
		return fmt.Sprintf("map of %s to %s", kind(f.MapKey()), kind(f.MapValue()))
	case f.IsList():
		return "list of " + single(f)
	case f.HasOptionalKeyword():
		return "optional " + single(f)
	}
	return single(f)
}

func single(f protoreflect.FieldDescriptor) string {
	switch {
	case f.Message() != nil:
		return link(f.Message())
	case f.Enum() != nil:
		return link(f.Enum())
	}
	return f.Kind().String()
}

// link names a type, and leads to it where it stands on this page.
func link(d protoreflect.Descriptor) string {
	if d.ParentFile().Package() != apiPackage {
		return string(d.FullName())
	}
	return fmt.Sprintf("[%s](#%s)", name(d), strings.ToLower(strings.ReplaceAll(name(d), ".", "")))
}

// name is what a declaration is called within its package.
func name(d protoreflect.Descriptor) string {
	return strings.TrimPrefix(string(d.FullName()), apiPackage+".")
}

// comment is what stands above a declaration, its paragraphs kept.
func comment(d protoreflect.Descriptor) string {
	text := d.ParentFile().SourceLocations().ByDescriptor(d).LeadingComments
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimPrefix(lines[i], " ")
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}

// cell is a comment on one line of a table.
func cell(d protoreflect.Descriptor) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(comment(d)), " "), "|", `\|`)
}
