package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

var pathParameter = regexp.MustCompile(`\{([a-z_.]+)\}`)

// operation is a method of the gRPC API over HTTP, at a path that the document shows with other names
// of parameters, perhaps.
func (d *document) operation(m protoreflect.MethodDescriptor, path, shown, body string) (object, error) {
	text := comment(m)
	op := object{
		"operationId": string(m.Name()), "summary": firstSentence(text), "description": text,
		"tags": []any{strings.TrimSuffix(string(m.Parent().Name()), "Service")},
		"responses": object{
			"200": object{
				"description": comment(m.Output()),
				"content":     object{"application/json": object{"schema": object{"$ref": schemaRef + string(m.Output().Name())}}},
			},
			"default": object{"$ref": "#/components/responses/Problem"},
		},
	}
	d.tagService(m.Parent())
	var parameters []any
	used := map[string]bool{}
	names := pathParameter.FindAllStringSubmatch(shown, -1)
	for i, match := range pathParameter.FindAllStringSubmatch(path, -1) {
		field, err := fieldAt(m.Input(), match[1])
		if err != nil {
			return nil, err
		}
		used[match[1]] = true
		parameters = append(parameters, object{
			"name": names[i][1], "in": "path", "required": true, "description": comment(field), "schema": d.scalar(field),
		})
	}
	switch body {
	case "*":
		op["requestBody"] = jsonBody(d.messageWithout(m.Input(), used))
		op["parameters"] = parameters
		if parameters == nil {
			delete(op, "parameters")
		}
		return op, nil
	case "":
	default:
		field, err := fieldAt(m.Input(), body)
		if err != nil {
			return nil, err
		}
		used[body] = true
		op["requestBody"] = jsonBody(object{"$ref": schemaRef + string(field.Message().Name())})
	}
	fields := m.Input().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if used[string(field.Name())] || !inQuery(field) {
			continue
		}
		parameters = append(parameters, object{
			"name": string(field.Name()), "in": "query", "description": comment(field), "schema": d.field(field),
		})
	}
	if len(parameters) > 0 {
		op["parameters"] = parameters
	}
	return op, nil
}

// tagService describes a service once.
func (d *document) tagService(s protoreflect.Descriptor) {
	name := strings.TrimSuffix(string(s.Name()), "Service")
	known := slices.ContainsFunc(d.tags, func(t any) bool {
		tag, _ := t.(object)
		return tag["name"] == name
	})
	if !known {
		d.addTag(object{"name": name, "description": comment(s)})
	}
}

// inQuery reports whether a field of a request can stand in a query as one value or several.
func inQuery(field protoreflect.FieldDescriptor) bool {
	if field.IsMap() {
		return false
	}
	return field.Message() == nil || wellKnown(field.Message()) != nil
}

func jsonBody(schema object) object {
	return object{"required": true, "content": object{"application/json": object{"schema": schema}}}
}

// fieldAt is the field of a message at a path such as webhook.id.
func fieldAt(m protoreflect.MessageDescriptor, path string) (protoreflect.FieldDescriptor, error) {
	var field protoreflect.FieldDescriptor
	for name := range strings.SplitSeq(path, ".") {
		if m == nil {
			return nil, fmt.Errorf("%s is no path of fields", path)
		}
		if field = m.Fields().ByName(protoreflect.Name(name)); field == nil {
			return nil, fmt.Errorf("%s has no field %s", m.Name(), name)
		}
		m = field.Message()
	}
	return field, nil
}

// comment is what stands above a declaration, on one line.
func comment(d protoreflect.Descriptor) string {
	location := d.ParentFile().SourceLocations().ByDescriptor(d)
	return strings.Join(strings.Fields(location.LeadingComments), " ")
}

func firstSentence(text string) string {
	first, _, more := strings.Cut(text, ". ")
	if more {
		return first + "."
	}
	return first
}
