package manage

import (
	"errors"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/fault"
)

// violations gathers every rule that a request breaks.
type violations []fault.Violation

func (v *violations) check(holds bool, field, rule string) {
	if !holds {
		*v = append(*v, fault.Violation{Field: field, Rule: rule})
	}
}

// maskFields is which of the allowed fields an update changes: those of the mask, which must be
// allowed, or, without a mask, those that are set ("*" replaces all of them; AIP-134).
func maskFields(resource string, msg proto.Message, mask *fieldmaskpb.FieldMask, allowed []string) ([]string, error) {
	switch {
	case slices.Contains(mask.GetPaths(), "*"):
		return allowed, nil
	case mask == nil || len(mask.GetPaths()) == 0:
		var set []string
		m := msg.ProtoReflect()
		for _, name := range allowed {
			if m.Has(m.Descriptor().Fields().ByName(protoreflect.Name(name))) {
				set = append(set, name)
			}
		}
		return set, nil
	}
	var v violations
	paths := make([]string, 0, len(mask.GetPaths()))
	for _, path := range mask.GetPaths() {
		field, _, _ := strings.Cut(path, ".")
		v.check(slices.Contains(allowed, field), "update_mask", path+" of "+resource+" cannot be changed")
		paths = append(paths, whole(msg.ProtoReflect().Descriptor(), path))
	}
	if len(v) > 0 {
		return nil, fault.InvalidFields(v...)
	}
	return paths, nil
}

// whole cuts a path where what is below is a value and no message of ours: the gateway names each
// member of an object that it was given, and scopes.project_id means scopes.
func whole(m protoreflect.MessageDescriptor, path string) string {
	names := strings.Split(path, ".")
	for i, name := range names {
		field := m.Fields().ByName(protoreflect.Name(name))
		if field == nil || i == len(names)-1 {
			return path
		}
		if m = field.Message(); m == nil || field.IsMap() || field.IsList() || m.ParentFile().Package() != ownPackage {
			return strings.Join(names[:i+1], ".")
		}
	}
	return path
}

// ownPackage is that of the messages whose fields can be changed one by one.
const ownPackage protoreflect.FullName = "postrider.v1"

// copyFields sets the fields of dst at the paths to those of src, also to nothing.
func copyFields(dst, src proto.Message, paths []string) error {
	for _, path := range paths {
		if err := copyField(dst.ProtoReflect(), src.ProtoReflect(), path, path); err != nil {
			return err
		}
	}
	return nil
}

// copyField copies what is at a path, which is the end of the whole one that the caller named.
func copyField(to, from protoreflect.Message, path, named string) error {
	name, below, nested := strings.Cut(path, ".")
	field := to.Descriptor().Fields().ByName(protoreflect.Name(name))
	switch {
	case field == nil, nested && (field.Message() == nil || field.IsMap() || field.IsList()):
		return invalid("update_mask", named+" is not a field")
	case nested && !from.Has(field) && !to.Has(field):
		return nil // nothing is taken from nothing
	case nested:
		return copyField(to.Mutable(field).Message(), from.Get(field).Message(), below, named)
	case from.IsValid() && from.Has(field):
		to.Set(field, from.Get(field))
	default:
		to.Clear(field)
	}
	return nil
}

// checkEtag refuses a change of something other than what the caller read.
func checkEtag(kind, id, given string, revision uint64) error {
	if given != "" && given != etag(revision) {
		return stored(config.ErrConflict, kind, id)
	}
	return nil
}

// again reports whether a change that met a concurrent one is to be made on top of it, which is
// so if the caller did not say what it had read.
func again(err error, givenEtag string) bool {
	return errors.Is(err, config.ErrConflict) && givenEtag == ""
}

func unconfirmed(err error) error {
	return fault.New(fault.Unavailable, "CHANGE_UNCONFIRMED", "the change is stored, but it is not known yet that every router and dispatcher has it").WithCause(err)
}

func orDefault(value, def string) string {
	if value == "" {
		return def
	}
	return value
}
