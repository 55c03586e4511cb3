package main

import (
	"google.golang.org/protobuf/reflect/protoreflect"
)

// message is the schema of a message in the JSON form of protobuf, with the names of the proto.
func (d *document) message(m protoreflect.MessageDescriptor) object {
	return d.messageWithout(m, nil)
}

func (d *document) messageWithout(m protoreflect.MessageDescriptor, without map[string]bool) object {
	properties := object{}
	fields := m.Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if without[string(field.Name())] {
			continue
		}
		properties[string(field.Name())] = described(d.field(field), comment(field))
	}
	return object{"type": "object", "description": comment(m), "properties": properties}
}

// described adds a description, beside a reference in the only way that OpenAPI 3.0 has.
func described(schema object, text string) object {
	if _, refers := schema["$ref"]; refers {
		return object{"allOf": []any{schema}, "description": text}
	}
	schema["description"] = text
	return schema
}

// field is the schema of a field's value.
func (d *document) field(field protoreflect.FieldDescriptor) object {
	switch {
	case field.IsMap():
		return object{"type": "object", "additionalProperties": d.scalar(field.MapValue())}
	case field.IsList():
		return object{"type": "array", "items": d.scalar(field)}
	}
	return d.scalar(field)
}

// scalar is the schema of one value of a field.
func (d *document) scalar(field protoreflect.FieldDescriptor) object {
	switch field.Kind() {
	case protoreflect.BoolKind:
		return object{"type": "boolean"}
	case protoreflect.StringKind:
		return object{"type": "string"}
	case protoreflect.BytesKind:
		return object{"type": "string", "format": "byte"}
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return object{"type": "integer", "format": "int32"}
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return object{"type": "integer", "format": "int64", "minimum": 0}
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return object{"type": "string", "format": "int64"}
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return object{"type": "string", "format": "uint64"}
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return object{"type": "number"}
	case protoreflect.EnumKind:
		return object{"$ref": schemaRef + string(field.Enum().Name())}
	case protoreflect.MessageKind, protoreflect.GroupKind:
	}
	if known := wellKnown(field.Message()); known != nil {
		return known
	}
	return object{"$ref": schemaRef + string(field.Message().Name())}
}

// wellKnown is the schema of a message that has a JSON form of its own, or nil.
func wellKnown(m protoreflect.MessageDescriptor) object {
	switch m.FullName() {
	case "google.protobuf.Timestamp":
		return object{"type": "string", "format": "date-time"}
	case "google.protobuf.Duration":
		return object{"type": "string", "pattern": `^-?[0-9]+(\.[0-9]{1,9})?s$`, "example": "20s"}
	case "google.protobuf.FieldMask":
		return object{"type": "string", "example": "url,display_name"}
	case "google.protobuf.Struct":
		return object{"type": "object", "additionalProperties": true}
	case "google.protobuf.Value":
		return object{}
	}
	return nil
}

// enum is the schema of an enum: its names.
func (d *document) enum(e protoreflect.EnumDescriptor) object {
	names := []any{}
	values := e.Values()
	for i := range values.Len() {
		names = append(names, string(values.Get(i).Name()))
	}
	return object{"type": "string", "description": comment(e), "enum": names}
}
