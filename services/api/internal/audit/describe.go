package audit

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

const (
	// maxDepth is how deep messages in messages are looked into.
	maxDepth = 2
	// maxNames bounds the targets and the fields of an entry, and maxName the length of each, in bytes.
	maxNames = 32
	maxName  = 128
)

// fields are the names of what a request sets, without values: those of a mask, or else those that are
// there. What names a thing is among the targets.
func fields(m proto.Message) []string {
	var out, masked []string
	walk(m.ProtoReflect(), "", 0, func(path string, f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.Kind() == protoreflect.MessageKind && !f.IsList() && !f.IsMap() {
			if mask, ok := v.Message().Interface().(*fieldmaskpb.FieldMask); ok {
				for _, p := range mask.GetPaths() {
					masked = add(masked, p)
				}
				return false
			}
			if strings.HasPrefix(string(f.Message().FullName()), "postrider.") {
				return true
			}
		}
		if name := string(f.Name()); name != "id" && name != "etag" && !strings.HasSuffix(name, "_id") {
			out = add(out, path)
		}
		return false
	})
	if len(masked) > 0 {
		out = masked
	}
	slices.Sort(out)
	return out
}

// targets are the ids that a message names, but for the account's own, and an event type's name.
func targets(m proto.Message) []string {
	var out []string
	walk(m.ProtoReflect(), "", 0, func(_ string, f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		name := string(f.Name())
		switch {
		case f.IsMap():
			return false
		case f.Kind() == protoreflect.MessageKind:
			return !f.IsList() && strings.HasPrefix(string(f.Message().FullName()), "postrider.")
		case f.Kind() != protoreflect.StringKind || name == "account_id":
			return false
		case f.IsList() && name == "delivery_ids":
			for i := range v.List().Len() {
				out = add(out, v.List().Get(i).String())
			}
		case !f.IsList() && (name == "id" || strings.HasSuffix(name, "_id") || name == "name" && strings.Contains(string(f.FullName()), "EventType")):
			out = add(out, v.String())
		}
		return false
	})
	return out
}

// walk visits the fields that are set; visit says whether to look into a message.
func walk(m protoreflect.Message, prefix string, depth int, visit func(string, protoreflect.FieldDescriptor, protoreflect.Value) bool) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		path := prefix + string(f.Name())
		if visit(path, f, v) && depth < maxDepth {
			walk(v.Message(), path+".", depth+1, visit)
		}
		return true
	})
}

func add(list []string, name string) []string {
	if name == "" || len(name) > maxName || len(list) >= maxNames || slices.Contains(list, name) {
		return list
	}
	return append(list, name)
}
