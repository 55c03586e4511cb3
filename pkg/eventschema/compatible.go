package eventschema

import (
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// maxComparisons bounds the pairs of subschemas that Compatible looks at.
const maxComparisons = 2_000

// Narrowing is one place where a new schema may refuse what the one before took.
type Narrowing struct {
	// Pointer says where, as a JSON pointer into the new schema, keyword included.
	Pointer string
	// Change says what became narrower, for people.
	Change string
}

// Compatible says where a new schema may refuse data that the one before took: nothing, or at most
// 20 narrowings. It is conservative: what it finds nothing in takes everything that the old one
// took; what it finds fault with may do so all the same where the keywords interact.
//
// These are narrowings: a type that was taken and is not, or `enum` and `const` where there were
// none or a value of them that is refused now; a `required` member that was optional; bounds
// (`minimum`, `maximum` and their exclusive forms, `multipleOf`, `minLength`, `maxLength`,
// `minItems`, `maxItems`, `minProperties`, `maxProperties`) that exclude more; `uniqueItems` that
// was not; another `pattern`, since no two patterns are compared; a schema for members, items or
// names of members where there was none, or a narrower one, `additionalProperties: false` included;
// `dependentRequired` and `dependentSchemas` that were not; an `anyOf` that has no room for one of
// the old alternatives. `oneOf`, `not`, `if`, `contains`, `unevaluatedItems` and
// `unevaluatedProperties` are looked at as they are written: they may go, but not come or change.
// `$ref` stands for what it refers to. Annotations, `format` among them, do not count.
func Compatible(old, next *Schema) []Narrowing {
	if reflect.DeepEqual(old.doc, next.doc) {
		return nil
	}
	// Validators of its own, since both schemas may be in use.
	before, err1 := newValidator(old.doc)
	after, err2 := newValidator(next.doc)
	if err := errors.Join(err1, err2); err != nil { // they compiled before
		return []Narrowing{{Change: "cannot be compared: " + brief(err.Error())}}
	}
	c := &comparison{
		old: side{old.doc, before}, next: side{next.doc, after}, seen: make(map[string]bool),
		ids: hasMember(old.doc, "$id") || hasMember(next.doc, "$id"),
	}
	found := c.compare(flatten(before.schema), after.schema)
	slices.SortFunc(found, func(a, b Narrowing) int { return strings.Compare(a.Pointer+a.Change, b.Pointer+b.Change) })
	found = slices.Compact(found)
	return found[:min(len(found), maxViolations)]
}

// comparison is one run of Compatible.
type comparison struct {
	old, next side
	ids       bool // some reference may not be what its text says
	// seen are the pairs that were begun. A pair that is met inside itself is taken to hold: what
	// would break it is found where it was begun.
	seen  map[string]bool
	pairs int
}

// side is one of the two schemas.
type side struct {
	doc any
	v   *validator
}

// all is a list of schemas that a value is held against together.
type all []*jsonschema.Schema

// flatten gives a schema and those that it takes in whole: its reference and its allOf.
func flatten(schemas ...*jsonschema.Schema) all {
	var out all
	var add func(s *jsonschema.Schema)
	add = func(s *jsonschema.Schema) {
		if s == nil || slices.Contains(out, s) {
			return
		}
		out = append(out, s)
		add(s.Ref)
		for _, one := range s.AllOf {
			add(one)
		}
	}
	for _, s := range schemas {
		add(s)
	}
	return out
}

// nothing reports whether no value is as all of them say, as far as can be seen at once.
func (a all) nothing() bool {
	return slices.ContainsFunc(a, func(s *jsonschema.Schema) bool { return s.Bool != nil && !*s.Bool })
}

func (a all) key() string {
	places := make([]string, len(a))
	for i, s := range a {
		places[i] = s.Location
	}
	return strings.Join(places, "\n")
}

// compare says where next may refuse what is as all the old ones say.
func (c *comparison) compare(old all, next *jsonschema.Schema) []Narrowing {
	if next == nil || old.nothing() || (next.Bool != nil && *next.Bool) {
		return nil
	}
	pair := old.key() + "\n\n" + next.Location
	if c.seen[pair] {
		return nil
	}
	if c.pairs++; c.pairs > maxComparisons {
		return at(next, "", "the schemas are too large to be compared")
	}
	c.seen[pair] = true
	if next.Bool != nil {
		return at(next, "", "nothing is taken here any more")
	}
	if constants, ok := old.constants(); ok {
		if values, settled := c.allTaken(old, constants, next); settled {
			return values
		}
	}
	var found []Narrowing
	for _, n := range flatten(next) {
		if n.Bool != nil && !*n.Bool {
			found = append(found, at(n, "", "nothing is taken here any more")...)
			continue
		}
		if c.sameText(old, n) {
			continue
		}
		types := old.types()
		found = append(found, kinds(old, n)...)
		if types&numbers != 0 {
			found = append(found, numeric(old, n)...)
		}
		if types&texts != 0 {
			found = append(found, textual(old, n)...)
		}
		if types&arrays != 0 {
			found = append(found, c.lists(old, n)...)
		}
		if types&objects != 0 {
			found = append(found, c.members(old, n)...)
		}
		found = append(found, c.alternatives(old, n)...)
		found = append(found, c.opaque(old, n)...)
	}
	return found
}

// at is a narrowing at a keyword of a schema.
func at(s *jsonschema.Schema, keyword, format string, args ...any) []Narrowing {
	_, fragment, _ := strings.Cut(s.Location, "#")
	pointer := unescapeFragment(fragment)
	if keyword != "" {
		pointer += "/" + keyword
	}
	return []Narrowing{{pointer, fmt.Sprintf(format, args...)}}
}

// constants are the values that old schemas list, if they do.
func (a all) constants() ([]any, bool) {
	for _, s := range a {
		if s.Const != nil {
			return []any{*s.Const}, true
		}
		if s.Enum != nil {
			return s.Enum.Values, true
		}
	}
	return nil, false
}

// allTaken holds each value that the old schemas list against the next one, which is exact. It is
// settled unless the next schema cannot be asked alone.
func (c *comparison) allTaken(old all, values []any, next *jsonschema.Schema) (found []Narrowing, settled bool) {
	for _, v := range values {
		if slices.ContainsFunc(old, func(s *jsonschema.Schema) bool { taken, ok := takes(s, v, c.old); return ok && !taken }) {
			continue // it was not taken before either
		}
		taken, ok := takes(next, v, c.next)
		if !ok {
			return nil, false
		}
		if !taken {
			keyword := ""
			switch {
			case next.Enum != nil:
				keyword = "enum"
			case next.Const != nil:
				keyword = "const"
			}
			found = append(found, at(next, keyword, "%s is not taken any more", brief(compact(v)))...)
		}
	}
	return found, true
}

// takes asks one subschema about a value; ok is false if that takes too much work.
func takes(s *jsonschema.Schema, v any, of side) (taken, ok bool) {
	defer func() {
		if r := recover(); r != nil {
			if _, mine := r.(tooMuch); !mine {
				panic(r)
			}
			taken, ok = false, false
		}
	}()
	of.v.left = maxWork / 20
	return s.Validate(v) == nil, true
}

// sameText reports whether one of the old schemas is written as the next one is, in whole or in
// some keywords, and means the same.
func (c *comparison) sameText(old all, next *jsonschema.Schema, keywords ...string) bool {
	text, ok := find(c.next.doc, next.Location)
	return ok && slices.ContainsFunc(old, func(s *jsonschema.Schema) bool {
		before, ok := find(c.old.doc, s.Location)
		if !ok {
			return false
		}
		if len(keywords) == 0 {
			return c.sameMeaning(before, text, make(map[string]bool))
		}
		for _, k := range keywords {
			if !c.sameMeaning(member(before, k), member(text, k), make(map[string]bool)) {
				return false
			}
		}
		return true
	})
}

// sameMeaning reports whether two texts are the same, and what they refer to is too.
func (c *comparison) sameMeaning(a, b any, followed map[string]bool) bool {
	if !reflect.DeepEqual(a, b) {
		return false
	}
	for ref := range references(b) {
		if followed[ref] {
			continue
		}
		followed[ref] = true
		if c.ids || (ref != "#" && !strings.HasPrefix(ref, "#/")) {
			return false
		}
		before, ok1 := find(c.old.doc, ref)
		after, ok2 := find(c.next.doc, ref)
		if !ok1 || !ok2 || !c.sameMeaning(before, after, followed) {
			return false
		}
	}
	return true
}

// find is what stands at a location in a document.
func find(doc any, location string) (any, bool) {
	_, fragment, _ := strings.Cut(location, "#")
	for _, token := range Tokens(unescapeFragment(fragment)) {
		switch d := doc.(type) {
		case map[string]any:
			doc = d[token]
		case []any:
			i, err := strconv.Atoi(token)
			if err != nil || i < 0 || i >= len(d) {
				return nil, false
			}
			doc = d[i]
		default:
			return nil, false
		}
	}
	return doc, true
}

func member(v any, name string) any {
	m, ok := v.(map[string]any)
	if !ok {
		return nil
	}
	return m[name]
}

// references are the texts of the references in v.
func references(v any) iter.Seq[string] {
	return func(yield func(string) bool) { walkReferences(v, yield) }
}

func walkReferences(v any, yield func(string) bool) bool {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			if !walkReferences(item, yield) {
				return false
			}
		}
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok && !yield(ref) {
			return false
		}
		for _, m := range v {
			if !walkReferences(m, yield) {
				return false
			}
		}
	}
	return true
}

// hasMember reports whether a member of the name stands somewhere in v.
func hasMember(v any, name string) bool {
	switch v := v.(type) {
	case []any:
		return slices.ContainsFunc(v, func(item any) bool { return hasMember(item, name) })
	case map[string]any:
		if _, ok := v[name]; ok {
			return true
		}
		for _, m := range v {
			if hasMember(m, name) {
				return true
			}
		}
	}
	return false
}

// alternatives compares anyOf: what was taken must fit into one of the new alternatives, each of
// the old ones for itself if there were some.
func (c *comparison) alternatives(old all, n *jsonschema.Schema) []Narrowing {
	if len(n.AnyOf) == 0 {
		return nil
	}
	fits := func(before all) bool {
		return slices.ContainsFunc(n.AnyOf, func(branch *jsonschema.Schema) bool { return len(c.apart(before, branch)) == 0 })
	}
	if fits(old) {
		return nil
	}
	for _, s := range old {
		for _, branches := range [][]*jsonschema.Schema{s.AnyOf, s.OneOf} {
			if len(branches) > 0 && !slices.ContainsFunc(branches, func(b *jsonschema.Schema) bool { return !fits(append(slices.Clone(old), flatten(b)...)) }) {
				return nil
			}
		}
	}
	return at(n, "anyOf", "no alternative takes all that was taken before")
}

// apart compares a pair on trial: pairs that were begun in a trial that fails say nothing about
// those that are met later.
func (c *comparison) apart(old all, next *jsonschema.Schema) []Narrowing {
	before := make(map[string]bool, len(c.seen))
	for k := range c.seen {
		before[k] = true
	}
	found := c.compare(old, next)
	if len(found) > 0 {
		c.seen = before
	}
	return found
}

// opaque compares what is looked at as it is written.
func (c *comparison) opaque(old all, n *jsonschema.Schema) []Narrowing {
	var found []Narrowing
	check := func(there bool, keywords ...string) {
		if there && !c.sameText(old, n, keywords...) {
			found = append(found, at(n, keywords[0], "is new or was changed")...)
		}
	}
	check(len(n.OneOf) > 0, "oneOf")
	check(n.Not != nil, "not")
	check(n.If != nil && (n.Then != nil || n.Else != nil), "if", "then", "else")
	check(n.Contains != nil, "contains", "minContains", "maxContains")
	check(len(n.Dependencies) > 0, "dependencies")
	// These depend on all that stands beside them.
	if open := n.UnevaluatedItems; open != nil && (open.Bool == nil || !*open.Bool) {
		found = append(found, at(n, "unevaluatedItems", "is new, or the schema beside it was changed")...)
	}
	if open := n.UnevaluatedProperties; open != nil && (open.Bool == nil || !*open.Bool) {
		found = append(found, at(n, "unevaluatedProperties", "is new, or the schema beside it was changed")...)
	}
	return found
}
