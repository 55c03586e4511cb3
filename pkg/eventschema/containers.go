package eventschema

import (
	"maps"
	"slices"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// lists compares the rules of arrays.
func (c *comparison) lists(old all, n *jsonschema.Schema) []Narrowing {
	found := least(old, n, "minItems", func(s *jsonschema.Schema) *int { return s.MinItems })
	found = append(found, most(old, n, "maxItems", func(s *jsonschema.Schema) *int { return s.MaxItems })...)
	if n.UniqueItems && !slices.ContainsFunc(old, func(s *jsonschema.Schema) bool {
		return s.UniqueItems || (s.MaxItems != nil && *s.MaxItems <= 1)
	}) {
		found = append(found, at(n, "uniqueItems", "is new")...)
	}
	longest := len(n.PrefixItems)
	for _, s := range old {
		longest = max(longest, len(s.PrefixItems))
	}
	for i := range longest {
		item := n.Items2020
		if i < len(n.PrefixItems) {
			item = n.PrefixItems[i]
		}
		found = append(found, c.compare(old.item(i), item)...)
	}
	return append(found, c.compare(old.item(longest), n.Items2020)...)
}

// item is what the old schemas say of the item at a place.
func (a all) item(i int) all {
	var found []*jsonschema.Schema
	for _, s := range a {
		if i < len(s.PrefixItems) {
			found = append(found, s.PrefixItems[i])
		} else {
			found = append(found, s.Items2020)
		}
	}
	return flatten(found...)
}

// members compares the rules of objects.
func (c *comparison) members(old all, n *jsonschema.Schema) []Narrowing {
	var found []Narrowing
	required := old.required()
	for _, name := range n.Required {
		if !required[name] {
			found = append(found, at(n, "required", "%q was optional", brief(name))...)
		}
	}
	for name, list := range n.DependentRequired {
		for _, other := range list {
			if !required[other] && !slices.ContainsFunc(old, func(s *jsonschema.Schema) bool { return slices.Contains(s.DependentRequired[name], other) }) {
				found = append(found, at(n, "dependentRequired/"+escape(name), "%q was optional", brief(other))...)
			}
		}
	}
	if n.MinProperties == nil || *n.MinProperties > len(required) {
		found = append(found, least(old, n, "minProperties", func(s *jsonschema.Schema) *int { return s.MinProperties })...)
	}
	found = append(found, most(old, n, "maxProperties", func(s *jsonschema.Schema) *int { return s.MaxProperties })...)
	for name, s := range n.DependentSchemas {
		var before []*jsonschema.Schema
		for _, o := range old {
			before = append(before, o, o.DependentSchemas[name])
		}
		found = append(found, c.compare(flatten(before...), s)...)
	}
	if n.PropertyNames != nil {
		var before []*jsonschema.Schema
		for _, o := range old {
			before = append(before, o.PropertyNames)
		}
		before = append(before, nameSchema)
		found = append(found, c.compare(flatten(before...), n.PropertyNames)...)
	}
	return append(found, c.named(old, n)...)
}

// nameSchema is what every name of a member is: a string.
var nameSchema = func() *jsonschema.Schema {
	t := typesOf("string")
	return &jsonschema.Schema{Location: location + "#(name)", Types: &t}
}()

// required are the members that the old schemas ask for.
func (a all) required() map[string]bool {
	names := make(map[string]bool)
	for _, s := range a {
		for _, name := range s.Required {
			names[name] = true
		}
	}
	return names
}

// named compares what is said of members by their names.
func (c *comparison) named(old all, n *jsonschema.Schema) []Narrowing {
	names := make(map[string]bool)
	for _, s := range append(slices.Clone(old), n) {
		for name := range s.Properties {
			names[name] = true
		}
	}
	var found []Narrowing
	for _, name := range slices.Sorted(maps.Keys(names)) {
		before := old.member(name)
		for _, s := range namesOf(n, name) {
			found = append(found, c.member(before, n, s, name)...)
		}
	}
	if len(n.PatternProperties) == 0 && n.AdditionalProperties == nil {
		return found
	}
	if old.closed() {
		return found // there are no members but the named ones
	}
	return append(found, c.unnamed(old, n)...)
}

// member compares what is said of one member.
func (c *comparison) member(before all, n *jsonschema.Schema, s said, name string) []Narrowing {
	if s.never {
		if before.nothing() {
			return nil
		}
		return at(n, "additionalProperties", "%q is not taken any more", brief(name))
	}
	return c.compare(before, s.schema)
}

// unnamed compares what is said of the members that no schema names.
func (c *comparison) unnamed(old all, n *jsonschema.Schema) []Narrowing {
	var found []Narrowing
	patterns := make(map[string]*jsonschema.Schema)
	for re, s := range n.PatternProperties {
		patterns[re.String()] = s
		found = append(found, c.compare(old.pattern(re.String()), s)...)
	}
	additional, never := additionalOf(n)
	if additional == nil && !never {
		return found
	}
	// A member that the new schema has only this for was additional before, or matched a pattern
	// that is gone.
	befores := []all{old.additional()}
	for _, o := range old {
		for re := range o.PatternProperties {
			if patterns[re.String()] == nil {
				befores = append(befores, old.pattern(re.String()))
			}
		}
	}
	for _, before := range befores {
		switch {
		case before.nothing():
		case never:
			found = append(found, at(n, "additionalProperties", "members that are not listed are not taken any more")...)
		default:
			found = append(found, c.compare(before, additional)...)
		}
	}
	return found
}

// said is what a schema says of one member: a schema, or that it must not be there.
type said struct {
	schema *jsonschema.Schema
	never  bool
}

// namesOf is all that a schema says of a member.
func namesOf(s *jsonschema.Schema, name string) []said {
	var found []said
	if one, ok := s.Properties[name]; ok {
		found = append(found, said{schema: one})
	}
	for re, one := range s.PatternProperties {
		if matches(re, name) {
			found = append(found, said{schema: one})
		}
	}
	if len(found) > 0 {
		return found
	}
	if one, never := additionalOf(s); one != nil || never {
		return []said{{one, never}}
	}
	return nil
}

// matches is not counted: names in schemas are few and short.
func matches(re jsonschema.Regexp, name string) bool {
	if counted, ok := re.(countedRegexp); ok {
		return counted.Regexp.MatchString(name)
	}
	return re.MatchString(name)
}

// additionalOf is what a schema says of members that it does not name.
func additionalOf(s *jsonschema.Schema) (schema *jsonschema.Schema, never bool) {
	switch a := s.AdditionalProperties.(type) {
	case *jsonschema.Schema:
		return a, false
	case bool:
		return nil, !a
	}
	return nil, false
}

// never is a schema that takes nothing.
var never = func() *jsonschema.Schema {
	no := false
	return &jsonschema.Schema{Location: location + "#(never)", Bool: &no}
}()

// member is all that the old schemas say of a member.
func (a all) member(name string) all {
	var found []*jsonschema.Schema
	for _, s := range a {
		for _, r := range namesOf(s, name) {
			if r.never {
				found = append(found, never)
			} else {
				found = append(found, r.schema)
			}
		}
	}
	return flatten(found...)
}

// pattern is what the old schemas say of the members that match a pattern: those of them that have
// the same one. What another pattern or a schema for additional members says may not hold for all.
func (a all) pattern(text string) all {
	var found []*jsonschema.Schema
	for _, s := range a {
		for re, one := range s.PatternProperties {
			if re.String() == text {
				found = append(found, one)
			}
		}
	}
	return flatten(found...)
}

// additional is what the old schemas say of the members that none of them names.
func (a all) additional() all {
	var found []*jsonschema.Schema
	for _, s := range a {
		one, no := additionalOf(s)
		if no {
			one = never
		}
		found = append(found, one)
	}
	return flatten(found...)
}

// closed reports whether the old schemas take no members but those that they name.
func (a all) closed() bool {
	return slices.ContainsFunc(a, func(s *jsonschema.Schema) bool {
		_, no := additionalOf(s)
		return no && len(s.PatternProperties) == 0
	})
}
