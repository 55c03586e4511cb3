// Package check holds what is deployed against itself without a cluster: manifests against schemas
// and against each other, the compose file and the Dockerfile against what an engine would say of
// them. A fault names the object and the rule. It runs nothing but the renderer.
package check

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// Object is one rendered object.
type Object map[string]any

// Render is what kubectl kustomize prints of a folder.
func Render(dir string) ([]Object, error) {
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", dir, err)
	}
	out := make([]Object, 0, resources.Size())
	for _, r := range resources.Resources() {
		text, err := r.MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("render %s: %w", dir, err)
		}
		var o Object
		if err := json.Unmarshal(text, &o); err != nil {
			return nil, fmt.Errorf("render %s: %w", dir, err)
		}
		out = append(out, o)
	}
	return out, nil
}

// get follows keys into nested objects and, by number, into lists; nil if there is nothing.
func get(value any, path ...any) any {
	for _, step := range path {
		switch s := step.(type) {
		case string:
			switch v := value.(type) {
			case Object:
				value = v[s]
			case map[string]any:
				value = v[s]
			default:
				return nil
			}
		case int:
			list, _ := value.([]any)
			if s >= len(list) {
				return nil
			}
			value = list[s]
		}
	}
	return value
}

func text(value any, path ...any) string {
	s, _ := get(value, path...).(string)
	return s
}

func number(value any, path ...any) float64 {
	n, _ := get(value, path...).(float64)
	return n
}

func items(value any, path ...any) []any {
	l, _ := get(value, path...).([]any)
	return l
}

func fields(value any, path ...any) map[string]any {
	m, _ := get(value, path...).(map[string]any)
	return m
}

func (o Object) kind() string { return text(o, "kind") }
func (o Object) name() string { return text(o, "metadata", "name") }
func (o Object) id() string   { return o.kind() + " " + o.name() }

// workload reports whether the object has pods; ours are those that are part of postrider.
func (o Object) workload() bool { return o.kind() == "Deployment" || o.kind() == "StatefulSet" }

func (o Object) ours() bool {
	return o.workload() && text(o, "spec", "template", "metadata", "labels", "app.kubernetes.io/part-of") == "postrider" &&
		text(o, "spec", "template", "spec", "containers", 0, "name") == "service"
}

func (o Object) pod() map[string]any { return fields(o, "spec", "template", "spec") }
func (o Object) container() map[string]any {
	return fields(o, "spec", "template", "spec", "containers", 0)
}

func (o Object) labels() map[string]any { return fields(o, "spec", "template", "metadata", "labels") }

//go:embed testdata/schemas.json
var schemaFile []byte

// Schemas are the compiled schemas of every kind that may be used.
type Schemas map[string]*jsonschema.Schema

// NewSchemas compiles them.
func NewSchemas() (Schemas, error) {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(schemaFile))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7)
	if err := c.AddResource("schemas.json", document); err != nil {
		return nil, err
	}
	out := Schemas{}
	for kind := range fields(document, "kinds") {
		pointer := strings.ReplaceAll(strings.ReplaceAll(kind, "~", "~0"), "/", "~1")
		if out[kind], err = c.Compile("schemas.json#/kinds/" + pointer); err != nil {
			return nil, fmt.Errorf("schema of %s: %w", kind, err)
		}
	}
	return out, nil
}

// faults of an object against the schema of its kind.
func (s Schemas) faults(o Object) []string {
	kind := text(o, "apiVersion") + "/" + o.kind()
	schema, known := s[kind]
	if !known {
		return []string{fmt.Sprintf("%s: no schema of %s; the kinds are %v", o.id(), kind, slices.Sorted(maps.Keys(s)))}
	}
	if err := schema.Validate(map[string]any(o)); err != nil {
		return []string{fmt.Sprintf("%s: %v", o.id(), err)}
	}
	return nil
}
