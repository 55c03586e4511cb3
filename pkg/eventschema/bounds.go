package eventschema

import (
	"math/big"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Kinds of values, as bits of jsonschema.Types.
var (
	numbers  = typesOf("number", "integer")
	texts    = typesOf("string")
	arrays   = typesOf("array")
	objects  = typesOf("object")
	anything = typesOf("null", "boolean", "number", "integer", "string", "array", "object")
)

func typesOf(names ...string) jsonschema.Types {
	var t jsonschema.Types
	for _, n := range names {
		t.Add(n)
	}
	if slices.Contains(names, "number") {
		t.Add("integer")
	}
	return t
}

// types are those that all of the old schemas take.
func (a all) types() jsonschema.Types {
	t := anything
	for _, s := range a {
		if s.Types != nil {
			t &= typesOf(s.Types.ToStrings()...)
		}
	}
	return t
}

// kinds compares types and lists of constants.
func kinds(old all, n *jsonschema.Schema) []Narrowing {
	var found []Narrowing
	if n.Types != nil {
		lost := old.types() &^ typesOf(n.Types.ToStrings()...)
		names := lost.ToStrings()
		if slices.Contains(names, "number") && slices.Contains(names, "integer") {
			names = slices.DeleteFunc(names, func(s string) bool { return s == "integer" })
		}
		if len(names) > 0 {
			found = append(found, at(n, "type", "%s is not taken any more", strings.Join(names, ", "))...)
		}
	}
	if n.Enum != nil {
		found = append(found, at(n, "enum", "only listed values are taken, where there was no list")...)
	}
	if n.Const != nil {
		found = append(found, at(n, "const", "one value is taken, where there was no such rule")...)
	}
	return found
}

// numeric compares the bounds of numbers.
func numeric(old all, n *jsonschema.Schema) []Narrowing {
	var found []Narrowing
	check := func(keyword string, want *big.Rat, keeps func(s *jsonschema.Schema) bool) {
		if want != nil && !slices.ContainsFunc(old, keeps) {
			found = append(found, at(n, keyword, "excludes more: %s", number(want))...)
		}
	}
	bound := func(b *big.Rat, holds func(cmp int) bool, want *big.Rat) bool { return b != nil && holds(b.Cmp(want)) }
	below, above := func(c int) bool { return c <= 0 }, func(c int) bool { return c >= 0 }
	strictlyBelow, strictlyAbove := func(c int) bool { return c < 0 }, func(c int) bool { return c > 0 }
	check("minimum", n.Minimum, func(s *jsonschema.Schema) bool {
		return bound(s.Minimum, above, n.Minimum) || bound(s.ExclusiveMinimum, above, n.Minimum)
	})
	check("exclusiveMinimum", n.ExclusiveMinimum, func(s *jsonschema.Schema) bool {
		return bound(s.Minimum, strictlyAbove, n.ExclusiveMinimum) || bound(s.ExclusiveMinimum, above, n.ExclusiveMinimum)
	})
	check("maximum", n.Maximum, func(s *jsonschema.Schema) bool {
		return bound(s.Maximum, below, n.Maximum) || bound(s.ExclusiveMaximum, below, n.Maximum)
	})
	check("exclusiveMaximum", n.ExclusiveMaximum, func(s *jsonschema.Schema) bool {
		return bound(s.Maximum, strictlyBelow, n.ExclusiveMaximum) || bound(s.ExclusiveMaximum, below, n.ExclusiveMaximum)
	})
	check("multipleOf", n.MultipleOf, func(s *jsonschema.Schema) bool {
		if s.MultipleOf != nil && n.MultipleOf.Sign() != 0 {
			return new(big.Rat).Quo(s.MultipleOf, n.MultipleOf).IsInt()
		}
		whole := s.Types != nil && slices.Contains(s.Types.ToStrings(), "integer") && !slices.Contains(s.Types.ToStrings(), "number")
		return whole && new(big.Rat).Inv(n.MultipleOf).IsInt()
	})
	return found
}

// least and most compare a bound from below and from above; one that is not there is open.
func least(old all, n *jsonschema.Schema, keyword string, get func(*jsonschema.Schema) *int) []Narrowing {
	want := get(n)
	if want == nil || *want <= 0 || slices.ContainsFunc(old, func(s *jsonschema.Schema) bool { b := get(s); return b != nil && *b >= *want }) {
		return nil
	}
	return at(n, keyword, "excludes more: %d", *want)
}

func most(old all, n *jsonschema.Schema, keyword string, get func(*jsonschema.Schema) *int) []Narrowing {
	want := get(n)
	if want == nil || slices.ContainsFunc(old, func(s *jsonschema.Schema) bool { b := get(s); return b != nil && *b <= *want }) {
		return nil
	}
	return at(n, keyword, "excludes more: %d", *want)
}

// textual compares the rules of strings.
func textual(old all, n *jsonschema.Schema) []Narrowing {
	found := least(old, n, "minLength", func(s *jsonschema.Schema) *int { return s.MinLength })
	found = append(found, most(old, n, "maxLength", func(s *jsonschema.Schema) *int { return s.MaxLength })...)
	if n.Pattern != nil && !slices.ContainsFunc(old, func(s *jsonschema.Schema) bool {
		return s.Pattern != nil && s.Pattern.String() == n.Pattern.String()
	}) {
		found = append(found, at(n, "pattern", "is new or was changed")...)
	}
	return found
}
