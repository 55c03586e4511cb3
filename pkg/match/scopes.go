package match

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"google.golang.org/protobuf/types/known/structpb"
)

// Scopes keeps only events whose labels match every key: {"project_id": [12, 13]} keeps those
// with the label project_id at "12" or "13". The zero Scopes keeps everything.
type Scopes struct {
	keys []scopeKey
}

type scopeKey struct {
	label  string
	values []string
}

// ParseScopes reads scopes as webhooks carry them: each value is a string, a number or a boolean,
// or a non-empty list of these. Numbers and booleans match labels by their JSON text. No scopes,
// and scopes without keys, keep everything.
func ParseScopes(s *structpb.Struct) (Scopes, error) {
	var out Scopes
	for label, v := range s.GetFields() {
		items := []*structpb.Value{v}
		if list, ok := v.GetKind().(*structpb.Value_ListValue); ok {
			items = list.ListValue.GetValues()
		}
		if len(items) == 0 {
			return Scopes{}, fmt.Errorf("scope %q: an empty list matches nothing", label)
		}
		key := scopeKey{label: label, values: make([]string, 0, len(items))}
		for _, item := range items {
			text, ok := scopeText(item)
			if !ok {
				return Scopes{}, fmt.Errorf("scope %q: must be a string, a number, a boolean, or a list of these", label)
			}
			key.values = append(key.values, text)
		}
		out.keys = append(out.keys, key)
	}
	slices.SortFunc(out.keys, func(a, b scopeKey) int { return cmp.Compare(a.label, b.label) })
	return out, nil
}

// Match reports whether the labels match every key.
func (s Scopes) Match(labels map[string]string) bool {
	for _, key := range s.keys {
		value, ok := labels[key.label]
		if !ok || !slices.Contains(key.values, value) {
			return false
		}
	}
	return true
}

// Empty reports whether the scopes keep everything.
func (s Scopes) Empty() bool { return len(s.keys) == 0 }

func scopeText(v *structpb.Value) (string, bool) {
	switch k := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		return k.StringValue, true
	case *structpb.Value_NumberValue:
		return strconv.FormatFloat(k.NumberValue, 'f', -1, 64), true
	case *structpb.Value_BoolValue:
		return strconv.FormatBool(k.BoolValue), true
	}
	return "", false
}
