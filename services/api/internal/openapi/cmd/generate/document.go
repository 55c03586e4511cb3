package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

const (
	apiPackage = "postrider.v1"
	schemaRef  = "#/components/schemas/"
	intro      = "One document for every HTTP surface of Postrider. The paths below /v1 are the public gRPC API as JSON: " +
		"members have the names of the protos, 64-bit integers are strings, bytes are base64, durations are seconds such as \"20s\". " +
		"The paths below /api/v3 and /compat are the APIs of the systems that webhooks may come from, in their own forms."
)

// object is a JSON object.
type object = map[string]any

// document is the OpenAPI document as it grows.
type document struct {
	files   *protoregistry.Files
	root    object
	paths   object
	schemas object
	tags    []any
	shapes  map[string]string // paths by what they are without the names of their parameters
}

func newDocument(files *protoregistry.Files) *document {
	d := &document{files: files, paths: object{}, schemas: object{}, shapes: make(map[string]string)}
	d.root = object{
		"openapi": "3.0.3",
		"info": object{
			"title": "Postrider", "version": "1", "description": intro,
			"license": object{"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
		},
		"servers":  []any{object{"url": "/"}},
		"security": []any{object{"key": []any{}}},
		"paths":    d.paths,
		"components": object{
			"schemas": d.schemas,
			"securitySchemes": object{"key": object{
				"type": "http", "scheme": "bearer", "description": "An admin key, or an account's key with the scope that the call needs.",
			}},
			"responses": object{"Problem": object{
				"description": "What is wrong, as problem details (RFC 9457).",
				"content":     object{"application/problem+json": object{"schema": object{"$ref": schemaRef + "Problem"}}},
			}},
		},
	}
	d.schemas["Problem"] = problem()
	return d
}

// problem is the schema of what pkg/fault writes.
func problem() object {
	text := func(description string) object { return object{"type": "string", "description": description} }
	return object{
		"type": "object", "description": "Problem details (RFC 9457).", "required": []any{"type", "title", "status"},
		"properties": object{
			"type": text("about:blank: title is the status's own phrase."), "title": text("The status's phrase."),
			"status": object{"type": "integer", "description": "The HTTP status."}, "detail": text("For people."),
			"reason":     text("A constant that programs compare, such as SCHEMA_VIOLATION."),
			"request_id": text("The request's id, as X-Request-Id had it."),
			"metadata":   object{"type": "object", "description": "The dynamic parts of detail.", "additionalProperties": object{"type": "string"}},
			"errors": object{
				"type": "array", "description": "The broken rules of the request.",
				"items": object{
					"type": "object", "required": []any{"pointer", "detail"},
					"properties": object{"pointer": text("Where, as a JSON pointer in a URI fragment."), "detail": text("The rule.")},
				},
			},
		},
	}
}

// addRules makes the operations of a file of HTTP rules.
func (d *document) addRules(path string) error {
	raw, err := os.ReadFile(path) //nolint:gosec // the caller names it
	if err != nil {
		return fmt.Errorf("read rules: %w", err)
	}
	var file struct {
		HTTP struct {
			Rules []map[string]string `yaml:"rules"`
		} `yaml:"http"`
	}
	if err := yaml.Unmarshal(raw, &file); err != nil {
		return fmt.Errorf("read rules: %w", err)
	}
	for _, rule := range file.HTTP.Rules {
		if err := d.addRule(rule); err != nil {
			return fmt.Errorf("rule of %s: %w", rule["selector"], err)
		}
	}
	return nil
}

func (d *document) addRule(rule map[string]string) error {
	found, err := d.files.FindDescriptorByName(protoreflect.FullName(rule["selector"]))
	if err != nil {
		return err
	}
	method, ok := found.(protoreflect.MethodDescriptor)
	if !ok {
		return errors.New("is no method")
	}
	for _, verb := range []string{"get", "put", "post", "delete", "patch"} {
		if path := rule[verb]; path != "" {
			shown := d.samePath(path)
			op, err := d.operation(method, path, shown, rule["body"])
			if err != nil {
				return err
			}
			return d.addOperation(shown, verb, op)
		}
	}
	return errors.New("has no path")
}

// samePath is the path as the document has it: two that differ only in the names of parameters are
// one.
func (d *document) samePath(path string) string {
	shape := pathParameter.ReplaceAllString(path, "{}")
	if d.shapes[shape] == "" {
		d.shapes[shape] = path
	}
	return d.shapes[shape]
}

func (d *document) addOperation(path, verb string, op any) error {
	item, _ := d.paths[path].(object)
	if item == nil {
		item = object{}
		d.paths[path] = item
	}
	if _, twice := item[verb]; twice {
		return fmt.Errorf("%s %s stands twice", verb, path)
	}
	item[verb] = op
	return nil
}

// addFragment adds paths, schemas and tags that are written by hand.
func (d *document) addFragment(path string) error {
	raw, err := os.ReadFile(path) //nolint:gosec // the caller names it
	if err != nil {
		return err
	}
	var fragment struct {
		Tags       []any                        `yaml:"tags"`
		Paths      map[string]map[string]object `yaml:"paths"`
		Components struct {
			Schemas map[string]object `yaml:"schemas"`
		} `yaml:"components"`
	}
	if err := yaml.Unmarshal(raw, &fragment); err != nil {
		return err
	}
	for _, tag := range fragment.Tags {
		d.addTag(tag)
	}
	for p, item := range fragment.Paths {
		for verb, op := range item {
			if err := d.addOperation(p, verb, op); err != nil {
				return err
			}
		}
	}
	for name, schema := range fragment.Components.Schemas {
		if _, twice := d.schemas[name]; twice {
			return fmt.Errorf("schema %s stands twice", name)
		}
		d.schemas[name] = schema
	}
	return nil
}

func (d *document) addTag(tag any) {
	d.tags = append(d.tags, tag)
	d.root["tags"] = d.tags
}

// addMissing adds the messages that something refers to, until nothing is missing.
func (d *document) addMissing() error {
	for {
		missing := make(map[string]bool)
		collect(d.root, missing)
		done := true
		for _, name := range slices.Sorted(maps.Keys(missing)) {
			if _, there := d.schemas[name]; there {
				continue
			}
			found, err := d.files.FindDescriptorByName(protoreflect.FullName(apiPackage + "." + name))
			if err != nil {
				return fmt.Errorf("schema %s: %w", name, err)
			}
			switch found := found.(type) {
			case protoreflect.MessageDescriptor:
				d.schemas[name] = d.message(found)
			case protoreflect.EnumDescriptor:
				d.schemas[name] = d.enum(found)
			default:
				return fmt.Errorf("schema %s is neither message nor enum", name)
			}
			done = false
		}
		if done {
			return nil
		}
	}
}

// collect gathers the names of schemas that v refers to.
func collect(v any, names map[string]bool) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			collect(item, names)
		}
	case object:
		if ref, ok := v["$ref"].(string); ok {
			if name, ok := strings.CutPrefix(ref, schemaRef); ok {
				names[name] = true
			}
		}
		for _, member := range v {
			collect(member, names)
		}
	}
}
