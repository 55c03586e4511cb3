package eventschema

import (
	"cmp"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// Bounds of what is held against a schema.
const (
	// maxDataDepth bounds how deep data are nested.
	maxDataDepth = 128
	// maxViolations bounds how many violations are told.
	maxViolations = 20
	// maxPointer bounds the text of a pointer, in bytes.
	maxPointer = 1024
	// maxWork bounds the work on one event, in subschemas applied to values, roughly.
	maxWork = 2_000_000
	// maxErrorBytes bounds, roughly, what all errors of one event may take. The library gathers
	// one for each value that is wrong, each with its path.
	maxErrorBytes = 256 << 20
)

// work is how much may be done for data of a depth. A unit of it may compare a value with all the
// constants of a list, and may make an error.
func (s *Schema) work(depth int) int {
	const errorBytes, tokenBytes, constantsOfUnit = 128, 16, 64
	return min(maxWork, maxErrorBytes/(errorBytes+tokenBytes*depth)) / (1 + s.largest/constantsOfUnit)
}

const ruleTooMuch = "takes too much work to be held against the schema"

// Validate holds JSON data against the schema. It returns the broken rules in the order of their
// pointers, at most 20, and none if the data are as the schema says. Numbers are exact. Data that
// no schema can speak about in one way only (a member that stands twice) break it, and so do data
// that are nested too deep or take too much work.
func (s *Schema) Validate(data []byte) []Violation {
	v, depth, err := decode(data, maxDataDepth)
	if err != nil {
		return err.(*InvalidError).Violations //nolint:errorlint,forcetypeassert // decode gives no other
	}
	return s.check(v, s.work(depth))
}

// check holds a decoded value against the schema.
func (s *Schema) check(v any, work int) []Violation {
	// The work is the processor's, so more validators than processors would gain nothing.
	w := <-s.validators
	defer func() { s.validators <- w }()
	if w == nil {
		var err error
		if w, err = newValidator(s.doc); err != nil { // it compiled before
			return []Violation{{Rule: "cannot be held against the schema: " + brief(err.Error())}}
		}
	}
	return w.check(v, work)
}

func (w *validator) check(v any, work int) (found []Violation) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(tooMuch); !ok {
				panic(r)
			}
			found = []Violation{{Rule: ruleTooMuch}}
		}
	}()
	w.left = work
	if tree, ok := w.schema.Validate(v).(*jsonschema.ValidationError); ok { //nolint:errorlint // the library gives no other
		return violations(tree)
	}
	return nil
}

// violations are the leaves of a tree of errors, which are what has to be mended.
func violations(tree *jsonschema.ValidationError) []Violation {
	var found []Violation
	gather(tree, &found)
	slices.SortFunc(found, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(a.Pointer, b.Pointer), cmp.Compare(a.Keyword, b.Keyword), cmp.Compare(a.Rule, b.Rule))
	})
	found = slices.Compact(found)
	found = found[:min(len(found), maxViolations)]
	for i := range found {
		found[i].Pointer = cut(found[i].Pointer, maxPointer) // names of members may be as long as the data
	}
	return found
}

func gather(e *jsonschema.ValidationError, found *[]Violation) {
	_, pointer, _ := strings.Cut(e.SchemaURL, "#")
	keyword := func(tokens ...string) string { return unescapeFragment(pointer) + join(tokens) }
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		for _, name := range k.Missing {
			*found = append(*found, Violation{join(append(slices.Clone(e.InstanceLocation), name)), keyword("required"), "is required"})
		}
		return
	case *kind.DependentRequired:
		for _, name := range k.Missing {
			*found = append(*found, Violation{
				join(append(slices.Clone(e.InstanceLocation), name)), keyword("dependentRequired", k.Prop),
				"is required beside " + strconv.Quote(brief(k.Prop)),
			})
		}
		return
	case *kind.AdditionalProperties:
		for _, name := range k.Properties {
			*found = append(*found, Violation{
				join(append(slices.Clone(e.InstanceLocation), name)), keyword("additionalProperties"), "is not a member that the schema allows",
			})
		}
		return
	case *kind.PropertyNames:
		*found = append(*found, Violation{
			join(append(slices.Clone(e.InstanceLocation), k.Property)), keyword(), "has a name that the schema does not allow",
		})
		return
	case *kind.AnyOf, *kind.OneOf, *kind.Contains, *kind.MinContains:
		// What was wrong in each branch would blame the value for rules that it need not follow.
		*found = append(*found, Violation{join(e.InstanceLocation), keyword(k.KeywordPath()...), rule(k)})
		return
	}
	if len(e.Causes) > 0 {
		for _, cause := range e.Causes {
			gather(cause, found)
		}
		return
	}
	*found = append(*found, Violation{join(e.InstanceLocation), keyword(e.ErrorKind.KeywordPath()...), rule(e.ErrorKind)})
}

// rule says what a keyword wants, without what it got.
func rule(k jsonschema.ErrorKind) string {
	switch k := k.(type) {
	case *kind.Type:
		return "must be " + strings.Join(k.Want, " or ")
	case *kind.Const:
		return "must be " + brief(compact(k.Want))
	case *kind.Enum:
		return "must be one of " + brief(strings.Trim(compact(k.Want), "[]"))
	case *kind.Minimum:
		return "must be at least " + number(k.Want)
	case *kind.Maximum:
		return "must be at most " + number(k.Want)
	case *kind.ExclusiveMinimum:
		return "must be above " + number(k.Want)
	case *kind.ExclusiveMaximum:
		return "must be below " + number(k.Want)
	case *kind.MultipleOf:
		return "must be a multiple of " + number(k.Want)
	case *kind.MinLength:
		return fmt.Sprintf("must have at least %d characters", k.Want)
	case *kind.MaxLength:
		return fmt.Sprintf("must have at most %d characters", k.Want)
	case *kind.Format: // only where a schema is held against the one of schemas
		if k.Want == "regex" {
			return "must be a regular expression, as RE2 has them"
		}
		return "must have the format " + k.Want
	case *kind.Pattern:
		return "must match " + brief(k.Want)
	case *kind.MinItems:
		return fmt.Sprintf("must have at least %d items", k.Want)
	case *kind.MaxItems:
		return fmt.Sprintf("must have at most %d items", k.Want)
	case *kind.UniqueItems:
		return fmt.Sprintf("must not hold a value twice, as items %d and %d do", k.Duplicates[0], k.Duplicates[1])
	case *kind.MinProperties:
		return fmt.Sprintf("must have at least %d members", k.Want)
	case *kind.MaxProperties:
		return fmt.Sprintf("must have at most %d members", k.Want)
	}
	return structural(k)
}

// structural is rule for keywords that hold schemas.
func structural(k jsonschema.ErrorKind) string {
	switch k := k.(type) {
	case *kind.FalseSchema:
		return "must not be there"
	case *kind.AnyOf:
		return "must be as one of the alternatives says"
	case *kind.OneOf:
		if len(k.Subschemas) > 0 {
			return "must be as exactly one of the alternatives says, and is as several say"
		}
		return "must be as exactly one of the alternatives says"
	case *kind.Not:
		return "must not be as the schema under `not` says"
	case *kind.Contains:
		return "must hold an item that is as the schema under `contains` says"
	case *kind.MinContains:
		return fmt.Sprintf("must hold at least %d items that are as the schema under `contains` says", k.Want)
	case *kind.MaxContains:
		return fmt.Sprintf("must hold at most %d items that are as the schema under `contains` says", k.Want)
	case *kind.RefCycle:
		return "cannot be judged, because the schema refers to itself without end"
	}
	return "breaks the schema's rule " + strings.Join(k.KeywordPath(), "/")
}

// number is a number of a schema in its shortest exact form.
func number(r *big.Rat) string {
	if r.IsInt() {
		return r.Num().String()
	}
	if digits, exact := r.FloatPrec(); exact {
		return r.FloatString(digits)
	}
	return r.RatString()
}
