package manage

import (
	"errors"
	"slices"

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
	for _, path := range mask.GetPaths() {
		v.check(slices.Contains(allowed, path), "update_mask", path+" of "+resource+" cannot be changed")
	}
	if len(v) > 0 {
		return nil, fault.InvalidFields(v...)
	}
	return mask.GetPaths(), nil
}

// copyFields sets the named fields of dst to those of src, also to nothing.
func copyFields(dst, src proto.Message, names []string) error {
	from, to := src.ProtoReflect(), dst.ProtoReflect()
	for _, name := range names {
		field := to.Descriptor().Fields().ByName(protoreflect.Name(name))
		if field == nil {
			return invalid("update_mask", name+" is not a field")
		}
		if from.IsValid() && from.Has(field) {
			to.Set(field, from.Get(field))
		} else {
			to.Clear(field)
		}
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
